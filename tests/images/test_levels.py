"""Samples deeper than 8 bits: what is black and white, decided for a set of images and the same for each of them."""

import io
import zlib

import numpy as np
import pytest
from crafted import chunk, encode, png, png_of, rgb_tiff, scene
from deep_forms import FORMS, deep_png
from PIL import Image

from graft.images.decoding import decode, read_spread
from graft.images.levels import Levels, Samples, decide, samples_to_rgb, spread, to_bytes
from graft.images.png_samples import _PASSES

GREY = np.asarray(scene().convert("L"))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_set_shows_its_images_and_none_is_stretched_by_itself(form: str) -> None:
    images = [GREY, GREY // 4, 255 - GREY, np.full_like(GREY, 40)]
    files = [FORMS[form](image) for image in images]
    found = decide(each for each in map(read_spread, files) if each is not None)
    shown = [decode(data, levels=found)[:, :, 0].astype(float) for data in files]
    # The same mapping for all of them, whatever range each spans by itself.
    slope, offset = np.polyfit(np.concatenate(images).ravel(), np.concatenate(shown).ravel(), 1)
    for image, pixels in zip(images, shown, strict=True):
        assert np.abs(pixels - (slope * image + offset)).max() < 3
    assert 0.93 < slope < 1.1 and abs(offset) < 12


def test_a_range_is_that_of_the_bits_in_use() -> None:
    for bits in (9, 10, 12, 14, 16):
        values = np.linspace(0, 2**bits - 1, GREY.size).astype(np.uint16).reshape(GREY.shape)
        assert decide([spread(Samples(values))]) == (("uint16", 0, 2**bits - 1),)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.linspace(0, 1.0001, 500), (0, 1)),
        (np.linspace(-1, 1, 500), (-1, 1)),
        (np.linspace(3, 250, 500), (0, 255)),
        (np.r_[np.linspace(1000, 2000, 5000), 1e9], (1000, 2000)),  # one bad value does not make the others black
        (np.r_[np.linspace(0, 1, 500), np.nan, np.inf], (0, 1)),
        (np.full(500, 0.5), (0, 1)),
    ],
    ids=["fractions", "around zero", "grey levels", "an outlier", "not finite", "constant"],
)
def test_floats_get_the_range_that_people_write_or_their_own(values: np.ndarray, expected: tuple[float, float]) -> None:
    ((kind, low, high),) = decide([spread(Samples(values.astype(np.float32)[None]))])
    assert kind == "float" and (low, high) == pytest.approx(expected, abs=5 if expected[1] == 2000 else 0)


def test_a_hot_pixel_of_16_bits_does_not_make_12_bits_dark() -> None:
    values = np.arange(20_000, dtype=np.uint16).reshape(100, 200) % 4096
    values[3, 3] = 65_535
    ((_, low, high),) = decide([spread(Samples(values))])
    assert low < 50 and 4000 < high < 4200


def test_kinds_of_samples_have_ranges_of_their_own() -> None:
    whole, parts = Samples(GREY.astype(np.uint16) * 16), Samples((GREY / 255).astype(np.float32))
    assert decide([spread(whole), spread(parts)]) == (("float", 0, 1), ("uint16", 0, 4095))


def test_what_all_files_state_is_taken_as_far_as_their_values_allow() -> None:
    dark = Samples(GREY.astype(np.uint16), stated=(0, 1023))
    assert decide([spread(dark)]) == (("uint16", 0, 1023),)
    wider = Samples(GREY.astype(np.uint16), stated=(0, 4095))
    assert decide([spread(dark), spread(wider)]) == (("uint16", 0, 4095),)
    untrue = Samples(GREY.astype(np.uint16) * 16, stated=(0, 1023))
    assert decide([spread(untrue)]) == (("uint16", 0, 4095),)


def test_least_and_greatest_sample_of_a_tiff_are_its_range() -> None:
    values = (GREY.astype(np.uint16) * 3).astype("<u2")
    stated = rgb_tiff(
        GREY.shape[1], GREY.shape[0], values.tobytes(),
        t258=("H", (16,)), t262=("H", (1,)), t277=("H", (1,)), t340=("H", (0,)), t341=("H", (1023,)),
    )  # fmt: skip
    assert np.array_equal(decode(stated)[:, :, 0], values >> 2)
    assert decide([read_spread(stated)]) == (("uint16", 0, 1023),)


def test_significant_bits_of_a_png_hold_unless_a_sample_is_beyond_them() -> None:
    ten = chunk(b"sBIT", b"\x0a")
    assert np.array_equal(decode(deep_png(GREY.astype(np.uint16) * 4, ten))[:, :, 0], GREY)
    scaled = GREY.astype(np.uint16) * 257
    assert np.array_equal(decode(deep_png(scaled, ten))[:, :, 0], GREY)


def test_a_set_overrules_what_one_file_states() -> None:
    data = deep_png(GREY.astype(np.uint16) * 4, chunk(b"sBIT", b"\x0a"))
    assert np.array_equal(decode(data, levels=(("uint16", 0, 4095),))[:, :, 0], GREY // 4)


@pytest.mark.parametrize("bits", [4, 10, 12, 14])
def test_packed_bits_are_certain_whatever_the_set_says(bits: int) -> None:
    values = GREY.astype(np.uint16) << bits >> 8
    flat = (values[:, :, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8).reshape(len(values), -1)
    data = rgb_tiff(
        GREY.shape[1], GREY.shape[0], np.packbits(flat, axis=1).tobytes(),
        t258=("H", (bits,)), t262=("H", (1,)), t277=("H", (1,)),
    )  # fmt: skip
    expected = (values.astype(int) * (17 if bits == 4 else 1)) if bits <= 8 else values >> (bits - 8)
    assert np.array_equal(decode(data, levels=(("uint16", 0, 65_535),))[:, :, 0], expected)
    assert read_spread(data) is None


@pytest.mark.parametrize("colour", [(2, 3), (4, 2), (6, 4)], ids=["RGB", "grey and alpha", "RGB and alpha"])
def test_sixteen_bits_of_colour_in_a_png_are_read_by_the_range_of_the_set(colour: tuple[int, int]) -> None:
    number, bands = colour
    values = np.repeat(GREY.astype(np.uint16)[:, :, None] * 16, bands, axis=2)
    if bands in (2, 4):
        values[:, :, -1] = 65_535
    data = png(GREY.shape[1], GREY.shape[0], 16, number, values.astype(">u2").tobytes())
    found = decide([read_spread(data)])
    if bands == 3:  # the high bytes of opacity are among those of the others
        assert found == (("uint16", 0, 4095),)
    assert np.array_equal(decode(data, levels=(("uint16", 0, 4095),)), np.repeat(GREY[:, :, None], 3, axis=2))


def test_bytes_stay_as_they_are_and_sixteen_bits_keep_their_high_byte() -> None:
    every = np.arange(65_536, dtype=np.uint16)
    assert np.array_equal(to_bytes(every, 0, 65_535), every >> 8)
    assert np.array_equal(to_bytes(every[:256], 0, 255), every[:256])
    assert np.array_equal(to_bytes(every, 0, 1023), (every >> 2).clip(0, 255))
    assert np.array_equal(to_bytes(every.astype(np.int32), 0, 65_535), every >> 8)


def test_values_that_are_no_numbers_are_black_and_infinity_white() -> None:
    values = np.array([[np.nan, -np.inf, np.inf, 0.5]], np.float32)
    assert samples_to_rgb(Samples(values), (("float", -1.0, 1.0),))[0, :, 0].tolist() == [0, 0, 255, 191]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_images_of_8_bits_add_nothing_and_do_not_change(form: str) -> None:
    levels: Levels = (("uint16", 0, 4095), ("uint8", 0, 10), ("float", 0, 1))
    data = encode(scene(), form)
    assert read_spread(data) is None and np.array_equal(decode(data, levels=levels), decode(data))


def test_greys_of_a_netpbm_file_span_what_it_says() -> None:
    values = np.array([[0, 500, 1023]], ">u2")
    data = b"P5 3 1 1023\n" + values.tobytes()
    assert read_spread(data) is None
    assert decode(data, levels=(("int32", 0, 5),))[0, :, 0].tolist() == [0, 125, 255]


def test_an_image_of_pil_is_read_by_the_same_range() -> None:
    from graft.images.rgb import to_rgb

    stored = Image.fromarray(GREY.astype(np.uint16) * 16)
    assert np.array_equal(to_rgb(stored, (("uint16", 0, 4095),))[:, :, 0], GREY)


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, "each in turn"])
def test_every_filter_of_a_png_of_16_bits_is_undone(kind: int | str) -> None:
    values = (np.asarray(scene()).astype(np.uint16) * 16 + 3).astype(">u2")
    rows, columns, size = values.shape[0], values.shape[1], 6
    raw = values.tobytes()
    before = np.zeros((rows + 1, columns + 1, size), np.int64)
    before[1:, 1:] = np.frombuffer(raw, np.uint8).reshape(rows, columns, size)
    left, above, corner = before[1:, :-1], before[:-1, 1:], before[:-1, :-1]
    near = np.stack([left, above, corner])
    paeth = np.take_along_axis(near, np.abs(left + above - corner - near).argmin(0)[None], 0)[0]
    guesses = np.stack([0 * left, left, above, (left + above) // 2, paeth])
    kinds = np.arange(rows) % 5 if isinstance(kind, str) else np.full(rows, kind)
    filtered = (before[1:, 1:] - guesses[kinds, np.arange(rows)]).astype(np.uint8).reshape(rows, -1)
    packed = zlib.compress(np.hstack([kinds[:, None].astype(np.uint8), filtered]).tobytes())
    data = png_of(columns, rows, 16, 2, packed)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), values >> 8)
    assert np.array_equal(decode(data, levels=(("uint16", 0, 4095),)), scene())


def test_an_interlaced_png_of_16_bits_is_put_together() -> None:
    values, packed = (np.asarray(scene()).astype(np.uint16) * 16).astype(">u2"), b""
    for top, left, down, right in _PASSES:
        packed += b"".join(b"\0" + row.tobytes() for row in values[top::down, left::right])
    data = png_of(values.shape[1], values.shape[0], 16, 2, zlib.compress(packed), interlace=1)
    assert np.array_equal(decode(data, levels=(("uint16", 0, 4095),)), scene())
