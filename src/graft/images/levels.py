"""Which sample values are black and white in images deeper than 8 bits: from the file, or decided for a set of images.

What a file says for certain (10 bits per sample, a window of DICOM) holds for that file. Where it says less, as the 16
bits of a TIFF that holds the 12 of a camera, one image must not be stretched otherwise than the next, so the range is
decided on a set of images, once, and kept with the model (`Preprocessing.levels`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

# About this many samples are converted at a time, by rows, so that intermediate arrays stay small.
BAND_SAMPLES = 2**18
# Samples of an image that count towards quantiles, and the share at either end of all that may lie beyond the range.
COUNTED, BEYOND = 4096, 0.001

Range = tuple[float, float]
# By kind of sample ("uint16", "int16", "int32", "float" …): black and white.
Levels = tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Samples:
    """An image of deep samples as its file has them.

    `values` is (H, W) or (H, W, 3), of any type of numbers. `certain` is the range that holds whatever a set of images
    says, `stated` one that the file names and that the others of its set may contradict. `alpha`, uint8 (H, W), is
    opaque at 255. With `inverted`, the least value is white.
    """

    values: np.ndarray
    certain: Range | None = None
    stated: Range | None = None
    alpha: np.ndarray | None = None
    inverted: bool = False

    @property
    def kind(self) -> str:
        return "float" if self.values.dtype.kind == "f" else self.values.dtype.name


def samples_to_rgb(samples: Samples, levels: Levels = ()) -> np.ndarray:
    """uint8 (H, W, 3); transparency is laid over white, values beyond the range are black and white, NaN is black."""
    values, alpha = samples.values, samples.alpha
    height, width = values.shape[:2]
    low, high = _range(samples, levels)
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, BAND_SAMPLES // max(1, values[:1].size))
    for top in range(0, height, rows):
        band = slice(top, top + rows)
        grey = to_bytes(values[band], low, high)
        if samples.inverted:
            grey = 255 - grey
        if alpha is not None:
            grey = _over_white(grey, alpha[band])
        if grey.ndim == 3:
            pixels[band] = grey
        else:
            np.stack([grey, grey, grey], axis=2, out=pixels[band])  # a sixth of the time of an assignment
    return pixels


def to_bytes(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Any numbers to uint8 of the same shape: `low` and below to 0, `high` and above to 255.

    Whole numbers are divided into 256 steps of equal width, so that 16 bits keep their high byte and 8 bits stay as
    they are; floats are rounded.
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
    opacity = alpha.astype(np.uint32) if grey.ndim == 2 else alpha.astype(np.uint32)[:, :, None]
    return ((grey * opacity + 255 * (255 - opacity) + 127) // 255).astype(np.uint8)


def _range(samples: Samples, levels: Levels) -> Range:
    known = {kind: (low, high) for kind, low, high in levels}
    return samples.certain or known.get(samples.kind) or samples.stated or _usual(samples.values)


def _usual(values: np.ndarray) -> Range:
    """The range of an image of which nothing is known: all of its 16 bits, a byte, or fractions.

    A thing of last resort, since it depends on one image. It is never less than these, so that no image is stretched by
    its own extremes.
    """
    if values.dtype == np.uint8:
        return 0, 255
    if values.dtype == np.uint16:
        return 0, 65_535
    low, high = _extremes(values)
    if values.dtype.kind == "f":
        # A little beyond is what filters and compression add to fractions.
        return (0, 1) if low >= -0.05 and high <= 1.05 else (0, 255)
    return (0, 255) if high <= 255 else (0, 65_535)


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
    """What one image adds to the decision on a range: its extremes, some of its values, what its file states."""

    kind: str
    low: float
    high: float
    some: np.ndarray = field(repr=False)  # float64 (n,), evenly from the whole image
    stated: Range | None = None


def spread(samples: Samples) -> Spread | None:
    """None for an image whose range is certain, or without a finite value."""
    if samples.certain is not None:
        return None
    flat = samples.values.reshape(-1)
    some = flat[:: max(1, flat.size // COUNTED)].astype(np.float64)
    some = some[np.isfinite(some)]
    return Spread(samples.kind, *_extremes(samples.values), some, samples.stated) if some.size else None


def decide(spreads: Iterable[Spread]) -> Levels:
    """A range for every kind of sample that occurs, from all images of that kind together."""
    by_kind: dict[str, list[Spread]] = {}
    for each in spreads:
        by_kind.setdefault(each.kind, []).append(each)
    return tuple((kind, *_decide(kind, found)) for kind, found in sorted(by_kind.items()))


def _decide(kind: str, spreads: Sequence[Spread]) -> Range:
    """What the files state; else the least usual range that holds all values and is not mostly empty; else theirs."""
    stated = [each.stated for each in spreads if each.stated is not None]
    low, high = min(each.low for each in spreads), max(each.high for each in spreads)
    if len(stated) == len(spreads):
        least, most = min(one for one, _ in stated), max(one for _, one in stated)
        # A scanner may write 12 bits and mean 16, or the other way round: what is there counts.
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
    """Ranges that people write, the least first, and how much of each the values must fill."""
    if kind == "float":
        return [(0, 1, 0.25), (-1, 1, 0.5), (0, 255, 0.25)]
    if low < 0:
        bits = max(8, int(max(high, -low - 1)).bit_length() + 1)
        return [(-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1, 0.75)]
    bits = max(8, int(high).bit_length())
    return [(0, 2.0**bits - 1, 0.25)]


def described(levels: Levels) -> str:
    """In words: "uint16 from 0 (black) to 4,095 (white)"."""
    return ", ".join(f"{kind} from {low:,.6g} (black) to {high:,.6g} (white)" for kind, low, high in levels)
