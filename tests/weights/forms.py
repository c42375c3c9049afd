"""Checkpoints in the forms in which training scripts, methods and libraries write one network.

Each form writes the tensors of a small network, and what usually lies beside them, into an empty folder, and returns
what `--base` is given.
"""

import argparse
import datetime
import enum
import json
import pathlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Form:
    """`write` puts the checkpoint into a folder. `head` says whether it holds the network's own classifier, and `notes`
    what the notes on it must say.
    """

    name: str
    write: Callable[[Path, nn.Module], Path]
    head: bool = True
    notes: tuple[str, ...] = ()


class Settings(dict):
    """A configuration derived from a dictionary, as in yacs, easydict and mmengine."""


class Names(list):
    """A list type of its own, as in omegaconf and mmengine."""


class Trainer:
    """An object of the script's, with state of its own."""

    def __init__(self) -> None:
        self.step, self.options = 3, Settings(lr=0.1)


class Stage(enum.Enum):
    FIRST = 1


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def others(tensors: Tensors) -> Tensors:
    """Weights of another state of the same network, which must not be taken."""
    return {name: tensor + 1 for name, tensor in tensors.items()}


def without_head(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("linear.")}


def torch_file(make: Callable[[Tensors], object], *, zipped: bool = True) -> Callable[[Path, nn.Module], Path]:
    def write(folder: Path, network: nn.Module) -> Path:
        path = folder / "checkpoint.pth"
        torch.save(make(dict(network.state_dict())), path, _use_new_zipfile_serialization=zipped)
        return path

    return write


def whole(wrap: Callable[[nn.Module], object]) -> Callable[[Path, nn.Module], Path]:
    def write(folder: Path, network: nn.Module) -> Path:
        torch.save(wrap(network), folder / "network.pt")
        return folder / "network.pt"

    return write


def safetensors(make: Callable[[Tensors], Tensors]) -> Callable[[Path, nn.Module], Path]:
    def write(folder: Path, network: nn.Module) -> Path:
        save_file(
            {name: tensor.clone() for name, tensor in make(network.state_dict()).items()}, folder / "a.safetensors"
        )
        return folder / "a.safetensors"

    return write


def sharded(folder: Path, network: nn.Module) -> Path:
    tensors = dict(network.state_dict())
    names = list(tensors)
    places = {}
    for number, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), start=1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        places |= dict.fromkeys(part, file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def sharded_folder(folder: Path, network: nn.Module) -> Path:
    return sharded(folder, network).parent


def timm_folder(folder: Path, network: nn.Module) -> Path:
    save_file(network.state_dict(), folder / "model.safetensors")
    config = {"architecture": "resnet20", "pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "input_size": [3, 32, 32]}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def everything_beside(tensors: Tensors) -> object:
    by_name = defaultdict(list)
    by_name["loss"].append(np.float64(0.5))
    return {
        "state_dict": tensors,
        "args": argparse.Namespace(data=pathlib.PosixPath("/data"), lr=np.float32(0.1), arch="resnet20"),
        "best_acc1": np.float64(91.2),
        "epoch": np.int64(3),
        "history": by_name,
        "curve": np.arange(6.0).reshape(2, 3),
        "config": Settings(model=Settings(name="resnet20"), steps=Names([1, 2])),
        "metadata": OrderedDict(version=1),
        "trainer": Trainer(),
        "stage": Stage.FIRST,
        "when": datetime.datetime(2024, 1, 1),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(64, 3, 3, 3)}}, "param_groups": [{"lr": 0.1}]},
    }


def moments(tensors: Tensors) -> dict[str, object]:
    state = {number: {"exp_avg": torch.zeros_like(tensor)} for number, tensor in enumerate(tensors.values())}
    return {"state": state, "param_groups": [{"lr": 0.1, "params": list(state)}]}


def inner_wrappers(tensors: Tensors) -> Tensors:
    """As torch.compile, FSDP and activation checkpointing leave names where they wrap parts of a network."""
    wrapped = tensors
    for part, word in (
        ("layer1.0.", "_orig_mod."),
        ("layer2.", "_fsdp_wrapped_module."),
        ("layer3.1.", "_checkpoint_wrapped_module."),
    ):
        wrapped = {name.replace(part, f"{part}{word}"): tensor for name, tensor in wrapped.items()}
    return under("_fsdp_wrapped_module.", wrapped)


def mmpretrain(tensors: Tensors) -> dict[str, Tensors]:
    head = {"head.fc.weight": tensors["linear.weight"], "head.fc.bias": tensors["linear.bias"]}
    images = {"data_preprocessor.mean": torch.ones(3, 1, 1)}
    return {
        "state_dict": {**images, **under("backbone.", without_head(tensors)), **head},
        "message_hub": {"log_scalars": {"loss": torch.ones(3)}},
    }


AVERAGE = ("averaged weights",)
LEFT_OUT = ("left out",)
RIVAL = ("not those under",)

FORMS = (
    Form("state_dict", torch_file(lambda t: t)),
    Form("legacy file", torch_file(lambda t: t, zipped=False)),
    Form("state_dict and epoch", torch_file(lambda t: {"state_dict": t, "epoch": 3})),
    Form("model and optimizer", torch_file(lambda t: {"model": t, "optimizer": moments(t), "scaler": {}})),
    Form("model_state_dict", torch_file(lambda t: {"model_state_dict": t, "optimizer_state_dict": moments(t)})),
    Form("namespace, numpy, paths", torch_file(everything_beside), notes=LEFT_OUT),
    Form("namespace, numpy, paths in a legacy file", torch_file(everything_beside, zipped=False), notes=LEFT_OUT),
    Form("arrays of numpy", torch_file(lambda t: {name: tensor.numpy() for name, tensor in t.items()})),
    Form("dictionary of a class of the script's", torch_file(lambda t: Settings(state_dict=Settings(t)))),
    Form("tuple with the epoch", torch_file(lambda t: (3, t))),
    Form("whole network", whole(lambda network: network)),
    Form("whole network in a checkpoint", whole(lambda network: {"model": network, "epoch": 3})),
    Form("DataParallel", whole(lambda network: nn.DataParallel(network).state_dict())),
    Form("AveragedModel of torch", whole(lambda n: torch.optim.swa_utils.AveragedModel(n).state_dict())),
    Form("torch.compile", torch_file(lambda t: {"model": under("_orig_mod.", t)})),
    Form("compiled in DistributedDataParallel", torch_file(lambda t: under("module._orig_mod.model.", t))),
    Form("blocks compiled, sharded or checkpointed", torch_file(inner_wrappers)),
    Form("mmpretrain", torch_file(mmpretrain), notes=LEFT_OUT),
    Form(
        "mmpretrain with a neck that has weights",
        torch_file(lambda t: {**mmpretrain(t)["state_dict"], "neck.fc.weight": torch.ones(64, 64)}),
        head=False,
        notes=LEFT_OUT,
    ),
    Form("inside a module of a module", torch_file(lambda t: {"state_dict": under("model.backbone.net.", t)})),
    Form(
        "Lightning with a criterion",
        torch_file(
            lambda t: {
                "state_dict": {**under("model.", t), "criterion.weight": torch.ones(5)},
                "optimizer_states": [moments(t)],
                "hyper_parameters": Settings(lr=0.1),
                "callbacks": {Trainer: {"best": torch.tensor(0.5)}},
            }
        ),
        notes=LEFT_OUT,
    ),
    Form("averaged beside", torch_file(lambda t: {"state_dict": others(t), "state_dict_ema": t}), notes=AVERAGE),
    Form("model_ema", torch_file(lambda t: {"model": others(t), "model_ema": under("module.", t)}), notes=AVERAGE),
    Form(
        "shadow of the parameters",
        torch_file(
            lambda t: {
                "model": {name: tensor if "running" in name else tensor + 1 for name, tensor in t.items()},
                "ema": {"decay": 0.99, "shadow": {name: tensor for name, tensor in t.items() if "running" not in name}},
            }
        ),
        notes=AVERAGE,
    ),
    Form(
        "average in Lightning",
        torch_file(lambda t: {"state_dict": {**under("net.", others(t)), **under("ema_model.", t)}}),
        notes=AVERAGE,
    ),
    Form(
        "query and key encoder",
        torch_file(
            lambda t: {
                "state_dict": {
                    **under("module.encoder_q.", t),
                    **under("module.encoder_k.", others(t)),
                    "module.queue": torch.ones(64, 100),
                }
            }
        ),
        notes=(*RIVAL, *LEFT_OUT),
    ),
    Form(
        "online and target encoder",
        torch_file(
            lambda t: {
                **under("online_encoder.net.", t),
                **under("target_encoder.net.", others(t)),
                "online_predictor.0.weight": torch.ones(8, 8),
            }
        ),
        notes=RIVAL,
    ),
    Form(
        "base and momentum encoder",
        torch_file(lambda t: {**under("momentum_encoder.", others(t)), **under("base_encoder.", t)}),
        notes=RIVAL,
    ),
    Form(
        "student and teacher",
        torch_file(
            lambda t: {
                "student": under("module.backbone.", others(t)),
                "teacher": under("backbone.", t),
                "dino_loss": {"center": torch.ones(1, 5)},
            }
        ),
        notes=RIVAL,
    ),
    Form(
        "backbone and projector",
        torch_file(lambda t: {**under("backbone.", without_head(t)), "projector.0.weight": torch.ones(8, 64)}),
        head=False,
        notes=LEFT_OUT,
    ),
    Form(
        "dropout before the head",
        torch_file(lambda t: {name.replace("linear.", "linear.1."): tensor for name, tensor in t.items()}),
        notes=("has one layer with weights in its head, linear.1",),
    ),
    Form(
        "another head",
        torch_file(lambda t: {**without_head(t), "linear.0.weight": torch.ones(9, 64), "linear.2.bias": torch.ones(5)}),
        head=False,
        notes=LEFT_OUT,
    ),
    Form(
        "last_linear",
        torch_file(lambda t: {**without_head(t), "last_linear.weight": t["linear.weight"]}),
        head=False,
        notes=LEFT_OUT,
    ),
    Form("body alone", torch_file(without_head), head=False),
    Form("safetensors", safetensors(lambda t: t)),
    Form("safetensors of a wrapped network", safetensors(lambda t: under("module.model.", t))),
    Form("index of several files", sharded),
    Form("folder of several files", sharded_folder),
    Form("folder of timm's", timm_folder),
)
