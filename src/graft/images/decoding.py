"""Decode the bytes of one image to pixels: RGB, uint8, first frame, upright.

Ordinary JPEGs go through simplejpeg, which is fastest; JPEGs that it rejects, and all other formats, go through Pillow.
Limits on the number of bytes and pixels are enforced from the header, before anything is decoded.
Decoding changes no setting of Pillow, libtiff or `warnings`, so any number of threads may decode at once. What Pillow
and libtiff write to stderr about damage that they tolerate is for the owner of the process to silence, as the command
line does (`graft.cli.process`).
"""

import io
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, JpegImagePlugin

from graft.bombs import MAX_BYTES
from graft.errors import ImageError
from graft.images import png_samples
from graft.images.containers import (
    EXIF,
    JPEG,
    TIFF,
    check_layout,
    check_scans,
    count_frames,
    find_exif,
    has_one_scan,
    reserved_sizes,
)
from graft.images.directories import ORIENTATION, check_tiff, read_orientation
from graft.images.forgiving import with_end, without_notes
from graft.images.levels import Levels, Samples, Spread, samples_to_rgb, spread
from graft.images.naming import kind_of_file, pointer, unread
from graft.images.optional_formats import open_optional, optional_format
from graft.images.rgb import is_deep, to_rgb, to_samples
from graft.images.tiff_samples import read_form, read_samples

MAX_PIXELS = 89_478_485  # the limit at which Pillow starts to warn; ~89 megapixels
# A JPEG with more pixels is decoded at reduced scale. With several scans, all its coefficients are in memory at once.
MAX_REDUCED, MAX_REDUCED_IN_SCANS = 210_000_000, 112_000_000

# Raster formats in which people keep photographs and scans, by Pillow's names, recognised by the first bytes of a file.
# No other format is opened: to read EPS or WMF, Pillow may start another program.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "JPEG2000", "BMP", "PPM")
# Pillow's modules for these are named like the formats, except for two.
PLUGINS = {"WEBP": "WebP", "JPEG2000": "Jpeg2K"}

# Formats that need a library which graft does not install.
OPTIONAL_FORMATS = ("HEIF", "DICOM", "JXL")

_KNOW_THEIR_FRAMES = ("PNG", "WEBP", "AVIF")  # once opened; for a GIF or a TIFF Pillow would have to read them all
# Lower limits for decoders that need more than 12 bytes of memory per pixel.
MAX_PIXELS_OF = {"WEBP": 50_000_000, "AVIF": 50_000_000, "JPEG2000": 40_000_000, "HEIF": 50_000_000, "JXL": 25_000_000}


@dataclass(frozen=True)
class Facts:
    """What an image file states: format and mode by Pillow's names, and the size in pixels once upright.

    `frames` counts the frames of an animation or the pages of a file, as far as the file can be followed; the first one
    is decoded. `orientation` is Exif's, 1 (upright) to 8.
    """

    format: str
    width: int
    height: int
    frames: int
    orientation: int
    mode: str  # for example "RGB", "L", "CMYK", "P", "I;16"


def decode(data: bytes, at_least: int | None = None, levels: Levels = ()) -> np.ndarray:
    """Decode an image to RGB, uint8 (H, W, 3): the first frame, turned upright by its Exif orientation.

    Transparency is composited over white, as a browser shows it. Samples deeper than 8 bits use the range that their
    file states for certain, else `levels`; without either, 16 bits keep their high byte. With `at_least`, a JPEG may be
    decoded at 1/2, 1/4 or 1/8 of its size, which is faster, as long as both sides keep at least that many pixels; one
    of more than MAX_PIXELS is always reduced to at most that many. Raises ImageError, and nothing else, for data that
    are not an image, are damaged or cut short, or have more than MAX_BYTES bytes, MAX_PIXELS pixels or, for a JPEG,
    MAX_REDUCED pixels.
    """
    return decode_with_facts(data, at_least, levels)[0]


def decode_with_facts(data: bytes, at_least: int | None = None, levels: Levels = ()) -> tuple[np.ndarray, Facts]:
    """Return the pixels as `decode` does, and what the file states; the size in the facts is the full size."""
    _check_length(data)
    if data.startswith(JPEG):
        decoded = _decode_ordinary_jpeg(data, at_least)
        if decoded is not None:
            return decoded
    opened = _open_whole(data, levels)
    try:
        content = opened.content
        pixels = samples_to_rgb(content, levels) if isinstance(content, Samples) else content
        pixels = _turn_upright(pixels, opened.turn)
    except Exception as error:  # for example MemoryError
        raise _damaged(opened.format, error, data) from error
    height, width, _ = pixels.shape
    return pixels, Facts(opened.format, width, height, opened.frames, opened.orientation, opened.mode)


def read_size(data: bytes) -> tuple[int, int]:
    """Return width and height from the header, before turning upright, without decoding. Raises ImageError.

    Only formats that need an optional library are decoded to find their size.
    """
    _check_length(data)
    if data.startswith(JPEG):
        with suppress(ValueError):
            height, width, _, _ = simplejpeg.decode_jpeg_header(data)
            return width, height
    with suppress(ValueError, ImageError):
        form = read_form(data) if data.startswith(TIFF) else None
        if form is not None:
            return form.width, form.height
    if optional_format(data) is not None:
        facts = decode_with_facts(data)[1]
        return facts.width, facts.height
    return _open(data).size


def read_spread(data: bytes) -> Spread | None:
    """Return an image's evidence on the range of sample values; None for 8 bits and for a range that is certain.

    An ordinary file is judged from its beginning alone. Raises ImageError.
    """
    if not _may_be_deep(data):
        return None
    _check_length(data)
    content = _open_whole(data, ()).content
    if isinstance(content, Samples):
        return spread(content)
    # For 16-bit colour, the high bytes are enough to judge the range.
    values = content.astype(np.uint16) << 8
    found = spread(Samples(values, stated=png_samples.within(values, png_samples.significant(data))))
    return found and replace(found, high=found.high + 255)


def _may_be_deep(data: bytes) -> bool:
    if data.startswith((b"Pf", b"PF")) or optional_format(data) in ("DICOM", "JXL"):
        return True
    with suppress(ValueError, ImageError):
        return png_samples.is_deep(data) or read_form(data) is not None
    return False


@dataclass(frozen=True)
class _Opened:
    """Pixels, uint8 (H, W, 3), or samples, not upright yet, and what the file states."""

    content: np.ndarray | Samples
    format: str
    mode: str
    frames: int
    orientation: int  # as the file says
    turn: int  # what is left to turn


def _check_length(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise ImageError(
            f"expected an image of at most {MAX_BYTES:,} bytes, got {len(data):,}: save it smaller or leave it out"
        )


def _open_whole(data: bytes, levels: Levels) -> _Opened:
    """Decode an image of any format; retry one whose damage is outside its pixels with the damage removed."""
    try:
        return _decode(data, levels)
    except _Damaged:
        repaired = with_end(data) or without_notes(data)
        if repaired is None:
            raise
        with suppress(ImageError):
            return _decode(repaired, levels)
        raise


def _decode(data: bytes, levels: Levels) -> _Opened:
    name = optional_format(data)
    if name is not None:
        return _decode_optional(name, data)
    deep = _decode_tiff(data) if data.startswith(TIFF) else None
    if deep is not None:
        return deep
    image = _open(data)
    name, mode = image.format or "", image.mode
    try:
        image.load()
        content = _content(image, data, levels)
        exif = data if name == "TIFF" else image.info.get("exif", b"").removeprefix(EXIF)
        orientation = read_orientation(exif)
        # Depending on its version, Pillow turns a TIFF upright and drops the tag, or does neither.
        turned = name == "TIFF" and ORIENTATION not in image.getexif()
        frames = int(getattr(image, "n_frames", 1)) if name in _KNOW_THEIR_FRAMES else count_frames(data)
    except Exception as error:  # Pillow raises a dozen kinds for damaged files, including MemoryError and struct.error
        raise _damaged(name, error, data) from error
    return _Opened(content, name, mode, frames, orientation, 1 if turned else orientation)


def _content(image: Image.Image, data: bytes, levels: Levels) -> np.ndarray | Samples:
    png = png_samples.is_deep(data)
    if is_deep(image):
        # The decoders of these formats scale any depth to 16 bits.
        scaled = image.mode != "F" and image.format in ("PPM", "JPEG2000")
        samples = to_samples(image, (0, 65_535) if scaled else None)
        stated = png_samples.within(samples.values, png_samples.significant(data)) if png else None
        return replace(samples, stated=stated)
    if png and any(kind == "uint16" and (low, high) != (0, 65_535) for kind, low, high in levels):
        return png_samples.read_colours(data)
    return to_rgb(image)


def _decode_tiff(data: bytes) -> _Opened | None:
    """Decode a TIFF whose samples Pillow does not provide; None for all others."""
    try:
        check_tiff(data)
        form = read_form(data)
        if form is None:
            return None
        _check_size(form.width, form.height, "TIFF")
        orientation = read_orientation(data)
        return _Opened(read_samples(data, form), "TIFF", form.mode, count_frames(data), orientation, orientation)
    except ImageError:
        raise
    except Exception as error:
        raise _damaged("TIFF", error, data) from error


def _decode_optional(name: str, data: bytes) -> _Opened:
    try:
        opened = open_optional(name, data, lambda width, height: _check_size(width, height, name))
        content = opened.content
        if isinstance(content, Image.Image):
            whole = to_samples(content) if is_deep(content) else to_rgb(content)
        else:
            whole = content
        return _Opened(whole, name, opened.mode, opened.frames, 1, 1)
    except ImageError:
        raise
    except Exception as error:
        raise _damaged(name, error, data) from error


def _decode_ordinary_jpeg(data: bytes, at_least: int | None) -> tuple[np.ndarray, Facts] | None:
    # None leaves it to Pillow, which supports CMYK and, like browsers, tolerates stray bytes, though not missing ones.
    large = False
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        large = width * height > MAX_PIXELS and colours in ("YCbCr", "RGB", "Gray")
        _check_size(width, height, "JPEG", _most_of_jpeg(data) if large else MAX_PIXELS)
        check_scans(data, width, height)
        # Huffman coding takes at least one bit per block of 8 x 8 pixels: with fewer, most of the image is missing,
        # which would otherwise show only after decoding all of it.
        cut_short = not large and 8 * len(data) < width * height // 64
        if cut_short or colours not in ("YCbCr", "RGB", "Gray"):
            return None
        factor = reduction(min(width, height), at_least)
        while -(-width // factor) * -(-height // factor) > MAX_PIXELS:
            factor *= 2
        least = {"min_height": -(-height // factor), "min_width": -(-width // factor)}
        pixels = simplejpeg.decode_jpeg(data, "RGB", **least)
    except ImageError:
        raise
    except Exception as error:
        if large:  # too large for Pillow
            raise _damaged("JPEG", error, data) from error
        return None
    orientation = read_orientation(find_exif(data))
    shown = (height, width) if orientation >= 5 else (width, height)
    facts = Facts("JPEG", *shown, 1, orientation, "L" if colours == "Gray" else "RGB")
    return _turn_upright(pixels, orientation), facts


def _most_of_jpeg(data: bytes) -> int:
    return MAX_REDUCED if has_one_scan(data) else MAX_REDUCED_IN_SCANS


def reduction(shorter_side: int, at_least: int | None) -> int:
    """Return the factor, 1, 2, 4 or 8, by which `decode` reduces a JPEG given `at_least`."""
    # libjpeg supports the other eighths, too, but they take longer than the full size.
    return next((factor for factor in (8, 4, 2) if at_least and shorter_side >= factor * at_least), 1)


def _open(data: bytes) -> ImageFile.ImageFile:
    """Open an image: read its header and check its size, without decoding pixels."""
    name, factory = _opener(data)
    try:
        check_layout(data)
        for width, height in reserved_sizes(data):
            _check_size(width, height, name)
        image = factory(io.BytesIO(data), "")
        _check_size(*image.size, name)
        if name == "JPEG":
            check_scans(data, *image.size)
        return image
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"expected an image of at most {MAX_PIXELS:,} pixels, got far more in a {name} ({error}): "
            "scale it down or leave it out"
        ) from error
    except Exception as error:
        raise _damaged(name, error, data) from error


def _opener(data: bytes) -> tuple[str, Callable[[io.BytesIO, str], ImageFile.ImageFile]]:
    """Return the format that the first bytes indicate, and its opener. Raises ImageError for one not in FORMATS."""
    # Not `Image.open`, which warns of large images and odd camera files before their size can be checked.
    if data.startswith(JPEG):
        return "JPEG", JpegImagePlugin.JpegImageFile
    _load_plugins()
    beginning = data[:16].ljust(16, b"\0")  # some checks read beyond the end of a short file
    for name in FORMATS:
        # AVIF depends on how Pillow was built; a build that cannot read it returns a message instead.
        factory, accepts = Image.OPEN.get(name, (None, None))
        accepted = accepts(beginning) if accepts else False
        if isinstance(accepted, str):
            raise _damaged(name, ValueError(accepted), data)
        if accepted and factory:
            return name, factory
    stands_for = pointer(data)
    if stands_for is not None:
        raise ImageError(f"expected an image, got {stands_for}")
    kind = kind_of_file(data)
    came = f"{len(data):,} bytes that start with {data[:12]!r}{f', {kind}' if kind else ''}" if data else kind
    raise ImageError(
        f"expected an image in one of the formats {', '.join(FORMATS)}, got {came}: replace the file or leave it out"
    )


@cache
def _load_plugins() -> None:
    # Not `Image.init`, which would also load the plugins of thirty formats that are never opened.
    for name in FORMATS:
        # Older versions of Pillow lack the newest formats.
        with suppress(ImportError):
            import_module(f"PIL.{PLUGINS.get(name, name.title())}ImagePlugin")


def _check_size(width: int, height: int, name: str = "JPEG", most: int | None = None) -> None:
    most = min(MAX_PIXELS, MAX_PIXELS_OF.get(name, MAX_PIXELS)) if most is None else most
    if width * height > most:
        raise ImageError(
            f"expected an image of at most {most:,} pixels, got {width:,} x {height:,}: scale it down or leave it out"
        )
    if width < 1 or height < 1:
        raise ImageError(f"expected an image, got one of {width} x {height} pixels: replace the file or leave it out")


class _Damaged(ImageError):
    """A file of a known format that cannot be decoded."""


def _damaged(name: str, error: Exception, data: bytes) -> ImageError:
    reason = (
        "it ends too early" if isinstance(error, (IndexError, struct.error)) else str(error).partition("\n")[0].strip()
    )
    kind = unread(name, data)
    if kind is not None:
        return ImageError(
            f"expected an image that can be decoded here, got {kind} ({reason or type(error).__name__}): "
            "save it as PNG, TIFF or an ordinary JPEG"
        )
    return _Damaged(
        f"expected a whole image, got an incomplete or damaged {name} ({reason or type(error).__name__}): "
        "fetch it again or leave it out"
    )


def _turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels (H, W, 3) upright: the result is (W, H, 3) for orientations 5 to 8, otherwise (H, W, 3)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
