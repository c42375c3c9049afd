"""The contact sheet of a training run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.cli.train import train as train_command
from graft.data.dataset import TRAIN
from graft.data.loading import load_image
from graft.data.opening import open_dataset
from graft.errors import DataError, InputError
from graft.images.contact_sheet import GAP
from graft.images.letters import CYRILLIC, dejavu_fonts, render_letters
from graft.images.preprocessing import Preprocessing
from graft.progress import Reporter
from graft.training.recipe import Recipe
from graft.workflows.contact_sheet import write_contact_sheet
from graft.workflows.train import train

SIZE = 24
PREPROCESSING = Preprocessing(size=SIZE, mean=(0.5,), std=(0.5,), crop_fraction=1.0)


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    """Three Cyrillic letters, four images of each to train on and two to validate on."""
    root = tmp_path / "letters"
    for split, each in (("train", 4), ("val", 2)):
        images, labels = render_letters(CYRILLIC[:3], dejavu_fonts(), each, each)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = root / split / CYRILLIC[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[:, :, 0]).save(folder / f"{index:02}.png")
    return root


def tile(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    """Pixels (SIZE, SIZE) of an image on a grey sheet."""
    top, left = GAP + row * (SIZE + GAP), GAP + column * (SIZE + GAP)
    return sheet[top : top + SIZE, left : left + SIZE, 0]


def test_the_sheet_has_eight_images_of_all_classes_in_turn_and_six_views_of_each(letters: Path, tmp_path: Path) -> None:
    min((letters / "train" / CYRILLIC[1]).iterdir()).write_bytes(b"no image")
    images, path = open_dataset(letters).splits[TRAIN], tmp_path / "plots" / "sheet.png"
    write_contact_sheet(path, images, PREPROCESSING, Recipe(augment="light").resolve(), seed=1)
    sheet = np.asarray(Image.open(path))
    assert sheet.shape == (GAP + 8 * (SIZE + GAP), GAP + 7 * (SIZE + GAP), 3)
    in_turn = [int(np.flatnonzero(images.labels == label)[turn]) for turn in range(4) for label in range(3)]
    readable = [index for index in in_turn if images.read(index) != b"no image"]
    assert len(readable) == 11
    for row, index in enumerate(readable[:8]):
        assert np.array_equal(tile(sheet, row, 0), load_image(images, index, PREPROCESSING)[0].numpy()), row
        assert len({tile(sheet, row, column).tobytes() for column in range(7)}) > 4
    assert [each.name for each in path.parent.iterdir()] == ["sheet.png"]


def test_fewer_images_make_a_smaller_sheet_and_none_an_error(letters: Path, tmp_path: Path) -> None:
    images = open_dataset(letters).splits[TRAIN]
    path = tmp_path / "sheet.png"
    said = write_contact_sheet(path, images.take(np.arange(2)), PREPROCESSING, Recipe().resolve())
    sheet = np.asarray(Image.open(path))
    assert sheet.shape[0] == GAP + 2 * (SIZE + GAP)
    assert "each view is the image itself" in said
    assert all(np.array_equal(tile(sheet, row, 0), tile(sheet, row, 6)) for row in range(2))
    for file in (letters / "train").rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="expected readable images for `contact_sheet`"):
        write_contact_sheet(tmp_path / "none.png", images, PREPROCESSING, Recipe().resolve())
    assert not (tmp_path / "none.png").exists()


def test_a_training_writes_the_sheet_it_is_asked_for(letters: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    sheet, reporter = tmp_path / "sheet.png", Reporter(note=notes.append)
    train(letters, "latin_letters", "head", recipe=Recipe(augment="light"), out=tmp_path / "run",
          contact_sheet=sheet, reporter=reporter)  # fmt: skip
    assert f"{sheet} shows 8 images and 6 views of each" in notes
    with Image.open(sheet) as image:
        assert image.size[0] > image.size[1] * 6 // 8


def test_a_sheet_is_refused_where_it_cannot_or_may_not_be(letters: Path, tmp_path: Path) -> None:
    for wrong, words in ((tmp_path / "sheet.jpg", "a .png file for `contact_sheet`"),
                         (letters / "train" / "sheet.png", "`contact_sheet` outside the images")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            train_command(str(letters), "latin_letters", "head", out=str(tmp_path / "run"), contact_sheet=wrong)
        assert not wrong.exists()
    assert not (tmp_path / "run").exists()
