"""The model folder: what is saved comes back bit for bit, and a damaged folder is told from a sound one."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from graft.errors import GraftError, InputError, WeightsError
from graft.images.preprocessing import Preprocessing
from graft.models.catalog import CATALOG, build
from graft.models.cuts import HeadKind
from graft.models.network import Config
from graft.weights.base import load_base
from graft.weights.saved import SavedModel, class_logits, load_model, model_folder, save_model

CLASSES = ("ant", "bee", 'Käfer, groß | "selten"')
FILES = ("config.json", "model.safetensors", "labels.json", "preprocessing.json", "calibration.json", "README.md")


def made(name: str = "mobilenet_v1_025", channels: int = 3, head: HeadKind = "last") -> SavedModel:
    torch.manual_seed(0)
    auxiliary = CATALOG[name].auxiliary
    cuts = build(Config(name, 2, channels, auxiliary=auxiliary)).cuts
    head = f"stages:{cuts[len(cuts) // 2 - 1]}" if head == "middle" else head
    network = build(Config(name, len(CLASSES), channels, "tensorflow", 1e-3, auxiliary, head)).eval()
    preprocessing = Preprocessing(96, (0.5,) * channels, (0.25,) * channels, "letterbox", 0.9)
    return SavedModel(network, preprocessing, CLASSES, 1.5, {"base": "mobilenet_v1_025", "val": {"top1": 0.93}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "run" / "model", made())
    return tmp_path / "run" / "model"


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **values}), encoding="utf-8")


def change_network(folder: Path, **values: object) -> None:
    network = json.loads((folder / "config.json").read_text(encoding="utf-8"))["network"]
    change(folder / "config.json", network={**network, **values})


@torch.no_grad()
@pytest.mark.parametrize("head", ["last", "stages", "middle"])
@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("mobilenet_v1_025", 3),
        ("resnet20", 1),
        ("lenet5", 1),
        # Codes that do not train, a head kept as a convolution, auxiliary classifiers.
        ("lenet5_1998", 1),
        ("preact_resnet18", 3),
        ("googlenet", 3),
    ],
)
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, name, channels, head):
    model = made(name, channels, head)
    save_model(tmp_path / "model", model)
    back = load_model(tmp_path / "model")
    x = torch.randn(2, channels, 32, 32)
    assert torch.equal(back.network(x), model.network(x))
    assert not back.network.training
    assert back.network.config == model.network.config
    assert back.preprocessing == model.preprocessing
    assert (back.classes, back.temperature, back.facts) == (model.classes, model.temperature, model.facts)


def test_the_folder_holds_what_the_design_promises_and_nothing_beside_it(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert json.loads((folder / "labels.json").read_text(encoding="utf-8")) == list(CLASSES)
    assert "ant" in (folder / "README.md").read_text(encoding="utf-8")


def test_half_precision_is_saved_as_single(tmp_path):
    model = made()
    model.network.half()
    save_model(tmp_path / "model", model)
    tensors = load_file(tmp_path / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32, torch.int64}


def test_saving_again_replaces_the_folder(folder):
    (folder / "stray.txt").write_text("old")
    model = made()
    model.network.new_head(3)
    save_model(folder, model)
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert torch.equal(load_model(folder).network.head.weight, model.network.head.weight)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(("room", "name"), [(100_000, "model.safetensors"), (None, "README.md")])
def test_a_save_that_fails_names_the_file_and_leaves_the_old_model(folder, monkeypatch, limited_files, room, name):
    before = sorted(folder.parent.rglob("*"))

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    if room is None:
        monkeypatch.setattr("graft.weights.saved.model_card", full)
    says = rf"write the model to {re.escape(str(folder))}, got .* for {re.escape(name)}: free space there"
    with limited_files(room), pytest.raises(GraftError, match=says):
        save_model(folder, made())
    assert load_model(folder).classes == CLASSES
    assert sorted(folder.parent.rglob("*")) == before


def test_a_run_is_found_from_within_it(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert model_folder(Path()).resolve() == folder.resolve()
    with pytest.raises(InputError, match="expected a run folder"):
        model_folder(Path("/"))


def test_a_run_folder_and_its_model_folder_mean_the_same(folder):
    assert model_folder(folder) == model_folder(folder.parent) == folder
    with pytest.raises(InputError, match="does not exist"):
        model_folder(folder / "absent")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no config\.json and model\.safetensors"):
        model_folder(folder)


@torch.no_grad()
@pytest.mark.parametrize("head", ["last", "stages", "middle"])
def test_the_tensors_alone_are_a_base_that_knows_all_of_its_input(folder, tmp_path, head):
    save_model(folder, made(head=head))
    path = (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    model, base = made(head=head), load_base(str(path))
    x = torch.randn(1, 3, 33, 33)
    assert torch.equal(base.network(x), model.network(x))
    assert base.network.config == model.network.config
    assert base.preprocessing == model.preprocessing
    assert base.classes == CLASSES


def test_a_saved_model_is_a_base(folder):
    for path in (folder, folder.parent):
        base = load_base(str(path))
        assert base.classes == CLASSES
        assert base.has_head
        assert base.pretrained
        assert base.preprocessing == made().preprocessing


@pytest.mark.parametrize("name", ["config.json", "labels.json", "preprocessing.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(WeightsError, match=re.escape(name)):
        load_model(folder)


def test_without_calibration_the_temperature_is_what_the_tensors_say_or_one(folder):
    saved = load_model(folder).temperature
    (folder / "calibration.json").unlink()
    assert load_model(folder).temperature == saved != 1.0
    # As an earlier version saved them.
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")
    assert load_model(folder).temperature == 1.0


@pytest.mark.parametrize("name", ["config.json", "labels.json", "preprocessing.json", "calibration.json"])
@pytest.mark.parametrize(
    "content", [b"", b'{"a": ', b"\xff\xfe\x00", b"3", b"null", b"[" * 200_000, b'{"a":' * 200_000]
)
def test_a_corrupt_file_is_named(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(name)):
        load_model(folder)


def test_a_flipped_bit_in_the_tensors_is_refused(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    for load in (load_model, lambda folder: load_base(str(folder)), lambda folder: load_base(str(path))):
        with pytest.raises(WeightsError, match=r"the tensors that model\.safetensors was saved with"):
            load(folder)


def test_tensors_saved_without_a_digest_load(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert len(metadata.pop("graft.digest")) == 32
    save_file(tensors, path, metadata)
    assert load_model(folder).classes == CLASSES


@pytest.mark.parametrize("length", [0, 5, 100, 10_000])
def test_truncated_tensors_are_refused(folder, length):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize("format_", [3, "1", None])
def test_another_format_is_refused_before_anything_else_is_read(folder, format_):
    change(folder / "config.json", graft=format_)
    (folder / "preprocessing.json").write_text('{"another": "layout"}')
    with pytest.raises(WeightsError, match=f"format 1 or 2, got {format_!r}"):
        load_model(folder)


def test_a_folder_of_another_tool_is_told_from_a_run_and_may_be_a_base(folder):
    (folder / "config.json").write_text('{"architecture": "resnet18", "num_classes": 3}')
    with pytest.raises(WeightsError, match=r"one of another tool .* as the base"):
        load_model(folder)


@pytest.mark.parametrize(
    ("ending", "able"), [(".onnx", "graft serve"), (".xml", "graft serve"), (".pt2", "torch.export")]
)
def test_an_exported_file_is_told_from_a_run(ending, able, tmp_path):
    (tmp_path / f"a{ending}").touch()
    with pytest.raises(InputError, match=f"an exported file, which .*{able}.*: name the run"):
        model_folder(tmp_path / f"a{ending}")


@pytest.mark.parametrize("labels", [["ant", "bee"], ["ant", "bee", "cat", "dog"], [], ["ant", "bee", 3]])
def test_labels_that_do_not_fit_the_outputs_are_refused(folder, labels):
    (folder / "labels.json").write_text(json.dumps(labels))
    with pytest.raises(WeightsError, match=r"3 class names in .*labels\.json"):
        load_model(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"classes": -1},
        {"classes": 0},
        {"classes": "10" * 100},
        {"classes": int("10" * 100)},
        {"classes": 3.0},
        {"classes": True},
        {"classes": None},
        {"classes": 10**9},
        {"channels": 7},
        {"channels": 3.0},
        {"channels": 10**9},
        {"channels": [3]},
        {"architecture": "../../x"},
        {"architecture": "graft.errors"},
        {"architecture": ["resnet20"]},
        {"architecture": None},
        {"padding": "reflect"},
        {"padding": ["torch"]},
        {"batch_norm_eps": float("nan")},
        {"batch_norm_eps": -1.0},
        {"batch_norm_eps": "0.001"},
        {"batch_norm_eps": 10**400},
        {"head": "all"},
        {"head": None},
        {"head": ["stages"]},
        {"hook": "os.system"},
    ],
    ids=lambda values: repr(values)[:40],
)
def test_a_hostile_configuration_is_refused_before_anything_is_built(folder, monkeypatch, values):
    def never(_: object, config: Config) -> None:
        raise AssertionError("a network was built")

    monkeypatch.setattr("graft.weights.architectures.Architecture.build", never)
    change_network(folder, **values)
    with pytest.raises(WeightsError, match="restore the file that was saved with the model"):
        load_model(folder)


def test_a_configuration_without_a_network_is_refused(folder):
    for value in (None, [], "resnet20", {}, {"classes": 3}):
        change(folder / "config.json", network=value)
        with pytest.raises(WeightsError, match="under 'network'"):
            load_model(folder)


def test_tensors_of_another_network_are_refused(folder, tmp_path):
    for other, says in (
        (build(Config("mobilenet_v1_025", 4)), "head of 3 outputs"),
        (build(Config("mobilenet_v1_025", 3, 1)), "3 input channels"),
        (build(Config("resnet20", 3)), "head of 3 outputs .* got none"),
    ):
        save_file(other.state_dict(), folder / "model.safetensors")
        with pytest.raises(WeightsError, match=says):
            load_model(folder)


def test_a_head_over_other_stages_than_the_configuration_says_is_refused(folder):
    change_network(folder, head="stages")
    with pytest.raises(WeightsError, match=r"a head over all stages in .* got one over the last stage"):
        load_model(folder)
    save_model(folder, made(head="stages"))
    change_network(folder, head="last")
    with pytest.raises(WeightsError, match=r"a head over the last stage in .* got one over all stages"):
        load_model(folder)
    change_network(folder, head="stages:stage2")
    with pytest.raises(WeightsError, match=r"a head over the stages after stage2 in .* got one over all stages"):
        load_model(folder)
    change_network(folder, head="stages:stage9")
    with pytest.raises(WeightsError, match=r"or stages:CUT with one of input, stem, .*got 'stages:stage9'.*restore"):
        load_model(folder)


def test_a_usual_head_is_saved_as_earlier_versions_save_it(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        said = json.loads(file.metadata()["graft.network"])
    assert said == json.loads((folder / "config.json").read_text(encoding="utf-8"))["network"]
    assert list(said) == ["architecture", "classes", "channels", "padding", "batch_norm_eps", "auxiliary"]


def test_preprocessing_for_other_channels_is_refused(folder):
    change(folder / "preprocessing.json", mean=[0.5], std=[0.5])
    with pytest.raises(WeightsError, match=r"each of 3 channels in .*preprocessing\.json"):
        load_model(folder)


def test_outputs_of_the_classes_come_back(tmp_path):
    model = made()
    grouped = SavedModel(model.network, model.preprocessing, ("insect", "beetle"), outputs=((0, 1), (2,)))
    save_model(tmp_path / "model", grouped)
    back = load_model(tmp_path / "model")
    assert (back.classes, back.outputs) == (("insect", "beetle"), ((0, 1), (2,)))
    assert "outputs" not in back.facts
    base = load_base(str(tmp_path / "model"))
    assert (base.classes, base.outputs) == (back.classes, back.outputs)
    # Without the folder, nothing says which outputs the two names belong to.
    assert load_base(str(tmp_path / "model" / "model.safetensors")).classes is None


def test_a_model_without_groups_of_outputs_has_none(folder):
    assert load_model(folder).outputs is None
    assert "outputs" not in json.loads((folder / "config.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "value",
    [
        [], {}, "012", 3, True, [[]], [[0], [1], []], [0, 1, 2], [[0], [1], 2], [[0], [1], [3]], [[0], [1], [-1]],
        [[0], [1], [2.0]], [[0], [2], [True]], [[0], [1], ["2"]], [[0], [1], [[2]]], [[0], [1], [1]],
        [[0, 0], [1], [2]], [[0], [1], [None]], [[0], [1], [10**400]], [[0], [1], [{}]],
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_hostile_outputs_are_refused(folder, value):
    change(folder / "config.json", outputs=value)
    with pytest.raises(WeightsError, match=r"under 'outputs' in .*config\.json .* from 0 to 2 .*restore the file"):
        load_model(folder)


def test_labels_that_do_not_fit_the_groups_of_outputs_are_refused(folder):
    change(folder / "config.json", outputs=[[0], [2]])
    with pytest.raises(WeightsError, match=r"2 class names in .*labels\.json, got 3"):
        load_model(folder)


def test_a_class_is_as_probable_as_its_outputs_together():
    torch.manual_seed(0)
    logits = 30 * torch.randn(50, 6)
    outputs = ((4,), (0, 2, 5))
    probabilities = logits.double().softmax(1)
    sums = torch.stack([probabilities[:, list(each)].sum(1) for each in outputs], 1)
    assert torch.allclose(class_logits(logits, outputs).softmax(1), sums / sums.sum(1, keepdim=True), atol=1e-9)
    assert class_logits(logits, None) is logits
    assert class_logits(torch.empty(0, 6), outputs).shape == (0, 2)


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), 0, -1.0, "1", None, True, 10**400, 1e-320, [1]],
    ids=lambda value: repr(value)[:30],
)
def test_a_temperature_that_is_none_is_refused(folder, value):
    change(folder / "calibration.json", temperature=value)
    with pytest.raises(WeightsError, match="temperature above zero"):
        load_model(folder)


def saved_letters(folder: Path) -> Path:
    base = load_base("latin_letters")
    assert base.classes is not None
    save_model(folder, SavedModel(base.network, base.preprocessing, base.classes, 1.5))
    return folder


def test_files_that_say_otherwise_than_the_tensors_are_refused_by_name(tmp_path: Path) -> None:
    labels = json.loads((saved_letters(tmp_path / "model") / "labels.json").read_text())
    edits = {
        "labels.json": [[labels[1], labels[0], *labels[2:]], [labels[0]] * len(labels), ["", *labels[1:]]],
        "config.json": [{"padding": "tensorflow"}, {"batch_norm_eps": 0.5}],
        "preprocessing.json": [{"mean": [0.25]}, {"resize_mode": "squash"}, {"crop_fraction": 0.5}],
        "calibration.json": [{"temperature": 1.0}],
    }
    for name, values in edits.items():
        for value in values:
            file = saved_letters(tmp_path / "model") / name
            before = json.loads(file.read_text())
            if name == "config.json":
                value = {**before, "network": {**before["network"], **value}}
            elif isinstance(before, dict):
                value = {**before, **value}
            file.write_text(json.dumps(value))
            with pytest.raises(WeightsError, match=name):
                load_model(tmp_path / "model")


def test_a_model_that_was_being_replaced_is_found_where_it_was_put(tmp_path: Path) -> None:
    folder = saved_letters(tmp_path / "run" / "model")
    # As left by a process killed between the two renames.
    folder.rename(tmp_path / "run" / ".model.old")
    assert load_model(model_folder(tmp_path / "run")).temperature == 1.5
    assert not (tmp_path / "run" / ".model.old").exists()


def test_a_network_that_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    base = load_base("latin_letters")
    assert base.classes is not None
    with torch.no_grad():
        next(base.network.parameters())[0] = float("nan")
    with pytest.raises(GraftError, match="NaN or infinity"):
        save_model(tmp_path / "model", SavedModel(base.network, base.preprocessing, base.classes))
    assert not (tmp_path / "model").exists()


def test_a_folder_of_an_earlier_version_loads(tmp_path: Path) -> None:
    folder = saved_letters(tmp_path / "model")
    with safe_open(folder / "model.safetensors", "pt") as file:
        said = file.metadata()
    classes = json.loads(said["classes"])
    earlier = {name: value for name, value in said.items() if not name.startswith("graft.")}
    earlier |= {"fit": earlier.pop("resize_mode"), "classes": json.dumps(classes, ensure_ascii=False)}
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors", earlier)
    preprocessing = json.loads((folder / "preprocessing.json").read_text())
    preprocessing["fit"] = preprocessing.pop("resize_mode")
    (folder / "preprocessing.json").write_text(json.dumps(preprocessing))
    found = load_model(folder)
    assert (found.classes, found.temperature) == (tuple(classes), 1.5)
    assert load_base(str(folder)).classes == tuple(classes)
