"""Every kind of image file, whole, odd and damaged, through `decode`."""

import io
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from crafted import (
    HEIGHT,
    WIDTH,
    chunk,
    encode,
    exif,
    png,
    scene,
)
from hostile import SIGNATURES, images, tiffs, turned
from PIL import Image, ImageOps, features

from graft.errors import ImageError
from graft.images import decoding, rgb
from graft.images.decoding import Facts, decode, decode_with_facts
from graft.images.rgb import to_rgb

JPEG = encode(scene(), "JPEG")


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


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "PPM", "JPEG2000"])
def test_lossless_formats_keep_every_pixel(form: str) -> None:
    assert_decodes(encode(scene(), form), scene())


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
def test_bytes_after_the_image_are_ignored(form: str) -> None:
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
    assert largest_difference(to_rgb(stored), stored.convert("RGB")) == 0


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
    assert largest_difference(to_rgb(stored), expected) == 0


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


@pytest.mark.parametrize(
    ("name", "format", "frames", "mode"),
    [
        ("animated.gif", "GIF", 3, "P"),
        ("animated.png", "PNG", 3, "RGB"),
        ("animated.webp", "WEBP", 3, "RGB"),
        ("mpo.jpg", "JPEG", 1, "RGB"),  # the others are previews and depth maps of cameras
        ("cmyk.jpg", "JPEG", 1, "CMYK"),
        ("grey.jpg", "JPEG", 1, "L"),
        ("interlaced.gif", "GIF", 1, "P"),
        ("16 bit grey.png", "PNG", 1, "I;16"),
        ("transparent index.png", "PNG", 1, "P"),
    ],
)
def test_facts_say_what_the_file_is(name: str, format: str, frames: int, mode: str) -> None:
    pixels, facts = decode_with_facts(images()[name])
    assert facts == Facts(format, WIDTH, HEIGHT, frames, 1, mode) and pixels.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(("name", "pages"), [("pages.tiff", 3), ("loop.tiff", 1), ("big.tiff", 1), ("tiled.tiff", 1)])
def test_facts_count_the_pages_of_a_tiff(name: str, pages: int) -> None:
    assert decode_with_facts(tiffs()[name])[1].frames == pages


@pytest.mark.parametrize("name", ["6.jpeg", "6.png", "6.webp", "6.tiff", "6 cmyk.jpg", "6 lzw.tiff"])
def test_facts_tell_the_size_as_shown_and_the_orientation(name: str) -> None:
    facts = decode_with_facts(turned()[name])[1]
    assert (facts.width, facts.height, facts.orientation) == (HEIGHT, WIDTH, 6)


# Reduced scale


@pytest.mark.parametrize(
    ("at_least", "shape"),
    [(None, (304, 400)), (200, (304, 400)), (153, (304, 400)), (152, (152, 200)), (76, (76, 100)), (20, (38, 50))],
)
def test_a_jpeg_is_reduced_as_far_as_both_sides_stay_long_enough(at_least: int | None, shape: tuple[int, int]) -> None:
    image = scene(400, 304)
    pixels, facts = decode_with_facts(encode(image, "JPEG", quality=95), at_least)
    assert pixels.shape == (*shape, 3) and (facts.width, facts.height) == (400, 304)
    smaller = np.asarray(image.resize(shape[::-1], Image.Resampling.BOX))
    assert np.abs(pixels.astype(int) - smaller).mean() < 2.5


def test_a_reduced_jpeg_is_turned_upright() -> None:
    pixels, facts = decode_with_facts(encode(scene(400, 300), "JPEG", exif=exif(6)), 150)
    assert pixels.shape == (200, 150, 3) and (facts.width, facts.height) == (300, 400)
    assert np.array_equal(pixels, np.rot90(decode(encode(scene(400, 300), "JPEG"), 150), -1))


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_other_formats_are_never_reduced(form: str) -> None:
    data = encode(scene(400, 300), form)
    assert np.array_equal(decode(data, 20), decode(data))


def test_large_images_are_converted_by_bands_to_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: data for name, data in (images() | tiffs()).items() if not name.endswith(".jpg")}
    whole = {name: decode(data) for name, data in files.items()}
    monkeypatch.setattr(rgb, "BAND_PIXELS", 7 * WIDTH)
    assert all(np.array_equal(decode(data), whole[name]) for name, data in files.items())


# Orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_undone_like_pillow_does(form: str, orientation: int) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode(scene(), form, exif=exif(orientation), **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image)
    assert expected.size == ((HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT))
    assert_decodes(data, expected, within=2)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_orientation_is_undone_for_grey_and_cmyk_jpegs(mode: str) -> None:
    data = encode(scene().convert(mode), "JPEG", exif=exif(6))
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
    body = b"Exif\0\0" + exif(6).tobytes()[6:][:length]
    data = encode(scene(), "JPEG")
    damaged = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_decodes(damaged, decode(data))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [0, 9])
def test_orientation_out_of_range_means_upright(form: str, orientation: int) -> None:
    assert_decodes(encode(scene(), form, exif=exif(orientation)), decode(encode(scene(), form)))


# What is not an image


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"hello, world\n" * 20, b"<!DOCTYPE html><html><body>404</body></html>", b"PK\3\4" + b"\0" * 100],
    ids=["nothing", "one byte", "text", "html", "zip"],
)
def test_other_files_are_refused_with_what_came(data: bytes) -> None:
    with pytest.raises(ImageError, match="expected an image in one of the formats JPEG, PNG") as caught:
        decode(data)
    came = f"got {len(data)} bytes that start with {data[:12]!r}" if data else "got an empty file: replace the file"
    assert came in str(caught.value)


@pytest.mark.parametrize("form", ["ICO", "QOI", "SGI", "PCX", "TGA", "DIB", "EPS"])
def test_formats_that_nobody_keeps_photographs_in_are_refused(form: str) -> None:
    with pytest.raises(ImageError, match="expected an image in one of the formats JPEG, PNG"):
        decode(encode(scene(), form))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "PPM"])
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


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # the tests have filters of their own
@pytest.mark.parametrize("magic", SIGNATURES)
def test_a_signature_followed_by_garbage_is_refused(magic: bytes) -> None:
    garbage = np.random.default_rng(0).integers(0, 256, 500, dtype=np.uint8).tobytes()
    with pytest.raises(ImageError, match=r"expected an? "):
        decode(magic + garbage)


def test_postscript_is_refused_without_starting_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **options: started.append(arguments))
    with pytest.raises(ImageError, match="in one of the formats"):
        decode(encode(scene(), "EPS"))
    assert not started


def test_no_module_is_loaded_for_a_format_that_is_never_opened(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    program = (
        "import sys; from graft.images.decoding import decode; decode(open(sys.argv[1], 'rb').read()); "
        "print(sorted(name for name in sys.modules if name.endswith('ImagePlugin')))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.png")]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "PngImagePlugin" in loaded and "EpsImagePlugin" not in loaded and "PdfImagePlugin" not in loaded


def test_a_format_that_this_pillow_lacks_keeps_no_other_from_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
    decoding._load_plugins.cache_clear()
    assert decode((tmp_path / "a.png").read_bytes()).shape == (8, 8, 3)
