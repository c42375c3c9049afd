"""Batches of pixels: in order, failures by index, decoded ahead within bounds, and no thread left behind."""

import io
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from graft.data.dataset import WHOLE, Images
from graft.data.loading import DecodedOnce, ahead, available_cores, batches, decoded_once, least_side, load_image
from graft.data.opening import open_dataset
from graft.data.readers.folder import Files
from graft.errors import ImageError
from graft.images.augmenting import STRENGTHS, View
from graft.images.decoding import decode
from graft.images.preprocessing import Preprocessing
from graft.images.resizing import to_square

GREY = Preprocessing(4, (0.5,), (0.5,), resize_mode="squash")


class Numbered:
    """Images whose every pixel is their number; those in `broken` are no images. Counts what was read."""

    def __init__(self, count: int, broken: tuple[int, ...] = ()) -> None:
        self.count, self.broken = count, broken
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self.count

    def name(self, row: int) -> str:
        return str(row)

    key = name

    def read(self, row: int) -> bytes | np.ndarray:
        self.reads.append(row)
        # The first of each few is slow, so that threads finish out of order.
        time.sleep(0.003 if row % 4 == 0 else 0)
        return b"no image" if row in self.broken else np.full((4, 4), row, np.uint8)

    def stamp(self, row: int) -> str:
        return str(row)


def numbered(count: int, broken: tuple[int, ...] = ()) -> tuple[Numbered, Images]:
    source = Numbered(count, broken)
    return source, Images(source, np.arange(count), np.zeros(count, np.int64))


def decoding_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize("batch_size", [1, 3, 8, 50])
@pytest.mark.parametrize("threads", [1, 4])
def test_order_is_kept(batch_size: int, threads: int) -> None:
    _, images = numbered(23)
    made = list(batches(images, GREY, batch_size, threads=threads))
    assert np.concatenate([batch.indices for batch in made]).tolist() == list(range(23))
    for batch in made:
        assert batch.pixels[:, 0, 0, 0].tolist() == batch.indices.tolist() and not batch.failures
        assert batch.pixels.shape[1:] == (1, 4, 4)
    assert [len(batch.indices) for batch in made[:-1]] == [batch_size] * (len(made) - 1)


def test_another_order_and_repetitions() -> None:
    _, images = numbered(5)
    (batch,) = batches(images, GREY, 8, order=[4, 0, 4, 2])
    assert batch.indices.tolist() == [4, 0, 4, 2] and batch.pixels[:, 0, 0, 0].tolist() == [4, 0, 4, 2]


def test_rows_of_a_part_are_counted_in_the_part() -> None:
    _, images = numbered(10)
    (batch,) = batches(images.take(np.array([7, 3, 5])), GREY, 8)
    assert batch.indices.tolist() == [0, 1, 2] and batch.pixels[:, 0, 0, 0].tolist() == [7, 3, 5]


def test_failures_are_reported_by_index_and_the_batch_is_smaller() -> None:
    _, images = numbered(10, broken=(1, 4, 5, 6, 7))
    made = list(batches(images, GREY, 4, threads=2))
    assert [batch.indices.tolist() for batch in made] == [[0, 2, 3], [], [8, 9]]
    assert [sorted(batch.failures) for batch in made] == [[1], [4, 5, 6, 7], []]
    assert made[1].pixels.shape == (0, 1, 4, 4) and made[0].pixels[:, 0, 0, 0].tolist() == [0, 2, 3]


def test_no_images_are_no_batches() -> None:
    _, images = numbered(0)
    assert list(batches(images, GREY, 4)) == []


def test_an_image_deleted_after_listing_is_a_failure(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.new("L", (5, 5), 200).save(content, "PNG")
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        path.write_bytes(content.getvalue())
    images = Images(Files.of(paths), np.arange(3), np.zeros(3, np.int64))
    paths[1].unlink()
    (batch,) = batches(images, GREY, 4)
    assert batch.indices.tolist() == [0, 2] and "No such file" in batch.failures[1]
    with pytest.raises(ImageError, match="expected a readable file, got No such file"):
        load_image(images, 1, GREY)


def test_closing_early_leaves_no_threads() -> None:
    source, images = numbered(500)
    made = batches(images, GREY, 4, threads=4)
    next(made)
    assert decoding_threads()
    made.close()
    assert not decoding_threads() and len(source.reads) < 100


def test_the_end_leaves_no_threads() -> None:
    _, images = numbered(9)
    assert len(list(batches(images, GREY, 4, threads=3))) == 3
    assert not decoding_threads()


def test_what_is_decoded_ahead_is_bounded() -> None:
    source, images = numbered(400)
    made = batches(images, GREY, 8, threads=2)
    for number in range(5):
        next(made)
        # Leave time for anything that may run ahead.
        time.sleep(0.02)
        assert len(source.reads) <= 8 * (number + 1 + 2)
    made.close()


def test_large_jpegs_are_decoded_at_reduced_scale_and_look_the_same(shared: Path, tmp_path: Path) -> None:
    with Image.open(shared / "datasets/ants_bees/val/bees/2506114833_90a41c5267.jpg") as image:
        image.resize((2000, 1600), Image.Resampling.BICUBIC).save(tmp_path / "large.jpg", quality=90)
    images = Images(Files.of([tmp_path / "large.jpg"]), np.arange(1), np.zeros(1, np.int64))
    whole = decode(images.read(0))
    for view in (None, View(STRENGTHS["light"], seed=1, number=2)):
        preprocessing = Preprocessing(224, (0.5,) * 3, (0.5,) * 3)
        side = least_side(preprocessing, view)
        assert side == (512 if view is None else 665) and decode(images.read(0), side).shape != whole.shape
        plainly = to_square(whole, preprocessing) if view is None else view.of(whole, 0, preprocessing)
        difference = (load_image(images, 0, preprocessing, view).int() - plainly.int()).abs().float()
        # A random crop starts at another fraction of a pixel.
        assert 0 < difference.mean() < (1 if view is None else 3)


def test_a_strip_is_kept_whole_by_letterbox(tmp_path: Path) -> None:
    strip = np.repeat(np.linspace(0, 255, 4000).astype(np.uint8)[None, :, None], 20, axis=0).repeat(3, axis=2)
    Image.fromarray(strip).save(tmp_path / "strip.jpg", quality=95)
    images = Images(Files.of([tmp_path / "strip.jpg"]), np.arange(1), np.zeros(1, np.int64))
    square = load_image(images, 0, Preprocessing(200, (0.9,) * 3, (0.5,) * 3, resize_mode="letterbox"))
    (row,) = (square[0] != 230).any(1).nonzero()[0].tolist()  # all but one row is the mean colour
    levels = square[0, row].tolist()
    assert row in (99, 100) and levels[0] < 5 and levels[-1] > 250 and levels == sorted(levels)


def test_a_view_shows_each_image_alike_whatever_the_order_and_the_threads(shared: Path) -> None:
    files = sorted((shared / "datasets/ants_bees/val").rglob("*.jpg"))[:12]
    images = Images(Files.of(files), np.arange(12), np.zeros(12, np.int64))
    preprocessing, view = Preprocessing(32, (0.5,) * 3, (0.2,) * 3), View(STRENGTHS["heavy"], seed=3, number=0)
    (alone,) = batches(images, preprocessing, 12, view=view, threads=1)
    order = np.random.default_rng(0).permutation(12)
    shuffled = list(batches(images, preprocessing, 5, order=order, view=view, threads=4))
    assert torch.equal(torch.cat([batch.pixels for batch in shuffled]), alone.pixels[torch.from_numpy(order)])
    for index in (0, 7):
        assert torch.equal(load_image(images, index, preprocessing, view), alone.pixels[index])
        pixels = decode(files[index].read_bytes(), least_side(preprocessing, view))
        assert torch.equal(view.of(pixels, index, preprocessing), alone.pixels[index])
        assert not torch.equal(load_image(images, index, preprocessing), alone.pixels[index])
    (next_view,) = batches(images, preprocessing, 12, view=replace(view, number=1))
    assert (next_view.pixels != alone.pixels).any((1, 2, 3)).all()
    (plain,) = batches(images, preprocessing, 12, view=replace(view, augmentation=STRENGTHS["none"]))
    (without,) = batches(images, preprocessing, 12)
    assert torch.equal(plain.pixels, without.pixels)


def test_threads_that_decode_compute_alone_and_others_as_before() -> None:
    class Asking(Numbered):
        def read(self, row: int) -> np.ndarray:
            threads.append(torch.get_num_threads())
            return np.zeros((4, 4), np.uint8)

    threads: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        list(batches(Images(Asking(8), np.arange(8), np.zeros(8, np.int64)), GREY, 4, threads=2))
        assert threads == [1] * 8 and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_fault_in_a_source_is_not_taken_for_a_bad_image() -> None:
    class Faulty(Numbered):
        def read(self, row: int) -> bytes:
            raise KeyError("a mistake in the program")

    images = Images(Faulty(3), np.arange(3), np.zeros(3, np.int64))
    with pytest.raises(KeyError):
        list(batches(images, GREY, 2))
    assert not decoding_threads()


@pytest.fixture
def photographs(shared: Path, tmp_path: Path) -> Images:
    """Eight photographs: one large enough to be decoded at a fourth, one PNG, one damaged."""
    images = open_dataset(shared / "datasets" / "ants_bees").splits["val"].take(np.arange(8))
    folder = tmp_path / "photographs" / "all of them"
    folder.mkdir(parents=True)
    for index in range(8):
        picture = Image.open(io.BytesIO(images.read(index))).convert("RGB")
        picture = picture.resize((1200, 1000)) if index == 1 else picture
        picture.save(folder / f"{index}.{'png' if index == 2 else 'jpg'}")
    (folder / "5.jpg").write_bytes((folder / "5.jpg").read_bytes()[:400])
    return open_dataset(folder.parent).splits[WHOLE]


def test_images_that_are_decoded_once_look_as_if_decoded_for_every_view(photographs: Images) -> None:
    once = decoded_once(photographs)
    # Sizes at which the large image is decoded in full, at half and at a quarter of its size, and back.
    for size in (64, 200, 400, 64):
        preprocessing = Preprocessing(size, (0.5,) * 3, (0.5,) * 3)
        for view in (None, View(STRENGTHS["medium"], 0, 1), View(STRENGTHS["medium"], 0, 2)):
            (expected,) = batches(photographs, preprocessing, 8, view=view)
            (found,) = batches(once, preprocessing, 8, view=view)
            assert torch.equal(found.pixels, expected.pixels)
            assert found.failures == expected.failures and list(found.failures) == [5]


def test_what_was_decoded_is_not_read_again_as_far_as_there_is_room(
    photographs: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = Files.read

    def counted(source: Files, row: int) -> bytes:
        reads.append(row)
        return read(source, row)

    monkeypatch.setattr(Files, "read", counted)
    preprocessing = Preprocessing(64, (0.5,) * 3, (0.5,) * 3)
    first = photographs.take(np.array([0, 3]))
    room = decode(first.read(0), least_side(preprocessing)).nbytes
    once = replace(first, source=DecodedOnce(first.source, room))
    reads.clear()
    for _ in range(3):
        list(batches(once, preprocessing, 2, threads=1))
    assert reads.count(0) == 1 and reads.count(3) == 3
    with pytest.raises(ValueError, match="read-only"):
        once.source.decoded(0, least_side(preprocessing))[:] = 0


def test_only_a_few_are_computed_before_the_first_is_used() -> None:
    begun: list[int] = []
    with closing(ahead(lambda number: begun.append(number) or number**2, range(1000))) as results:
        assert next(results) == 0
        time.sleep(0.1)
        assert len(begun) <= 2 * available_cores() + 1
        assert [*results] == [number**2 for number in range(1, 1000)]
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda number: 1 // number, [2, 1, 0]))
