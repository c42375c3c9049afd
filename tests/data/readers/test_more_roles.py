"""Columns that hold the split under any name, and columns that only look as if they did."""

from pathlib import Path

import pytest

from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.data.table_options import TableOptions
from graft.errors import DataError

SPLITS = ("train", "train", "train", "train", "val", "val", "test", "test")
SIZES = {"train": 4, "val": 2, "test": 2}


def sizes(dataset: Dataset) -> dict[str, int]:
    return {split: len(images) for split, images in dataset.splits.items()}


def table(folder: Path, **columns: tuple[str, ...] | list[str]) -> Path:
    """A table of eight images, cats and dogs unless `label` says otherwise, with more columns."""
    names = [f"{number}.jpg" for number in range(8)]
    for name in names:
        (folder / name).write_bytes(name.encode())
    every = {"path": names, "label": ["cat", "dog"] * 4} | columns
    lines = [",".join(every), *(",".join(row) for row in zip(*every.values(), strict=True)), ""]
    (folder / "data.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "data.csv"


@pytest.mark.parametrize("name", ["type", "ml_use", "part", "mode", "Set (train/test)", "Dataset_type", "category"])
def test_a_column_of_words_of_splits_is_the_split_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    dataset = open_dataset(table(tmp_path, **{name: SPLITS}))
    assert sizes(dataset) == SIZES and dataset.classes == ("cat", "dog")
    assert dataset.notes == (f"data.csv: path from 'path', label from 'label', split from {name!r}",)


def test_it_is_none_of_several_that_could_be_the_label(tmp_path: Path) -> None:
    columns = {"label": ("x",) * 8, "species": ("cat", "dog") * 4, "type": SPLITS}
    text = table(tmp_path, **columns).read_text().replace("path,label", "path,note")
    (tmp_path / "data.csv").write_text(text)
    dataset = open_dataset(tmp_path / "data.csv")
    assert sizes(dataset) == SIZES and dataset.classes == ("cat", "dog")


@pytest.mark.parametrize("name", ["label", "class"])
def test_a_label_is_never_the_split(tmp_path: Path, name: str) -> None:
    text = table(tmp_path, label=SPLITS).read_text().replace("path,label", f"path,{name}")
    (tmp_path / "data.csv").write_text(text)
    dataset = open_dataset(tmp_path / "data.csv")
    assert sizes(dataset) == {"all": 8} and dataset.classes == ("test", "train", "val")
    dataset = open_dataset(table(tmp_path, use=SPLITS), table=TableOptions(label_column="use"))
    assert sizes(dataset) == {"all": 8} and dataset.classes == ("test", "train", "val")


@pytest.mark.parametrize(
    "cells", [("train",) * 8, ("val", "test") * 4, ("train", "bus") * 4, ("train", "", *SPLITS[2:])]
)
def test_what_need_not_be_the_split_is_not(tmp_path: Path, cells: tuple[str, ...]) -> None:
    dataset = open_dataset(table(tmp_path, type=cells))
    assert sizes(dataset) == {"all": 8}
    assert any("some of its cells are empty: " in note for note in dataset.notes) == ("" in cells)


def test_of_several_that_differ_none_is_the_split(tmp_path: Path) -> None:
    path = table(tmp_path, type=SPLITS, mode=SPLITS[::-1])
    dataset = open_dataset(path)
    assert sizes(dataset) == {"all": 8}
    assert any("'type' and 'mode' could be the split and were not used" in note for note in dataset.notes)
    assert sizes(open_dataset(path, table=TableOptions(split_column="mode"))) == SIZES
    assert sizes(open_dataset(table(tmp_path, type=SPLITS, mode=SPLITS))) == SIZES


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (("trn",) * 4 + ("dev",) * 2 + ("eval",) * 2, SIZES),
        (("train",) * 4 + ("Validation",) * 2 + ("Evaluation",) * 2, SIZES),
        (("train",) * 4 + ("eval",) * 4, {"train": 4, "val": 4}),
        (("train",) * 4 + ("eval",) * 2 + ("test",) * 2, SIZES),
        (("train",) * 4 + ("val", "eval") + ("test",) * 2, SIZES),
        (("1 - train",) * 4 + ("2 - val",) * 2 + ("3 - test",) * 2, SIZES),
        (("Training set",) * 4 + ("validation_set",) * 2 + ("TestSet",) * 2, SIZES),
        (("apprentissage",) * 4 + ("validation",) * 2 + ("test",) * 2, SIZES),
        (("Entraînement",) * 4 + ("validation",) * 2 + ("test",) * 2, SIZES),
    ],
)
@pytest.mark.parametrize("name", ["split", "stage"])
def test_words_of_splits(tmp_path: Path, name: str, cells: tuple[str, ...], expected: dict[str, int]) -> None:
    assert sizes(open_dataset(table(tmp_path, **{name: cells}))) == expected


def test_folds_are_no_splits_and_the_advice_for_them_holds(tmp_path: Path) -> None:
    path = table(tmp_path, kfold=("0", "1", "2", "3") * 2)
    (note,) = open_dataset(path).notes
    assert note == (
        "'kfold' was not used, since its cells are not train, val and test: write these there, or "
        "--group-column 'kfold' keeps the images of each number in one split"
    )
    for dataset in (open_dataset(path, table=TableOptions(group_column="kfold")), open_dataset(path, "kfold")):
        images = dataset.splits["all"]
        assert images.groups is not None and len(set(images.groups.tolist())) == 4
        assert dataset.notes == ("data.csv: path from 'path', label from 'label', group from 'kfold'",)


def test_letters_for_splits_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = table(tmp_path, split=("T", "T", "T", "T", "V", "V", "V", "V"))
    with pytest.raises(DataError, match=r"4 in 'T'.* write train, val and test there.*split.column"):
        with_validation(open_dataset(path))


@pytest.mark.parametrize("name", ["split", "subset"])
def test_letters_are_splits_where_each_stands_for_one(tmp_path: Path, name: str) -> None:
    dataset = open_dataset(table(tmp_path, **{name: ("T", "T", "T", "T", "V", "V", "S", "S")}))
    assert sizes(dataset) == SIZES
    assert f"in {name!r} 'T' is read as train, 'V' is read as val, 'S' is read as test" in dataset.notes


ANIMALS = [f"Nr {number // 5}" for number in range(100)]
OF_ANIMALS = [("cat", "dog")[number // 5 % 2] for number in range(100)]


def animals(folder: Path, name: str, cells: list[str], labels: list[str] = OF_ANIMALS) -> Dataset:
    """A table of a hundred images with another column."""
    for number in range(100):
        (folder / f"{number}.jpg").touch()
    rows = (f"{number}.jpg,{label},{cell}" for number, (label, cell) in enumerate(zip(labels, cells, strict=True)))
    (folder / "data.csv").write_text("\n".join([f"path,label,{name}", *rows, ""]))
    return open_dataset(folder / "data.csv")


@pytest.mark.parametrize("name", ["Tier-ID", "Patient-Nr", "mouse", "specimen", "slide", "plant_id", "x"])
def test_a_column_of_any_name_whose_values_share_few_images_of_one_label_is_told_of(tmp_path: Path, name: str) -> None:
    told = (
        f"{name!r} looks as if several images belonged together (20 values, about 5 images each): --group {name!r} "
        "keeps them in one split"
    )
    for cells in (ANIMALS, [str(number // 5 + 317) for number in range(100)]):
        dataset = animals(tmp_path, name, cells)
        assert dataset.notes == (told,) and dataset.splits["all"].groups is None
    assert open_dataset(tmp_path / "data.csv", group=name).notes[-1] != told


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        ([str(number) for number in range(100)], OF_ANIMALS),
        (["one"] * 100, OF_ANIMALS),
        # As ages or widths are, whatever the class.
        ([str(20 + number * 7 % 23) for number in range(100)], OF_ANIMALS),
        ([f"2024-05-{1 + number // 5:02}" for number in range(100)], OF_ANIMALS),
        ([f"{1 + number // 5:02}.05.2024" for number in range(100)], OF_ANIMALS),
        ([f"{number // 5 / 7:.3f}" for number in range(100)], OF_ANIMALS),
        # A finer class, of which there are few for each label.
        ([f"kind {number // 20}" for number in range(100)], ["a", "b"] * 50),
        (ANIMALS, ["cat", "dog"] * 50),
        (ANIMALS, ANIMALS),
    ],
    ids=["unique", "constant", "ages", "dates", "German dates", "measured", "few", "unlike labels", "the label"],
)
def test_a_column_of_anything_else_is_not_taken_for_animals(
    tmp_path: Path, cells: list[str], labels: list[str]
) -> None:
    assert not any("belonged together" in note for note in animals(tmp_path, "x", cells, labels).notes)
