"""Every kind of picture file, whole, odd, damaged and hostile, through `decode`."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile, ImageOps, features

from graft.errors import ImageError
from graft.images import decoding
from graft.images.decoding import MAX_PIXELS, decode

WIDTH, HEIGHT = 60, 40


def scene(width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Smooth colours and one dark corner, so that no flip or turn of it equals another."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([255 * x / width, 255 * y / height, 127 + 120 * np.sin(x / 9)], axis=2)
    pixels[: height // 3, : width // 4] = (10, 20, 30)
    return Image.fromarray(pixels.astype(np.uint8))


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG written by hand: unfiltered rows of big-endian samples, `extra` chunks before the pixels."""
    stride = len(rows) // height if height else 0
    filtered = b"".join(b"\0" + rows[row * stride : (row + 1) * stride] for row in range(height)) if rows else b""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(filtered)), chunk(b"IEND", b""))
    )


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "graft"
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def jpeg_of_size(width: int, height: int) -> bytes:
    """A JPEG whose frame header claims another size than its scan has."""
    data = bytearray(encode(scene(), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def gif_with_frame(width: int, height: int) -> bytes:
    """A GIF whose screen is small and whose first frame claims to reach beyond it."""
    data = bytearray(encode(scene().convert("P"), "GIF", comment=b"a comment to step over"))
    frame = data.index(b"," + struct.pack("<4H", 0, 0, WIDTH, HEIGHT))
    data[frame + 5 : frame + 9] = struct.pack("<HH", width, height)
    return bytes(data)


def icon_of(picture: bytes) -> bytes:
    """An icon around one encoded picture, said to be 16 x 16."""
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(picture), 22) + picture


def bmp_of_size(width: int, height: int) -> bytes:
    data = bytearray(encode(scene(), "BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def webp_of_size(width: int, height: int) -> bytes:
    """A WebP whose canvas is larger than the frames of its animation."""
    data = bytearray(encode(scene(), "WEBP", save_all=True, append_images=[ImageOps.invert(scene())]))
    assert data[12:16] == b"VP8X"
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def largest_difference(ours: np.ndarray, theirs: np.ndarray | Image.Image) -> int:
    assert ours.shape == np.asarray(theirs).shape
    return int(np.abs(ours.astype(int) - np.asarray(theirs)).max())


def over_white(image: Image.Image) -> np.ndarray:
    """Float arithmetic on the alpha channel, to compare with."""
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    alpha = rgba[:, :, 3:] / 255
    return np.rint(rgba[:, :, :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def assert_decodes(data: bytes, expected: np.ndarray | Image.Image, within: int = 0) -> None:
    pixels = decode(data)
    assert pixels.dtype == np.uint8 and pixels.flags["C_CONTIGUOUS"] and pixels.flags["WRITEABLE"]
    assert largest_difference(pixels, expected) <= within


# Ordinary files


def test_real_jpegs_equal_pillow(shared: Path) -> None:
    files = sorted((shared / "datasets/ants_bees").rglob("*.jpg"))[::10]
    assert len(files) == 40
    for file in files:
        with Image.open(file) as image:
            assert_decodes(file.read_bytes(), image.convert("RGB"), within=2)


def test_real_placeholder_gif_equals_pillow(shared: Path) -> None:
    file = shared / "datasets/ants_bees/train/ants/imageNotFound.gif"
    with Image.open(file) as image:
        assert_decodes(file.read_bytes(), image.convert("RGB"))


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "DIB", "TGA", "PPM", "SGI", "PCX", "QOI", "JPEG2000", "ICO"])
def test_lossless_formats_keep_every_pixel(form: str) -> None:
    options = {"sizes": [(WIDTH, HEIGHT)]} if form == "ICO" else {}
    assert_decodes(encode(scene(), form, **options), scene())


@pytest.mark.parametrize("form", ["WEBP", "AVIF", "MPO"])
def test_lossy_formats_equal_pillow(form: str) -> None:
    if form == "AVIF" and not features.check("avif"):
        pytest.skip("needs a Pillow built with AVIF")
    data = encode(scene(), form)
    with Image.open(io.BytesIO(data)) as image:
        assert_decodes(data, image.convert("RGB"), within=2)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"progressive": True}),
        ("RGB", {"subsampling": "4:4:4"}),
        ("RGB", {"subsampling": "4:2:2"}),
        ("RGB", {"keep_rgb": True}),
        ("L", {}),
        ("CMYK", {}),
    ],
)
def test_every_kind_of_jpeg_equals_pillow(mode: str, options: dict[str, object]) -> None:
    data = encode(scene().convert(mode), "JPEG", quality=90, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == mode
        assert_decodes(data, image.convert("RGB"), within=2)


def test_cmyk_jpeg_shows_the_scene() -> None:
    assert np.abs(decode(encode(scene().convert("CMYK"), "JPEG", quality=95)).astype(int) - scene()).mean() < 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_bytes_after_the_picture_are_ignored(form: str) -> None:
    data = encode(scene(), form)
    assert_decodes(data + b"\0" * 7 + b"trailing notes" * 40, decode(data))


def test_stray_bytes_inside_a_jpeg_are_forgiven() -> None:
    data = encode(scene(), "JPEG")
    scan = data.index(b"\xff\xda")
    stray = data[:scan] + b"\0\0\0\0" + data[scan:]  # libjpeg: "extraneous bytes before marker"
    with pytest.raises(ValueError, match="extraneous"):
        decoding.simplejpeg.decode_jpeg(stray)
    assert_decodes(stray, decode(data))


# Modes


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB"])
def test_opaque_modes_equal_pillow(mode: str) -> None:
    stored = scene().convert(mode)
    assert_decodes(encode(stored, "TIFF"), stored.convert("RGB"))


def test_hsv_pixels_become_rgb() -> None:  # no format stores this mode
    stored = scene().convert("HSV")
    assert largest_difference(decoding._to_rgb(stored), stored.convert("RGB")) == 0


@pytest.mark.parametrize(("mode", "form"), [("LA", "PNG"), ("RGBA", "PNG"), ("RGBA", "TIFF"), ("PA", "TIFF")])
def test_alpha_is_laid_over_white(mode: str, form: str) -> None:
    alpha = scene().getchannel("R")
    stored = scene().convert("P" if mode == "PA" else mode[:-1]).convert(mode)
    stored.putalpha(alpha)
    assert stored.mode == mode
    assert_decodes(encode(stored, form), over_white(stored), within=1)


def test_transparent_webp_is_laid_over_white() -> None:
    stored = scene().convert("RGBA")
    stored.putalpha(scene().getchannel("R"))
    assert_decodes(encode(stored, "WEBP", lossless=True, exact=True), over_white(stored), within=1)


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 250, 5))], ids=["one index", "alpha by index"])
def test_transparent_palette_is_laid_over_white(transparency: int | bytes) -> None:
    stored = scene().quantize(50)
    data = encode(stored, "PNG", transparency=transparency)
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "P"
        expected = over_white(image)
    assert (expected == 255).all(axis=2).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_decodes(data, expected, within=1)


def test_palette_that_holds_alpha_itself_is_laid_over_white() -> None:
    header = struct.pack("<BBBHHBHHHHBB", 0, 1, 1, 0, 2, 32, 0, 0, 2, 1, 8, 0x20)  # TGA: two colours as BGRA
    assert decode(header + bytes((0, 0, 200, 255)) + bytes((0, 0, 200, 0)) + b"\0\1").tolist() == [
        [[200, 0, 0], [255, 255, 255]]
    ]


def test_transparent_gif_is_laid_over_white() -> None:
    stored = scene().quantize(50)
    hidden = np.asarray(stored) == 3
    pixels = decode(encode(stored, "GIF", transparency=3))
    assert hidden.any() and (pixels[hidden] == 255).all()
    assert largest_difference(pixels[~hidden], np.asarray(stored.convert("RGB"))[~hidden]) == 0


def test_transparent_grey_level_is_laid_over_white() -> None:
    stored = scene().convert("L")
    pixels = decode(encode(stored, "PNG", transparency=int(np.asarray(stored)[-1, -1])))
    hidden = np.asarray(stored) == np.asarray(stored)[-1, -1]
    assert (pixels[hidden] == 255).all() and (pixels[~hidden][:, 0] == np.asarray(stored)[~hidden]).all()


@pytest.mark.parametrize(("order", "mode"), [("<u2", "I;16"), (">u2", "I;16B")])
def test_sixteen_bit_grey_keeps_its_high_byte(order: str, mode: str) -> None:
    grey = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 27
    stored = Image.frombytes(mode, (WIDTH, HEIGHT), grey.astype(order).tobytes())
    expected = np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    assert expected.max() > 250
    assert_decodes(encode(stored, "TIFF"), expected)
    assert largest_difference(decoding._to_rgb(stored), expected) == 0


def test_sixteen_bit_grey_png_keeps_its_high_byte() -> None:
    grey = np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 27
    expected = np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    assert_decodes(png(WIDTH, HEIGHT, 16, 0, grey.astype(">u2").tobytes()), expected)
    hidden = chunk(b"tRNS", struct.pack(">H", int(grey[2, 2])))
    expected[2, 2] = 255
    assert_decodes(png(WIDTH, HEIGHT, 16, 0, grey.astype(">u2").tobytes(), hidden), expected)


def test_sixteen_bit_rgb_png_keeps_its_high_byte() -> None:
    colours = np.asarray(scene()).astype(np.uint16) * 256 + 200
    assert_decodes(png(WIDTH, HEIGHT, 16, 2, colours.astype(">u2").tobytes()), scene())


@pytest.mark.parametrize(
    ("values", "expected"),
    [((0, 100, 255), (0, 100, 255)), ((0, 100, 65535), (0, 0, 255)), ((-5, 256, 1_000_000), (0, 1, 255))],
    ids=["byte range", "sixteen-bit range", "beyond"],
)
def test_integer_grey_is_scaled_when_it_needs_more_than_a_byte(
    values: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    data = encode(Image.fromarray(np.array([values], dtype=np.int32)), "TIFF")
    assert decode(data)[0].tolist() == [[level] * 3 for level in expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [((0.0, 0.5, 1.0), (0, 128, 255)), ((0.0, 100.2, 300.0), (0, 100, 255)), ((-1.0, float("nan"), 0.6), (0, 0, 1))],
    ids=["fractions", "grey levels", "neither"],
)
def test_float_grey_is_fractions_or_grey_levels(values: tuple[float, ...], expected: tuple[int, ...]) -> None:
    data = encode(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")
    assert decode(data)[0].tolist() == [[level] * 3 for level in expected]


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF", "MPO"])
def test_animations_give_their_first_frame(form: str) -> None:
    frames = [scene(), ImageOps.invert(scene()), Image.new("RGB", (WIDTH, HEIGHT), "red")]
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode(frames[0], form, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
        assert_decodes(data, image.convert("RGB"))
    assert np.abs(decode(data).astype(int) - scene()).mean() < 8


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_undone_like_pillow_does(form: str, orientation: int) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode(scene(), form, exif=with_orientation(orientation), **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image)
    assert expected.size == ((HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT))
    assert_decodes(data, expected, within=2)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_orientation_is_undone_for_grey_and_cmyk_jpegs(mode: str) -> None:
    data = encode(scene().convert(mode), "JPEG", exif=with_orientation(6))
    with Image.open(io.BytesIO(data)) as image:
        assert_decodes(data, ImageOps.exif_transpose(image).convert("RGB"), within=2)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["H", "I"])
def test_orientation_is_read_in_both_byte_orders_and_widths(order: str, kind: str) -> None:
    magic = b"II*\0" if order == "<" else b"MM\0*"
    value = struct.pack(f"{order}{kind}", 6).ljust(4, b"\0")
    tiff = magic + struct.pack(f"{order}IHHHI", 8, 1, 0x0112, 3 if kind == "H" else 4, 1) + value + b"\0" * 4
    body = b"Exif\0\0" + tiff
    data = encode(scene(), "JPEG")
    note = b"\xff\xfe" + struct.pack(">H", 11) + b"Exif\0\0 no"  # a comment that only looks like Exif
    segment = b"\xff\xff\xe1" + struct.pack(">H", len(body) + 2) + body  # with a fill byte before the marker
    assert_decodes(data[:2] + note + segment + data[2:], np.rot90(decode(data), -1))


@pytest.mark.parametrize("length", [0, 7, 9, 14, 20])
def test_damaged_exif_means_upright_and_no_warning(length: int) -> None:
    body = b"Exif\0\0" + with_orientation(6).tobytes()[6:][:length]
    data = encode(scene(), "JPEG")
    damaged = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_decodes(damaged, decode(data))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [0, 9])
def test_orientation_out_of_range_means_upright(form: str, orientation: int) -> None:
    assert_decodes(encode(scene(), form, exif=with_orientation(orientation)), decode(encode(scene(), form)))


# What is not a picture


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"hello, world\n" * 20, b"<!DOCTYPE html><html><body>404</body></html>", b"PK\3\4" + b"\0" * 100],
    ids=["nothing", "one byte", "text", "html", "zip"],
)
def test_other_files_are_refused_with_what_came(data: bytes) -> None:
    with pytest.raises(ImageError, match="expected a picture in one of the formats JPEG, PNG") as caught:
        decode(data)
    assert f"got {len(data)} bytes" in str(caught.value) and repr(data[:12]) in str(caught.value)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "PPM", "ICO", "QOI"])
@pytest.mark.parametrize("kept", [0.1, 0.4, 0.7, 0.9])
def test_truncated_files_are_refused(form: str, kept: float) -> None:
    data = encode(scene(), form)
    with pytest.raises(ImageError, match=f"got an incomplete or damaged {form} "):
        decode(data[: int(kept * len(data))])


@pytest.mark.parametrize("options", [{"progressive": True}, {"quality": 95}])
def test_jpeg_that_lacks_its_last_rows_is_refused(options: dict[str, object]) -> None:
    data = encode(scene(), "JPEG", **options)
    with pytest.raises(ImageError, match="damaged JPEG"):
        decode(data[:-40])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's word on a TIFF without directory
@pytest.mark.parametrize(
    "magic",
    [
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFF\xff\0\0\0WEBPVP8 ",
        b"II*\0",
        b"MM\0*",
        b"BM",
        b"qoif",
    ],
)
def test_a_signature_followed_by_garbage_is_refused(magic: bytes) -> None:
    garbage = np.random.default_rng(0).integers(0, 256, 500, dtype=np.uint8).tobytes()
    with pytest.raises(ImageError, match="expected a "):
        decode(magic + garbage)


def test_postscript_is_refused_without_starting_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **options: started.append(arguments))
    with pytest.raises(ImageError, match="in one of the formats"):
        decode(encode(scene(), "EPS"))
    assert not started


# Limits


BOMBS = {
    "PNG": png(30_000, 30_000, 8, 2, b""),
    "PNG just above": png(10_000, 8_948, 8, 2, b""),
    "JPEG": jpeg_of_size(65_500, 65_500),
    "JPEG just above": jpeg_of_size(10_000, 8_948),
    "BMP": bmp_of_size(10_000, 10_000),
    "GIF frame": gif_with_frame(60_000, 2_000),
    "GIF larger frame": gif_with_frame(60_000, 60_000),
    "icon of PNG": icon_of(png(10_000, 10_000, 8, 6, b"")),
    "icon of bitmap": icon_of(bmp_of_size(10_000, 20_000)[14:]),
    "WEBP": webp_of_size(10_000, 10_000),
    "PPM": b"P6\n10000 10000\n255\n" + b"\0" * 100,
    "TGA": struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 10_000, 10_000, 24, 0) + b"\0" * 100,
}


@pytest.mark.parametrize("name", BOMBS)
def test_too_many_pixels_are_refused_from_the_header(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: decoded.append("Pillow"))
    monkeypatch.setattr(decoding.simplejpeg, "decode_jpeg", lambda *arguments: decoded.append("simplejpeg"))
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        with pytest.raises(ImageError, match=r"at most 89,478,485 pixels, got .*\d"):
            decode(BOMBS[name])
    assert not leaked and not decoded


def test_too_many_pixels_of_webp_are_refused_whatever_pillow_says_first() -> None:
    with pytest.raises(ImageError, match="at most 89,478,485 pixels"):
        decode(webp_of_size(16_383, 16_383))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000"])
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


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(ImageError):
        decode(png(0, 0, 8, 2, b""))


def test_settings_of_the_process_stay_as_they_were() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    for data in (encode(scene(), "PNG"), encode(scene(), "JPEG"), BOMBS["PNG"], b"no picture"):
        with suppress(ImageError):
            decode(data)
    assert before == (MAX_PIXELS, False, list(warnings.filters))


def test_threads_decode_at_once() -> None:
    files = [encode(scene(), form) for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")] * 10
    expected = [decode(data) for data in files]
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(a, b) for a, b in zip(pool.map(decode, files), expected, strict=True))


def test_importing_the_decoder_does_not_import_torch() -> None:
    check = "import sys, graft.images.decoding, graft.images.preprocessing; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


# Anything at all


SMALL = [
    encode(scene(12, 8), form) for form in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "TGA", "PCX", "QOI")
]
SMALL += [encode(scene(12, 8).quantize(9), "GIF", transparency=1), encode(scene(12, 8).convert("CMYK"), "JPEG")]
SMALL += [encode(scene(12, 8), form, exif=with_orientation(6)) for form in ("JPEG", "PNG", "TIFF")]


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
