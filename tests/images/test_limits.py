"""The limits of decoding: pixels, bytes, passes and pieces, and the outcome for arbitrary bytes."""

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from crafted import (
    HEIGHT,
    WIDTH,
    bmp_of_size,
    encode,
    exif,
    gif_with_frame,
    png,
    rgb_tiff,
    scan_bomb,
    scene,
    webp_of_size,
    with_frame,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from graft.errors import ImageError
from graft.images import containers, decoding, directories
from graft.images.decoding import MAX_PIXELS_OF, decode, read_size

JPEG = encode(scene(), "JPEG")

BOMBS = {
    "PNG": png(30_000, 30_000, 8, 2, b""),
    "PNG just above": png(10_000, 8_948, 8, 2, b""),
    "JPEG": with_frame(JPEG, 65_500, 65_500),
    "JPEG just above": with_frame(JPEG, 20_000, 10_501),
    "BMP": bmp_of_size(10_000, 10_000),
    "GIF frame": gif_with_frame(60_000, 2_000),
    "GIF larger frame": gif_with_frame(60_000, 60_000),
    "WEBP": webp_of_size(10_000, 10_000),
    "PPM": b"P6\n10000 10000\n255\n" + b"\0" * 100,
}


@pytest.mark.parametrize("name", BOMBS)
def test_too_many_pixels_are_refused_from_the_header(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append("Pillow"))
    monkeypatch.setattr(decoding.simplejpeg, "decode_jpeg", lambda *arguments, **options: decoded.append("simplejpeg"))
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        with pytest.raises(ImageError, match=r"at most \d+,\d+,\d+ pixels, got .*\d"):
            decode(BOMBS[name])
    assert not leaked and not decoded


def test_decoders_that_need_much_memory_get_fewer_pixels() -> None:
    with pytest.raises(ImageError, match=f"at most {MAX_PIXELS_OF['WEBP']:,} pixels, got 10,000 x 5,001"):
        decode(webp_of_size(10_000, 5_001))


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_the_limit_itself_is_allowed(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(scene(), form)
    monkeypatch.setattr(decoding, "MAX_PIXELS", WIDTH * HEIGHT)
    assert decode(data).shape == (HEIGHT, WIDTH, 3)
    monkeypatch.setattr(decoding, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(ImageError, match="at most 2,399 pixels, got 60 x 40: scale it down"):
        decode(data)


def test_too_many_bytes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(scene(), "PNG")
    monkeypatch.setattr(decoding, "MAX_BYTES", len(data))
    decode(data)
    monkeypatch.setattr(decoding, "MAX_BYTES", len(data) - 1)
    with pytest.raises(ImageError, match=f"at most {len(data) - 1:,} bytes, got {len(data):,}: "):
        decode(data)


def test_a_jpeg_may_have_many_passes_over_few_pixels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    data = scan_bomb(64, 30)  # over those that Pillow writes
    decode(data)
    monkeypatch.setattr(containers, "MOST_SCANNED", 20 * 64 * 64)
    with pytest.raises(ImageError, match="costs no more than its pixels do, got more than 20 passes over 64 x 64"):
        decode(data)


def test_markers_behind_an_image_are_no_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MOST_SCANNED", 2 * WIDTH * HEIGHT)
    assert np.array_equal(decode(JPEG + b"\xff\xda\0\2" * 1000), decode(JPEG))


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (rgb_tiff(t273=("I", (0,) * 5)), "12,000 pixels in the pieces of an image of 60 x 40"),
        (rgb_tiff(t258=("H", (8,) * (2**20 + 1))), "1,048,577 values under tag 258"),
        (rgb_tiff(**{f"t{tag}": ("B", (0,)) for tag in range(1000, 6000)}), "5,009 entries in one directory"),
    ],
    ids=["strips", "values", "entries"],
)
def test_a_tiff_that_asks_for_too_much_is_refused(data: bytes, found: str) -> None:
    with pytest.raises(ImageError, match=f"costs no more than its pixels do, got {found}: save it again"):
        decode(data)


def test_values_of_a_tiff_may_overlap_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    data = rgb_tiff(t40000=("s", bytes(5000)))
    decode(data)
    monkeypatch.setattr(directories, "SLACK_BYTES", -len(data) + 5000)
    with pytest.raises(ImageError, match="bytes of values in a file of"):
        decode(data)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError):
        decode(png(0, 0, 8, 2, b""))


def test_threads_decode_at_once() -> None:
    files = [encode(scene(), form) for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")] * 10
    expected = [decode(data) for data in files]
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(a, b) for a, b in zip(pool.map(decode, files), expected, strict=True))


def test_importing_the_decoder_does_not_import_torch() -> None:
    check = "import sys, graft.images.decoding, graft.images.preprocessing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


# Anything at all


SMALL = [encode(scene(12, 8), form) for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000")]
SMALL += [encode(scene(12, 8).quantize(9), "GIF", transparency=1), encode(scene(12, 8).convert("CMYK"), "JPEG")]
SMALL += [encode(scene(12, 8), form, exif=exif(6)) for form in ("JPEG", "PNG", "TIFF")]


def assert_decodes_or_says_why(data: bytes) -> None:
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        try:
            pixels = decode(data)
        except ImageError as error:
            assert str(error).startswith("expected ")
        else:
            assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size
    assert not [warning for warning in leaked if issubclass(warning.category, Image.DecompressionBombWarning)]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"P6\n"]),
    st.binary(max_size=200),
)
def test_random_bytes_give_pixels_or_a_sentence(signature: bytes, data: bytes) -> None:
    assert_decodes_or_says_why(signature + data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_files_with_flipped_bytes_give_pixels_or_a_sentence(draw: st.DataObject) -> None:
    data = bytearray(draw.draw(st.sampled_from(SMALL)))
    places = st.integers(0, min(len(data), 200) - 1) | st.integers(0, len(data) - 1)  # headers are at the front
    for place, value in draw.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)):
        data[place] = value
    assert_decodes_or_says_why(bytes(data))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_the_size_is_told_without_decoding(form: str) -> None:
    data = encode(scene(60, 40), form)
    assert read_size(data) == (60, 40)
    if form != "WEBP":  # a WebP is not opened at all unless it is whole
        assert read_size(data[: len(data) - 20]) == (60, 40)


def test_the_size_of_what_is_no_image_is_refused() -> None:
    for data in (b"", b"no image", encode(scene(), "PNG")[:20]):
        with pytest.raises(ImageError):
            read_size(data)
