"""Image files written by Pillow and by hand, whole or with a false entry at a chosen place."""

import io
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, ImageOps

WIDTH, HEIGHT = 60, 40


def scene(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Smooth colours and one dark corner, so that no flip or turn of it equals another."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * x / width, 255 * y / height, 127 + 120 * np.sin(x / 9)], axis=2)
    pixels[: height // 3, : width // 4] = (10, 20, 30)
    return Image.fromarray(pixels.astype(np.uint8))


def with_alpha(mode: str) -> Image.Image:
    """The scene in LA or RGBA, more transparent from left to right."""
    image = scene().convert(mode)
    image.putalpha(scene().getchannel("R"))
    return image


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


# JPEG


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with a segment put in front of the others."""
    return jpeg[:2] + segment(marker, body) + jpeg[2:]


def with_frame(jpeg: bytes, width: int, height: int, precision: int = 8, process: int | None = None) -> bytes:
    """A JPEG whose frame header claims another size, precision or coding process than its scan has."""
    data = bytearray(jpeg)
    frame = max(jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2"))
    data[frame + 4 : frame + 9] = struct.pack(">BHH", precision, height, width)
    data[frame + 1] = process or data[frame + 1]
    return bytes(data)


def ycck(jpeg: bytes) -> bytes:
    """A CMYK JPEG said to be YCCK, by the last byte of Adobe's segment: other colours, but a whole file."""
    data = bytearray(jpeg)
    data[jpeg.index(b"Adobe") + 11] = 2
    return bytes(data)


def scan_bomb(side: int, scans: int) -> bytes:
    """A progressive JPEG with scan after scan over all its blocks, at a few bytes each."""
    jpeg = encode(Image.new("L", (side, side)), "JPEG", progressive=True)
    start = jpeg.rindex(b"\xff\xda")
    return jpeg[:start] + scans * jpeg[start:-2] + jpeg[-2:]


# PNG


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG written by hand: unfiltered rows of big-endian samples, `extra` chunks before the pixels."""
    stride = len(rows) // height if height else 0
    filtered = b"".join(b"\0" + rows[row * stride : (row + 1) * stride] for row in range(height)) if rows else b""
    return png_of(width, height, depth, colour, zlib.compress(filtered), extra)


def png_of(
    width: int, height: int, depth: int, colour: int, packed: bytes, extra: bytes = b"", interlace: int = 0
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + b"".join((chunk(b"IHDR", header), extra, chunk(b"IDAT", packed), chunk(b"IEND", b"")))


def interlaced_png() -> bytes:
    """Seven passes, from coarse to fine: PNG specification, section 8.2."""
    pixels, packed = np.asarray(scene()), b""
    for top, left, down, right in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        packed += b"".join(b"\0" + row.tobytes() for row in pixels[top::down, left::right])
    return png_of(WIDTH, HEIGHT, 8, 2, zlib.compress(packed), interlace=1)


def deep_png(colour: int, channels: int) -> bytes:
    samples = np.arange(WIDTH * HEIGHT * channels, dtype=np.uint32) * 5003 % 65536
    return png(WIDTH, HEIGHT, 16, colour, samples.astype(">u2").tobytes())


def zeros(count: int) -> bytes:
    """`count` zero bytes as zlib packs them, a thousand to one: the same block of them again and again."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(count % 2**20)) + packer.flush()
    return b"\x78\x9c" + block * (count // 2**20) + rest + struct.pack(">HH", count % 65_521, 1)


# The others


def tiff(
    values: dict[int, tuple[str, tuple[int, ...] | bytes]],
    pixels: bytes = b"",
    *,
    big: bool = False,
    following: int = 0,
    order: str = "<",
) -> bytes:
    """A TIFF written by hand: tag to type (B, H, I, Q or s) and values; `pixels` at byte 16, the directory behind.

    The value of tags 273 and 324, offsets of strips and tiles, counts from the start of the pixels.
    """
    kinds, width = {"B": 1, "s": 2, "H": 3, "I": 4, "Q": 16}, 8 if big else 4
    start = 16 + len(pixels) + len(pixels) % 2
    entries, beyond = b"", b""
    behind = start + (8 if big else 2) + len(values) * (12 + 2 * (width - 4) if big else 12) + width
    for tag, (kind, given) in sorted(values.items()):
        if tag in (273, 324) and not isinstance(given, bytes):
            given = tuple(16 + offset for offset in given)
        body = given if isinstance(given, bytes) else struct.pack(f"{order}{len(given)}{kind}", *given)
        field = body.ljust(width, b"\0")
        if len(body) > width:
            field = struct.pack(order + ("Q" if big else "I"), behind + len(beyond))
            beyond += body
        entries += struct.pack(order + ("HHQ" if big else "HHI"), tag, kinds[kind], len(given)) + field
    mark = b"II" if order == "<" else b"MM"
    header = mark + (struct.pack(order + "HHHQ", 43, 8, 0, start) if big else struct.pack(order + "HI", 42, start))
    count = struct.pack(order + ("Q" if big else "H"), len(values))
    link = struct.pack(order + ("Q" if big else "I"), following)
    return header.ljust(16, b"\0") + pixels.ljust(start - 16, b"\0") + count + entries + link + beyond


def rgb_tiff(width: int = WIDTH, height: int = HEIGHT, pixels: bytes | None = None, **others: object) -> bytes:
    """An uncompressed RGB TIFF in one strip; `others` are entries by their number (t273=("I", (0,))) or options."""
    pixels = scene().tobytes() if pixels is None else pixels
    values: dict[int, tuple[str, tuple[int, ...] | bytes]] = {
        256: ("I", (width,)),
        257: ("I", (height,)),
        258: ("H", (8, 8, 8)),
        259: ("H", (1,)),
        262: ("H", (2,)),
        273: ("I", (0,)),
        277: ("H", (3,)),
        278: ("I", (height,)),
        279: ("I", (len(pixels),)),
    }
    values |= {int(key[1:]): entry for key, entry in others.items() if key[0] == "t"}  # type: ignore[misc]
    values = {tag: entry for tag, entry in values.items() if entry}
    options = {key: value for key, value in others.items() if key[0] != "t"}
    return tiff(values, pixels, **options)  # type: ignore[arg-type]


def tiled_tiff(side: int = 32, pad: int = 0) -> bytes:
    """The scene in tiles of `side` pixels, the ones at the rim filled up."""
    across, down = -(-WIDTH // side), -(-HEIGHT // side)
    padded = np.zeros((down * side, across * side, 3), np.uint8)
    padded[:HEIGHT, :WIDTH] = np.asarray(scene())
    tiles = [
        padded[y : y + side, x : x + side] for y in range(0, down * side, side) for x in range(0, across * side, side)
    ]
    size = side * side * 3
    starts = tuple(range(0, size * len(tiles), size))
    return rgb_tiff(pixels=b"".join(tile.tobytes() for tile in tiles), **in_tiles(side, starts, size))


def in_tiles(side: int, starts: tuple[int, ...], size: int) -> dict[str, object]:
    """The entries that make strips into square tiles: their side, where they start, the bytes of each."""
    strips = {"t273": None, "t278": None, "t279": None}
    return strips | {
        "t322": ("I", (side,)),
        "t323": ("I", (side,)),
        "t324": ("I", starts),
        "t325": ("I", (size,) * len(starts)),
    }


def gif_with_frame(width: int, height: int) -> bytes:
    """A GIF whose screen is small and whose first frame claims to reach beyond it."""
    data = bytearray(encode(scene().convert("P"), "GIF", comment=b"a comment to step over"))
    frame = data.index(b"," + struct.pack("<4H", 0, 0, WIDTH, HEIGHT))
    data[frame + 5 : frame + 9] = struct.pack("<HH", width, height)
    return bytes(data)


def gif_of_size(width: int, height: int) -> bytes:
    data = bytearray(encode(scene().convert("P"), "GIF"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def bmp_of_size(width: int, height: int) -> bytes:
    data = bytearray(encode(scene(), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def rle_bmp(width: int, height: int, body: bytes) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    start = 14 + len(header) + 1024
    return struct.pack("<2sIHHI", b"BM", start + len(body), 0, 0, start) + header + bytes(1024) + body


def webp_of_size(width: int, height: int) -> bytes:
    """A WebP whose canvas is larger than the frames of its animation."""
    data = bytearray(encode(scene(), "WEBP", save_all=True, append_images=[ImageOps.invert(scene())]))
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def jpeg2000_of_size(width: int, height: int) -> bytes:
    data = bytearray(encode(scene(), "JPEG2000"))
    header, frame = data.index(b"ihdr"), data.index(b"\xff\x51")
    data[header + 4 : header + 12] = struct.pack(">II", height, width)
    data[frame + 6 : frame + 14] = struct.pack(">II", width, height)
    return bytes(data)


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[ExifTags.Base.Make] = "graft"
    made[ExifTags.Base.Orientation] = orientation
    return made
