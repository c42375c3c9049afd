"""Formats that need a library which graft does not install: HEIF from phones, DICOM from hospitals, JPEG XL."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from graft.errors import ImageError
from graft.images.levels import Range, Samples

# Image brands of an ISO base media file, after "ftyp"; Pillow reads the brand AVIF.
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_JXL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")

CheckSize = Callable[[int, int], None]


@dataclass(frozen=True)
class Opened:
    """An upright image or its samples, the number of frames in its file, and its mode in words."""

    content: Image.Image | Samples
    frames: int
    mode: str
    orientation: bytes = b""


def optional_format(data: bytes) -> str | None:
    """Return HEIF, DICOM or JXL for a file that begins like one, else None."""
    if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return "HEIF"
    if data[128:132] == b"DICM":
        return "DICOM"
    return "JXL" if data.startswith(_JXL) else None


def open_optional(name: str, data: bytes, check_size: CheckSize) -> Opened:
    """Open an image of an optional format. Raises ImageError if the library is missing, any error if damaged."""
    read = {"HEIF": _read_heif, "DICOM": _read_dicom, "JXL": _read_jxl}[name]
    return read(data, check_size)


def _imported(name: str, extra: str, what: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise ImageError(
            f"expected {name} to be installed for {what}, but it is not: pip install 'graft-vision[{extra}]', or save "
            "the image as JPEG or PNG"
        ) from None


def _read_heif(data: bytes, check_size: CheckSize) -> Opened:
    library: Any = _imported("pillow_heif", "heif", "HEIC, as phones take photographs")
    # The primary image, which the decoder turns upright, whatever Exif says.
    file = library.open_heif(io.BytesIO(data))
    check_size(*file.size)
    image = Image.frombytes(file.mode, file.size, bytes(file.data), "raw", file.mode, file.stride)
    return Opened(image, len(file), image.mode)


def _read_jxl(data: bytes, check_size: CheckSize) -> Opened:
    library: Any = _imported("pillow_jxl", "jxl", "JPEG XL")
    check_size(*_jxl_size(data))
    image = library.JpegXLImagePlugin.JXLImageFile(io.BytesIO(data))
    image.load()
    return Opened(image, 1, image.mode)


def _jxl_size(data: bytes) -> tuple[int, int]:
    """Read width and height: ISO/IEC 18181-1, annex C. Raises ValueError for a file without a codestream."""
    if not data.startswith(b"\xff\x0a"):
        data = _codestream(data)
    bits = int.from_bytes(data[2:14], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (1 + take(5)) if small else 1 + take((9, 13, 18, 30)[take(2)])

    height = side()
    ratio = take(3)
    if not ratio:
        return side(), height
    across, down = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
    return height * across // down, height


def _codestream(data: bytes) -> bytes:
    position = 0
    for _ in range(1000):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        header = 8
        if length == 1:
            length, header = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        if kind in (b"jxlc", b"jxlp"):
            start = position + header + (4 if kind == b"jxlp" else 0)
            return data[start : start + 16]
        if length < header:
            break
        position += length
    raise ValueError("it has no codestream")


def _read_dicom(data: bytes, check_size: CheckSize) -> Opened:
    library: Any = _imported("pydicom", "dicom", "DICOM")
    import pydicom.pixels as pixels

    file = library.dcmread(io.BytesIO(data), force=False)
    if "PixelData" not in file and "FloatPixelData" not in file:
        raise ImageError("expected an image, got a DICOM file without pixels, such as a report: leave it out")
    width, height = int(file.Columns), int(file.Rows)
    check_size(width, height)
    frames = int(file.get("NumberOfFrames", 1) or 1)
    try:
        values = pixels.pixel_array(io.BytesIO(data), index=0)
    except (NotImplementedError, RuntimeError, AttributeError) as error:
        syntax = file.file_meta.TransferSyntaxUID.name
        raise ImageError(
            f"expected pixels that pydicom can unpack, got a DICOM in {syntax} ({str(error).splitlines()[0][:100]}): "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or save it as PNG"
        ) from None
    photometric = str(file.get("PhotometricInterpretation", "MONOCHROME2"))
    if photometric == "PALETTE COLOR":
        colours = pixels.apply_color_lut(values, file)
        return Opened(Samples(colours, (0, float(np.iinfo(colours.dtype).max))), frames, photometric)
    if values.ndim == 3:  # pydicom has turned YCbCr into RGB
        return Opened(Samples(values[:, :, :3], (0, 2.0 ** int(file.BitsStored) - 1)), frames, photometric)
    values = pixels.apply_modality_lut(values, file)
    values = values.astype(np.float32) if values.dtype.kind == "f" else values
    certain = _window(file)
    if certain is None and int(file.get("BitsStored", 16)) <= 8 and values.dtype == np.uint8:
        certain = (0, 255)
    return Opened(Samples(values, certain, None, None, photometric == "MONOCHROME1"), frames, photometric)


def _window(file: Any) -> Range | None:
    """Return black and white of the first window: DICOM PS3.3, C.11.2.1.2."""

    def first(value: Any) -> float | None:
        if value is None or value == "":
            return None
        return float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)

    centre, width = first(file.get("WindowCenter")), first(file.get("WindowWidth"))
    if centre is None or width is None or not width > 1:
        return None
    if str(file.get("VOILUTFunction", "LINEAR")) == "LINEAR":
        return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return centre - width / 2, centre + width / 2
