"""Splits may be given separately: tables, folders and archives, by path or as objects."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables import mask, photo

from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.data.table_options import TableOptions
from graft.errors import DataError, InputError
from graft.workflows.arguments import Arguments, images_of, merged_arguments, read_arguments, write_arguments
from graft.workflows.prepare import DataOptions, open_images

TRAIN = "path,label,patient\na/1.jpg,cat,p\na/2.jpg,dog,q\na/3.jpg,cat,r\na/4.jpg,dog,p\n"
VAL = "path,label,patient\n1.jpg,dog,q\n2.jpg,cat,s\n"


def write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    images = [*(f"a/{n}.jpg" for n in (1, 2, 3, 4)), *(f"b/{n}.jpg" for n in (1, 2))]
    write(tmp_path, {name: name for name in images} | {"train.csv": TRAIN, "b/val.csv": VAL})
    write(tmp_path, {f"folders/{name}/{n}.jpg": f"{name} {n}" for name in ("cat", "dog") for n in (1, 2)})
    return tmp_path


def labelled(dataset: Dataset) -> dict[str, dict[str, str | None]]:
    return {
        split: {images.key(row): dataset.item(split, row).label for row in range(len(images))}
        for split, images in dataset.splits.items()
    }


def test_a_table_for_each_split_with_its_images_in_a_folder_of_their_own(data: Path) -> None:
    dataset = open_dataset(data / "train.csv", group="patient", val=data / "b" / "val.csv")
    assert labelled(dataset) == {
        "train": {"a/1.jpg": "cat", "a/2.jpg": "dog", "a/3.jpg": "cat", "a/4.jpg": "dog"},
        "val": {"b/1.jpg": "dog", "b/2.jpg": "cat"},
    }
    assert [bytes(dataset.splits["val"].read(row)) for row in (0, 1)] == [b"b/1.jpg", b"b/2.jpg"]
    assert any("1 group has images in both train and val" in note for note in dataset.notes)


def table(rows: str, path: Path, embedded: bool) -> Path:
    """A table of text as Parquet at `path`, with paths or with the bytes of the images."""
    names, *cells = [row.split(",") for row in rows.split()]
    columns = dict(zip(names, map(list, zip(*cells, strict=True)), strict=True))
    if embedded:
        columns["image"] = [{"bytes": each.encode(), "path": each} for each in columns.pop("path")]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("kind", ["CSV and Parquet", "embedded", "folders with tables", "handed over", "folders"])
def test_a_patient_in_two_of_them_is_one_group_whatever_they_are(data: Path, kind: str) -> None:
    train, val = data / "train.csv", data / "b" / "val.csv"
    if kind == "CSV and Parquet":
        val = table(VAL, data / "b" / "val.parquet", embedded=False)
    elif kind == "embedded":
        train, val = table(TRAIN, data / "train.parquet", True), table(VAL, data / "val.parquet", True)
    elif kind == "folders with tables":
        shutil.move(data / "train.csv", data / "a" / "train.csv")
        train, val = data / "a", data / "b"
    elif kind == "folders":
        for split, patients in (("x", "pqr"), ("y", "qs")):
            write(data, {f"{split}/patient_{each}/{name}/1.jpg": "" for each in patients for name in ("cat", "dog")})
        train, val = data / "x", data / "y"
    group = None if kind == "folders" else "patient"
    if kind == "handed over":
        dataset = open_images(
            DataOptions(Dataset.from_table(train, group=group), val=Dataset.from_table(val, group=group))
        )
    else:
        dataset = open_images(DataOptions(train, group, val=val))
    groups = {split: set(own.groups.tolist()) for split, own in dataset.splits.items() if own.groups is not None}
    assert len(groups["train"]) == 3 and len(groups["val"]) == 2 and len(groups["train"] & groups["val"]) == 1
    assert any("1 group has images in both train and val" in note for note in dataset.notes)


def test_groups_that_one_of_them_divides_stay_what_they_are(data: Path) -> None:
    write(
        data, {"train.csv": "path,label,patient,split\na/1.jpg,cat,p,train\na/2.jpg,dog,q,train\na/3.jpg,cat,q,val\n"}
    )
    dataset = open_dataset(data / "train.csv", group="patient", test=data / "folders")
    assert any("1 group has images in both train and val" in note for note in dataset.notes)
    assert any("images of test come without groups: each image is its own group" in note for note in dataset.notes)
    groups = dataset.splits["test"].groups
    assert groups is not None and len({*groups.tolist()}) == 4


def test_a_split_of_which_nothing_is_left_is_refused_rather_than_carved(data: Path) -> None:
    for text, told in ((VAL.replace("dog", "").replace("cat", ""), "none of 2"), ("path,label\n8.jpg,cat\n", "8.jpg")):
        write(data, {"b/val.csv": text})
        with pytest.raises(DataError, match=told):
            open_dataset(data / "train.csv", val=data / "b" / "val.csv")
    write(data, {"train.csv": "path,label\na/8.jpg,cat\n", "b/val.csv": VAL})
    with pytest.raises(DataError, match=r"that train names .* none of 1"):
        open_dataset(data / "train.csv", val=data / "b" / "val.csv")


def test_a_small_table_is_read_as_the_first_one_is(data: Path) -> None:
    write(data, {"train.csv": TRAIN.replace("label", "species"), "b/val.csv": VAL.replace("label", "species")})
    write(data, {"b/val.csv": "path,breed,species\n1.jpg,pug,dog\n2.jpg,siam,cat\n"})
    assert labelled(open_dataset(data / "train.csv", val=data / "b" / "val.csv"))["val"] == {
        "b/1.jpg": "dog",
        "b/2.jpg": "cat",
    }
    write(data, {"b/val.csv": "path,kind\n1.jpg,dog\n2.jpg,cat\n"})
    told = open_dataset(data / "train.csv", val=data / "b" / "val.csv", table=TableOptions(group_column="none")).notes
    assert any("labels are those in 'species' of train.csv, 'kind' of val.csv" in note for note in told)


@pytest.mark.parametrize("kind", ["folder", "zip", "a folder of its split"])
def test_a_folder_or_an_archive_beside_a_table(data: Path, kind: str) -> None:
    place = data / "folders"
    if kind == "zip":
        place = Path(shutil.make_archive(str(data / "packed"), "zip", place))
    elif kind != "folder":
        shutil.move(place, data / "x" / "test")
        place = data / "x"
    dataset = open_dataset(data / "train.csv", val=data / "b" / "val.csv", test=place)
    assert list(dataset.splits) == ["train", "val", "test"]
    assert sorted(labelled(dataset)["test"].values()) == ["cat", "cat", "dog", "dog"]
    assert bytes(dataset.splits["test"].read(0)) == b"cat 1"


def test_a_list_of_names_beside_one_of_them_names_the_classes_of_all(data: Path) -> None:
    numbers = {"cat": "0", "dog": "1"}
    for name, number in numbers.items():
        shutil.move(data / "folders" / name, data / "folders" / number)
    (data / "train.csv").write_text(TRAIN.replace("cat", "0").replace("dog", "1"))
    write(data, {"classes.txt": "cat\ndog\n"})
    shutil.rmtree(data / "folders" / "1")
    dataset = open_dataset(data / "train.csv", test=data / "folders")
    assert set(labelled(dataset)["test"].values()) == {"cat"} and dataset.classes == ("cat", "dog")


def test_a_split_that_is_there_twice_is_refused_with_both(data: Path) -> None:
    write(data, {"train.csv": "path,label,split\na/1.jpg,cat,train\na/2.jpg,dog,train\na/3.jpg,cat,val\n"})
    apart = data / "b" / "val.csv"
    with pytest.raises(DataError, match=r"train\.csv or in val\.csv.*leave `val` out.*`split_column='none'`"):
        open_dataset(data / "train.csv", val=apart)
    with pytest.raises(DataError, match=r"one split for `val`, got train\.csv, which has train and val itself"):
        open_dataset(data / "folders", val=data / "train.csv")
    whole = open_dataset(data / "train.csv", val=apart, table=TableOptions(split_column="none"))
    assert {name: len(images) for name, images in whole.splits.items()} == {"train": 3, "val": 2}
    tested = open_dataset(data / "train.csv", test=apart)
    assert {name: len(images) for name, images in tested.splits.items()} == {"train": 2, "val": 1, "test": 2}


def test_one_file_for_two_splits_and_a_class_that_train_lacks_are_refused(data: Path) -> None:
    with pytest.raises(InputError, match=r"different images for `test` and for `val`, got .*val\.csv"):
        open_dataset(data / "train.csv", val=data / "b" / "val.csv", test=data / "a" / ".." / "b" / "val.csv")
    write(data, {"b/val.csv": VAL.replace("dog", "cow")})
    with pytest.raises(DataError, match="the classes of 'train' in 'val', got 'cow' as well"):
        with_validation(open_dataset(data / "train.csv", val=data / "b" / "val.csv"))
    with pytest.raises(DataError, match=r"nothing\.csv', which does not exist"):
        open_dataset(data / "train.csv", val=data / "nothing.csv")


@pytest.mark.parametrize("given", ["train", "val"])
def test_masks_are_refused_for_images_in_each_of_several_tables(tmp_path: Path, given: str) -> None:
    write(tmp_path, {f"{split}/labels.csv": "image_id,label\n1,cat\n2,dog\n" for split in ("train", "val")})
    for split in ("train", "val"):
        for number in (1, 2):
            file = tmp_path / split / ("masks" if split == given else "images") / f"{number}.png"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(mask(number) if split == given else photo(number))
    with pytest.raises(DataError, match=r"images that labels\.csv names below .*, got only files that look like masks"):
        open_dataset(tmp_path / "train" / "labels.csv", val=tmp_path / "val" / "labels.csv")


def test_images_that_are_handed_over_are_so_for_all_splits(data: Path) -> None:
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    options = DataOptions((pixels, ["cat", "dog"]), val=(pixels, ["dog", "dog"]))
    dataset = open_images(options)
    assert {split: [*own.values()] for split, own in labelled(dataset).items()}["train"] == ["cat", "dog"]
    assert dataset.splits["val"].labels.tolist() == [1, 1]
    with pytest.raises(InputError, match=r"expected images for val .*, got a path"):
        open_images(DataOptions((pixels, ["cat", "dog"]), val=data / "folders"))


def test_several_labels_for_each_image_are_matched_by_name(data: Path) -> None:
    pixels = np.zeros((3, 4, 4, 3), np.uint8)
    several = TableOptions(multi_label=True)
    options = DataOptions((pixels, [["a"], ["b"], ["a", "b"]]), val=(pixels, [["b", "c"], ["a"], []]), table=several)
    assert [*labelled(open_images(options))["val"].values()] == ["b|c", "a", ""]
    one_each = Dataset.from_arrays(pixels, ["c", "b", "a"])
    dataset = open_images(DataOptions((pixels, [["a"], ["b"], ["a", "b"]]), test=one_each, table=several))
    assert [*labelled(dataset)["test"].values()] == ["c", "b", "a"]


def test_splits_are_in_the_order_of_every_list_of_their_images(data: Path) -> None:
    write(data, {f"whole/{split}/{name}/1.jpg": "" for split in ("train", "test") for name in ("cat", "dog")})
    assert [*open_dataset(data / "whole", val=data / "folders").splits] == ["train", "val", "test"]


def test_a_run_knows_where_its_splits_are_again(data: Path) -> None:
    arguments = Arguments(str(data / "train.csv"), val=str(data / "b" / "val.csv"))
    write_arguments(data, arguments)
    assert read_arguments(data) == arguments
    assert [*open_images(images_of(read_arguments(data), None)).splits] == ["train", "val"]
    moved = merged_arguments(arguments, Arguments(arguments.data, val=str(data / "folders")), data)
    assert moved.val == str(data / "folders")
    with pytest.raises(InputError, match=r"no `test` was given"):
        merged_arguments(arguments, Arguments(arguments.data, test=str(data / "folders")), data)
