"""How a training script prepared its images, from what it wrote beside the tensors of a checkpoint.

Scripts write numbers as arguments (timm's `args`), hyperparameters (Lightning), a `pretrained_cfg` (timm), a transform
(torchvision's `Normalize`), the text of a configuration (MMPretrain) or buffers among the weights.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from torch import Tensor

from graft.weights.inert import Record

# The entries of a checkpoint, and of each of these, that may hold the numbers.
PLACES = (
    *("normalize", "normalization", "transform", "preprocessing", "data_preprocessor", "data_config"),
    *("args", "hyper_parameters", "hparams", "config", "cfg", "meta"),
    *("pretrained_cfg", "default_cfg", "state_dict", "model_state_dict", "model"),
)
NAMES = (
    ("mean", "std"),
    ("image_mean", "image_std"),
    ("img_mean", "img_std"),
    ("pixel_mean", "pixel_std"),
    ("norm_mean", "norm_std"),
    ("normalize.mean", "normalize.std"),
)
SIZES = ("img_size", "image_size", "input_size", "crop_size")
CROPS = ("crop_pct", "crop_fraction")
# The sides, in pixels, that a script may state: memory grows with their square, and a file may come from anyone.
LEAST, LARGEST = 8, 1024
# The longest text of a configuration that is searched.
LONGEST = 1_000_000
_CONFIGURED = re.compile(r"data_preprocessor\s*=\s*dict\(([^()]{0,4000})\)")
_LISTED = r"\b{}\s*=\s*[\[(]([-+\d.eE,\s]{{1,400}})[\])]"


@dataclass(frozen=True)
class ScriptImages:
    """What a script said about its images. `mean` and `std` are of pixels in [0, 1]; each has one number or three."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size: int | None = None
    crop_fraction: float | None = None

    def metadata(self, channels: int) -> dict[str, str]:
        """Return it in the keys of a weight file's metadata, for a network of `channels` channels.

        Numbers for another count of channels are left out; a single one counts for each channel.
        """
        said: dict[str, str] = {}
        if self.mean and len(self.mean) in (1, channels):
            for name, numbers in (("mean", self.mean), ("std", self.std)):
                said[name] = ",".join(map(repr, numbers * (channels // len(numbers))))
        if self.size is not None:
            said["input_size"] = str(self.size)
        if self.crop_fraction is not None:
            said["crop_fraction"] = repr(self.crop_fraction)
        return said


def script_images(value: Any) -> ScriptImages:
    """Return what the content of a checkpoint says about its images: for each number, the first place with a valid one.

    Anything but plain numbers in their usual range is passed over.
    """
    found = ScriptImages()
    for place in _places(value):
        mean, std = _scaling(place)
        if mean and not found.mean:
            found = replace(found, mean=mean, std=std)
        size = next((size for key in SIZES if (size := _side(place.get(key))) is not None), None)
        if found.size is None and size is not None:
            crop = next((crop for key in CROPS if (crop := _share(place.get(key))) is not None), None)
            found = replace(found, size=size, crop_fraction=crop)
    return found


def _places(value: Any) -> Iterator[Mapping[Any, Any]]:
    """Yield the mappings that may hold the numbers, two levels deep: a hostile file may hold itself in itself."""
    outer = _mapping(value)
    yield outer
    inner = [_mapping(outer.get(key)) for key in PLACES]
    yield from inner
    for each in inner:
        yield from (_mapping(each.get(key)) for key in PLACES)


def _mapping(value: Any) -> Mapping[Any, Any]:
    """Return a dictionary, the attributes of an object, a pair as mean and std, or the numbers of a configuration."""
    if isinstance(value, Record):
        value = value.state
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple) and len(value) == 2:
        return {"mean": value[0], "std": value[1]}
    if isinstance(value, str) and (configured := _CONFIGURED.search(value[:LONGEST])):
        named = {name: re.search(_LISTED.format(name), configured[1]) for name in ("mean", "std")}
        said = {name: [_number(each) for each in found[1].split(",") if each.strip()] for name, found in named.items()
                if found}  # fmt: skip
        # Networks of MMPretrain that see blue first are not for graft's images.
        return {} if re.search(r"to_rgb\s*=\s*False", configured[1]) else said
    return {}


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _scaling(place: Mapping[Any, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and deviation in a mapping, of pixels in [0, 1]; both empty if it has none that can be used."""
    if place.get("to_rgb") is False:
        return (), ()
    for names in NAMES:
        mean, std = (_numbers(place.get(name)) for name in names)
        if not mean or len(mean) != len(std) or min(std) <= 0 or min(mean) < 0:
            continue
        # Of pixels from 0 to 255, as MMPretrain and Caffe count them.
        if max(mean) > 1 or (max(mean) == 0 and max(std) > 1):
            mean, std = tuple(each / 255 for each in mean), tuple(each / 255 for each in std)
        if max(*mean, *std) <= 1:
            return mean, std
    return (), ()


def _numbers(value: Any) -> tuple[float, ...]:
    """Return one number or three, from a number, a list or a tensor; empty for anything else."""
    if isinstance(value, Tensor):
        value = value.flatten().tolist() if value.numel() in (1, 3) and value.is_floating_point() else ()
    listed = list(islice(value, 4)) if isinstance(value, list | tuple) else [value]
    if len(listed) not in (1, 3) or not all(_is_number(each) for each in listed):
        return ()
    return tuple(map(float, listed))


def _is_number(value: Any) -> bool:
    # The bound also keeps integers that no float can hold from being converted; it excludes NaN.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e9 < value < 1e9


def _side(value: Any) -> int | None:
    """Return the side of square images, from a number, (H, W) or (C, H, W)."""
    if isinstance(value, list | tuple) and len(value) in (2, 3) and all(_is_number(each) for each in value):
        value = value[-1] if value[-1] == value[-2] else None
    return value if type(value) is int and LEAST <= value <= LARGEST else None


def _share(value: Any) -> float | None:
    return float(value) if _is_number(value) and 0.1 <= value <= 1 else None
