"""A split that was written is the split that comes back."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.data.readers.folder import read_folder
from graft.data.split_file import read_digests, split_as, write_split
from graft.data.splitting import with_validation
from graft.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        name = os.fsdecode(b"\xff%d" % number) if number == 3 else f'{number}, "x".jpg'
        path = tmp_path / "data" / ("ants", "bees")[number % 2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "data"


def written(dataset: Dataset, path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        write_split(dataset, file)
    return path


def contents(dataset: Dataset) -> dict[str, list[tuple[str, str | None]]]:
    return {
        name: sorted((images.key(index), dataset.item(name, index).label) for index in range(len(images)))
        for name, images in dataset.splits.items()
    }


def test_a_split_that_was_written_comes_back(folder: Path, tmp_path: Path) -> None:
    whole = read_folder(folder)
    split = with_validation(whole, seed=5)
    again = with_validation(split_as(whole, written(split, tmp_path / "split.csv")), seed=99)
    assert contents(again) == contents(split)
    assert contents(with_validation(whole, seed=6)) != contents(split)


def test_groups_are_written_by_their_names_in_the_data(folder: Path, tmp_path: Path) -> None:
    whole = read_folder(folder)
    (name,) = whole.splits
    count = len(whole.splits[name])
    grouped = replace(whole.splits[name], groups=np.arange(count) % 3)
    named = replace(whole, splits={name: grouped}, group_names=("patient 1", "patient 2"))
    rows = list(csv.DictReader(written(named, tmp_path / "split.csv").read_text().splitlines()))
    assert [row["group"] for row in rows] == [("patient 1", "patient 2", "2")[row % 3] for row in range(count)]


def test_digests_that_are_cut_short_are_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_text("path,label,split,group,digest\na.png,a,train,0,7e90\nb.png,b,train,1,cce\n")
    with pytest.raises(DataError, match="cut short or edited, restore it"):
        read_digests(path, "train")
    path.write_text(path.read_text().replace("cce", "ccea"))
    assert read_digests(path, "train") == {bytes.fromhex("7e90"), bytes.fromhex("ccea")}


def test_labels_are_those_of_the_data(folder: Path, tmp_path: Path) -> None:
    whole = read_folder(folder)
    path = written(with_validation(whole), tmp_path / "split.csv")
    path.write_bytes(path.read_bytes().replace(b",ants,", b",wasps,"))
    assert contents(split_as(whole, path)) == contents(with_validation(whole))


def test_paths_may_stand_under_another_name_that_tables_have(folder: Path, tmp_path: Path) -> None:
    whole, path = read_folder(folder), tmp_path / "mine.csv"
    images = next(iter(whole.splits.values()))
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows(
            [("filename", "subset"), *((images.key(n), "val" if n else "train") for n in range(4))]
        )
    split = split_as(whole, path)
    assert {name: len(images) for name, images in split.splits.items()} == {"train": 1, "val": 3}
    path.write_text("name_of_it,split\nx,train\n")
    with pytest.raises(DataError, match=r"'path' may be called .*filename.* as well"):
        split_as(whole, path)


def test_digits_of_two_files_can_be_split_anew(shared: Path, tmp_path: Path) -> None:
    whole = open_dataset(shared / "datasets" / "mnist")
    path = tmp_path / "split.csv"
    keys = [whole.splits["test"].key(0), whole.splits["train"].key(1)]
    path.write_text(f"path,split\n{keys[0]},train\n{keys[1]},valid\n")
    split = split_as(whole, path)
    assert {name: len(images) for name, images in split.splits.items()} == {"train": 1, "val": 1}
    assert np.array_equal(split.splits["train"].read(0), whole.splits["test"].read(0))
    assert split.splits["val"].labels[0] == whole.splits["train"].labels[1]
    assert len(split.left_out) == 69_998


def test_a_file_that_a_manifest_names_in_two_splits_stays_in_both(folder: Path, tmp_path: Path) -> None:
    for name in ("1.jpg", "2.jpg"):
        (folder / name).write_bytes(b"x")
    rows = [
        f"data/{name},{label},{split}" for name, label in (("1.jpg", "a"), ("2.jpg", "b")) for split in ("train", "val")
    ]
    (tmp_path / "all.csv").write_text("\n".join(["path,label,split", *rows, ""]))
    whole = open_dataset(tmp_path / "all.csv")
    again = split_as(whole, written(whole, tmp_path / "split.csv"))
    assert contents(again) == contents(whole) and len(again.splits["val"]) == 2


def test_images_that_the_file_does_not_name_are_left_out_by_name(folder: Path, tmp_path: Path) -> None:
    whole = read_folder(folder)
    path = written(with_validation(whole), tmp_path / "split.csv")
    lines = path.read_bytes().splitlines()
    gone = lines.pop()
    path.write_bytes(b"\n".join(lines))
    split = split_as(whole, path)
    assert len(split) == 11 and len(split.left_out) == 1
    assert Path(next(iter(split.left_out))).name.encode() in gone.replace(b'""', b'"')
    assert "1 of 12 images left out" in split.notes[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na,b\n", "the columns 'path' and 'split'"),
        ("", "the columns 'path' and 'split'"),
        ("path,split\nants/none.jpg,train\n", "got none called 'ants/none.jpg' \\(1 of 1 missing\\)"),
        ("path,split\nants/0,other\n", "got 'ants/0' and 'other' in row 2"),
    ],
)
def test_what_is_no_split_of_this_data_is_one_sentence(folder: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "split.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        split_as(read_folder(folder), tmp_path / "split.csv")
    with pytest.raises(DataError, match="check the path"):
        split_as(read_folder(folder), tmp_path / "none.csv")
