"""What Pillow does not say of a PNG: its depth, its significant bits, and 16 bits of colour.

PNG specification, sections 11.2.2 and 11.3.3.4.
"""

import numpy as np

from graft.images.containers import PNG, chunks
from graft.images.levels import Range, Samples, to_bytes

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6


def is_deep(data: bytes) -> bool:
    return data.startswith(PNG) and data[24:25] == b"\x10"


def significant(data: bytes) -> Range | None:
    """The range of as many bits as `sBIT` says are significant of 16, None where it does not.

    The specification wants such samples scaled to all 16 bits, but cameras' own numbers are as often stored as they
    are: the range holds only if no sample is beyond it.
    """
    for start in chunks(data):
        name, length = data[start + 4 : start + 8], int.from_bytes(data[start : start + 4], "big")
        if name == b"sBIT" and 1 <= length <= 4:
            bits = max(data[start + 8 : start + 8 + length])
            return (0, 2.0**bits - 1) if 8 <= bits < 16 else None
        if name in (b"PLTE", b"IDAT"):
            break
    return None


def within(values: np.ndarray, stated: Range | None) -> Range | None:
    """What is stated, if all values are within it."""
    return stated if stated is not None and values.size and float(values.max()) <= stated[1] else None


def read_colours(data: bytes) -> Samples:
    """All 16 bits of a PNG in colour or with alpha, of which Pillow gives eight. Raises RuntimeError if damaged."""
    import torch
    from torchvision.io import ImageReadMode, decode_png

    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    values = decode_png(encoded, ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()  # (C, H, W) -> (H, W, C)
    bands = values.shape[2]
    alpha = to_bytes(values[:, :, -1], 0, 65_535) if bands in (2, 4) else None
    shown = values[:, :, :3] if bands >= 3 else values[:, :, 0]
    return Samples(shown, None, within(shown, significant(data)), alpha)
