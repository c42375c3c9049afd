"""Black and white levels of images deeper than 8 bits: stated by the file, or decided for a set of images.

A range that a file states for certain (10 bits per sample, a DICOM window) holds for that file. Where a file says less,
like a 16-bit TIFF that holds the 12 bits of a camera, all images must be stretched alike, so the range is decided once
for a set of images and kept with the model (`Preprocessing.levels`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

# About this many samples are converted at a time, by rows, so that intermediate arrays stay small.
BAND_SAMPLES = 2**18
# Samples per image that the quantiles use, and the share of all of them that may lie beyond the range at either end.
COUNTED, BEYOND = 4096, 0.001

Range = tuple[float, float]
# By kind of sample ("uint16", "int16", "int32", "float" …): black and white.
Levels = tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Samples:
    """An image of deep samples as stored in its file.

    `values` is (H, W) or (H, W, 3), of any numeric type. `certain` is a range that holds whatever the rest of the set
    says, `stated` one that the file names and that other images of the set may contradict. `alpha`, uint8 (H, W), is
    opaque at 255; with `premultiplied`, the values are already multiplied by it. With `inverted`, the lowest value is
    white.
    """

    values: np.ndarray
    certain: Range | None = None
    stated: Range | None = None
    alpha: np.ndarray | None = None
    inverted: bool = False
    premultiplied: bool = False

    @property
    def kind(self) -> str:
        return "float" if self.values.dtype.kind == "f" else self.values.dtype.name


def samples_to_rgb(samples: Samples, levels: Levels = ()) -> np.ndarray:
    """Convert samples to uint8 (H, W, 3): transparency over white, values clipped to the range, NaN at its low end."""
    values, alpha = samples.values, samples.alpha
    height, width = values.shape[:2]
    low, high = _range(samples, levels)
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, BAND_SAMPLES // max(1, values[:1].size))
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        shown = values[band]
        if alpha is not None and samples.premultiplied:
            shown = _premultiplied_over_white(shown, alpha[band], low, high, low if samples.inverted else high)
        grey = to_bytes(shown, low, high)
        if samples.inverted:
            grey = 255 - grey
        if alpha is not None and not samples.premultiplied:
            grey = _over_white(grey, alpha[band])
        if grey.ndim == 3:
            pixels[band] = grey
        else:
            np.stack([grey, grey, grey], axis=2, out=pixels[band])  # takes a sixth of the time of an assignment
    return pixels


def to_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map any numbers to uint8 of the same shape: `low` and below to 0, `high` and above to 255.

    Whole numbers are divided into 256 steps of equal width, so that 16 bits keep their high byte and 8 bits are
    unchanged; floats are rounded.
    """
    if values.dtype.kind == "f":
        scaled = np.clip(np.nan_to_num(values, nan=low), low, high).astype(np.float64)
        return np.rint((scaled - low) * (255 / (high - low))).astype(np.uint8)
    if values.dtype.kind == "u" and low == 0 and high in (255, 4_095, 65_535):
        return (np.minimum(values, int(high)) >> (int(high).bit_length() - 8)).astype(np.uint8)
    if values.dtype.itemsize <= 2:
        unsigned = np.dtype(f"u{values.dtype.itemsize}")
        every = np.arange(2 ** (8 * unsigned.itemsize)).astype(unsigned).view(values.dtype)
        return _steps(every, low, high)[values.view(unsigned)]
    return _steps(values, low, high)


def _steps(values: np.ndarray, low: float, high: float) -> np.ndarray:
    steps = np.floor((np.clip(values.astype(np.float64), low, high) - low) * (256 / (high - low + 1)))
    return steps.astype(np.uint8)


def _over_white(grey: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = _beside(alpha, grey).astype(np.uint32)
    return ((grey * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def _premultiplied_over_white(
    values: np.ndarray, alpha: np.ndarray, low: float, high: float, white: float
) -> np.ndarray:
    """Lay values multiplied by their opacity over white, as floats of the same type or int64.

    The levels are those of the colour, so they are multiplied by the opacity too. Nothing is divided by it, which
    would turn the rounding of a nearly transparent sample into a colour.
    """
    opacity = _beside(alpha, values) / 255
    known = np.nan_to_num(values.astype(np.float64), nan=low)
    shown = known.clip(opacity * low, opacity * high) + (1 - opacity) * white
    return shown.astype(values.dtype) if values.dtype.kind == "f" else np.rint(shown).astype(np.int64)


def _beside(alpha: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return alpha (H, W) in as many axes as the values."""
    return alpha if values.ndim == 2 else alpha[:, :, None]


def _range(samples: Samples, levels: Levels) -> Range:
    known = {kind: (low, high) for kind, low, high in levels}
    return samples.certain or known.get(samples.kind) or samples.stated or _usual(_colours(samples))


def _usual(values: np.ndarray) -> Range:
    """Return the range of an image of which nothing is known: all of its 16 bits, a byte, or fractions.

    A last resort, since it depends on a single image. It is never narrower than these, so that no image is stretched by
    its own extremes.
    """
    if values.dtype == np.uint8:
        return 0, 255
    if values.dtype == np.uint16:
        return 0, 65_535
    low, high = _extremes(values)
    if values.dtype.kind == "f":
        # Filters and compression push fractions slightly beyond the range.
        return (0, 1) if low >= -0.05 and high <= 1.05 else (0, 255)
    return (0, 255) if high <= 255 else (0, 65_535)


def _colours(samples: Samples) -> np.ndarray:
    """Return the values that tell the range: those stored or, where they are premultiplied, what they were before.

    Only the most opaque pixels are divided, since less opaque ones keep too few of their bits. Alpha has lost some too,
    so whole numbers are divided by the most that it may have been and exceed no range of bits that holds the colour.
    """
    values, alpha = samples.values, samples.alpha
    if alpha is None or not samples.premultiplied:
        return values
    solid = alpha >= max(1, alpha.max() / 2)
    opacity = np.broadcast_to(_beside(alpha, values), values.shape)[solid]
    values = values[solid]
    if not values.size:
        return np.zeros(1, samples.values.dtype)
    if values.dtype.kind == "f":
        return values / (opacity / np.float32(255))
    return np.minimum(values / ((opacity + 1.0) / 256), np.iinfo(values.dtype).max).astype(values.dtype)


def _extremes(values: np.ndarray) -> Range:
    if values.dtype.kind != "f":
        return float(values.min()), float(values.max())
    finite = [band[np.isfinite(band)] for band in np.array_split(values, max(1, values.size // BAND_SAMPLES))]
    finite = [band for band in finite if band.size]
    return (
        (min(float(band.min()) for band in finite), max(float(band.max()) for band in finite)) if finite else (0.0, 0.0)
    )


@dataclass(frozen=True)
class Spread:
    """One image's evidence for deciding a range: its extremes, some of its values, and what its file states."""

    kind: str
    low: float
    high: float
    some: np.ndarray = field(repr=False)  # float64 (n,), evenly spaced over the whole image
    stated: Range | None = None


def spread(samples: Samples) -> Spread | None:
    """Return the spread of an image; None if its range is certain or it has no finite value."""
    if samples.certain is not None:
        return None
    values = _colours(samples)
    flat = values.reshape(-1)
    some = flat[:: max(1, flat.size // COUNTED)].astype(np.float64)
    some = some[np.isfinite(some)]
    return Spread(samples.kind, *_extremes(values), some, samples.stated) if some.size else None


def decide(spreads: Iterable[Spread]) -> Levels:
    """Decide a range for every kind of sample that occurs, from all images of that kind together."""
    by_kind: dict[str, list[Spread]] = {}
    for each in spreads:
        by_kind.setdefault(each.kind, []).append(each)
    return tuple((kind, *_decide(kind, found)) for kind, found in sorted(by_kind.items()))


def _decide(kind: str, spreads: Sequence[Spread]) -> Range:
    """Return what the files state; else the first usual range that fits nearly all values; else the values' own range.

    A usual range fits if it holds the values between the quantiles and they fill enough of it.
    """
    stated = [each.stated for each in spreads if each.stated is not None]
    low, high = min(each.low for each in spreads), max(each.high for each in spreads)
    if len(stated) == len(spreads):
        least, most = min(one for one, _ in stated), max(one for _, one in stated)
        # A scanner may state 12 bits and mean 16, or the reverse: the values decide.
        if least <= low and high <= most:
            return least, most
    bulk = np.quantile(np.concatenate([each.some for each in spreads]), (BEYOND, 1 - BEYOND))
    inner_low, inner_high = map(float, bulk)
    for usual_low, usual_high, filled in _usual_ranges(kind, low, high):
        slack = 0.05 * (usual_high - usual_low)
        held = usual_low - slack <= inner_low and inner_high <= usual_high + slack
        if held and inner_high - inner_low >= filled * (usual_high - usual_low):
            return usual_low, usual_high
    if inner_low == inner_high:
        inner_low, inner_high = low, high
    if inner_low == inner_high:
        return _usual(np.array([low], np.float32 if kind == "float" else np.int64))
    return inner_low, inner_high


def _usual_ranges(kind: str, low: float, high: float) -> list[tuple[float, float, float]]:
    """Return the usual ranges, narrowest first, and the share of each that the values must fill."""
    if kind == "float":
        return [(0, 1, 0.25), (-1, 1, 0.5), (0, 255, 0.25)]
    if low < 0:
        bits = max(8, int(max(high, -low - 1)).bit_length() + 1)
        return [(-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1, 0.75)]
    bits = max(8, int(high).bit_length())
    return [(0, 2.0**bits - 1, 0.25)]


def described(levels: Levels) -> str:
    """Describe levels in words: "uint16 from 0 (black) to 4,095 (white)"."""
    return ", ".join(f"{kind} from {low:,.6g} (black) to {high:,.6g} (white)" for kind, low, high in levels)
