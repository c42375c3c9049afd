"""Images of grey values in samples deeper than 8 bits, as programs write them."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import tifffile
from crafted import png


def tiff(values: np.ndarray, photometric: str = "minisblack", **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric=photometric, **options)
    return file.getvalue()


def deep_png(values: np.ndarray, extra: bytes = b"") -> bytes:
    return png(values.shape[1], values.shape[0], 16, 0, values.astype(">u2").tobytes(), extra)


# Writers that store a grey image, uint8 (H, W), in deeper samples.
FORMS: dict[str, Callable[[np.ndarray], bytes]] = {
    "16 bits": lambda grey: tiff(grey.astype(np.uint16) * 257),
    "12 bits in 16": lambda grey: tiff(grey.astype(np.uint16) * 16 + 7),
    "12 bits in 16, PNG": lambda grey: deep_png(grey.astype(np.uint16) * 16 + 7),
    "10 bits in 16, PNG": lambda grey: deep_png(grey.astype(np.uint16) * 4 + 1),
    "signed": lambda grey: tiff((grey.astype(np.int32) * 257 - 32768).astype(np.int16)),
    "Hounsfield units": lambda grey: tiff(grey.astype(np.int16) * 12 - 1024),
    "temperatures": lambda grey: tiff(grey.astype(np.uint16) * 2 + 29_000),
    "32 bits": lambda grey: tiff(grey.astype(np.int32) * 1_000_000),
    "floats a little beyond 1": lambda grey: tiff((grey / 254.97).astype(np.float32)),
    "floats around zero": lambda grey: tiff((grey - 120.0) / 60),
    "floats of 16 bits": lambda grey: tiff((grey / 255).astype(np.float16)),
}
