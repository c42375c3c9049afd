"""Every form of a checkpoint gives the network that its plain state_dict gives, and no pickle runs anything."""

import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint.format_utils
from forms import FORMS, Form, Trainer, under
from torch import Tensor, nn

from graft.errors import WeightsError
from graft.models.catalog import build, default_config
from graft.models.network import Network
from graft.weights.architectures import resolve
from graft.weights.base import load_base
from graft.weights.file import read_weights
from graft.weights.matching import match


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    network = build(replace(default_config("resnet20"), classes=5)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.0)
    return network


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_gives_the_outputs_of_the_plain_state_dict(form: Form, network: Network, tmp_path: Path) -> None:
    base = load_base(str(form.write(tmp_path, network)))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(base.network.pooled(x), network.pooled(x))
    assert base.has_head is form.head
    if form.head:
        assert torch.equal(base.network(x), network(x))
    for words in form.notes:
        assert any(words in note for note in base.notes), base.notes
    if not form.notes:
        # Nothing had to be chosen: only what was unwrapped and what is assumed of the images is said.
        said = (
            "weights under",
            "states how its images were prepared, and this is used: 32 px",
            "of its images; those of ImageNet",
        )
        assert all(any(words in note for words in said) for note in base.notes), base.notes


def written(folder: Path, value: object) -> str:
    torch.save(value, folder / "a.pth")
    return str(folder / "a.pth")


def test_two_networks_of_which_either_may_be_meant_are_refused_by_name(network: Network, tmp_path: Path) -> None:
    tensors = network.state_dict()
    both = {**under("left.", tensors), **under("right.", {name: tensor + 1 for name, tensor in tensors.items()})}
    with pytest.raises(WeightsError, match=r"several, under 'left' and 'right': save only the right one"):
        load_base(written(tmp_path, both))


def test_a_student_of_another_shape_goes_before_its_teacher(network: Network, tmp_path: Path) -> None:
    teacher = build(replace(default_config("resnet32"), classes=5)).state_dict()
    base = load_base(written(tmp_path, {"student": network.state_dict(), "teacher": teacher}))
    assert base.network.config.architecture == "resnet20"
    assert any("not those under 'teacher'" in note for note in base.notes)


def test_a_larger_network_is_not_taken_for_a_smaller_one_and_more(network: Network) -> None:
    tensors: dict[str, Tensor] = {**network.state_dict(), "layer4.0.conv1.weight": torch.ones(128, 64, 3, 3)}
    architecture = resolve("resnet20")
    assert not match(tensors, architecture, architecture.config).exact


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 2, 4, 13])
def test_a_stem_of_any_channels_is_kept(channels: int, tmp_path: Path) -> None:
    network = build(replace(default_config("resnet20"), classes=5, channels=channels)).eval()
    base = load_base(written(tmp_path, network.state_dict()))
    x = torch.randn(1, channels, 32, 32)
    assert torch.equal(base.network(x), network(x))
    assert base.preprocessing.channels == channels
    assert any(f"{channels} channels" in note for note in base.notes) is (channels != 1)


def test_a_thousand_outputs_are_imagenets_with_a_note(tmp_path: Path) -> None:
    network = build(replace(default_config("resnet20"), classes=1000))
    base = load_base(written(tmp_path, network.state_dict()))
    assert base.classes is not None
    assert base.classes[0] == "tench"
    assert any("taken for ImageNet's classes" in note for note in base.notes)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.onnx", b"\x08\x07\x12\x07pytorch", "an ONNX model"),
        ("a.pth", b"\x08\x08\x12\x07pytorch", "an ONNX model"),
        ("a.tflite", b"\x1c\x00\x00\x00TFL3\x14\x00", "a TensorFlow Lite model"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    ],
)
def test_other_formats_are_named_for_what_they_are(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=says):
        load_base(str(tmp_path / name))


def test_a_protocol_buffer_of_another_program_is_not_called_onnx(tmp_path: Path) -> None:
    for name, says in (("saved_model.pb", "a TensorFlow graph"), ("a.mlmodel", "a Core ML model")):
        (tmp_path / name).write_bytes(b"\x08\x01\x12\xa6\x05")
        with pytest.raises(WeightsError, match=says):
            load_base(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "start", "says"),
    [
        ("a.pth.gz", b"\x1f\x8b\x08", "compressed: unpack it"),
        ("a.pth", b"BZh9", "compressed: unpack it"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "compressed: unpack it"),
        ("a.npy", b"\x93NUMPY", "NumPy array"),
        ("a.gguf", b"GGUF", "GGUF"),
        ("a.ckpt.data-00000-of-00001", b"\x12", "part of a TensorFlow checkpoint"),
        ("a.msgpack", b"\x82", "Flax"),
        ("a.pdparams", b"\x80\x04", "Paddle"),
        ("a.caffemodel", b"\n", "Caffe"),
        ("a.distcp", b"PK", "dcp_to_torch FOLDER FILE"),
        ("config.json", b"{", "text: give the file of weights beside it"),
    ],
)
def test_what_other_programs_write_is_named_with_what_to_do(name: str, start: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(start + bytes(100))
    with pytest.raises(WeightsError, match=says):
        load_base(str(tmp_path / name))


@pytest.mark.parametrize("name", ["a.weights", "a.params", "a.plan", "a.json"])
def test_weights_may_have_the_ending_of_another_program(name: str, network: Network, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / name)
    assert read_weights(tmp_path / name).tensors.keys() == network.state_dict().keys()


@pytest.mark.parametrize(
    ("members", "says"),
    [
        (("conv1.weight.npy", "fc.bias.npy"), "an archive of NumPy arrays"),
        (("a/archive_format", "a/models/model.json"), "a program that torch.export saved"),
        (("runs/best.pth", "runs/log.txt"), "a zip archive with a file of weights in it: unpack it"),
    ],
)
def test_an_archive_that_torch_did_not_save_is_named(members: tuple[str, ...], says: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        for member in members:
            archive.writestr(member, b"content")
    with pytest.raises(WeightsError, match=says):
        load_base(str(tmp_path / "a.pth"))


def test_a_pickle_that_torch_did_not_save_is_told_from_a_damaged_checkpoint(tmp_path: Path) -> None:
    content = pickle.dumps({"conv1.weight": np.ones((2, 2)), "fc.bias": np.ones(2)})
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(WeightsError, match=r"a pickle of another program.*refused: where you trust it"):
        load_base(str(tmp_path / "a.pkl"))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (("saved_model.pb",), "a TensorFlow SavedModel"),
        ((".metadata", "__0_0.distcp"), "dcp_to_torch FOLDER FILE"),
        (("latest", "zero_to_fp32.py"), "a DeepSpeed checkpoint"),
        (("adapter_config.json", "adapter_model.safetensors"), r"merge_and_unload\(\)"),
        (("last.pth", "best.ckpt"), r"with best\.ckpt, last\.pth in it: give the file"),
    ],
)
def test_a_folder_of_another_program_is_named_with_what_to_do(
    files: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"content")
    with pytest.raises(WeightsError, match=says):
        load_base(str(tmp_path))


def test_a_checkpoint_of_torch_distributed_is_a_base_once_it_is_what_the_sentence_says(
    network: Network, tmp_path: Path
) -> None:
    torch.distributed.checkpoint.save({"model": network.state_dict()}, checkpoint_id=tmp_path / "folder", no_dist=True)
    torch.distributed.checkpoint.format_utils.dcp_to_torch_save(tmp_path / "folder", tmp_path / "file.pth")
    base = load_base(str(tmp_path / "file.pth"))
    assert torch.equal(base.network.conv1.weight, network.conv1.weight)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("base_model.model.conv1.lora_A.weight", "base_model.model.conv1.lora_B.weight"), "merge them into it"),
        (("state.0.exp_avg", "state.0.exp_avg_sq"), "an optimizer state: give the weights"),
        (("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"), "attention, such as a vision transformer"),
        (("conv1.weight", "conv1.activation_post_process.eps"), "prepared for quantization"),
    ],
)
def test_tensors_of_no_convolutional_network_are_called_what_they_are(
    names: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=says):
        load_base(written(tmp_path, {name: torch.ones(2, 2, 1, 1) for name in names}))


def test_one_of_several_files_and_tensors_that_were_left_empty_are_told(network: Network, tmp_path: Path) -> None:
    tensors = network.state_dict()
    torch.save({name: tensors[name] for name in list(tensors)[:20]}, tmp_path / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(WeightsError, match="one of several files: give their folder"):
        load_base(str(tmp_path / "pytorch_model-00001-of-00002.bin"))
    with pytest.raises(WeightsError, match="empty tensors, as sharded training"):
        load_base(written(tmp_path, {"module": {name: torch.empty(0) for name in tensors}}))


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "0.0.", "encoder."])
@pytest.mark.parametrize("name", ["mobilenet_v2", "densenet121", "efficientnet_b0"])
def test_the_features_of_a_network_alone_are_its_body(name: str, prefix: str, tmp_path: Path) -> None:
    network = build(default_config(name)).eval()
    base = load_base(written(tmp_path, under(prefix, network.get_submodule("features").state_dict())))
    x = torch.randn(1, 3, 64, 64)
    assert not base.has_head
    assert torch.equal(base.network.pooled(x), network.pooled(x))


@torch.no_grad()
def test_a_script_that_says_what_it_trained_is_believed_where_the_tensors_agree(
    network: Network, tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm")
    for arch, ours in (("tf_efficientnet_b0", "efficientnet_b0"), ("test_resnet.r160_in1k", "timm:test_resnet")):
        theirs = timm.create_model(arch.partition(".")[0]).eval()
        base = load_base(written(tmp_path, {"arch": arch, "state_dict": theirs.state_dict()}))
        x = torch.randn(1, 3, 63, 63)
        assert base.network.config.architecture == ours
        assert torch.allclose(base.network(x), theirs(x), atol=1e-6)
    for arch in ("resnet50", "none.such", "", "timm:hf-hub:a/b"):
        base = load_base(written(tmp_path, {"arch": arch, "state_dict": network.state_dict()}))
        assert base.network.config.architecture == "resnet20"


def test_weights_that_may_keep_tensorflows_rules_come_with_a_note(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    path = written(tmp_path, timm.create_model("tf_efficientnet_b0").state_dict())
    (note,) = (note for note in load_base(path).notes if "tf_" in note)
    assert note.endswith("weights of its tf_efficientnet_b0 want --arch tf_efficientnet_b0")
    assert not any("tf_" in note for note in load_base(path, architecture="tf_efficientnet_b0").notes)


def test_a_torchscript_program_is_named_and_not_run(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "a.pt"))
    with pytest.raises(WeightsError, match="TorchScript program"):
        load_base(str(tmp_path / "a.pt"))


@pytest.mark.parametrize(
    "index",
    ["{}", '{"weight_map": {}}', '{"weight_map": {"a": "../a.safetensors"}}', '{"weight_map": {"a": "gone.bin"}}'],
)
def test_an_index_that_leads_nowhere_or_elsewhere_is_refused(index: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(WeightsError, match="expected"):
        load_base(str(tmp_path / "model.safetensors.index.json"))


# Hostile pickles


class Intruder:
    """Unpickled, it makes a folder; `how` chooses the function that would."""

    def __init__(self, target: Path, how: Callable[..., object]) -> None:
        self.target, self.how = str(target), how

    def __reduce__(self) -> tuple[object, ...]:
        return self.how, (f"__import__('os').mkdir({self.target!r})" if self.how is eval else self.target,)


class Stateful:
    """Unpickled, it makes a folder when its state is set."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["target"]).mkdir()


def make(target: str) -> None:
    Path(target).mkdir()


PAYLOADS = ("a function of os", "eval", "a function of a library", "a method that sets the state")


def payloads(target: Path) -> dict[str, object]:
    values = (Intruder(target, os.mkdir), Intruder(target, eval), Intruder(target, make), Stateful(target))
    return dict(zip(PAYLOADS, values, strict=True))


def zipped(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def legacy(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def tarred(value: object) -> bytes:
    """As torch 0.1 wrote its files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(value, protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


CONTAINERS: dict[str, Callable[[object], bytes]] = {
    "torch's zip": zipped,
    "torch's legacy file": legacy,
    "tar": tarred,
    "pickle of protocol 0": lambda value: pickle.dumps(value, protocol=0),
    "pickle of protocol 2": lambda value: pickle.dumps(value, protocol=2),
    "pickle of protocol 5": lambda value: pickle.dumps(value, protocol=5),
}


@pytest.mark.parametrize(
    "payload", ["a function of os", "eval", "a function of a library", "a method that sets the state"]
)
@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside weights"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_hostile_pickle_stays_inert(container: str, beside: bool, payload: str, tmp_path: Path) -> None:
    target = tmp_path / "made by the pickle"
    value = payloads(target)[payload]
    content = {"state_dict": {"a": torch.ones(2, 2, 1, 1)}, "extra": [value]} if beside else value
    (tmp_path / "a.pth").write_bytes(CONTAINERS[container](content))
    try:
        file = read_weights(tmp_path / "a.pth")
    except WeightsError as error:
        assert "expected" in str(error)
    else:
        # Mere state is kept as such and does nothing; the weights beside it are read.
        assert beside and torch.equal(file.tensors["a"], torch.ones(2, 2, 1, 1))
    assert not target.exists()


@pytest.mark.parametrize(
    "payload", ["a function of os", "eval", "a function of a library", "a method that sets the state"]
)
def test_the_payloads_are_as_dangerous_as_they_claim(payload: str, tmp_path: Path) -> None:
    target = tmp_path / "made by the pickle"
    pickle.loads(pickle.dumps(payloads(target)[payload]))
    assert target.exists()


def test_what_acts_on_the_machine_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"run code \(it names \w+\.eval\) and was refused"):
        read_weights(Path(written(tmp_path, {"a": torch.ones(1), "extra": Intruder(tmp_path / "x", eval)})))


def test_reading_leaves_what_a_program_allowed_torch_as_it_was(tmp_path: Path) -> None:
    with torch.serialization.safe_globals([Trainer]):
        before = set(torch.serialization.get_safe_globals())
        read_weights(Path(written(tmp_path, {"a": torch.ones(1), "trainer": Trainer()})))
        assert set(torch.serialization.get_safe_globals()) == before
