"""Files whose pixels are whole, with damage or something odd beside them, decode; others are called what they are."""

import struct

import numpy as np
import pytest
from crafted import HEIGHT, WIDTH, chunk, encode, png, rgb_tiff, scene, with_frame, zeros
from PIL import Image

from graft.errors import ImageError
from graft.images import decoding
from graft.images.decoding import decode, decode_with_facts

ROWS = bytes(range(240)) * 10
JPEG = encode(scene(), "JPEG")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
ANNEX = b"../../.git/annex/objects/3W/k1/SHA256E-s31390--f50d.jpg/SHA256E-s31390--f50d.jpg"


@pytest.mark.parametrize(
    ("mode", "options"),
    [("RGB", {}), ("RGB", {"progressive": True}), ("L", {}), ("CMYK", {}), ("RGB", {"restart_marker_blocks": 2})],
    ids=str,
)
@pytest.mark.parametrize("kept", [-2, -1])
def test_a_jpeg_that_lacks_only_its_end_is_whole(mode: str, options: dict[str, object], kept: int) -> None:
    data = encode(scene().convert(mode), "JPEG", **options)
    assert np.array_equal(decode(data[:kept]), decode(data))


def test_a_jpeg_with_a_thumbnail_and_no_end_is_whole() -> None:
    thumbnail = b"Exif\0\0" + encode(scene(16, 12), "JPEG")
    data = JPEG[:2] + struct.pack(">BBH", 0xFF, 0xE1, len(thumbnail) + 2) + thumbnail + JPEG[2:-2]
    assert np.array_equal(decode(data), decode(JPEG))


def test_a_progressive_jpeg_that_lacks_a_scan_is_not_whole() -> None:
    data = encode(scene(), "JPEG", progressive=True)
    with pytest.raises(ImageError, match="damaged JPEG"):
        decode(data[: data.rindex(b"\xff\xda")])


def test_a_jpeg_that_lacks_rows_and_its_end_is_not_whole() -> None:
    for lost in (4, 10, 40):
        with pytest.raises(ImageError, match="damaged JPEG"):
            decode(JPEG[:-lost])


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"Comment\0\0" + zeros(3 * 2**20)),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + zeros(3 * 2**20)),
        chunk(b"iCCP", b"profile\0\0" + zeros(3 * 2**20)),
        100 * chunk(b"zTXt", b"Comment\0\0" + zeros(2**20)),
        chunk(b"tEXt", b"Author\0graft")[:-4] + bytes(4),
        chunk(b"pHYs", bytes(9))[:-4] + b"oops",
    ],
    ids=["long text", "long words", "long profile", "many texts", "text with a bad sum", "size with a bad sum"],
)
def test_what_is_wrong_beside_the_pixels_of_a_png_is_passed_over(extra: bytes) -> None:
    opaque = chunk(b"tRNS", struct.pack(">H", 7))
    expected = decode(png(WIDTH, HEIGHT, 8, 0, ROWS, opaque))
    assert np.array_equal(decode(png(WIDTH, HEIGHT, 8, 0, ROWS, extra + opaque)), expected)


def test_pixels_with_a_bad_sum_are_not_passed_over() -> None:
    data = png(WIDTH, HEIGHT, 8, 0, ROWS, chunk(b"tEXt", b"a\0b")[:-4] + bytes(4))
    broken = bytearray(data)
    broken[data.index(b"IDAT") + 10] ^= 255
    with pytest.raises(ImageError, match="damaged PNG"):
        decode(bytes(broken))


@pytest.mark.parametrize(
    ("data", "called", "advice"),
    [
        (LFS, "a Git LFS pointer to 12,345", "git lfs pull"),
        (ANNEX, "git-annex", "git annex get"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "a web page", "replace the file"),
        (b"", "an empty file", "replace the file"),
        (bytes(500), "nothing but zero bytes", "replace the file"),
        (b"%PDF-1.7\n", "a PDF", "replace the file"),
        (b'<?xml version="1.0"?><svg xmlns="x"/>', "an SVG drawing", "replace the file"),
        (struct.pack(">I4s4s", 24, b"ftyp", b"isom") + bytes(90), "a video", "replace the file"),
        (with_frame(JPEG, WIDTH, HEIGHT, precision=12), "a JPEG of 12 bits per sample", "save it as PNG"),
        (with_frame(JPEG, WIDTH, HEIGHT, process=0xC3), "a lossless JPEG", "save it as PNG"),
        (rgb_tiff(t259=("H", (50002,))), "a TIFF compressed as JPEG XL", "save it as PNG"),
        (rgb_tiff(t262=("H", (32803,))), "a camera raw file", "save it as PNG"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_image_or_none_that_can_be_read_is_called_what_it_is(data: bytes, called: str, advice: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert called in str(caught.value) and advice in str(caught.value) and "fetch it again" not in str(caught.value)


def test_a_photograph_of_too_many_pixels_is_decoded_at_a_reduced_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    image = scene(640, 480)
    data = encode(image, "JPEG", quality=95)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 640 * 480 // 2)
    pixels, facts = decode_with_facts(data)
    assert pixels.shape == (240, 320, 3) and (facts.width, facts.height) == (640, 480)
    assert np.abs(pixels.astype(int) - image.resize((320, 240), Image.Resampling.BOX)).mean() < 2.5
    assert decode(data, at_least=50).shape == (60, 80, 3)
    monkeypatch.setattr(decoding, "MAX_REDUCED", 640 * 480 - 1)
    with pytest.raises(ImageError, match="at most 307,199 pixels, got 640 x 480"):
        decode(data)


def test_scans_of_a_large_photograph_have_a_limit_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(scene(640, 480), "JPEG", progressive=True)
    monkeypatch.setattr(decoding, "MAX_PIXELS", 640 * 480 // 2)
    assert decode(data).shape == (240, 320, 3)
    monkeypatch.setattr(decoding, "MAX_REDUCED_IN_SCANS", 640 * 480 - 1)
    with pytest.raises(ImageError, match="at most 307,199 pixels"):
        decode(data)


def test_a_large_photograph_that_is_cut_short_is_damaged() -> None:
    with pytest.raises(ImageError, match="damaged JPEG"):
        decode(with_frame(JPEG, 12_000, 9_000))
