"""What `--base` names, and what travels with it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from graft.errors import GraftError, InputError, WeightsError
from graft.models.catalog import CATALOG, build, default_config
from graft.models.network import Config, Network
from graft.progress import NOBODY
from graft.weights import base as module
from graft.weights.base import (
    BUNDLED,
    BUNDLED_BASES,
    CIFAR10_CLASSES,
    load_base,
    untrained_base,
)
from graft.weights.file import read_weights
from graft.weights.metadata import IMAGENET_MEAN


def made(name: str, classes: int = 4, channels: int | None = None, **rules: object) -> Network:
    torch.manual_seed(0)
    return build(Config(name, classes, channels or CATALOG[name].input_size[0], **rules)).eval()


def written(folder: Path, network: Network, metadata: dict[str, str] | None = None, name: str = "a.safetensors") -> str:
    save_file(network.state_dict(), folder / name, metadata)
    return str(folder / name)


@torch.no_grad()
def test_a_file_of_weights_is_a_base(tmp_path):
    network = made("resnet20")
    base = load_base(written(tmp_path, network))
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(base.network(x), network(x))
    assert not base.network.training
    assert (base.classes, base.has_head, base.pretrained) == (None, True, True)
    assert ["does not state the scaling and size of its images" in note for note in base.notes] == [True]
    assert (base.preprocessing.size, base.preprocessing.mean) == (32, IMAGENET_MEAN)


@torch.no_grad()
def test_timms_layout_saved_to_a_file_is_a_base_with_timms_outputs(tmp_path):
    timm = pytest.importorskip("timm")
    torch.manual_seed(2)
    theirs = timm.create_model("mobilenetv2_100", pretrained=False).eval()
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "theirs.pth")
    base = load_base(str(tmp_path / "theirs.pth"))
    assert base.network.config.architecture == "mobilenet_v2"
    x = torch.randn(1, 3, 96, 96)
    assert (base.network(x) - theirs(x)).abs().max() <= 1e-5 * theirs(x).std()
    stated = load_base(str(tmp_path / "theirs.pth"), architecture="mobilenetv2_100")
    assert torch.equal(stated.network(x), base.network(x))


@torch.no_grad()
def test_metadata_says_how_the_weights_were_trained(tmp_path):
    network = made("mobilenet_v1_025", padding="tensorflow", batch_norm_eps=1e-3)
    metadata = {
        "architecture": "mobilenet_v1",
        "width": "0.25",
        "padding": "same (TensorFlow rule)",
        "bn_eps": "0.001",
        "mean": "0.1,0.2,0.3",
        "std": "0.5,0.25,0.125",
        "input_size": "128",
        "resize_mode": "squash",
        "crop_fraction": "0.75",
        "classes": '["a", "b", "c", "d"]',
    }
    base = load_base(written(tmp_path, network, metadata))
    assert base.network.config == Config("mobilenet_v1_025", 4, 3, "tensorflow", 1e-3)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(base.network(x), network(x))
    assert base.preprocessing.to_dict() == {
        "size": 128,
        "mean": [0.1, 0.2, 0.3],
        "std": [0.5, 0.25, 0.125],
        "resize_mode": "squash",
        "crop_fraction": 0.75,
    }
    assert base.classes == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    "metadata",
    [
        {"bn_eps": "small"},
        {"bn_eps": "nan"},
        {"bn_eps": "-1"},
        {"bn_eps": "inf"},
        {"input_size": "large"},
        {"input_size": "-3"},
        {"mean": "a,b,c"},
        {"mean": "0.5"},
        {"mean": "nan,0,0"},
        {"std": "0,0,0"},
        {"crop_fraction": "2"},
        {"fit": "stretch"},
        {"architecture": "resnet50"},
        {"classes": '["a", "b"]'},
        {"classes": "[1, 2, 3, 4]"},
    ],
    ids=str,
)
def test_metadata_that_makes_no_sense_is_an_error_in_a_sentence(tmp_path, metadata):
    path = written(tmp_path, made("resnet20"), metadata)
    with pytest.raises(WeightsError, match="expected"):
        load_base(path)


def test_an_unknown_architecture_is_refused_with_the_nearest(tmp_path):
    path = written(tmp_path, made("resnet20"))
    with pytest.raises(InputError, match="did you mean 'resnet20'"):
        load_base(path, architecture="resnet_20")
    with pytest.raises(InputError, match="did you mean 'resnet50'"):
        load_base(written(tmp_path, made("resnet20"), {"architecture": "resnet50d"}))


@pytest.mark.parametrize("width", ["wide", "nan", "inf", "1e999", "0.3"])
def test_a_width_that_is_none_is_as_if_not_stated(tmp_path, width):
    path = written(tmp_path, made("resnet20"), {"architecture": "resnet20", "width": width})
    assert load_base(path).network.config.architecture == "resnet20"


def test_weights_that_are_not_of_the_stated_architecture_name_the_one_they_fit(tmp_path):
    path = written(tmp_path, made("resnet20"))
    with pytest.raises(WeightsError, match=r"a\.safetensors.*`arch='resnet20'`"):
        load_base(path, architecture="resnet56")


def test_class_names_may_stand_in_a_file_beside_the_weights(tmp_path):
    (tmp_path / "names.json").write_text('["a", "b", "c", "ü"]', encoding="utf-8")
    assert load_base(written(tmp_path, made("resnet20"), {"classes": "names.json"})).classes == ("a", "b", "c", "ü")


@pytest.mark.parametrize(
    "stated", ["../names.json", "{folder}/names.json", "weights/../../names.json", "..", "x\0.json"]
)
def test_class_names_are_never_read_from_elsewhere(tmp_path, stated):
    (tmp_path / "names.json").write_text('["a", "b", "c", "d"]')
    (tmp_path / "weights").mkdir()
    path = written(tmp_path / "weights", made("resnet20"), {"classes": stated.format(folder=tmp_path)})
    assert load_base(path).classes is None


# What metadata say of images, as ImageNet's networks see them.
IMAGES = {"mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225", "input_size": "32"}


def of_script(folder: Path, **beside: object) -> str:
    torch.save({"state_dict": made("resnet20").state_dict(), "epoch": 3, **beside}, folder / "script.pt")
    return str(folder / "script.pt")


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": ["ant", "bee", "cat", "dog"]},
        {"class_names": ("ant", "bee", "cat", "dog")},
        {"class_to_idx": {"dog": 3, "ant": 0, "cat": 2, "bee": 1}},
        {"idx_to_class": {3: "dog", 0: "ant", 2: "cat", 1: "bee"}},
        {"id2label": {"0": "ant", "1": "bee", "2": "cat", "3": "dog"}},
        {"meta": {"CLASSES": ("ant", "bee", "cat", "dog")}},
        {"meta": {"epoch": 3, "dataset_meta": {"classes": ["ant", "bee", "cat", "dog"]}}},
        {"hyper_parameters": {"lr": 0.1, "class_names": ["ant", "bee", "cat", "dog"]}},
    ],
    ids=lambda beside: " ".join(beside),
)
def test_classes_that_a_training_script_wrote_into_its_checkpoint_are_the_bases(tmp_path, beside):
    base = load_base(of_script(tmp_path, **beside))
    assert base.classes == ("ant", "bee", "cat", "dog")
    assert "the names of the 4 classes (ant, bee, cat, dog) were taken from script.pt" in base.notes


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": ["ant", "bee"]},
        {"classes": 4},
        {"classes": []},
        {"classes": [0.1, 0.2, 0.3, 0.4]},
        {"labels": [["ant"], ["bee"], ["cat"], ["dog"]]},
        {"class_to_idx": {"ant": 0, "bee": 0, "cat": 1, "dog": 2}},
        {"class_to_idx": {"ant": 1, "bee": 2, "cat": 3, "dog": 4}},
        {"names": {"ant": None, "bee": 1}},
        {"meta": "classes", "hyper_parameters": None},
        {"idx_to_class": {"0": "ant", "1": "bee", "2": "cat", "3" * 5000: "dog"}},
    ],
    ids=[*map(str, range(10))],
)
def test_what_a_script_wrote_that_names_no_class_for_each_output_is_left_alone(tmp_path, beside):
    assert load_base(of_script(tmp_path, **beside)).classes is None


def test_what_is_unwrapped_is_noted(tmp_path):
    tensors = {f"module.encoder.{name}": tensor for name, tensor in made("resnet20").state_dict().items()}
    torch.save({"model_state_dict": tensors}, tmp_path / "a.pth")
    notes = load_base(str(tmp_path / "a.pth")).notes
    assert "the weights under 'model_state_dict.module' were used" in notes
    assert "the weights under 'encoder' of a.pth were used" in notes


def test_a_dictionary_in_itself_takes_no_longer(tmp_path):
    inner: dict[str, object] = {}
    for _ in range(40):
        inner = dict.fromkeys(("classes", "names", "labels", "id2label"), inner)
    itself: dict[str, object] = {"classes": inner}
    itself["meta"] = itself["names"] = itself
    assert load_base(of_script(tmp_path, **itself)).classes is None


def test_stated_classes_go_before_those_of_the_metadata(tmp_path):
    (tmp_path / "names.json").write_text('["w", "x", "y", "z"]')
    path = written(tmp_path, made("resnet20"), {"classes": '["a", "b", "c", "d"]'})
    assert load_base(path, classes_file=tmp_path / "names.json").classes == ("w", "x", "y", "z")


@pytest.mark.parametrize("content", ["{", '{"a": 1}', "[1, 2]", "[" * 200_000, '["a"]'])
def test_a_classes_file_that_is_no_list_of_the_outputs_names_is_refused(tmp_path, content):
    (tmp_path / "names.json").write_text(content)
    with pytest.raises(InputError, match=r"expected .*(class name|name for each of the 4 outputs)"):
        load_base(written(tmp_path, made("resnet20")), classes_file=tmp_path / "names.json")
    with pytest.raises(InputError, match="check the path"):
        load_base(written(tmp_path, made("resnet20")), classes_file=tmp_path / "absent.json")


def test_a_name_that_occurs_twice_is_made_distinct(tmp_path):
    path = written(tmp_path, made("resnet20"), {"classes": '["crane", "heron", "crane", "crane"]'})
    assert load_base(path).classes == ("crane", "heron", "crane (2)", "crane (3)")


def test_a_thousand_outputs_have_the_names_of_imagenet(tmp_path):
    base = load_base(written(tmp_path, made("mobilenet_v1_025", 1000)))
    assert len(base.classes) == len(set(base.classes)) == 1000
    assert base.classes[0] == "tench"


def test_ten_outputs_of_a_cifar_network_have_cifars_names_and_a_note(tmp_path):
    base = load_base(written(tmp_path, made("resnet20", 10), IMAGES))
    assert base.classes == CIFAR10_CLASSES
    assert len(base.notes) == 1
    assert "CIFAR-10" in base.notes[0]
    assert load_base(written(tmp_path, made("mobilenet_v1_025", 10))).classes is None


@pytest.mark.parametrize("metadata", [{}, {"classes": '["a", "b", "c"]'}])
def test_weights_without_a_classifier_have_no_head_and_no_classes(tmp_path, metadata):
    network = made("mobilenet_v1_025", 1000)
    tensors = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("classifier")}
    save_file(tensors, tmp_path / "a.safetensors", metadata)
    base = load_base(str(tmp_path / "a.safetensors"))
    assert (base.has_head, base.classes, base.pretrained) == (False, None, True)
    assert not any("names no classes" in note for note in base.notes)
    assert torch.equal(base.network.conv_stem.weight, network.conv_stem.weight)


def test_weights_for_grey_images_are_a_base_for_grey_images(tmp_path):
    base = load_base(written(tmp_path, made("resnet18", channels=1)))
    assert base.network.config.channels == base.preprocessing.channels == 1


def test_weights_that_are_not_finite_are_refused(tmp_path):
    network = made("resnet20")
    with torch.no_grad():
        network.linear.weight[0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"NaN or infinity in 'linear\.weight' of a\.safetensors"):
        load_base(written(tmp_path, network))


@pytest.mark.parametrize(
    ("name", "near"), [("resnet81", "resnet18"), ("mobilenetv2", "mobilenet_v2"), ("latin_leters", "latin_letters")]
)
def test_an_unknown_base_is_refused_with_the_nearest(name, near):
    with pytest.raises(WeightsError, match=f"got '{name}', .*\\(did you mean '{near}'\\?\\).* `graft models`"):
        load_base(name)


def test_a_path_that_is_not_there_is_refused_without_a_guess(tmp_path):
    with pytest.raises(WeightsError, match=r"got '.*zzz(\.pth)?', which does not exist: check the path$"):
        load_base(str(tmp_path / "zzz.pth"))
    with pytest.raises(WeightsError, match=r"got '.*zzz(\.pth)?', which does not exist: check the path$"):
        load_base(str(tmp_path / "zzz"))
    with pytest.raises(WeightsError, match=r"got 'nope', which .* does not exist: check the path; `graft models`"):
        load_base("nope")
    with pytest.raises(InputError, match="holds no"):
        load_base(str(tmp_path))


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mobilenet_v1"])
def test_an_architecture_without_published_weights_says_so(name):
    with pytest.raises(
        WeightsError, match=f"got '{name}', for which no file .* `base=FILE` `arch='{name}'`, or .* `level='scratch'`"
    ):
        load_base(name)


@torch.no_grad()
def test_a_name_with_published_weights_is_fetched(tmp_path, monkeypatch):
    network = made("resnet18", 1000)
    path = tmp_path / "resnet18-f37072fd.pth"
    torch.save(network.state_dict(), path)
    asked = []
    monkeypatch.setattr(module, "fetch", lambda download, reporter: asked.append((download.url, reporter)) or path)
    base = load_base("resnet18")
    assert asked == [("https://download.pytorch.org/models/resnet18-f37072fd.pth", NOBODY)]
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(base.network(x), network(x))
    assert (base.name, base.classes[1]) == ("resnet18", "goldfish")


def test_a_file_of_an_architectures_name_goes_before_the_catalogue(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, made("resnet20"), name="resnet18")
    assert load_base("resnet18").network.config.architecture == "resnet20"


@torch.no_grad()
def test_timms_configuration_on_the_hub_is_understood(tmp_path, monkeypatch):
    network = made("mobilenet_v1", 3)
    written(tmp_path, network, name="model.safetensors")
    facts = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2], "crop_pct": 0.9, "input_size": [3, 192, 192]}
    config = {"architecture": "mobilenetv1_100", "pretrained_cfg": facts, "label_names": ["a", "b", "c"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    asked = []
    monkeypatch.setattr(module, "fetch_from_hub", lambda name, reporter: asked.append(name) or tmp_path)
    base = load_base("hf:timm/mobilenetv1_100")
    assert asked == ["timm/mobilenetv1_100"]
    assert torch.equal(base.network.conv_stem.weight, network.conv_stem.weight)
    assert base.classes == ("a", "b", "c")
    assert base.preprocessing.to_dict() == {
        "size": 192,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.2],
        "resize_mode": "crop",
        "crop_fraction": 0.9,
    }


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "3",
        '"graft"',
        '["graft"]',
        "[" * 200_000,
        '{"architecture": 3, "pretrained_cfg": 4}',
        '{"architecture": "resnet20", "pretrained_cfg": {"input_size": [], "mean": null}}',
    ],
    ids=lambda content: content[:20],
)
def test_an_odd_configuration_on_the_hub_leaves_the_tensors_to_speak(tmp_path, monkeypatch, content):
    written(tmp_path, made("resnet20"), name="model.safetensors")
    (tmp_path / "config.json").write_text(content)
    monkeypatch.setattr(module, "fetch_from_hub", lambda name, reporter: tmp_path)
    assert load_base("hf:a/b").network.config.architecture == "resnet20"


def test_a_hostile_model_from_the_hub_is_refused_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "fetch_from_hub", lambda name, reporter: tmp_path)
    written(tmp_path, made("resnet20"), name="model.safetensors")
    (tmp_path / "config.json").write_text('{"graft": 1, "network": {"architecture": "../../x", "classes": 4}}')
    with pytest.raises(GraftError, match="expected"):
        load_base("hf:a/b")


def test_a_random_start_is_seeded_and_says_that_it_is_one(tmp_path):
    first, again, other = (untrained_base("resnet20", seed=seed) for seed in (1, 1, 2))
    assert (first.pretrained, first.has_head, first.classes) == (False, False, None)
    assert torch.equal(first.network.conv1.weight, again.network.conv1.weight)
    assert not torch.equal(first.network.conv1.weight, other.network.conv1.weight)
    path = written(tmp_path, made("mobilenet_v1_025", padding="tensorflow"), {"padding": "same", "input_size": "96"})
    started = untrained_base(path)
    assert (started.network.config.padding, started.preprocessing.size) == ("tensorflow", 96)


def test_the_bundled_base_is_there_and_complete():
    name = BUNDLED_BASES[0]
    if not (BUNDLED / f"{name}.safetensors").is_file():
        pytest.skip(f"{name} is not bundled yet")
    base = load_base(name)
    assert base.has_head
    assert base.pretrained
    assert base.classes is not None
    assert len(set(base.classes)) == base.network.config.classes
    assert not base.notes
    assert all(torch.isfinite(tensor).all() for tensor in base.network.state_dict().values())


def test_the_mobilenets_at_hand_come_with_their_rules_and_classes(shared):
    for name, config, size, classes in (
        ("mobilenet_v2_imagenet", Config("mobilenet_v2", 1000, 3, "tensorflow", 1e-3), 224, 1000),
        ("mobilenet_v1_025_imagenet", Config("mobilenet_v1_025", 1000, 3, "tensorflow", 1e-3), 128, 1000),
        ("mobilenet_v1_imagenet_backbone", Config("mobilenet_v1", 1000, 3, "tensorflow", 1e-3), 224, None),
    ):
        base = load_base(str(shared / "weights" / f"{name}.safetensors"))
        assert base.network.config == config
        assert (base.preprocessing.size, base.preprocessing.mean) == (size, (0.5, 0.5, 0.5))
        assert base.has_head is (classes is not None)
        assert (len(set(base.classes)) if base.classes else None) == classes
        assert not base.notes


@torch.no_grad()
@pytest.mark.parametrize(("name", "stated"), [("resnet20-12fca82f.th", 0.8103), ("resnet56-4bfd9763.th", 0.8320)])
def test_the_cifar_checkpoints_at_hand_classify_cifar(shared, name, stated):
    parquet = pytest.importorskip("pyarrow.parquet")
    from graft.images.decoding import decode
    from graft.images.preprocessing import normalise

    base = load_base(str(shared / "weights" / name))
    assert base.classes == CIFAR10_CLASSES
    unwrapped, classes, images = base.notes
    assert unwrapped == "the weights under 'state_dict.module' were used" and "CIFAR-10" in classes
    assert "scaling and size of its images; those of ImageNet were assumed" in images and "crop 32)" in images
    files = sorted((shared / "datasets" / "cifar10").rglob("*test*.parquet"))
    if not files:
        pytest.skip("needs CIFAR-10's test images")
    rows = next(parquet.ParquetFile(files[0]).iter_batches(batch_size=300)).to_pylist()
    column = next(key for key in rows[0] if key in ("image", "img"))
    images = torch.from_numpy(np.stack([decode(row[column]["bytes"]) for row in rows])).permute(0, 3, 1, 2)
    predicted = base.network(normalise(images, base.preprocessing)).argmax(1).tolist()
    right = sum(guess == row["label"] for guess, row in zip(predicted, rows, strict=True)) / len(rows)
    # Three standard errors of 300 images; chance is 0.1.
    assert abs(right - stated) < 0.07


def test_reading_the_files_at_hand_gives_what_is_in_the_network(shared):
    path = shared / "weights" / "resnet20-12fca82f.th"
    stored = read_weights(path).tensors
    ours = load_base(str(path)).network.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in stored.items())


def test_inception_networks_see_images_from_minus_one_to_one_and_say_that_it_was_assumed(tmp_path):
    network = build(default_config("googlenet")).eval()
    path = tmp_path / "googlenet.safetensors"
    save_file(network.state_dict(), path)
    base = load_base(str(path))
    assert (base.preprocessing.mean, base.preprocessing.std) == ((0.5,) * 3, (0.5,) * 3)
    assert any("-1 to 1 were assumed" in note for note in base.notes)
    save_file(network.state_dict(), path, {"mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225"})
    base = load_base(str(path))
    assert base.preprocessing.mean == (0.485, 0.456, 0.406)
    assert base.notes == (
        "googlenet.safetensors names no classes; its 1,000 outputs were taken for ImageNet's classes in their usual "
        "order",
    )
