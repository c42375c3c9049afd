"""From the bytes of one encoded picture to pixels: RGB, uint8, first frame, upright.

Ordinary JPEGs go through simplejpeg, which is the fast way; what it does not take, and every other format, goes
through Pillow. The number of bytes and of pixels is held to a limit from the header, before anything is decoded.
Nothing here changes a setting of Pillow or of `warnings`, so any number of threads may decode at once.
"""

import io
import struct
from collections.abc import Iterator

import numpy as np
import simplejpeg
from PIL import Image, ImageFile, JpegImagePlugin

from graft.errors import ImageError

MAX_PIXELS = 89_478_485  # the limit at which Pillow starts to warn; ~89 megapixels
MAX_BYTES = 256 * 2**20

# Raster formats by Pillow's names. EPS and WMF are left out because opening them may start another program. The last
# three have no firm signature: any file may look like one of them, so their failure says nothing about it.
_UNSIGNED = ("PCX", "DIB", "TGA")
FORMATS = ("PNG", "GIF", "WEBP", "AVIF", "TIFF", "JPEG2000", "BMP", "ICO", "QOI", "PPM", "SGI", *_UNSIGNED)

_JPEG = b"\xff\xd8\xff"
_GIF = (b"GIF87a", b"GIF89a")
_ICON = b"\0\0\1\0"
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\0\0"
_ORIENTATION = 0x0112  # tag of TIFF 6.0, section 8; Exif takes it over


def decode(data: bytes) -> np.ndarray:
    """An encoded picture to RGB, uint8 (H, W, 3): the first frame, turned upright as its Exif orientation says.

    Transparency is laid over white, which is what a page in a browser shows. Deeper greys keep their high byte.
    Raises ImageError, and nothing else, for what is not a picture, is damaged or cut short, or has more than
    MAX_BYTES bytes or MAX_PIXELS pixels.
    """
    if len(data) > MAX_BYTES:
        raise ImageError(
            f"expected a picture of at most {MAX_BYTES:,} bytes, got {len(data):,}: save it smaller or leave it out"
        )
    if data.startswith(_JPEG):
        pixels = _decode_ordinary_jpeg(data)
        if pixels is not None:
            return _turn_upright(pixels, _read_orientation(_find_exif(data)))
    image = _open(data)
    try:
        image.load()
        pixels = _to_rgb(image)
        # Pillow turns a TIFF upright itself (and then forgets the tag), or keeps the tag: it depends on its version.
        orientation = image.getexif().get(_ORIENTATION, 1) if image.format == "TIFF" else None
        return _turn_upright(pixels, orientation or _read_orientation(image.info.get("exif", b"")))
    except Exception as error:  # Pillow raises a dozen kinds for damaged files, MemoryError and struct.error among them
        raise _damaged(image.format, error) from error


def _decode_ordinary_jpeg(data: bytes) -> np.ndarray | None:
    # None: a job for Pillow, which knows CMYK and, as browsers do, forgives stray bytes; it too refuses missing ones.
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        _check_size(width, height)
        return simplejpeg.decode_jpeg(data, "RGB") if colours in ("YCbCr", "RGB", "Gray") else None
    except ImageError:
        raise
    except Exception:
        return None


def _open(data: bytes) -> ImageFile.ImageFile:
    """The picture with its header read and its size checked, its pixels not yet decoded."""
    # Not by `Image.open`: it warns of large pictures and of odd camera files before one can look at their size.
    Image.init()
    openers = {name: Image.OPEN[name] for name in FORMATS if name in Image.OPEN}  # AVIF depends on how Pillow was built
    if data.startswith(_JPEG):
        openers = {"JPEG": (JpegImagePlugin.JpegImageFile, None)}
    failure: ImageError | None = None
    for name, (factory, accepts) in openers.items():
        accepted = accepts is None or accepts(data[:16].ljust(16, b"\0"))  # padded: some read more than there may be
        if not accepted:
            continue
        try:
            if isinstance(accepted, str):  # Pillow's sentence on a format that it knows and was built without
                raise ValueError(accepted)
            for width, height in _sizes_reserved_on_opening(data):
                _check_size(width, height)
            image: ImageFile.ImageFile = factory(io.BytesIO(data), "")
            _check_size(*image.size)
            return image
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            raise ImageError(
                f"expected a picture of at most {MAX_PIXELS:,} pixels, got far more in a {name} ({error}): "
                "scale it down or leave it out"
            ) from error
        except Exception as error:
            if name not in _UNSIGNED:
                failure = failure or _damaged(name, error)
    raise failure or ImageError(
        f"expected a picture in one of the formats JPEG, {', '.join(FORMATS)}, got {len(data):,} bytes "
        f"that start with {data[:12]!r}: replace the file or leave it out"
    )


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"expected a picture of at most {MAX_PIXELS:,} pixels, got {width:,} x {height:,}: "
            "scale it down or leave it out"
        )
    if width < 1 or height < 1:
        raise ImageError(f"expected a picture, got one of {width} x {height} pixels: replace the file or leave it out")


def _damaged(name: str | None, error: Exception) -> ImageError:
    reason = "it ends too early" if isinstance(error, (IndexError, struct.error)) else str(error)
    return ImageError(
        f"expected a whole picture, got an incomplete or damaged {name} ({reason or type(error).__name__}): "
        "fetch it again or leave it out"
    )


def _sizes_reserved_on_opening(data: bytes) -> Iterator[tuple[int, int]]:
    """Widths and heights for which Pillow takes memory, or decodes, as soon as it opens the file."""
    if data.startswith(_ICON):  # every picture in an icon has a header of its own: PNG's, or a bitmap's
        (count,) = struct.unpack_from("<H", data, 4)
        for entry in range(count):
            (start,) = struct.unpack_from("<I", data, 6 + 16 * entry + 12)
            is_png = data.startswith(_PNG, start)
            yield struct.unpack_from(">II", data, start + 16) if is_png else struct.unpack_from("<II", data, start + 4)
    if data.startswith(_GIF):  # the first frame may reach beyond the screen that the header states
        width, height, flags = struct.unpack_from("<HHB", data, 6)
        yield width, height
        position = 13 + (6 << (flags & 7) if flags & 0x80 else 0)
        while data[position] == ord("!"):  # an extension: blocks that state their length, ended by one of length zero
            position += 2
            while length := data[position]:
                position += 1 + length
            position += 1
        if data[position] == ord(","):
            left, top, columns, rows = struct.unpack_from("<4H", data, position + 1)
            yield max(width, left + columns), max(height, top + rows)


def _to_rgb(image: Image.Image) -> np.ndarray:
    """A loaded picture of any of Pillow's modes to uint8 (H, W, 3)."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = _to_eight_bits(np.asarray(image))
        if "transparency" in image.info:  # the one value of a 16-bit PNG that stands for "nothing here"
            grey[np.asarray(image) == image.info["transparency"]] = 255
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("P", "PA", "LA", "RGBA", "RGBa") or "transparency" in image.info:
        canvas = Image.new("RGBA", image.size, "white")
        canvas.alpha_composite(image.convert("RGBA"))
        image = canvas
    return np.array(image.convert("RGB"))


def _to_eight_bits(grey: np.ndarray) -> np.ndarray:
    if grey.dtype.kind == "f":
        # A file of floats does not say its range. Fractions are the usual one; anything beyond them is taken for
        # grey levels, and is cut rather than stretched so that a picture's look does not hang on its extremes.
        grey = np.nan_to_num(grey)
        if grey.min() >= 0 and grey.max() <= 1:
            grey = grey * 255
        return np.rint(grey.clip(0, 255)).astype(np.uint8)
    if grey.dtype.itemsize == 2 or grey.max() > 255:
        grey = grey >> 8
    return grey.clip(0, 255).astype(np.uint8)


def _find_exif(data: bytes) -> bytes:
    """The Exif segment of a JPEG, or nothing. Segments: FF, marker, length in two bytes that counts itself."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker == 0xDA:  # start of scan: only pixels from here
            break
        elif marker == 0xE1 and data.startswith(_EXIF, position + 4):
            return data[position + 4 : position + 2 + length]
        else:
            position += 2 + length
    return b""


def _read_orientation(exif: bytes) -> int:
    """1 to 8 from an Exif block, 1 (upright) when it has none or is damaged; Exif 2.32, section 4.6.2."""
    exif = exif.removeprefix(_EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(f"{order}{'I' if kind == 4 else 'H'}", exif, entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """(H, W, 3) as stored to (H, W, 3), or (W, H, 3) for orientations 5 to 8, as meant."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)
