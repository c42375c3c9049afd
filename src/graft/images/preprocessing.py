"""How a network expects its images, as a value stored with the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from graft.errors import InputError, WeightsError, did_you_mean
from graft.given import whole_number
from graft.images.levels import Levels
from graft.sending import sent

if TYPE_CHECKING:
    from torch import Tensor

ResizeMode = Literal["crop", "letterbox", "squash"]
Numbers = tuple[float, ...]
# A mean or a deviation as callers may write it: a number, one per channel, or a text of them.
Scaling = float | Sequence[float] | str
# Limits on the side of a network's input, px: a larger square has more pixels than a decoded image may have.
LEAST_SIDE, LARGEST_SIDE = 8, 9_000
# The most channels a network's input may have; hyperspectral cameras have a few hundred.
MOST_CHANNELS = 512


@dataclass(frozen=True)
class Preprocessing:
    """How an image of any size becomes a network's input; the same in training, prediction and export."""

    size: int  # side of the square output, pixels
    mean: tuple[float, ...]  # per channel, of pixels in [0, 1]; one entry = grey input
    std: tuple[float, ...]
    resize_mode: ResizeMode = "crop"
    crop_fraction: float = 0.875  # of the shorter side, kept by "crop" (224 of 256)
    levels: Levels = ()  # black and white in images deeper than 8 bits, by kind of sample

    @property
    def channels(self) -> int:
        return len(self.mean)

    def to_dict(self) -> dict[str, Any]:
        """Return the value as a dictionary for JSON; `from_dict` is the inverse."""
        levels = {kind: [low, high] for kind, low, high in self.levels}
        return {
            "size": self.size,
            "mean": list(self.mean),
            "std": list(self.std),
            "resize_mode": self.resize_mode,
            "crop_fraction": self.crop_fraction,
            **({"levels": levels} if levels else {}),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """Restore the value that `to_dict` wrote. Raises WeightsError naming a missing, unknown or invalid entry."""
        if not isinstance(values, dict):
            raise _wrong("an object", values)
        known = [field.name for field in fields(cls)]
        # Older saved models call `resize_mode` "fit".
        for name in values:
            if name not in (*known, "fit"):
                near = did_you_mean(str(name), known)
                raise _wrong(f"only the entries {', '.join(known)}", name, near)
        for name in ("size", "mean", "std"):
            if name not in values:
                raise _wrong(f"an entry {name!r}", list(values))
        size, mean, std = values["size"], values["mean"], values["std"]
        resize_mode: Any = values.get("resize_mode", values.get("fit", cls.resize_mode))
        crop_fraction = values.get("crop_fraction", cls.crop_fraction)
        if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= LARGEST_SIDE:
            raise _wrong(f"size to be a whole number of pixels from 1 to {LARGEST_SIDE:,}", size)
        for name, numbers in (("mean", mean), ("std", std)):
            if (
                not isinstance(numbers, (list, tuple))
                or not 1 <= len(numbers) <= MOST_CHANNELS
                or not all(map(_is_number, numbers))
            ):
                raise _wrong(f"{name} to be a list of one number per channel: one (grey), three (RGB) or more", numbers)
        if len(mean) != len(std):
            raise _wrong("mean and std to have one number each per channel", f"{len(mean)} and {len(std)}")
        if min(std) <= 0:
            raise _wrong("std to be above zero", std)
        if resize_mode not in get_args(ResizeMode):
            raise _wrong(
                f"resize_mode to be one of {', '.join(get_args(ResizeMode))}",
                resize_mode,
                did_you_mean(str(resize_mode), get_args(ResizeMode)),
            )
        if not _is_number(crop_fraction) or not 0 < crop_fraction <= 1:
            raise _wrong("crop_fraction to be above 0 and at most 1", crop_fraction)
        levels = _levels(values.get("levels", {}))
        return cls(size, tuple(map(float, mean)), tuple(map(float, std)), resize_mode, float(crop_fraction), levels)


def _levels(values: Any) -> Levels:
    if not isinstance(values, dict) or not all(_is_range(each) for each in values.values()):
        raise _wrong("levels to be two numbers, black and a greater one for white, by kind of sample", values)
    return tuple((str(kind), float(low), float(high)) for kind, (low, high) in sorted(values.items()))


def _is_range(value: object) -> bool:
    # 32-bit samples exceed the bound in `_is_number`.
    def number(one: object) -> bool:
        return isinstance(one, (int, float)) and not isinstance(one, bool) and abs(one) < 1e38

    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(number, value)) and value[0] < value[1]


def normalise(batch: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Convert uint8 (N, C, H, W) to float32 (x / 255 - mean) / std, same shape, device and memory layout."""
    import torch

    if batch.ndim != 4 or batch.shape[1] != preprocessing.channels:
        raise InputError(
            f"expected a batch of shape (N, {preprocessing.channels}, H, W), got {tuple(batch.shape)}: "
            "pass each image through `to_square` with the same preprocessing"
        )
    mean = torch.tensor(preprocessing.mean).view(-1, 1, 1)  # (C, 1, 1)
    std = torch.tensor(preprocessing.std).view(-1, 1, 1)
    scale, offset = sent(1 / (255 * std), batch.device), sent(mean / std, batch.device)
    # In place on a copy: memory, not arithmetic, takes the time here.
    return batch.to(torch.float32, copy=True).mul_(scale).sub_(offset)


def _is_number(value: object) -> bool:
    # The bound excludes infinities and, since comparisons with NaN are false, NaN.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _wrong(expected: str, came: object, hint: str = "") -> WeightsError:
    return WeightsError(
        f"expected {expected} in the model's preprocessing, got {came!r}{hint}: "
        "correct preprocessing.json or save the model again"
    )


def check_image_size(size: int | None) -> int | None:
    """Return `size` as a native Python number, or None. Raises InputError for an invalid image size."""
    return None if size is None else whole_number(size, "--image-size", LEAST_SIDE, LARGEST_SIDE, "224 is usual")


def check_resize(resize: ResizeMode | None) -> ResizeMode | None:
    """Return `resize`. Raises InputError if it is not a resize mode."""
    if resize is not None and resize not in get_args(ResizeMode):
        raise InputError(f"expected crop, letterbox or squash for --resize, got {resize!r}: choose one of them")
    return resize


def check_scaling(mean: Any, std: Any) -> tuple[Numbers | None, Numbers | None]:
    """Return the mean and deviation of pixels in [0, 1], each as a tuple of one number or one per channel, or None.

    Each may be a number, a sequence of them, or a text such as `0.5,0.5,0.5`. Raises InputError that names the option.
    """
    if mean is None and std is None:
        return None, None
    if mean is None or std is None:
        raise InputError(
            "expected --mean and --std together, got one of them: give both, such as --mean 0.5,0.5,0.5 --std "
            "0.5,0.5,0.5"
        )
    return _numbers_of(mean, "--mean", least=-1.0), _numbers_of(std, "--std", least=1e-6)


def _numbers_of(value: Any, option: str, least: float) -> Numbers:
    given = value
    if isinstance(value, str):
        value = [part for part in value.replace(",", " ").split() if part]
    elif hasattr(value, "tolist"):
        value = value.tolist()
    listed = list(value) if isinstance(value, list | tuple) else [value]
    try:
        numbers = tuple(math.nan if isinstance(each, bool) else float(each) for each in listed[: MOST_CHANNELS + 1])
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    # Comparisons with NaN are false.
    if not 1 <= len(numbers) <= MOST_CHANNELS or not all(least <= each <= 1 for each in numbers):
        raise InputError(
            f"expected a number or one per channel for {option}, of pixels from 0 to 1, got {given!r}: write it like "
            "0.5,0.5,0.5, and divide what is for pixels from 0 to 255 by 255"
        )
    return numbers


def with_choices(
    preprocessing: Preprocessing,
    size: int | None,
    resize: ResizeMode | None,
    mean: Scaling | None = None,
    std: Scaling | None = None,
) -> Preprocessing:
    """Return the preprocessing of the weights with another size, resize mode, or mean and deviation.

    Raises InputError, also for as many numbers as the network does not have channels.
    """
    size, resize, (means, stds) = check_image_size(size), check_resize(resize), check_scaling(mean, std)
    found = replace(preprocessing, size=size or preprocessing.size, resize_mode=resize or preprocessing.resize_mode)
    if means is None or stds is None:
        return found
    for option, numbers in (("--mean", means), ("--std", stds)):
        if len(numbers) not in (1, found.channels):
            raise InputError(
                f"expected a number for each of the {found.channels} channels of the network for {option}, got "
                f"{len(numbers)}: give {found.channels}, or one for all"
            )
    each = found.channels
    return replace(found, mean=means * (each // len(means)), std=stds * (each // len(stds)))
