"""Antialiased bilinear resizing of bytes, to the bit as PyTorch does it, without PyTorch.

Importing PyTorch takes longer than classifying a few images. Its kernel (`upsample_bilinear2d_aa` for uint8, after
Pillow's) resizes the rows of an image, rounds, then resizes the columns, with weights that are whole numbers over a
power of two. Here both are products of matrices in float32, in which such sums are exact: those that would not be are
taken in two parts. A photograph of 500 px takes four times as long as with PyTorch, a tenth of the decoding more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# The largest weight is kept below 2 ** 15, and the power of two at most at 2 ** 22.
WEIGHT_BITS, MOST_BITS = 15, 22
# With weights that add up to at most 2 ** 16, the sum of 255 times as much is a whole number of float32.
EXACT_BITS = 16
# Of a weight that is taken in two parts, the lower one.
PART = 256
# Values that are computed together: their weights form a band around the diagonal.
BLOCK = 16
# Multiplications in a product of matrices. OpenBLAS starts threads for more, which then wait awake, and an image is
# work for one thread.
PRODUCT = 2**18


def antialiased(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """uint8 (H, W, C) to uint8 (C, rows, columns); neither has a side of zero."""
    height, width, channels = pixels.shape
    values = pixels.reshape(height, width * channels)
    if columns != width:
        found = _bands(width, columns, channels)
        sums = np.empty((found[0].parts, height, columns * channels), found[0].weights.dtype)
        for band in found:
            region = values[:, band.inputs].astype(sums.dtype)
            for part, weights in zip(sums, band.weights, strict=True):
                _multiply(region, weights, part[:, band.outputs])
        values = _rounded(sums, found[0].bits)
    if rows != height:
        found = _bands(height, rows, 1)
        sums = np.empty((found[0].parts, rows, values.shape[1]), found[0].weights.dtype)
        for band in found:
            region = values[band.inputs].astype(sums.dtype)
            for part, weights in zip(sums, band.weights, strict=True):
                _multiply(region.T, weights, part[band.outputs].T)
        values = _rounded(sums, found[0].bits)
    return np.ascontiguousarray(values.reshape(rows, columns, channels).transpose(2, 0, 1))


def _multiply(values: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """(n, inputs) @ (inputs, outputs) to (n, outputs), in parts of which none takes more than PRODUCT."""
    step = max(1, PRODUCT // weights.size)
    for start in range(0, len(values), step):
        np.matmul(values[start : start + step], weights, out=out[start : start + step])


def _rounded(sums: np.ndarray, bits: int) -> np.ndarray:
    """Sums over 2 ** `bits`, (parts, n, m), whole numbers, to uint8 (n, m)."""
    total = sums[0] if len(sums) == 1 else sums[0].astype(np.float64) * PART + sums[1]
    total += total.dtype.type(1 << (bits - 1))
    total *= total.dtype.type(1 / (1 << bits))
    # Positive, so cut off as `floor` would.
    return np.minimum(total, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Band:
    """What some outputs take from some inputs: weights (parts, inputs, outputs), over 2 ** `bits`.

    In two parts, the first counts PART times.
    """

    inputs: slice
    outputs: slice
    weights: np.ndarray
    bits: int

    @property
    def parts(self) -> int:
        return len(self.weights)


# Up to 5 MB each, and made in a few milliseconds: images of one camera share theirs.
@lru_cache(16)
def _bands(inputs: int, outputs: int, channels: int) -> tuple[_Band, ...]:
    starts, weights, bits = _weights(inputs, outputs)
    taps = weights.shape[1]
    parts = [weights] if bits <= EXACT_BITS else [weights // PART, weights % PART]
    # Of so many lower parts the sum is no longer exact in float32.
    kind = np.float32 if taps < PART else np.float64
    found = []
    for first in range(0, outputs, BLOCK):
        some = slice(first, min(first + BLOCK, outputs))
        start, end = int(starts[some][0]), min(int(starts[some][-1]) + taps, inputs)
        # Beyond the last input, weights are zero.
        places = np.minimum(starts[some][:, None] + np.arange(taps), inputs - 1) - start
        columns = np.broadcast_to(np.arange(some.stop - first)[:, None], places.shape)
        dense = np.zeros((len(parts), end - start, channels, some.stop - first, channels), kind)
        for number, part in enumerate(parts):
            for channel in range(channels):
                np.add.at(dense[number, :, channel, :, channel], (places, columns), part[some])
        inner = slice(start * channels, end * channels)
        outer = slice(first * channels, some.stop * channels)
        found.append(_Band(inner, outer, dense.reshape(len(parts), inner.stop - inner.start, -1), bits))
    return tuple(found)


def _weights(inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Where the inputs of each output start, int64 (outputs,); their weights, int64 (outputs, taps); the bits."""
    scale = inputs / outputs
    support = max(scale, 1.0)
    taps = math.ceil(support) * 2 + 1
    centres = scale * (np.arange(outputs) + 0.5)
    starts = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    ends = np.minimum((centres + support + 0.5).astype(np.int64), inputs)
    offsets = np.arange(taps)
    distances = np.abs((offsets + starts[:, None] - centres[:, None] + 0.5) * (1 / support))
    shares = np.where((distances < 1) & (offsets < (ends - starts)[:, None]), 1 - distances, 0.0)
    total = np.zeros(outputs)
    for share in shares.T:  # one after the other, as the kernel adds them up
        total += share
    shares /= np.where(total == 0, 1, total)[:, None]
    largest = float(shares.max())
    bits = 0
    while bits < MOST_BITS and int(0.5 + largest * (1 << (bits + 1))) < 1 << WEIGHT_BITS:
        bits += 1
    return starts, (0.5 + shares * (1 << bits)).astype(np.int64), bits
