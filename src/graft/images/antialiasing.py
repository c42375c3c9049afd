"""Antialiased bilinear resizing of bytes, identical to PyTorch's to the bit, without PyTorch.

Importing PyTorch takes longer than classifying a few images. Its kernel (`upsample_bilinear2d_aa` for uint8, after
Pillow's) resizes the rows of an image, rounds, then resizes the columns, with weights that are whole numbers over a
power of two. Here, both steps are matrix products in the smallest float type in which such sums are exact. A photograph
of 500 px takes four times as long as with PyTorch, which adds a tenth to its decoding; one of 1,000 px takes ten to
fifteen times as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# The largest weight is kept below 2 ** 15, and the power of two at most at 2 ** 22.
WEIGHT_BITS, MOST_BITS = 15, 22
# With weights that add up to at most 2 ** 16, sums of up to 255 times as much are exact whole numbers in float32.
EXACT_BITS = 16
# Outputs that are computed together: their weights form a band around the diagonal.
BLOCK = 16
# Multiplications per matrix product. For more, OpenBLAS starts threads that then busy-wait, and an image is work for
# one thread.
PRODUCT = 2**18


def antialiased(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Resize uint8 (H, W, C) to uint8 (C, rows, columns); neither may have a side of zero."""
    height, width, channels = pixels.shape
    across = _resized(pixels.transpose(1, 2, 0).reshape(width, -1), columns)
    down = _resized(across.reshape(columns, channels, height).transpose(2, 1, 0).reshape(height, -1), rows)
    return np.ascontiguousarray(down.reshape(rows, channels, columns).transpose(1, 0, 2))


def _resized(lines: np.ndarray, outputs: int) -> np.ndarray:
    """Resample lines, uint8 (inputs, n), to `outputs` lines, uint8 (outputs, n)."""
    if outputs == len(lines):
        return lines
    found = _bands(len(lines), outputs)
    sums = np.empty((outputs, lines.shape[1]), found[0].weights.dtype)
    step = max(1, PRODUCT // max(band.weights.size for band in found))
    for start in range(0, lines.shape[1], step):
        some = slice(start, start + step)
        for band in found:
            np.matmul(band.weights, lines[band.inputs, some].astype(sums.dtype), out=sums[band.outputs, some])
    # Values are positive, so the cast truncates as `floor` would.
    sums += sums.dtype.type(0.5)
    return np.minimum(sums, 255, out=sums).astype(np.uint8)


@dataclass(frozen=True)
class _Band:
    """The weights, (outputs, inputs), with which a range of outputs draws on a range of inputs."""

    inputs: slice
    outputs: slice
    weights: np.ndarray


# Up to 2 MB each.
@lru_cache(16)
def _bands(inputs: int, outputs: int) -> tuple[_Band, ...]:
    starts, weights, bits = _weights(inputs, outputs)
    taps = weights.shape[1]
    # Divided by a power of two, sums stay as exact as those of whole numbers.
    shares = (weights / (1 << bits)).astype(np.float32 if bits <= EXACT_BITS else np.float64)
    found = []
    for first in range(0, outputs, BLOCK):
        some = slice(first, min(first + BLOCK, outputs))
        start, end = int(starts[first]), int(starts[some.stop - 1]) + taps
        dense = np.zeros((some.stop - first, end - start), shares.dtype)
        places = starts[some, None] - start + np.arange(taps)
        dense[np.arange(len(dense))[:, None], places] = shares[some]
        # Beyond the last input, weights are zero.
        inner = slice(start, min(end, inputs))
        found.append(_Band(inner, some, np.ascontiguousarray(dense[:, : inner.stop - start])))
    return tuple(found)


def _weights(inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the first input of each output, int64 (outputs,), the weights, int64 (outputs, taps), and their bits."""
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
    for share in shares.T:  # added in the kernel's order
        total += share
    shares /= np.where(total == 0, 1, total)[:, None]
    largest = float(shares.max())
    bits = 0
    while bits < MOST_BITS and int(0.5 + largest * (1 << (bits + 1))) < 1 << WEIGHT_BITS:
        bits += 1
    return starts, (0.5 + shares * (1 << bits)).astype(np.int64), bits
