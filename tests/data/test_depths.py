"""Black and white in a dataset of deep images are decided on its training images, and cheaply."""

import io

import numpy as np
import pytest
from PIL import Image

from graft.data.dataset import Dataset, Images
from graft.data.depths import NAMED, OPENED, levels_of, note_on_levels

GREY = np.arange(1024, dtype=np.uint16).reshape(32, 32) // 4


def encoded(values: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, form)
    return file.getvalue()


class Files:
    """A source of named files that counts how many of them are read."""

    def __init__(self, files: list[tuple[str, bytes | np.ndarray]]) -> None:
        self.files, self.read_rows = files, []

    def __len__(self) -> int:
        return len(self.files)

    def name(self, row: int) -> str:
        return self.files[row][0]

    key = stamp = name

    def read(self, row: int) -> bytes | np.ndarray:
        self.read_rows.append(row)
        return self.files[row][1]


def dataset(**splits: list[tuple[str, bytes | np.ndarray]]) -> Dataset:
    images = {
        name: Images(Files(files), np.arange(len(files)), np.zeros(len(files), np.int64))
        for name, files in splits.items()
    }
    return Dataset("deep", ("one", "two"), images)


TEN, TWELVE = encoded(GREY * 4, "PNG"), encoded(GREY * 16, "TIFF")
BYTES = encoded(GREY.astype(np.uint8), "PNG")


def test_only_training_images_count() -> None:
    found, number = levels_of(dataset(train=[("a.png", TEN), ("b.png", TEN)], val=[("c.tif", TWELVE)]))
    assert found == (("uint16", 0, 1023),) and number == 2
    assert levels_of(dataset(all=[("a.tif", TWELVE)])) == ((("uint16", 0, 4095),), 1)
    assert levels_of(dataset(test=[("a.tif", TWELVE)])) == ((("uint16", 0, 4095),), 1)


def test_images_of_8_bits_pixels_and_what_cannot_be_read_count_for_nothing() -> None:
    found, number = levels_of(
        dataset(train=[("a.png", BYTES), ("b.png", b"\x89PNG"), ("c", np.zeros((4, 4), np.uint8)), ("d.tif", TWELVE)])
    )
    assert found == (("uint16", 0, 4095),) and number == 1
    assert levels_of(dataset(train=[("a.png", BYTES)])) == ((), 0)
    assert levels_of(dataset(train=[])) == ((), 0)


def test_photographs_are_not_even_opened() -> None:
    data = dataset(train=[(f"{row}.JPG", BYTES) for row in range(50)])
    assert levels_of(data) == ((), 0) and data.splits["train"].source.read_rows == []


def test_of_many_images_some_are_opened_from_every_part() -> None:
    many = [(f"{row}.png", BYTES if row < 9 * NAMED else TEN) for row in range(10 * NAMED)]
    data = dataset(train=many)
    found, number = levels_of(data)
    assert found == (("uint16", 0, 1023),) and 20 <= number <= 30
    assert len(data.splits["train"].source.read_rows) <= OPENED


def test_the_note_says_what_was_decided_and_on_how_many() -> None:
    note = note_on_levels((("uint16", 0.0, 4095.0),), 1)
    assert "uint16 from 0 (black) to 4,095 (white), decided on 1 training image " in note


@pytest.mark.parametrize("ending", ["", ".bin", ".jpeg.tif"])
def test_names_that_promise_nothing_are_opened(ending: str) -> None:
    assert levels_of(dataset(train=[(f"a{ending}", TWELVE)]))[1] == 1
