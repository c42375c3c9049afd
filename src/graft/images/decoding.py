"""From the bytes of one encoded image to pixels: RGB, uint8, first frame, upright.

Ordinary JPEGs go through simplejpeg, which is fastest; those that it does not take, and all other formats, go through
Pillow. The numbers of bytes and of pixels are limited by the header, before anything is decoded.
Decoding changes no setting of Pillow, of libtiff or of `warnings`, so any number of threads may decode at once. What
these two write to stderr about damage that they pass over is for the owner of the process to silence: the command line
does (`graft.cli.process`).
"""

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, JpegImagePlugin

from graft.errors import ImageError
from graft.images.containers import EXIF, JPEG, check_layout, check_scans, count_frames, find_exif, reserved_sizes
from graft.images.directories import ORIENTATION, read_orientation
from graft.images.rgb import to_rgb

MAX_PIXELS = 89_478_485  # the limit at which Pillow starts to warn; ~89 megapixels
MAX_BYTES = 256 * 2**20

# Raster formats that people keep photographs and scans in, by Pillow's names, each told by the first bytes of a file.
# Opening any other kind is left to no library: to show EPS or WMF, Pillow may start another program.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "TIFF", "JPEG2000", "BMP", "PPM")

_KNOW_THEIR_FRAMES = ("PNG", "WEBP", "AVIF")  # once opened; for a GIF or a TIFF Pillow would have to read them all
# Decoders that need more than 12 bytes of memory for a pixel.
MAX_PIXELS_OF = {"WEBP": 50_000_000, "AVIF": 50_000_000, "JPEG2000": 40_000_000}


@dataclass(frozen=True)
class Facts:
    """What the file of an image says: format and mode by Pillow's names, and the size in pixels once upright.

    `frames` counts the frames of an animation or the pages of a file, as far as it can be followed; the first one is
    decoded. `orientation` is Exif's, 1 (upright) to 8.
    """

    format: str
    width: int
    height: int
    frames: int
    orientation: int
    mode: str  # such as "RGB", "L", "CMYK", "P", "I;16"


def decode(data: bytes, at_least: int | None = None) -> np.ndarray:
    """An encoded image to RGB, uint8 (H, W, 3): the first frame, turned upright by its Exif orientation.

    Transparency is laid over white, as a browser shows it. Deeper greys keep their high byte. With `at_least`, a JPEG
    may be decoded at 1/2, 1/4 or 1/8 of its size, which is faster, as long as both sides keep at least that many
    pixels. Raises ImageError, and nothing else, for data that are not an image, damaged or cut short, or have more than
    MAX_BYTES bytes or MAX_PIXELS pixels.
    """
    return decode_with_facts(data, at_least)[0]


def decode_with_facts(data: bytes, at_least: int | None = None) -> tuple[np.ndarray, Facts]:
    """The pixels as `decode` gives them, and what the file says; the size in the facts is the full one."""
    if len(data) > MAX_BYTES:
        raise ImageError(
            f"expected an image of at most {MAX_BYTES:,} bytes, got {len(data):,}: save it smaller or leave it out"
        )
    decoded = _decode_ordinary_jpeg(data, at_least) if data.startswith(JPEG) else None
    if decoded is not None:
        return decoded
    image = _open(data)
    name, mode = image.format or "", image.mode
    try:
        image.load()
        pixels = to_rgb(image)
        exif = data if name == "TIFF" else image.info.get("exif", b"").removeprefix(EXIF)
        orientation = read_orientation(exif)
        # Depending on its version, Pillow turns a TIFF upright and then drops the tag, or leaves both as they are.
        turned = name == "TIFF" and ORIENTATION not in image.getexif()
        frames = int(getattr(image, "n_frames", 1)) if name in _KNOW_THEIR_FRAMES else count_frames(data)
        del image  # frees its memory before more is taken
        pixels = _turn_upright(pixels, 1 if turned else orientation)
    except Exception as error:  # Pillow raises a dozen kinds for damaged files, including MemoryError and struct.error
        raise _damaged(name, error) from error
    height, width, _ = pixels.shape
    return pixels, Facts(name, width, height, frames, orientation, mode)


def _decode_ordinary_jpeg(data: bytes, at_least: int | None) -> tuple[np.ndarray, Facts] | None:
    # None leaves it to Pillow, which knows CMYK and tolerates stray bytes, as browsers do, though not missing ones.
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(width, height)
        check_scans(data, width, height)
        if colours not in ("YCbCr", "RGB", "Gray"):
            return None
        factor = reduction(min(width, height), at_least)
        least = {"min_height": -(-height // factor), "min_width": -(-width // factor)}
        pixels = simplejpeg.decode_jpeg(data, "RGB", **least)
    except ImageError:
        raise
    except Exception:
        return None
    orientation = read_orientation(find_exif(data))
    shown = (height, width) if orientation >= 5 else (width, height)
    facts = Facts("JPEG", *shown, 1, orientation, "L" if colours == "Gray" else "RGB")
    return _turn_upright(pixels, orientation), facts


def reduction(shorter_side: int, at_least: int | None) -> int:
    """By how much, 1, 2, 4 or 8, `decode` reduces a JPEG of which `at_least` so many pixels are wanted."""
    # libjpeg can do other eighths, too, but they take longer than the full size.
    return next((factor for factor in (8, 4, 2) if at_least and shorter_side >= factor * at_least), 1)


def _open(data: bytes) -> ImageFile.ImageFile:
    """The image with its header read and its size checked, its pixels not yet decoded."""
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
        raise _damaged(name, error) from error


def _opener(data: bytes) -> tuple[str, Callable[[io.BytesIO, str], ImageFile.ImageFile]]:
    """The format that a file begins like, and what opens it. Raises ImageError for one that is not in FORMATS."""
    # Not by `Image.open`: it warns of large images and of odd camera files before one can look at their size.
    if data.startswith(JPEG):
        return "JPEG", JpegImagePlugin.JpegImageFile
    Image.init()
    beginning = data[:16].ljust(16, b"\0")  # some look at more than there may be
    for name in FORMATS:
        # AVIF depends on how Pillow was built; where it knows the format without being able to read it, it says so.
        factory, accepts = Image.OPEN.get(name, (None, None))
        accepted = accepts(beginning) if accepts else False
        if isinstance(accepted, str):
            raise _damaged(name, ValueError(accepted))
        if accepted and factory:
            return name, factory
    raise ImageError(
        f"expected an image in one of the formats {', '.join(FORMATS)}, got {len(data):,} bytes "
        f"that start with {data[:12]!r}: replace the file or leave it out"
    )


def _check_size(width: int, height: int, name: str = "JPEG") -> None:
    most = min(MAX_PIXELS, MAX_PIXELS_OF.get(name, MAX_PIXELS))
    if width * height > most:
        raise ImageError(
            f"expected an image of at most {most:,} pixels, got {width:,} x {height:,}: scale it down or leave it out"
        )
    if width < 1 or height < 1:
        raise ImageError(f"expected an image, got one of {width} x {height} pixels: replace the file or leave it out")


def _damaged(name: str | None, error: Exception) -> ImageError:
    reason = "it ends too early" if isinstance(error, (IndexError, struct.error)) else str(error)
    return ImageError(
        f"expected a whole image, got an incomplete or damaged {name} ({reason or type(error).__name__}): "
        "fetch it again or leave it out"
    )


def _turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, 3) as stored to (H, W, 3), or (W, H, 3) for orientations 5 to 8, as it should be seen."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
