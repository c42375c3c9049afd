"""The same images, whichever way they come: by their path, as a Dataset, as (images, labels), as a data frame."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from written_letters import files, write_letters

import graft
from graft.errors import DataError, InputError
from graft.images.letters import CYRILLIC
from graft.models.catalog import build
from graft.models.network import Config
from graft.weights.base import load_base
from graft.workflows.own_images import images_of_run

OPTIONS = {"base": "latin_letters", "level": "head", "deterministic": True, "quiet": True}


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_letters(tmp_path_factory.mktemp("doors") / "letters", CYRILLIC[:4], 8, seed=0)


def listed(letters: Path) -> tuple[list[Path], list[str]]:
    paths = sorted(letters.glob("*/*.png"))
    return paths, [path.parent.name for path in paths]


def model_of(run: graft.Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run.folder / "model").iterdir())}


def test_the_same_images_make_the_same_model_whichever_way_they_come(letters: Path, tmp_path: Path) -> None:
    paths, labels = listed(letters)
    pixels = [np.asarray(Image.open(path)) for path in paths]
    doors = {
        "path": letters,
        "PIL": ([Image.open(path) for path in paths], labels),
        "floats": ([array / 255 for array in pixels], labels),
        "frame with usual names": pd.DataFrame({"path": paths, "label": labels}),
        "frame": graft.Dataset.from_frame(pd.DataFrame({"path": paths, "label": labels}), name="any"),
    }
    before, found = files(letters), {}
    for name, data in doors.items():
        found[name] = model_of(graft.train(data, out=tmp_path / name, **OPTIONS))
    assert files(letters) == before
    assert all(model == found["path"] for model in found.values())
    assert set(found["path"]) > {"config.json", "model.safetensors", "README.md"}


def test_every_workflow_takes_a_dataset_and_images_with_labels(letters: Path, tmp_path: Path) -> None:
    dataset = graft.Dataset.from_folder(letters)
    run = graft.train(dataset, out=tmp_path / "run", **OPTIONS)
    by_path = graft.evaluate(run.folder, letters, quiet=True)
    assert graft.evaluate(run.folder, listed(letters), quiet=True).seen.to_dict() == by_path.seen.to_dict()
    base = OPTIONS["base"]
    assert graft.audit(listed(letters), base, with_features=False, quiet=True).findings == tuple(
        graft.audit(dataset, base, with_features=False, quiet=True).findings
    )
    advice = graft.advise(dataset, base, with_race=False, quiet=True)
    assert advice.plan == graft.advise(letters, base, with_race=False, quiet=True).plan
    compared = graft.compare(listed(letters), base, "head", 1, quiet=True)
    assert compared.levels[0].top1 == graft.compare(letters, base, "head", 1, quiet=True).levels[0].top1
    assert compared.data == "images"
    frame = pd.DataFrame(dict(zip(("File", "class"), listed(letters), strict=True)))
    assert graft.evaluate(run.folder, frame, quiet=True).seen.to_dict() == by_path.seen.to_dict()
    grouped = graft.DataOptions(dataset, group=r"/(\d+)\.png$")
    assert graft.train(grouped, out=tmp_path / "grouped", **OPTIONS).val.n


def test_a_frame_says_its_splits_and_one_without_names_says_how_to_name_them(letters: Path, tmp_path: Path) -> None:
    paths, labels = listed(letters)
    frame = pd.DataFrame({"path": paths, "label": labels, "split": [*["train"] * 3, "val"] * (len(paths) // 4)})
    graft.train(frame, out=tmp_path / "run", **OPTIONS)
    assert (tmp_path / "run" / "split.csv").read_text().count(",val,") == len(paths) // 4
    with pytest.raises(DataError, match=r"columns of images and of labels .* got 'a', 'b': name them as in graft\."):
        graft.train(pd.DataFrame({"a": paths, "b": labels}), out=tmp_path / "other", **OPTIONS)
    for odd, name in (({"a": paths}, "a dict"), (paths, "a list"), (None, "None"), (7, "7")):
        with pytest.raises(InputError, match=f"or a data frame for the images, got {name}: give one of these"):
            graft.train(odd, out=tmp_path / "other", **OPTIONS)
    assert not (tmp_path / "other").exists()


def test_a_cleaned_dataset_can_be_trained(letters: Path, tmp_path: Path) -> None:
    paths, labels = listed(letters)
    audit = graft.audit(
        ([*paths, paths[0], b"no image"], [*labels, labels[0], labels[0]]), with_features=False, quiet=True
    )
    cleaned = audit.dataset.without(audit.findings)
    assert len(cleaned) == len(paths)
    assert not graft.train(cleaned, out=tmp_path / "run", **OPTIONS).skipped


def test_a_run_of_images_in_memory_says_that_no_path_resumes_it(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr("graft.training.heads.fit_head", stop)
        graft.train(listed(letters), out=tmp_path / "run", **OPTIONS)
    text = (tmp_path / "run" / "args.yaml").read_text()
    assert text.startswith("# The images were handed over in Python") and yaml.safe_load(text)["in_memory"] is True
    with pytest.raises(InputError, match=r"handed over in Python: hand the same images over again, graft\.train"):
        graft.train(tmp_path / "run", resume=True, quiet=True)
    with pytest.raises(DataError, match=r"the images, labels and splits that .* was begun with"):
        other = [each[::-1] for each in listed(letters)]
        graft.train((other[0], other[1]), out=tmp_path / "run", resume=True, quiet=True)
    run = graft.train(listed(letters), out=tmp_path / "run", resume=True, quiet=True)
    assert model_of(run) == model_of(graft.train(letters, out=tmp_path / "at_once", **OPTIONS))
    with pytest.raises(DataError, match="handed over in Python and have no path: give others"):
        images_of_run(run.folder, "to look at", "give others")


def test_what_is_no_data_is_one_sentence(letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for data in (5, None, ([], [], []), object()):
        with pytest.raises(InputError, match=r"^expected a path, .* or a data frame for the images, got .*: give one"):
            graft.train(data, **OPTIONS)
    with pytest.raises(InputError, match="no table options"):
        graft.train(graft.DataOptions(listed(letters), table=graft.TableOptions(label_column="x")), **OPTIONS)
    assert not list(tmp_path.iterdir())
    run = graft.train(listed(letters), **OPTIONS)
    assert run.folder == tmp_path / "runs" / "images"


def test_a_run_is_taken_wherever_the_path_of_one_is(letters: Path, tmp_path: Path) -> None:
    run = graft.train(letters, out=tmp_path / "run", **OPTIONS)
    assert graft.load(run).classes == run.classes
    by_path = graft.evaluate(run.folder, letters, quiet=True)
    assert graft.evaluate(run, letters, quiet=True).seen.to_dict() == by_path.seen.to_dict()
    assert graft.report(run).page == run.folder / "report.html"
    image = next(letters.rglob("*.png"))
    assert graft.explain(run, image, nearest=0, quiet=True).run == run.folder
    assert graft.export(run, "onnx", quiet=True).file.parent == run.folder / "export"
    again = graft.train(run, resume=True, quiet=True)
    assert again.folder == run.folder
    assert graft.train(letters, run, "head", out=tmp_path / "on a run", quiet=True).base == "run"


def test_how_the_images_of_a_base_are_scaled_can_be_stated(letters: Path, tmp_path: Path) -> None:
    from graft.workflows.arguments import read_arguments
    from graft.workflows.prepare import load_start

    torch.save({"state_dict": build(Config("resnet18", 4)).state_dict()}, tmp_path / "a.pth")
    options = {"level": "head", "image_size": 32, "audit": False, "quiet": True}
    run = graft.train(letters, tmp_path / "a.pth", mean=0.5, std="0.25, 0.5 0.75", out=tmp_path / "run", **options)
    said = json.loads((run.folder / "model" / "preprocessing.json").read_text())
    assert (said["mean"], said["std"]) == ([0.5] * 3, [0.25, 0.5, 0.75])
    assert (read_arguments(run.folder).mean, read_arguments(run.folder).std) == ((0.5,), (0.25, 0.5, 0.75))
    assert not any("of its images" in note for note in run.notes)
    assert graft.train(run, resume=True, mean=[0.5], std=np.array([0.25, 0.5, 0.75]), quiet=True).folder == run.folder
    with pytest.raises(InputError, match=r"the arguments that .* was begun with"):
        graft.train(run, resume=True, mean=0.4, std=0.5, quiet=True)
    other = graft.train(letters, tmp_path / "a.pth", out=tmp_path / "other", **options)
    assert any("those of ImageNet were assumed" in note and "--mean" in note for note in other.notes)
    random = load_start(graft.BaseOptions("resnet18", mean=(0.1, 0.2, 0.3), std=1), scratch=True)
    assert random.preprocessing.mean == (0.1, 0.2, 0.3) and random.preprocessing.std == (1, 1, 1)


def test_weights_are_evaluated_on_images_scaled_as_stated(letters: Path, tmp_path: Path) -> None:
    classes = sorted(each.name for each in letters.iterdir())
    state = build(Config("resnet18", len(classes))).state_dict()
    torch.save({"state_dict": state, "classes": classes}, tmp_path / "a.pth")
    stated = {"mean": 0.5, "std": (0.25, 0.5, 0.75), "image_size": 32}
    asked = graft.BaseOptions(str(tmp_path / "a.pth"), **stated)
    found = graft.evaluate(asked, letters, quiet=True)
    options = {"out": tmp_path / "run", "audit": False, "quiet": True}
    run = graft.train(letters, tmp_path / "a.pth", level="as-is", **options, **stated)
    of_run = graft.evaluate(run, letters, quiet=True)
    assert np.array_equal(found.answered.probabilities, of_run.answered.probabilities)
    assumed = graft.evaluate(tmp_path / "a.pth", letters, quiet=True)
    assert not any("--mean" in note for note in found.notes) and any("--mean" in note for note in assumed.notes)
    assert not np.allclose(found.answered.probabilities, assumed.answered.probabilities)
    with pytest.raises(InputError, match="expected no `image_size` for the run"):
        graft.evaluate(graft.BaseOptions(str(run.folder), image_size=32), letters, quiet=True)


def test_the_architecture_is_stated_for_weights_and_refused_for_a_run(letters: Path, tmp_path: Path) -> None:
    classes = sorted(each.name for each in letters.iterdir())
    state = {"state_dict": build(Config("resnet18", len(classes))).state_dict(), "classes": classes}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(InputError, match="tensors of resnet34"):
        graft.evaluate(graft.BaseOptions(str(tmp_path / "a.pth"), "resnet34", image_size=32), letters, quiet=True)
    found = graft.evaluate(graft.BaseOptions(str(tmp_path / "a.pth"), "resnet18", image_size=32), letters, quiet=True)
    assert found.answered.base.network.config.architecture == "resnet18"
    run = graft.train(letters, "latin_letters", "head", out=tmp_path / "run", audit=False, quiet=True)
    own = graft.BaseOptions(str(run.folder), load_base(str(run.folder)).network.config.architecture)
    with pytest.raises(InputError, match=r"expected no `arch` for the run .*, which names its architecture"):
        graft.evaluate(own, letters, quiet=True)


def test_how_images_are_prepared_for_weights_is_said_with_the_origin_of_each_number(
    letters: Path, tmp_path: Path
) -> None:
    classes = sorted(each.name for each in letters.iterdir())
    state = build(Config("resnet18", len(classes))).state_dict()

    def notes(beside: dict, **stated: object) -> list[str]:
        torch.save({"model": state, "classes": classes, **beside}, tmp_path / "a.pth")
        found = graft.evaluate(graft.BaseOptions(str(tmp_path / "a.pth"), **stated), letters, quiet=True)
        return [note for note in found.notes if note.startswith("images are ")]

    side = "px on the shorter side and cropped to 64 px"
    assert notes({}, image_size=64) == [f"images are resized to 73 {side} (size as stated, crop 0.875 assumed)"]
    sized = {"args": {"img_size": 64}}
    assert notes(sized) == [f"images are resized to 64 {side} (size of the file, crop 1 assumed)"]
    assert notes(sized, image_size=64) == [f"images are resized to 64 {side} (size as stated, crop 1 assumed)"]
    cropped = {"args": {"img_size": 64, "crop_pct": 0.9}}
    assert notes(cropped) == [f"images are resized to 71 {side} (size of the file, crop 0.9 of the file)"]
    scaled = notes(cropped, mean=0.5, std=0.25)
    assert scaled[0].endswith("; mean 0.5 0.5 0.5 and std 0.25 0.25 0.25 are as stated")
    squashed = notes(sized, resize_mode="squash")
    assert squashed == ["images are resized to 64 px by squash (size of the file, squash as stated)"]
    # Where the note on what is assumed gives these numbers, they are not given again.
    assert notes({}) == []
    run = graft.train(letters, tmp_path / "a.pth", "head", image_size=32, out=tmp_path / "run", audit=False, quiet=True)
    side = "px on the shorter side and cropped to 32 px"
    assert f"images are resized to 37 {side} (size as stated, crop 0.875 assumed)" in (run.notes)


def test_a_linear_layer_among_layers_without_parameters_is_the_classifier(letters: Path, tmp_path: Path) -> None:
    classes = sorted(each.name for each in letters.iterdir())
    state = build(Config("resnet18", len(classes))).state_dict()
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    nested = {**body, "fc.1.weight": state["fc.weight"], "fc.1.bias": state["fc.bias"]}
    torch.save({"state_dict": state, "classes": classes}, tmp_path / "plain.pth")
    torch.save({"state_dict": nested, "classes": classes}, tmp_path / "nested.pth")
    plain, inside = (
        graft.evaluate(graft.BaseOptions(str(tmp_path / f"{name}.pth"), image_size=32), letters, quiet=True)
        for name in ("plain", "nested")
    )
    assert np.array_equal(plain.answered.probabilities, inside.answered.probabilities)
    assert any("nested.pth has one layer with weights in its head, fc.1" in note for note in inside.notes)
    assert not any("left out" in note for note in inside.notes)


def test_a_head_of_several_layers_is_named_where_a_classifier_is_needed(letters: Path, tmp_path: Path) -> None:
    state = build(Config("resnet18", 4)).state_dict()
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    several = {"fc.0.weight": torch.ones(64, 512), "fc.0.bias": torch.ones(64), "fc.2.weight": torch.ones(4, 64)}
    torch.save({"state_dict": {**body, **several}}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"left out \(fc.0.weight, fc.0.bias, fc.2.weight\): train a new head"):
        graft.evaluate(graft.BaseOptions(str(tmp_path / "a.pth"), image_size=32), letters, quiet=True)
    with pytest.raises(InputError, match=r"left out \(fc.0.weight.*\): use `level='head'`"):
        graft.train(letters, tmp_path / "a.pth", "as-is", image_size=32, out=tmp_path / "run", quiet=True)
    # A layer of another width than the features is none on them.
    torch.save({"state_dict": {**body, "fc.1.weight": torch.ones(4, 64)}}, tmp_path / "a.pth")
    assert load_base(str(tmp_path / "a.pth")).other_head == ("fc.1.weight",)
    torch.save({"state_dict": body}, tmp_path / "a.pth")
    with pytest.raises(InputError, match="with no classifier: train a new head"):
        graft.evaluate(graft.BaseOptions(str(tmp_path / "a.pth"), image_size=32), letters, quiet=True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"mean": 0.5}, "`mean` and `std` together"),
        ({"mean": "half", "std": 0.5}, "for `mean`, of pixels from 0 to 1, got 'half'"),
        ({"mean": (0.5, 0.5), "std": 0.5}, "each of the 3 channels of the network for `mean`, got 2"),
        ({"mean": 123.7, "std": 58.4}, "divide what is for pixels from 0 to 255 by 255"),
        ({"mean": 0.5, "std": 0}, "for `std`, of pixels from 0 to 1, got 0"),
        ({"mean": float("nan"), "std": 0.5}, "for `mean`"),
        ({"mean": True, "std": 0.5}, "for `mean`"),
        ({"mean": {}, "std": 0.5}, "for `mean`"),
    ],
)
def test_a_mean_that_is_none_is_refused(given: dict, words: str, letters: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        graft.train(letters, "latin_letters" if "channels" not in words else "efficientnet_lite0", "head",
                    out=tmp_path / "run", quiet=True, **given)  # fmt: skip


@pytest.mark.parametrize("name", ["a b.pth", "a.safetensors", "a.ckpt"])
def test_a_file_of_weights_where_a_run_is_wanted_says_how_to_make_one_of_it(name: str, tmp_path: Path) -> None:
    weights = tmp_path / name
    weights.write_bytes(b"PK")
    for call in (graft.load, graft.report, graft.export, lambda run: graft.explain(run, "x.jpg")):
        with pytest.raises(
            InputError, match=r"a file of weights: `graft train DATA --base '?/.*'? --level as-is` makes"
        ):
            call(weights)
    # What does not exist, and what has another ending, is still a path to check.
    for other in (tmp_path / f"no {name}", tmp_path / "a.txt"):
        with pytest.raises(InputError, match="check the path"):
            graft.load(other)


def test_images_with_several_labels_are_sent_to_train(tmp_path: Path, letters: Path) -> None:
    paths, labels = listed(letters)
    dataset = graft.Dataset.from_arrays(paths, [[label] for label in labels], multi_label=True)
    with pytest.raises(InputError, match=r"`graft train --multi-label` chooses a level for these itself"):
        graft.advise(dataset, "latin_letters", quiet=True)
