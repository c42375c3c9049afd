"""Read weights that Keras saved, `.keras`, `.weights.h5` and `.h5`, as tensors in torch's axis order.

Tensors are named by Keras' layers, `block1_conv1.weight`, `conv1_bn.running_var`; `graft.weights.keras_layouts` turns
these names into graft's. Only numbers are read from a file: its layers are not built, so nothing in it can run.
"""

import re
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft.errors import InputError, WeightsError
from graft.weights.inert import first_line
from graft.weights.metadata import IMAGENET_STD

HDF5 = b"\x89HDF"
WEIGHTS_MEMBER, CONFIG_MEMBER = "model.weights.h5", "config.json"
# Keras' names for a layer's tensors, by the layer's class, in the order in which its newer files number them.
NUMBERED = {
    "conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    "depthwise_conv2d": ("depthwise_kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "normalization": ("mean", "variance", "count"),
}
TENSORS = {
    "kernel": "weight",
    "depthwise_kernel": "depthwise",
    "pointwise_kernel": "pointwise",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# VGG's dense layers follow a 7 x 7 map, which Keras flattens channels last and torch channels first.
FLATTENED = {"fc1": 7}
# No stored array compresses better than this ratio; arrays of at most SMALL bytes are harmless.
MOST_COMPRESSED, SMALL = 1100, 1 << 20
# How keras.applications prepares images, by the name of a layer that only this family has. ResNet and VGG keep Caffe's
# way: blue first, means subtracted from bytes.
CAFFE = {
    "mean": ",".join(repr(value / 255) for value in (123.68, 116.779, 103.939)),
    "std": ",".join([repr(1 / 255)] * 3),
}
HALVES = {"mean": "0.5,0.5,0.5", "std": "0.5,0.5,0.5"}
IMAGES = {
    "block2_sepconv1": HALVES,
    "conv_dw_1": HALVES,
    "expanded_conv_depthwise": HALVES,
    "conv2_block1_1_conv": CAFFE,
    "block1_conv2": CAFFE,
}
# The first convolution of the families that take blue first.
BLUE_FIRST = ("conv1_conv", "block1_conv1")


def is_keras(path: Path, start: bytes) -> bool:
    """Whether Keras wrote the file, which begins with `start`."""
    if start.startswith(HDF5):
        return True
    if not start.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return WEIGHTS_MEMBER in archive.namelist()
    except (OSError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        return False


def read_keras(path: Path) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """Return the tensors, the images they expect in the keys of a weight file's metadata, and notes on assumptions.

    Raises WeightsError for a file that Keras did not write, and InputError if h5py is not installed.
    """
    try:
        import h5py
    except ImportError:
        raise InputError(
            f"expected h5py to be installed for {path.name}, which Keras saved, but it is not: "
            "pip install 'graft-vision[keras]'"
        ) from None
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content: Any = BytesIO(archive.read(WEIGHTS_MEMBER))
        else:
            content = path
        with h5py.File(content, "r") as file:
            arrays = {name: torch.from_numpy(array) for name, array in _arrays(file, h5py)}
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"expected complete Keras weights, got {path.name} ({first_line(error)}): save them again"
        ) from None
    return _translate(arrays)


def _arrays(file: Any, h5py: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every array by `layer/kernel`, whichever of Keras' three formats the file has."""
    places: dict[str, Any] = {}

    def visit(place: str, item: Any) -> None:
        # Arrays in other files, to which HDF5 can point, are not opened.
        if isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual:
            places[place] = item

    file.visititems(visit)
    for place, item in places.items():
        words = place.split("/")
        if "optimizer" in words or "optimizer_weights" in words or item.dtype.kind not in "fiu":
            continue
        if "vars" in words:
            group = file["/".join(words[:-1])]
            given = group.attrs.get("name") or file["/".join(words[:-2])].attrs.get("name") or words[-3]
            layer = given.decode() if isinstance(given, bytes) else str(given)
            kinds = NUMBERED.get(_class_of(words[-2] if words[-2] != "vars" else words[-3]), ())
            number = int(words[-1])
            if number < len(kinds):
                yield f"{layer}/{kinds[number]}", _read(item)
        else:
            yield f"{words[-2]}/{words[-1].partition(':')[0]}", _read(item)


def _read(item: Any) -> np.ndarray:
    # An array may claim a large shape and store nothing; reading would then fill in the missing values.
    if item.nbytes > SMALL + MOST_COMPRESSED * item.id.get_storage_size():
        raise ValueError(f"{item.name} holds less than its shape says")
    return np.atleast_1d(item[()])


def _class_of(word: str) -> str:
    """Return the class of a layer: `conv2d_12` is the twelfth layer of class Conv2D."""
    return re.sub(r"_\d+$", "", word)


def _translate(arrays: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    notes: list[str] = []
    first = _first_numbers({place.partition("/")[0] for place in arrays})
    for place, array in arrays.items():
        layer, _, kind = place.rpartition("/")
        if kind in ("mean", "variance", "count"):
            continue
        separable = f"{layer}/pointwise_kernel" in arrays
        if kind == "kernel" and array.ndim == 4 and array.shape[3] == 1 and re.search("dw|depthwise", layer):
            kind = "depthwise_kernel"
        tensor = "weight" if kind == "depthwise_kernel" and not separable else TENSORS.get(kind, kind)
        tensors[f"{_from_zero(layer, first)}.{tensor}"] = _in_torchs_order(array, layer, kind == "depthwise_kernel")
    _fold_biases(tensors)
    layers = {name.rpartition(".")[0] for name in tensors}
    for layer, images in IMAGES.items():
        if layer in layers:
            metadata |= images
            if images is CAFFE:
                stem = next(f"{each}.weight" for each in BLUE_FIRST if each in layers)
                tensors[stem] = tensors[stem].flip(1)
            notes.append("its images were assumed to be prepared as keras.applications does for this family")
            break
    metadata |= _normalization(arrays)
    return tensors, metadata, notes


def _first_numbers(layers: set[str]) -> dict[str, int]:
    """Return the lowest number of each class of unnamed layers, which Keras counts through a whole process."""
    numbers: dict[str, list[int]] = {}
    for layer in layers:
        if match := re.fullmatch(r"(conv2d|batch_normalization)(?:_(\d+))?", layer):
            numbers.setdefault(match[1], []).append(int(match[2] or 0))
    return {kind: min(found) for kind, found in numbers.items()}


def _from_zero(layer: str, first: dict[str, int]) -> str:
    kind = _class_of(layer)
    if kind not in first:
        return layer
    number = int(layer.removeprefix(kind).removeprefix("_") or 0) - first[kind]
    return f"{kind}_{number}" if number else kind


def _in_torchs_order(array: Tensor, layer: str, depthwise: bool) -> Tensor:
    if array.ndim == 4:
        # Rows, columns, inputs, outputs; a depthwise kernel has its multiplier last.
        moved = array.permute(2, 3, 0, 1).flatten(0, 1)[:, None] if depthwise else array.permute(3, 2, 0, 1)
        return moved.contiguous()
    if array.ndim == 2:
        side = FLATTENED.get(layer, 1)
        if side > 1 and len(array) % side**2 == 0:
            array = array.unflatten(0, (side, side, -1)).movedim(2, 0).flatten(0, 2)
        return array.t().contiguous()
    return array


def _fold_biases(tensors: dict[str, Tensor]) -> None:
    """Turn a bias before batch norm into a shift of the norm's mean."""
    for name in [name for name in tensors if name.endswith("_conv.bias")]:
        norm = f"{name.removesuffix('_conv.bias')}_bn"
        if f"{norm}.running_mean" in tensors and "_se_" not in name:
            tensors[f"{norm}.running_mean"] = tensors[f"{norm}.running_mean"] - tensors.pop(name)


def _normalization(arrays: dict[str, Tensor]) -> dict[str, str]:
    """Return what EfficientNet's own first layers do: bytes over 255, then its mean and variance."""
    mean, variance = arrays.get("normalization/mean"), arrays.get("normalization/variance")
    if mean is None or variance is None or mean.numel() != 3 or variance.numel() != 3:
        return {}
    variance = variance.flatten().double()
    # The published weights store the deviation in place of the variance, and another layer divides once more.
    published = torch.allclose(variance, torch.tensor(IMAGENET_STD, dtype=torch.double), atol=1e-3)
    deviation = variance if published else variance.sqrt()
    return {
        "mean": ",".join(repr(float(value)) for value in mean.flatten()),
        "std": ",".join(repr(float(value)) for value in deviation),
    }
