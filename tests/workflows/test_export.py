"""From a run to a file that other programs run."""

import copy
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

import graft
from graft.cli.app import app
from graft.errors import DataError, GraftError, InputError, WeightsError
from graft.export import graph as graph_module
from graft.export.running import open_exported
from graft.export.timm_folder import write_timm
from graft.features.openvino_import import core
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.images.preprocessing import Preprocessing
from graft.models.catalog import build
from graft.models.network import Config
from graft.weights.saved import SavedModel, load_model, save_model
from graft.workflows import export as export_module
from graft.workflows import export_check, export_timm


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four letters, a folder each, a dozen images of awkward sizes and kinds."""
    folder = tmp_path_factory.mktemp("letters") / "letters"
    pixels, labels = render_letters(LATIN[:4], dejavu_fonts(), 12, seed=3)
    random = np.random.default_rng(0)
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / LATIN[label] / f"{index:03}.{('png', 'jpg', 'bmp')[index % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = tuple(random.integers(20, 120, 2).tolist())
        Image.fromarray(image[:, :, 0]).convert(("L", "RGB")[index % 2]).resize(size).save(path)
    return folder


@pytest.fixture(scope="module")
def run(letters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "letters"
    return graft.train(letters, "latin_letters", "head", out=out, quiet=True).folder


@pytest.fixture(scope="module")
def onnx(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return graft.export(run, out=tmp_path_factory.mktemp("exported") / "letters.onnx", quiet=True).file


@pytest.mark.parametrize(("format", "ending"), [("onnx", ".onnx"), ("openvino", ".xml"), ("torch", ".pt2")])
def test_every_format_answers_as_the_run_does(format: str, ending: str, run: Path, tmp_path: Path) -> None:
    made = graft.export(run, format, out=tmp_path / f"letters{ending}", quiet=True)
    assert made.agreement.n > 0 and made.agreement.same_labels == made.agreement.n
    assert made.agreement.largest_difference < 1e-4
    beside = {"openvino": {"letters.bin"}}.get(format, set())
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {made.file.name, f"{made.file.name}.json"} | beside
    said = json.loads((tmp_path / f"letters{ending}.json").read_text())
    assert said["agreement"]["n"] == made.agreement.n and said["classes"] == sorted(LATIN[:4])


def test_by_default_it_lies_in_the_run_and_is_not_overwritten(run: Path) -> None:
    made = graft.export(run, quiet=True)
    assert made.file == run / "export" / "model.onnx"
    before = made.file.read_bytes()
    with pytest.raises(InputError, match="`overwrite`"):
        graft.export(run, quiet=True)
    assert graft.export(run, overwrite=True, quiet=True).file.read_bytes() == before
    # Files that belong to an export are no more overwritten than the export itself.
    (run.parent / "mine.onnx.json").write_text("mine")
    with pytest.raises(InputError, match=r"mine\.onnx\.json"):
        graft.export(run, out=run.parent / "mine.onnx", quiet=True)


def test_an_export_is_used_as_a_run_is(onnx: Path, run: Path, letters: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    images = [*sorted(letters.rglob("*.*"))[::5], broken, np.zeros((30, 40), np.uint8), np.zeros((1, 1, 3), np.uint8)]
    expected = graft.load(run, engine="torch", precision="float32").predict(images, top=4)
    exported = graft.load(onnx)
    for classifier in (exported, pickle.loads(pickle.dumps(exported))):
        found = classifier.predict(images, top=4)
        assert [each.path for each in found] == [each.path for each in expected]
        assert [each.error for each in found] == [each.error for each in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.label == other.label
            assert dict(one.top) == pytest.approx(dict(other.top), abs=1e-4)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_large_jpeg_has_the_same_answer_from_a_run_and_from_its_export(
    format: str, run: Path, tmp_path: Path
) -> None:
    """Both decode it at the same reduced scale, as whoever averages it over several views does."""
    random = np.random.default_rng(0)
    images = []
    for number in range(8):
        # Detail that comes out otherwise where it is reduced by the decoder than where it is by the graph.
        height, width = random.integers(300, 900, 2).tolist()
        images.append(tmp_path / f"{number}.jpg")
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(images[-1], quality=80)
    file = graft.export(run, format, out=tmp_path / f"letters.{'onnx' if format == 'onnx' else 'xml'}", quiet=True).file
    expected = graft.load(run, engine="torch", precision="float32").predict_proba(images)
    assert graft.load(file).predict_proba(images) == pytest.approx(expected, abs=1e-4)


def test_an_export_tells_of_itself_what_its_run_does(onnx: Path, run: Path) -> None:
    exported, of_run = graft.load(onnx), graft.load(run)
    for name in ("classes", "temperature", "thresholds", "outputs", "multi_label", "preprocessing", "levels"):
        assert getattr(exported, name) == getattr(of_run, name), name


def test_onnxruntime_alone_answers_alike(onnx: Path, run: Path, letters: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(onnx)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["graft"])
    path = next(letters.rglob("*.png"))
    pixels = np.array(Image.open(path).convert("RGB"))
    # A batch of any size, with its classes in the file.
    probabilities = session.run(["probabilities"], {"image": np.stack([pixels] * 3)})[0]
    (expected,) = graft.load(run, engine="torch", precision="float32").predict(path)
    assert probabilities.shape == (3, 4) and facts["classes"][probabilities[1].argmax()] == expected.label
    assert probabilities[2].max() == pytest.approx(expected.probability, abs=1e-4)


def test_the_script_of_the_docs_needs_no_graft(run: Path, letters: Path, tmp_path: Path) -> None:
    saved = load_model(run / "model")
    # Of twelve bits in files of sixteen.
    deeper = replace(saved.preprocessing, levels=(("uint16", 0.0, 4095.0),))
    save_model(tmp_path / "model", replace(saved, preprocessing=deeper))
    notes: list[str] = []
    reporter = graft.Reporter(note=notes.append)
    onnx = graft.export(tmp_path / "model", out=tmp_path / "deep.onnx", check=letters, reporter=reporter).file
    # What the file leaves to its callers is reported, and stored beside it.
    assert any("uint16 from 0 (black) to 4,095 (white)" in note for note in notes)
    assert json.loads((tmp_path / "deep.onnx.json").read_text())["levels"] == {"uint16": [0, 4095]}
    page = (Path(__file__).resolve().parents[2] / "docs" / "deploy.md").read_text()
    script = page.split("```python\n")[1].split("```")[0]
    assert "graft" not in script.replace('["graft"]', "")
    images = sorted(letters.rglob("*.*"))[:6]
    grey = Image.open(images[0]).convert("L")
    deep, clear = tmp_path / "deep.png", tmp_path / "clear.png"
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 16 + 15).save(deep)
    # All of it is black, and what is seen is what is not transparent.
    drawn = Image.new("RGBA", grey.size, "black")
    drawn.putalpha(grey)
    drawn.save(clear)
    images += [deep, clear]
    finished = subprocess.run([sys.executable, "-c", script, onnx, *images], capture_output=True, text=True, check=True)
    expected = graft.load(tmp_path / "model", engine="torch", precision="float32").predict(images)
    told = [line.split()[-2:] for line in finished.stdout.splitlines()]
    assert [label for label, _ in told] == [each.label for each in expected]
    stated = [float(share.rstrip("%")) / 100 for _, share in told]
    assert stated == pytest.approx([each.probability for each in expected], abs=1e-3)


def mirrored_colours(of: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda image, *others: of(image.flip(-1) * torch.tensor([1, 0, 0], dtype=torch.uint8), *others)


def other_size(of: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda image, *others: of(image[:, ::2, ::2], *others)


def darker(of: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *given: of(*given) - 60


@pytest.mark.parametrize("fault", [mirrored_colours, other_size, darker])
def test_a_graph_that_sees_images_otherwise_is_not_kept(
    fault: Callable[[Any], Any], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_module, "to_squares", fault(graph_module.to_squares))
    with pytest.raises(GraftError, match="answers as the run does"):
        graft.export(run, out=tmp_path / "letters.onnx", quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_of_other_weights_is_not_kept(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noisy(self: Any, image: Tensor) -> Tensor:
        return torch.softmax(self.network(torch.zeros(len(image), *self.shape) + 0 * image.float().mean()), 1)

    saved = load_model(run / "model")
    shape = (saved.preprocessing.channels, saved.preprocessing.size, saved.preprocessing.size)
    monkeypatch.setattr(graph_module.FromPixels, "shape", shape, raising=False)
    monkeypatch.setattr(graph_module.FromPixels, "forward", noisy)
    with pytest.raises(GraftError):
        graft.export(run, out=tmp_path / "letters.onnx", quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_other_images_serve_where_those_of_the_run_are_gone(run: Path, letters: Path, tmp_path: Path) -> None:
    away = letters.rename(letters.with_name("elsewhere"))
    try:
        with pytest.raises(DataError, match="`check`"):
            graft.export(run, out=tmp_path / "letters.onnx", quiet=True)
        with pytest.raises(InputError, match="`check`"):
            model = tmp_path / "alone"
            os.system(f"cp -r '{run / 'model'}' '{model}'")
            graft.export(model, out=tmp_path / "letters.onnx", quiet=True)
        assert not (tmp_path / "letters.onnx").exists()
        made = graft.export(run, out=tmp_path / "letters.onnx", check=away, quiet=True)
        assert made.agreement.n == 48
    finally:
        away.rename(letters)


def test_images_to_check_on_need_no_class_folders(run: Path, letters: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    (flat / "more").mkdir(parents=True)
    for number, file in enumerate(sorted(letters.glob("*/*"))[:9]):
        shutil.copy(file, flat / ("more" if number == 8 else "") / f"{number}{file.suffix}")
    made = graft.export(run, out=tmp_path / "letters.onnx", check=flat, quiet=True)
    assert made.agreement.n == made.agreement.same_labels == 9


def test_what_openvino_does_by_itself_is_told_where_it_is_not_float32(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    # In float32, which every processor has.
    monkeypatch.setattr(export_check, "as_openvino_chooses", lambda file: ("bfloat16", open_exported(file).run))
    made = graft.export(run, "openvino", out=tmp_path / "a.xml", reporter=graft.Reporter(note=notes.append))
    (told,) = (note for note in notes if "bfloat16 on this processor" in note)
    assert f" of {min(made.agreement.n, 50)} labels as the run gives them" in told
    assert '{"INFERENCE_PRECISION_HINT": "f32"}' in told
    monkeypatch.setattr(export_check, "as_openvino_chooses", lambda file: ("float32", open_exported(file).run))
    notes.clear()
    graft.export(run, "openvino", out=tmp_path / "b.xml", reporter=graft.Reporter(note=notes.append))
    assert not any("on this processor" in note for note in notes)


def test_what_openvino_cannot_do_by_itself_is_told_and_the_export_kept(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(file: Path) -> Any:
        raise RuntimeError("Exception from core.cpp:117:\nno kernel for node pool\n")

    monkeypatch.setattr(export_check, "as_openvino_chooses", refused)
    notes: list[str] = []
    made = graft.export(run, "openvino", out=tmp_path / "a.xml", reporter=graft.Reporter(note=notes.append))
    (told,) = (note for note in notes if "on this processor" in note)
    assert "cannot run the file on this processor (no kernel for node pool): compile it with" in told
    assert made.file.is_file() and graft.load(made.file).classes == made.classes


def test_calls_that_cannot_be_are_named(run: Path, letters: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="onnx, openvino, torch"):
        graft.export(run, "onxx", quiet=True)
    with pytest.raises(InputError, match=r"ends in \.xml"):
        graft.export(run, "openvino", out=tmp_path / "a.onnx", quiet=True)
    with pytest.raises(InputError, match="run folder"):
        graft.export(tmp_path, quiet=True)
    with pytest.raises(InputError, match="outside the images"):
        graft.export(run, out=letters / "A" / "a.onnx", quiet=True)
    with pytest.raises(InputError, match="does not exist"):
        graft.load(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("name", ["other.onnx", "other.xml"])
def test_files_of_others_are_told_from_exports(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x08\x07 not a model")
    with pytest.raises(WeightsError, match="graft export"):
        graft.load(tmp_path / name)


def test_weights_of_another_graph_are_not_run(run: Path, tmp_path: Path) -> None:
    """An export that overwrote another was interrupted between its two files, or one of the files was copied alone."""
    one = graft.export(run, "openvino", out=tmp_path / "one.xml", quiet=True).file
    other = graft.export(run, "openvino", precision="bf16", out=tmp_path / "other.xml", quiet=True).file
    weights = one.with_suffix(".bin")
    changed = bytearray(weights.read_bytes())
    changed[len(changed) // 2] ^= 1
    # OpenVINO itself accepts any weights of the right length.
    for wrong in (bytes(changed), other.with_suffix(".bin").read_bytes()):
        weights.write_bytes(wrong)
        with pytest.raises(WeightsError, match=r"one\.bin|one\.xml"):
            graft.load(one)
    weights.unlink()
    with pytest.raises(WeightsError, match=r"expected one\.bin beside one\.xml"):
        graft.load(one)


def test_an_export_ended_between_its_files_leaves_no_pair_that_answers(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graft.export(run, "openvino", out=tmp_path / "a.xml", quiet=True)
    whole = Path.replace

    def ended(self: Path, target: Path) -> Path:
        if target.name == "a.xml":
            raise KeyboardInterrupt
        return whole(self, target)

    monkeypatch.setattr(Path, "replace", ended)
    with pytest.raises(KeyboardInterrupt):
        graft.export(run, "openvino", precision="bf16", out=tmp_path / "a.xml", overwrite=True, quiet=True)
    monkeypatch.undo()
    assert {each.name for each in tmp_path.iterdir()} == {"a.xml", "a.bin"}
    with pytest.raises(WeightsError):
        graft.load(tmp_path / "a.xml")


def test_a_full_disk_leaves_nothing_behind(
    run: Path, tmp_path: Path, limited_files: Callable[[int | None], Any]
) -> None:
    place = tmp_path / "exports"
    with limited_files(1000), pytest.raises(GraftError):
        graft.export(run, out=place / "letters.onnx", quiet=True)
    assert list(place.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="an administrator may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_said(run: Path, tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(GraftError, match="make it writable"):
        graft.export(run, out=tmp_path / "letters.onnx", quiet=True)


def test_a_folder_that_cannot_be_made_is_said_before_any_image_is_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setattr("graft.workflows.export.timed", lambda *_: pytest.fail("images were run"))
    with pytest.raises(GraftError, match="make it writable"):
        graft.export(run, out=tmp_path / "file" / "letters.onnx", quiet=True)


def test_the_command_prints_what_it_made(run: Path, tmp_path: Path) -> None:
    given = ["export", str(run), "--out", str(tmp_path / "letters.onnx"), "--quiet"]
    found = CliRunner().invoke(app, [*given, "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["format"] == "onnx"
    again = CliRunner().invoke(app, [*given, "--overwrite"])
    assert again.exit_code == 0 and "labels as the run gives them" in again.stdout


@pytest.mark.parametrize(
    ("format", "precision", "share"), [("openvino", "bf16", 0.8), ("openvino", "int8", 0.6), ("onnx", "int8", 0.8)]
)
def test_fewer_bits_take_less_room_and_answer_nearly_alike(
    format: str, precision: str, share: float, run: Path, letters: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if (format, precision) == ("openvino", "int8"):
        pytest.importorskip("nncf", reason="needs graft-vision[int8]")
    in_onnx = format == "onnx"
    whole: Path = request.getfixturevalue("onnx")
    if not in_onnx:
        whole = graft.export(run, format, out=tmp_path / "whole.xml", quiet=True).file
    made = graft.export(run, format, precision=precision, out=tmp_path / f"less{whole.suffix}", quiet=True)
    weights = [each if in_onnx else each.with_suffix(".bin") for each in (made.file, whole)]
    assert weights[0].stat().st_size < share * weights[1].stat().st_size
    said = json.loads((tmp_path / f"less{whole.suffix}.json").read_text())
    assert (
        said["precision"] == precision
        and said["bytes_of_run"] > 0
        and ("accuracy" in said["agreement"]) == (precision == "int8")
    )
    image = next(iter(sorted(letters.rglob("*.png"))))
    one, other = (graft.load(each).predict(image)[0] for each in (whole, made.file))
    assert one.label == other.label and abs(one.probability - other.probability) < 0.1
    assert abs(one.probability - other.probability) > 0
    if precision == "int8":
        # Products of eight bits, two at a time, overflow the sixteen in which some processors add them up.
        for weight in _eight_bits(made.file):
            assert np.abs(weight.astype(int)).max() <= 64


def _eight_bits(file: Path) -> list[np.ndarray]:
    """The 8-bit weights of a graph, without biases."""
    if file.suffix == ".onnx":
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(str(file)).graph
        # ONNX Runtime warns of each constant that no node takes, whenever it opens a file.
        assert {each.name for each in graph.initializer} <= {name for node in graph.node for name in node.input}
        found = [numpy_helper.to_array(each) for each in graph.initializer]
    else:
        nodes = core().read_model(str(file)).get_ops()
        found = [node.data for node in nodes if node.get_type_name() == "Constant"]
    weights = [each for each in found if each.dtype == np.int8 and each.ndim > 1]
    assert weights
    return weights


def test_eight_bits_that_lose_three_points_are_not_kept(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Activation ranges measured on black images fit none of the run's images."""
    monkeypatch.setattr(export_module, "_pixels", lambda *given: np.zeros((30, 30, 3), np.uint8))
    with pytest.raises(GraftError, match="loses at most 1 point"):
        graft.export(run, "onnx", precision="int8", out=tmp_path / "letters.onnx", quiet=True)
    assert not list(tmp_path.iterdir())


def test_fewer_bits_are_of_openvino_and_onnx(run: Path, tmp_path: Path) -> None:
    for format, precision, words in (
        ("torch", "int8", "`format='openvino'` or onnx"),
        ("onnx", "bf16", "`format='openvino'` for"),
        ("openvino", "fp16", "fp32, bf16, int8"),
    ):
        with pytest.raises(InputError, match=words):
            graft.export(run, format, precision=precision, out=tmp_path / "x.onnx", quiet=True)


@pytest.fixture(scope="module")
def for_timm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a network that timm has."""
    torch.manual_seed(0)
    model = tmp_path_factory.mktemp("for_timm") / "model"
    preprocessing = Preprocessing(32, (0.5,) * 3, (0.25,) * 3)
    network = build(Config("mobilenet_v3_small", 4))
    head = network.get_submodule(network.head_name)
    assert isinstance(head.bias, Tensor)
    with torch.no_grad():
        # Untrained, its logits would be equal to within a millionth.
        head.bias.copy_(torch.arange(4))
    save_model(model, SavedModel(network, preprocessing, tuple(sorted(LATIN[:4])), 1.5))
    return model


def test_a_network_that_timm_lacks_is_refused_before_images_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm", reason="needs graft-vision[timm]")
    network = build(Config("mobilenet_v1_025", 4))
    saved = SavedModel(network, Preprocessing(64, (0.5,) * 3, (0.5,) * 3), tuple(LATIN[:4]), facts={"base": "x"})
    save_model(tmp_path / "model", saved)
    monkeypatch.setattr(export_timm, "images_to_check_on", lambda *_: pytest.fail("images were looked for"))
    with pytest.raises(InputError, match="mobilenet_v1_025, which it lacks: choose"):
        graft.export(tmp_path / "model", "timm", quiet=True)


def test_a_folder_of_timms_is_kept_where_its_network_gives_the_logits(
    for_timm: Path, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("timm", reason="needs graft-vision[timm]")
    given = ["export", str(for_timm), "--format", "timm", "--check", str(letters), "--out", str(tmp_path / "letters")]
    done = CliRunner().invoke(app, [*given, "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["agreement"]["largest_difference"] <= 1e-5 and said["agreement"]["of"] == "logits"
    assert said["agreement"]["same_labels"] == said["agreement"]["n"] > 0
    assert "keep their label" in done.stderr and "temperature, 1.5," in done.stderr
    assert {each.name for each in tmp_path.iterdir()} == {"letters", "letters.json"}
    # An earlier export may be replaced, but nothing else.
    assert isinstance(CliRunner().invoke(app, given).exception, InputError)
    before = (tmp_path / "letters" / "model.safetensors").read_bytes()

    def swapped(folder: Path, saved: SavedModel) -> None:
        network = copy.deepcopy(saved.network)
        with torch.no_grad():
            for tensor in network.get_submodule(network.head_name).parameters():
                tensor.copy_(tensor.flip(0))
        write_timm(folder, replace(saved, network=network))

    with monkeypatch.context() as patched:
        patched.setattr(export_timm, "write_timm", swapped)
        with pytest.raises(GraftError, match="nothing was kept"):
            graft.export(for_timm, "timm", check=letters, out=tmp_path / "letters", overwrite=True, quiet=True)
    assert {each.name for each in tmp_path.iterdir()} == {"letters", "letters.json"}
    assert (tmp_path / "letters" / "model.safetensors").read_bytes() == before
    (tmp_path / "letters" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        graft.export(for_timm, "timm", check=letters, out=tmp_path / "letters", overwrite=True, quiet=True)


def test_an_ending_in_capitals_is_written_too(run: Path, tmp_path: Path) -> None:
    made = graft.export(run, "openvino", out=tmp_path / "LETTERS.XML", quiet=True)
    assert made.file.is_file() and graft.load(made.file).classes == made.classes


def test_of_the_images_to_check_on_one_at_a_time_is_decoded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred photographs of a camera, decoded, take 7 GB."""
    whole, alive, most = export_check.whole_pixels, [0], [0]

    def noted(data: bytes | np.ndarray, levels: Any) -> np.ndarray:
        pixels = whole(data, levels)
        alive[0] += 1
        most.append(alive[0])
        weakref.finalize(pixels, lambda: alive.append(alive.pop() - 1))
        return pixels

    monkeypatch.setattr(export_check, "whole_pixels", noted)
    graft.export(run, out=tmp_path / "letters.onnx", quiet=True)
    assert 0 < max(most) <= 3
