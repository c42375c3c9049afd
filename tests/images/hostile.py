"""Whole, odd, damaged and hostile image files, made from nothing but code and a seed.

    python tests/images/hostile.py FOLDER

writes the corpus, a few megabytes in some thousand files, into FOLDER. `test_hostile.py` sends it through the decoder.
"""

import random
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from crafted import (
    HEIGHT,
    WIDTH,
    bmp_of_size,
    chunk,
    deep_png,
    encode,
    exif,
    gif_of_size,
    gif_with_frame,
    in_tiles,
    interlaced_png,
    jpeg2000_of_size,
    png,
    png_of,
    rgb_tiff,
    rle_bmp,
    scan_bomb,
    scene,
    segment,
    tiled_tiff,
    webp_of_size,
    with_alpha,
    with_frame,
    with_segment,
    ycck,
    zeros,
)
from PIL import Image, ImageOps, features

FLIPS = 200  # damaged copies of a file of every format, each with one to eight bits turned


SIGNATURES = (
    *(b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\xff\0\0\0WEBPVP8 ", b"II*\0", b"MM\0*"),
    *(b"BM", b"P6\n", b"\xff\x4f\xff\x51", b"II+\0\x08\0\0\0"),
)


@dataclass(frozen=True)
class File:
    """One file of the corpus: what is in it, and whether it must decode, must be refused, or may do either."""

    name: str
    data: bytes
    outcome: Literal["image", "refused", "either"]


def corpus() -> Iterator[File]:
    """Every file, always the same ones in the same order."""
    parts: tuple[tuple[Literal["image", "refused", "either"], Callable[[], dict[str, bytes]]], ...] = (
        ("image", images),
        ("image", turned),
        ("image", tiffs),
        ("image", forgiven),
        ("refused", others),
        ("refused", bombs),
        ("refused", cut_short),
        ("either", odd),
        ("either", odd_tiffs),
        ("either", flipped),
    )
    for outcome, make in parts:
        for name, data in make().items():
            yield File(f"{make.__name__}/{name}", data, outcome)


# The parts of the corpus, each a dict from name to bytes


def images() -> dict[str, bytes]:
    """Whole files, some of them unusual."""
    image = scene()
    jpeg, cmyk = encode(image, "JPEG", quality=90), encode(image.convert("CMYK"), "JPEG", quality=90)
    frames = {"save_all": True, "append_images": [ImageOps.invert(image), image.rotate(180)]}
    thumbnail = encode(image.resize((16, 12)), "JPEG")
    made = {
        "text ending.txt": jpeg,
        "png named.jpg": encode(image, "PNG"),
        "grey.jpg": encode(image.convert("L"), "JPEG"),
        "444.jpg": encode(image, "JPEG", subsampling="4:4:4"),
        "422.jpg": encode(image, "JPEG", subsampling="4:2:2"),
        "rgb.jpg": encode(image, "JPEG", keep_rgb=True),
        "progressive.jpg": encode(image, "JPEG", progressive=True),
        "restarts.jpg": encode(image, "JPEG", restart_marker_blocks=2),
        "cmyk.jpg": cmyk,
        "ycck.jpg": ycck(cmyk),
        "trailing.jpg": jpeg + b"notes of a camera" * 50,
        "twice.jpg": jpeg + encode(ImageOps.invert(image), "JPEG"),
        "thumbnail.jpg": with_segment(jpeg, 0xE1, b"Exif\0\0" + exif(1).tobytes()[6:] + thumbnail),
        "exif garbage.jpg": with_segment(jpeg, 0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\x12\x01" * 40),
        "exif garbage cmyk.jpg": with_segment(cmyk, 0xE1, b"Exif\0\0II*\0\x08\0\0\0\x09\0\x12\x01" + b"\xff" * 9),
        "comments.jpg": jpeg[:2] + segment(0xFE, b"x" * 60_000) * 5 + jpeg[2:],
        "mpo.jpg": encode(image, "MPO", **frames),
        "one pixel.jpg": encode(scene(1, 1), "JPEG"),
        "strip.jpg": encode(scene(4000, 20), "JPEG"),
        "interlaced.png": interlaced_png(),
        "many pieces.png": png_of(
            WIDTH, HEIGHT, 8, 0, b"", b"".join(chunk(b"IDAT", bytes([byte])) for byte in zlib.compress(bytes(61 * 40)))
        ),
        "no end.png": encode(image, "PNG")[:-12],
        "animated.png": encode(image, "PNG", **frames),
        "transparent index.png": encode(image.quantize(50), "PNG", transparency=3),
        "transparent indices.png": encode(image.quantize(50), "PNG", transparency=bytes(range(0, 250, 5))),
        "transparent grey.png": encode(image.convert("L"), "PNG", transparency=30),
        "transparent.gif": encode(image.quantize(50), "GIF", transparency=3),
        "interlaced.gif": encode(image.quantize(200), "GIF", interlace=True),
        "animated.gif": encode(image, "GIF", **frames),
        "animated.webp": encode(image, "WEBP", lossless=True, **frames),
        "lossy.webp": encode(image, "WEBP"),
        "alpha.webp": encode(with_alpha("RGBA"), "WEBP", lossless=True, exact=True),
        "lossy alpha.webp": encode(with_alpha("RGBA"), "WEBP"),
        "codestream.j2k": encode(image, "JPEG2000", no_jp2=True),
        "alpha.jp2": encode(with_alpha("RGBA"), "JPEG2000"),
        "plain.ppm": b"P3 # plain\n2 2\n255\n255 0 0 0 255 0 0 0 255 9 9 9\n",
        "deep.ppm": b"P6 2 1 65535\n" + bytes(range(0, 240, 20)),
        "whole.ppm": encode(image, "PPM"),
        "bits.pbm": b"P4\n16 2\n\x0f\xf0\xaa\x55",
    }
    for mode in ("1", "L", "P", "RGB"):
        made |= {f"{mode}.{form.lower()}": encode(image.convert(mode), form) for form in ("PNG", "BMP", "TIFF", "GIF")}
    for mode in ("LA", "RGBA"):
        made |= {f"{mode}.{form.lower()}": encode(with_alpha(mode), form) for form in ("PNG", "TIFF")}
    for name, colour, channels in (("grey", 0, 1), ("rgb", 2, 3), ("grey alpha", 4, 2), ("rgba", 6, 4)):
        made[f"16 bit {name}.png"] = deep_png(colour, channels)
    if features.check("avif"):
        made |= {"plain.avif": encode(image, "AVIF"), "animated.avif": encode(image, "AVIF", **frames)}
    return made


def turned() -> dict[str, bytes]:
    """The scene in every orientation of Exif."""
    made = {}
    for orientation in range(1, 9):
        for form in ("JPEG", "PNG", "WEBP", "TIFF", "MPO"):
            options: dict[str, object] = {"lossless": True} if form == "WEBP" else {}
            data = encode(scene(), form, exif=exif(orientation), **options)
            made[f"{orientation}.{form.lower()}"] = data
        made[f"{orientation} cmyk.jpg"] = encode(scene().convert("CMYK"), "JPEG", exif=exif(orientation))
        made[f"{orientation} lzw.tiff"] = encode(scene(), "TIFF", exif=exif(orientation), compression="tiff_lzw")
    return made


def tiffs() -> dict[str, bytes]:
    image = scene()
    deep = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 27
    made = {
        f"{name}.tiff": encode(image, "TIFF", compression=name)
        for name in ("tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg", "zstd", "lzma")
    }
    made |= {
        "group4.tiff": encode(image.convert("1"), "TIFF", compression="group4"),
        "group3.tiff": encode(image.convert("1"), "TIFF", compression="group3"),
        "big.tiff": encode(image, "TIFF", big_tiff=True),
        "16 bit.tiff": encode(Image.fromarray(deep), "TIFF"),
        "16 bit lzw.tiff": encode(Image.fromarray(deep), "TIFF", compression="tiff_lzw"),
        "float.tiff": encode(Image.fromarray((deep / 65535).astype(np.float32)), "TIFF"),
        "integer.tiff": encode(Image.fromarray(deep.astype(np.int32)), "TIFF"),
        "cmyk.tiff": encode(image.convert("CMYK"), "TIFF"),
        "lab.tiff": encode(image.convert("LAB"), "TIFF"),
        "pages.tiff": encode(image, "TIFF", save_all=True, append_images=[image.rotate(180)] * 2),
        "by hand.tiff": rgb_tiff(),
        "by hand big.tiff": rgb_tiff(big=True),
        "by hand big-endian.tiff": rgb_tiff(order=">"),
        "loop.tiff": rgb_tiff(following=16 + WIDTH * HEIGHT * 3),
        "tiled.tiff": tiled_tiff(),
        "one tile.tiff": tiled_tiff(256),
    }
    return made


def others() -> dict[str, bytes]:
    """Files that are no image, or none that graft reads."""
    generator = random.Random(1)
    page = b"<!DOCTYPE html><html><head><title>404</title></head><body>Not found</body></html>"
    return {
        "empty.jpg": b"",
        "one byte.jpg": b"\xff",
        "text.jpg": b"These are no pixels.\n" * 40,
        "page.png": page,
        "drawing.svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0h9v9z"/></svg>',
        "paper.pdf": b"%PDF-1.7\n1 0 obj << /Type /Catalog >> endobj\ntrailer << /Root 1 0 R >>\n%%EOF\n",
        "drawing.eps": encode(scene(), "EPS"),
        "layers.psd": b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, HEIGHT, WIDTH, 8, 3) + bytes(14 + WIDTH * HEIGHT * 3),
        "phone.heic": struct.pack(">I4s4sI8s", 24, b"ftyp", b"heic", 0, b"mif1heic") + bytes(200),
        "film.mp4": struct.pack(">I4s4sI8s", 24, b"ftyp", b"isom", 512, b"isommp41") + bytes(200),
        "archive.zip": b"PK\3\4" + bytes(100),
        "zeros.jpg": bytes(5000),
        "random.jpg": generator.randbytes(5000),
        "12 bit.jpg": with_frame(encode(scene(), "JPEG"), WIDTH, HEIGHT, precision=12),
        "lossless.jpg": with_frame(encode(scene(), "JPEG"), WIDTH, HEIGHT, process=0xC3),
        "hierarchical.jpg": with_frame(encode(scene(), "JPEG"), WIDTH, HEIGHT, process=0xC5),
        "no tables.jpg": b"\xff\xd8\xff\xd9",
        "nothing.png": png(0, 0, 8, 2, b""),
        "no pixels.png": encode(scene(), "PNG")[:33] + chunk(b"IEND", b""),
        "bad sum.png": encode(scene(), "PNG").replace(b"IDAT", b"IDAU", 1),
        "float page.tiff": rgb_tiff(t262=("H", (99,))),
        "no directory.tiff": b"II*\0\xff\xff\xff\xff" + bytes(30),
        **{f"drawing.{form.lower()}": encode(scene(), form) for form in ("ICO", "QOI", "SGI", "PCX", "TGA", "DIB")},
    }


def bombs() -> dict[str, bytes]:
    """Small files that promise much: pixels, bytes, passes, pieces."""
    jpeg, jpeg2000, many = encode(scene(), "JPEG"), encode(scene(), "JPEG2000"), 65_535
    made = {
        f"{side}.{form}": make(side)
        for side in (10_000, many)
        for form, make in {
            "jpg": lambda side: with_frame(jpeg, side, side),
            "cmyk.jpg": lambda side: with_frame(encode(scene().convert("CMYK"), "JPEG"), side, side),
            "png": lambda side: png(side, side, 8, 2, b""),
            "gif": lambda side: gif_of_size(side, side),
            "frame.gif": lambda side: gif_with_frame(side, side),
            "bmp": lambda side: bmp_of_size(side, side),
            "tiff": lambda side: rgb_tiff(side, side),
            "lzw.tiff": lambda side: rgb_tiff(side, side, t259=("H", (5,))),
            "webp": lambda side: webp_of_size(min(side, 16_383), min(side, 16_383)),
            "jp2": lambda side: jpeg2000_of_size(side, side),
            "ppm": lambda side: b"P6 %d %d 255\n" % (side, side) + bytes(100),
        }.items()
    }
    wide = zeros(200 * 2**20)
    made |= {
        "pieces.png": png(WIDTH, HEIGHT, 8, 0, bytes(WIDTH * HEIGHT), 1_000_000 * chunk(b"teSt", b"")),
        "pixels.png": png_of(9_400, 9_400, 16, 6, wide),
        "scans.jpg": scan_bomb(4_000, 2_000),
        "segments.jpg": jpeg[:2] + 1_000_000 * segment(0xFE, b"") + encode(scene().convert("CMYK"), "JPEG")[2:],
        "pieces.gif": encode(scene().convert("P"), "GIF")[:-1].replace(b",", b"!\xfe" + 4_000_000 * b"\1x" + b"\0,", 1),
        "boxes.jp2": jpeg2000[:32] + 1_000_000 * b"\0\0\0\x08free" + jpeg2000[32:],
        "plain.ppm": b"P3 1000 1000 255\n" + b"#\n" * 500_000,
        "comment.ppm": b"P6\n#" + 20_000_000 * b"x" + b"\n1 1 255\n" + bytes(3),
        "samples.ppm": b"P6 4000 4000 254\n" + bytes(4_000 * 4_000 * 3),
        "runs.bmp": rle_bmp(8_000, 8_000, b"\1\0" * 4_000_000),
        "strips.tiff": rgb_tiff(
            2_000, 2_000, bytes(12_000_000), t273=("I", (0,) * 200_000), t279=("I", (12_000_000,) * 200_000)
        ),
        "entries.tiff": rgb_tiff(**{f"t{tag}": ("B", bytes(5)) for tag in range(1_000, 60_000)}),
        "tile.tiff": rgb_tiff(t259=("H", (5,)), **in_tiles(16_000, (0,), 7_200)),
    }
    return made


def forgiven() -> dict[str, bytes]:
    """Files with damage, or with far too much, beside their pixels."""
    blob, rows = zeros(64 * 2**20), bytes(range(240)) * 10
    jpeg, progressive = encode(scene(), "JPEG"), encode(scene(), "JPEG", progressive=True)
    bad_sum = chunk(b"teXt", b"Author\0graft")[:-4] + bytes(4)
    return {
        "profile.png": png(WIDTH, HEIGHT, 8, 0, rows, chunk(b"iCCP", b"x\0\0" + blob)),
        "text.png": png(WIDTH, HEIGHT, 8, 0, rows, chunk(b"zTXt", b"x\0\0" + blob)),
        "words.png": png(WIDTH, HEIGHT, 8, 0, rows, chunk(b"iTXt", b"x\0\1\0\0\0" + blob)),
        "many words.png": png(WIDTH, HEIGHT, 8, 0, rows, 40 * chunk(b"zTXt", b"x\0\0" + zeros(2**20))),
        "bad sum of a note.png": png(WIDTH, HEIGHT, 8, 0, rows, bad_sum),
        "bad sum of gamma.png": png(WIDTH, HEIGHT, 8, 0, rows, chunk(b"gAMA", struct.pack(">I", 45455))[:-1] + b"x"),
        "no end.jpg": jpeg[:-2],
        "half an end.jpg": jpeg[:-1],
        "no end progressive.jpg": progressive[:-2],
        "no end grey.jpg": encode(scene().convert("L"), "JPEG")[:-2],
        "no end cmyk.jpg": encode(scene().convert("CMYK"), "JPEG")[:-2],
    }


def cut_short() -> dict[str, bytes]:
    """Files of every format that end too early, at one of eighteen places, and JPEGs at every marker."""
    made = {}
    for form, data in samples().items():
        for part in range(1, 19):
            made[f"{part} of 20.{form}"] = data[: len(data) * part // 20]
    for name in ("jpg", "progressive.jpg"):
        jpeg = samples()[name]
        starts = [at for at in range(2, len(jpeg) - 2) if jpeg[at] == 0xFF and jpeg[at + 1] not in (0, 0xFF)]
        made |= {f"at {at}.{name}": jpeg[:at] for at in starts}
    return made


def odd() -> dict[str, bytes]:
    """Files on which readers may differ."""
    jpeg, generator = encode(scene(), "JPEG"), random.Random(2)
    made = {
        "arithmetic.jpg": with_frame(jpeg, WIDTH, HEIGHT, process=0xC9),
        "taller.jpg": with_frame(jpeg, WIDTH, 400),
        "shorter.jpg": with_frame(jpeg, WIDTH, 8),
        "height later.jpg": with_frame(jpeg, WIDTH, 0),
        "large and empty.jpg": with_frame(jpeg, 9_400, 9_400),
        "large and empty progressive.jpg": with_frame(encode(scene(), "JPEG", progressive=True), 9_400, 9_400),
        "large and empty.png": png_of(9_400, 9_400, 8, 6, zeros(1000)),
        "large and flat.png": png_of(9_400, 9_400, 8, 2, zeros(9_400 * (1 + 3 * 9_400))),
        "large and flat alpha.png": png_of(9_400, 9_400, 8, 6, zeros(9_400 * (1 + 4 * 9_400))),
        "large and flat 16 bit.png": png_of(9_400, 9_400, 16, 0, zeros(9_400 * (1 + 2 * 9_400))),
        "large and empty.tiff": rgb_tiff(9_400, 9_400),
        "expands.png": png_of(WIDTH, HEIGHT, 8, 0, zeros(200 * 2**20)),
        "stray.jpg": jpeg.replace(b"\xff\xda", b"\0\0\0\0\xff\xda", 1),
        "bad sum of pixels.png": encode(scene(), "PNG")[:-20] + bytes(8) + encode(scene(), "PNG")[-12:],
        "length.png": encode(scene(), "PNG")[:33] + b"\xff\xff\xff\xffIDAT" + encode(scene(), "PNG")[41:],
        "frames.gif": encode(scene(), "GIF", save_all=True, append_images=[scene().rotate(n) for n in range(1, 60)]),
    }
    for signature in SIGNATURES:
        for number in range(20):
            made[f"garbage {number}.{signature[:4].hex()}"] = signature + generator.randbytes(600)
    return made


def odd_tiffs() -> dict[str, bytes]:
    """Directories that lie about counts, places and sizes."""
    huge = 2**32 - 1
    made = {
        "rows.tiff": rgb_tiff(t278=("I", (huge,))),
        "no rows.tiff": rgb_tiff(t278=("I", (0,))),
        "samples.tiff": rgb_tiff(t277=("H", (65_535,))),
        "bits.tiff": rgb_tiff(t258=("H", (65_535,) * 3)),
        "offset.tiff": rgb_tiff(t273=("I", (huge - 16,))),
        "length.tiff": rgb_tiff(t279=("I", (huge,)), t259=("H", (5,))),
        "planes.tiff": rgb_tiff(t284=("H", (2,))),
        "tile.tiff": rgb_tiff(**in_tiles(1, (0,) * WIDTH * HEIGHT, 3)),
        "tile of nothing.tiff": rgb_tiff(**in_tiles(0, (0,), 0)),
        "long text.tiff": rgb_tiff(t270=("s", b"x" * 3_000_000)),
        "palette.tiff": rgb_tiff(t262=("H", (3,)), t258=("H", (8,)), t277=("H", (1,)), t320=("H", (9,) * 7)),
        "exif loop.tiff": rgb_tiff(t34665=("I", (16 + WIDTH * HEIGHT * 3,))),
        "fax.tiff": rgb_tiff(t259=("H", (4,)), t258=("H", (1,)), t277=("H", (1,)), t262=("H", (0,))),
    }
    for tag in (256, 257, 258, 273, 277, 278, 279, 320, 34675, 700, 33432):
        data = bytearray(rgb_tiff(**{f"t{tag}": ("I", (1,))}))
        at = data.rindex(struct.pack("<HHI", tag, 4, 1))
        for count in (0, 1000, 2**28, huge):
            data[at + 4 : at + 8] = struct.pack("<I", count)
            made[f"count of {tag} {count}.tiff"] = bytes(data)
    return made


def samples() -> dict[str, bytes]:
    """A small file of every format whose damage can be noticed."""
    image = scene()
    made = {
        "jpg": encode(image, "JPEG"),
        "progressive.jpg": encode(image, "JPEG", progressive=True),
        "cmyk.jpg": encode(image.convert("CMYK"), "JPEG"),
        "png": encode(image, "PNG"),
        "gif": encode(image, "GIF"),
        "webp": encode(image, "WEBP"),
        "tiff": encode(image, "TIFF"),
        "lzw.tiff": encode(image, "TIFF", compression="tiff_lzw"),
        "jpeg.tiff": encode(image, "TIFF", compression="jpeg"),
        "bmp": encode(image, "BMP"),
        "jp2": encode(image, "JPEG2000"),
        "ppm": encode(image, "PPM"),
    }
    return made | ({"avif": encode(image, "AVIF")} if features.check("avif") else {})


def flipped() -> dict[str, bytes]:
    """Every format with a few bits turned; every second time near the start, where the headers are."""
    generator, made = random.Random(3), {}
    plain = samples()
    plain |= {"tiled.tiff": tiled_tiff(), "big.tiff": rgb_tiff(big=True), "animated.png": images()["animated.png"]}
    for form, data in plain.items():
        for number in range(FLIPS):
            damaged = bytearray(data)
            reach = len(data) if number % 2 else min(len(data), 200)
            for _ in range(generator.randint(1, 8)):
                place = generator.randrange(reach)
                # The directory of a TIFF is its last part when it was written by hand.
                place = len(data) - 1 - place if form in ("tiled.tiff", "big.tiff") else place
                damaged[place] ^= 1 << generator.randrange(8)
            made[f"{number}.{form}"] = bytes(damaged)
    return made


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("expected one argument, the folder to write the corpus into")
    for file in corpus():
        path = Path(sys.argv[1]) / file.outcome / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)


if __name__ == "__main__":
    main()
