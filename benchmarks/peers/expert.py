"""What a good engineer writes in an hour: frozen features, computed once, and a logistic regression on them.

    python benchmarks/peers/expert.py DATA --base FILE [--size 128] [--split test]

DATA holds train/ and val/ (or test/), each with a folder per class; FILE is a safetensors file of a network that
torchvision or timm has. Prints `{"val": {"top1", "n"}}`, keyed by the split. Imports nothing from graft.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from safetensors import safe_open
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder


class Base(NamedTuple):
    """A network on the CPU, the path of its last linear layer, and the size and statistics of its input."""

    network: nn.Module
    head: str
    size: int
    mean: list[float]
    std: list[float]


def load_base(path: Path) -> Base:
    """Load torchvision's or timm's network with the weights in `path`, whose metadata says how they were trained."""
    with safe_open(path, "pt") as file:
        told = file.metadata() or {}
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no dict)
    network, head = build(told)
    fit = network.load_state_dict({name: value for name, value in state.items() if not name.startswith(head)}, False)
    if fit.unexpected_keys or {name.rpartition(".")[0] for name in fit.missing_keys} != {head}:
        raise SystemExit(f"expected the tensors of {told['architecture']}, got others ({fit}): give another file")
    same = told.get("padding", "").startswith("same")
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = float(told.get("bn_eps", layer.eps))
        elif same and isinstance(layer, nn.Conv2d | nn.MaxPool2d) and layer.stride not in (1, (1, 1)):
            layer.padding = 0 if isinstance(layer, nn.MaxPool2d) else (0, 0)
            layer.register_forward_pre_hook(pad_like_tensorflow)
    mean, std = (
        [float(value) for value in told.get(key, usual).split(",")]
        for key, usual in (("mean", "0.485,0.456,0.406"), ("std", "0.229,0.224,0.225"))
    )
    return Base(network, head, int(told.get("input_size", 224)), mean, std)


def build(told: dict[str, str]) -> tuple[nn.Module, str]:
    """Build the network named in a file's metadata, with random weights; return it and its last linear layer's path."""
    architecture = told.get("architecture", "")
    if architecture in torchvision.models.list_models(torchvision.models):
        network = torchvision.models.get_model(architecture, weights=None)
        return network, "fc" if hasattr(network, "fc") else "classifier.1"
    # Imported here, because most bases do not need it.
    import timm
    from timm.models.efficientnet import _gen_mobilenet_v1

    if architecture == "mobilenet_v1":
        return _gen_mobilenet_v1("mobilenetv1_100", channel_multiplier=float(told.get("width", 1))), "classifier"
    name = architecture if architecture.startswith("tf_") else f"tf_{architecture}"
    if name in timm.list_models():
        return timm.create_model(name), "classifier"
    raise SystemExit(f"expected a base that torchvision or timm has, got {architecture!r}: choose another")


def pad_like_tensorflow(layer: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """Pad by TensorFlow's SAME rule: outputs have ceil(size / stride), and an odd zero goes to the right or bottom.

    Zeros are also correct for ResNet's max pool, whose input comes from a ReLU.
    """
    kernel, stride = (value if isinstance(value, int) else value[0] for value in (layer.kernel_size, layer.stride))
    (x,) = inputs
    height, width = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:])
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


def resize_and_crop(base: Base) -> transforms.Compose:
    """The usual evaluation transform: for 224 px, resize the shorter side to 256 and crop the centre."""
    return transforms.Compose(
        [
            transforms.Resize(round(base.size * 256 / 224)),
            transforms.CenterCrop(base.size),
            transforms.ToTensor(),
            transforms.Normalize(base.mean, base.std),
        ]
    )


def augmented(base: Base) -> transforms.Compose:
    """The usual augmentation for training all layers: crops of at least half the area, flips, colour jitter."""
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(base.size, scale=(0.5, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.ColorJitter(0.2, 0.2, 0.2),
            transforms.ToTensor(),
            transforms.Normalize(base.mean, base.std),
        ]
    )


def open_folders(
    data: Path, train_transform: object, val_transform: object, split: str = "val"
) -> tuple[ImageFolder, ImageFolder]:
    """Open DATA/train and DATA/val, or another split instead of val, with the same label for the same class."""
    train = ImageFolder(data / "train", train_transform)
    val = ImageFolder(data / split, val_transform, allow_empty=True)
    # torchvision numbers the classes of each folder separately, which goes wrong when val lacks one.
    val.samples = [(path, train.class_to_idx[val.classes[label]]) for path, label in val.samples]
    return train, val


def arguments(description: str) -> argparse.ArgumentParser:
    """Parser with the arguments that all scripts take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path, help="a folder with train/ and val/, each a folder per class")
    parser.add_argument("--base", type=Path, required=True, help="safetensors of a network that torchvision has")
    parser.add_argument("--size", type=int, help="side of the input in pixels, by default that of the base")
    parser.add_argument("--split", default="val", help="the split to score: val or test")
    return parser


@torch.inference_mode()
def features(network: nn.Module, photographs: ImageFolder, device: str) -> tuple[Tensor, Tensor]:
    """Pooled features (N, D) and labels (N,), on the CPU."""
    batches = [
        (network(images.to(device)).cpu(), labels)
        for images, labels in DataLoader(photographs, batch_size=32, num_workers=2)
    ]
    x, y = zip(*batches, strict=True)
    return torch.cat(x), torch.cat(y)


def main() -> None:
    # Imported here, because tutorial.py imports this file and must not pay for scikit-learn.
    from sklearn.linear_model import LogisticRegression

    given = arguments("Features once, then a logistic regression.").parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    base = load_base(given.base)
    base = base._replace(size=given.size or base.size)
    base.network.set_submodule(base.head, nn.Identity())
    network = base.network.eval().to(device)
    transform = resize_and_crop(base)
    train, val = open_folders(given.data, transform, transform, given.split)
    classifier = LogisticRegression(max_iter=1000).fit(*features(network, train, device))
    top1 = classifier.score(*features(network, val, device))
    print(json.dumps({given.split: {"top1": float(top1), "n": len(val)}}))


if __name__ == "__main__":
    main()
