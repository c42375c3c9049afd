"""TIFFs of samples that Pillow does not have, against tifffile."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile
from crafted import HEIGHT, WIDTH, encode, rgb_tiff, scene
from PIL import Image

from graft.errors import ImageError
from graft.images.decoding import decode, decode_with_facts, read_spread
from graft.images.levels import decide

COLOURS = np.asarray(scene()).astype(np.uint16) * 16 + 5
PARTS = (COLOURS / 4095).astype(np.float32)
LEVELS = (("float", 0.0, 1.0), ("uint16", 0.0, 4095.0))


def written(values: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, values, photometric=options.pop("photometric", "rgb"), **options)
    return file.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"bigtiff": True},
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"rowsperstrip": 7, "compression": "zlib"},
        {"tile": (32, 32)},
        {"tile": (32, 16), "compression": "zlib", "predictor": True},
        {"planarconfig": "separate"},
        {"planarconfig": "separate", "rowsperstrip": 7, "compression": "zlib", "byteorder": ">"},
    ],
    ids=str,
)
def test_colours_of_16_bits_keep_all_of_them_however_they_are_laid_out(options: dict[str, Any]) -> None:
    stored = COLOURS.transpose(2, 0, 1).copy() if "planarconfig" in options else COLOURS
    pixels, facts = decode_with_facts(written(stored, **options), levels=LEVELS)
    assert np.array_equal(pixels, scene()) and (facts.width, facts.height) == (WIDTH, HEIGHT)
    assert facts.mode == "3 x uint16" and facts.frames == 1


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_floats_of_every_width_are_colours(kind: type, order: Any) -> None:
    pixels = decode(written(PARTS.astype(kind), byteorder=order), levels=LEVELS)
    assert np.abs(pixels.astype(int) - np.asarray(scene())).max() <= 1


@pytest.mark.parametrize("order", ["<", ">"])
def test_floats_by_byte_and_difference_are_put_together(order: str) -> None:
    rows = PARTS.astype(">f4").reshape(HEIGHT, -1)
    planes = rows.view(np.uint8).reshape(HEIGHT, -1, 4).transpose(0, 2, 1).reshape(HEIGHT, -1, 3)
    packed = zlib.compress(np.diff(planes, axis=1, prepend=np.uint8(0)).tobytes())
    options: dict[str, Any] = {
        "t258": ("H", (32,) * 3), "t259": ("H", (8,)), "t317": ("H", (3,)), "t339": ("H", (3,) * 3),
    }  # fmt: skip
    pixels = decode(rgb_tiff(pixels=packed, order=order, **options), levels=LEVELS)
    assert np.abs(pixels.astype(int) - np.asarray(scene())).max() <= 1


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", "zstd", "lzma"])
def test_every_compression_of_libtiff_unpacks(compression: str) -> None:
    grey = COLOURS[:, :, 0].copy()
    pixels = decode(encode(Image.fromarray(grey), "TIFF", compression=compression), levels=LEVELS)
    assert np.array_equal(pixels[:, :, 0], grey >> 4)


def test_white_may_be_zero() -> None:
    assert np.array_equal(
        decode(written(COLOURS[:, :, 0], photometric="miniswhite"), levels=LEVELS)[:, :, 0],
        255 - (COLOURS[:, :, 0] >> 4),
    )


def test_opacity_is_laid_over_white() -> None:
    alpha = np.where(np.arange(WIDTH) < 20, 0, 65_535).astype(np.uint16)
    stored = np.dstack([COLOURS, np.broadcast_to(alpha, (HEIGHT, WIDTH))])
    pixels = decode(written(stored, extrasamples=["unassalpha"]), levels=LEVELS)
    assert (pixels[:, :20] == 255).all() and np.array_equal(pixels[:, 20:], np.asarray(scene())[:, 20:])


SHARES = np.linspace(0, 1, 11)
# Colours, as shares of white, and how opaque each pixel is: (11, 11, 1) both.
COLOUR, OPACITY = (np.broadcast_to(each, (11, 11))[:, :, None] for each in (SHARES, SHARES[:, None]))
OVER_WHITE = 255 * (COLOUR * OPACITY + 1 - OPACITY)


def with_opacity(bands: int, kind: str, white: float, associated: bool, photometric: str) -> bytes:
    """Write colours over their opacity; with `miniswhite`, white is zero."""
    shown = 1 - COLOUR if photometric == "miniswhite" else COLOUR
    stored = np.dstack([shown * OPACITY if associated else shown] * bands + [OPACITY]) * white
    stored = stored if kind.startswith("f") else np.rint(stored)
    extra = ["assocalpha" if associated else "unassalpha"]
    return written(stored.astype(kind), photometric=photometric, extrasamples=extra)


@pytest.mark.parametrize("associated", [True, False], ids=["associated", "unassociated"])
@pytest.mark.parametrize(
    ("kind", "white", "bands", "photometric"),
    [
        ("uint8", 255, 3, "rgb"),  # by Pillow, like the next
        ("uint8", 255, 1, "minisblack"),
        *(
            (kind, white, bands, photometric)
            for kind, white in (("uint16", 65_535), ("float32", 1), ("float16", 1))
            for bands, photometric in ((3, "rgb"), (1, "minisblack"), (1, "miniswhite"))
        ),
    ],
)
def test_opacity_of_either_kind_is_laid_over_white_at_every_depth(
    kind: str, white: float, bands: int, photometric: str, associated: bool
) -> None:
    pixels = decode(with_opacity(bands, kind, white, associated, photometric))
    assert np.abs(pixels - OVER_WHITE).max() <= 2
    assert (pixels[0] == 255).all()


def test_premultiplied_colours_are_read_by_levels_of_what_they_were() -> None:
    half = np.full((32, 32, 1), 0.5)
    grey = np.linspace(0, 1, 1024).reshape(32, 32, 1)
    for kind, white, most in (("uint16", 4095, 65_535), ("float32", 1000.0, 1.0)):
        stored = np.dstack([*[grey * half * white] * 3, half * most]).astype(kind)
        data = written(stored, extrasamples=["assocalpha"])
        spread = read_spread(data)
        assert spread is not None
        levels = decide([spread])
        assert levels[0][1:] == pytest.approx((0, white), rel=0.02, abs=0.01 * white)
        assert np.abs(decode(data, levels=levels)[:, :, 0] - 255 * (0.5 + 0.5 * grey[:, :, 0])).max() <= 3


def test_premultiplied_colours_beyond_their_opacity_are_white_and_so_are_transparent_ones() -> None:
    stored = np.zeros((4, 4, 4), np.float32)
    stored[:2] = (0.2, 0.2, 0.2, 0.004)  # brighter than its opacity, as a filter may leave it at an edge
    stored[3] = (0.5, 0.5, 0.5, 1)
    pixels = decode(written(stored, extrasamples=["assocalpha"]))
    assert (pixels[:3] == 255).all() and (pixels[3] == 128).all()
    stored[:] = 0
    assert (decode(written(stored, extrasamples=["assocalpha"])) == 255).all()


def test_opacity_of_packed_bits_is_full_at_their_most() -> None:
    row = "".join(f"{value:010b}" for value in (512, 512, 512, 1023) * 4)
    data = rgb_tiff(
        4, 4, int(row, 2).to_bytes(20, "big") * 4,
        t258=("H", (10,) * 4), t277=("H", (4,)), t338=("H", (2,)),
    )  # fmt: skip
    assert (decode(data) == 128).all()


@pytest.mark.parametrize("more", [1, 2, 9])
def test_bands_beyond_red_green_and_blue_are_left_out(more: int) -> None:
    stored = np.dstack([COLOURS, *[COLOURS[:, :, 0]] * more])
    extra = ["unspecified"] * more
    assert np.array_equal(decode(written(stored, extrasamples=extra), levels=LEVELS), scene())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_bands_that_do_not_say_what_they_are_are_refused_by_their_number(kind: type) -> None:
    data = written(np.zeros((20, 20, 13), kind), photometric="minisblack", planarconfig="contig")
    with pytest.raises(ImageError, match="got a TIFF of 13 bands that does not say which are red"):
        decode(data)


def test_a_turned_image_is_turned_upright() -> None:
    data = rgb_tiff(pixels=COLOURS.astype("<u2").tobytes(), t258=("H", (16,) * 3), t274=("H", (6,)))
    pixels, facts = decode_with_facts(data, levels=LEVELS)
    assert np.array_equal(pixels, np.rot90(np.asarray(scene()), -1)) and facts.orientation == 6


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (32, 32)}], ids=str)
def test_truncated_samples_are_refused(kept: float, options: dict[str, Any]) -> None:
    data = written(PARTS, **options)
    start = data.index(struct.pack("<f", PARTS[0, 0, 0])) if not options else len(data) // 4
    with pytest.raises(ImageError, match="incomplete or damaged TIFF"):
        decode(data[: start + int(kept * (len(data) - start))])


def test_too_many_bytes_of_samples_are_refused_before_they_are_unpacked() -> None:
    with pytest.raises(ImageError, match=r"at most 419,430,400 bytes, got 8,000 x 9,000 of 3 x float32: scale it down"):
        decode(rgb_tiff(8_000, 9_000, t258=("H", (32,) * 3), t339=("H", (3,) * 3)))
