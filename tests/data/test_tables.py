"""Published tables are understood, or one sentence says what could not be."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from exports import EXPORTS
from lists import LISTS
from tables import TABLES, PublishedTable, build

from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.data.table_options import TableOptions
from graft.errors import DataError, InputError


def labelled(dataset: Dataset) -> dict[str, dict[str, str | None]]:
    return {
        split: {images.key(row): dataset.item(split, row).label for row in range(len(images))}
        for split, images in dataset.splits.items()
    }


ALL = [*TABLES, *LISTS, *EXPORTS]
# Where the folder is what is opened, an archive of it may be, except that options name folders on the disk.
KINDS = [
    (table, kind)
    for table in ALL
    for kind in ("folder", "zip", "tar")
    if kind == "folder" or not (table.data or table.options.image_dir)
]


@pytest.mark.parametrize("given", ["thumbs", "lists/../thumbs", "/thumbs/"])
def test_a_folder_of_images_may_lie_in_the_archive(tmp_path: Path, given: str) -> None:
    for name in ("images/a.jpg", "images/b.jpg", "thumbs/a.jpg", "thumbs/b.jpg"):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_bytes(name.encode())
    (tmp_path / "x" / "lists").mkdir()
    (tmp_path / "x" / "lists" / "labels.csv").write_text("file,label\na.jpg,cat\nb.jpg,dog\n")
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "x"))
    dataset = open_dataset(packed, table=TableOptions(image_dir=given))
    assert labelled(dataset) == {"all": {"thumbs/a.jpg": "cat", "thumbs/b.jpg": "dog"}}
    assert bytes(dataset.splits["all"].read(1)) == b"thumbs/b.jpg"
    with pytest.raises(DataError, match=r"a folder of images for `image_dir`, got 'photos'"):
        open_dataset(packed, table=TableOptions(image_dir="photos"))


@pytest.mark.parametrize(("table", "kind"), KINDS, ids=[f"{table.name}, {kind}" for table, kind in KINDS])
def test_a_published_table_is_understood_or_refused(table: PublishedTable, kind: str, tmp_path: Path) -> None:
    data = build(table, tmp_path / "data")
    if kind != "folder":
        data = Path(shutil.make_archive(str(tmp_path / "packed"), kind, data))
    if table.understood is None:
        with pytest.raises(InputError, match=f"(?s)^expected .*{table.said}") as caught:
            open_dataset(data, table=table.options)
        assert re.search(r": [^:]+$", str(caught.value)), "it says what to do"
        return
    dataset = open_dataset(data, table=table.options)
    assert labelled(dataset) == table.understood
    for note in table.notes:
        assert any(re.search(note, each) for each in dataset.notes), dataset.notes
    assert not table.unsaid or not any(re.search(table.unsaid, each) for each in dataset.notes), dataset.notes


def test_there_are_many_tables_and_no_two_of_a_name() -> None:
    assert len({table.name for table in ALL}) == len(ALL) >= 90
    assert all((table.understood is None) == bool(table.said) for table in ALL)


@pytest.mark.parametrize("data", ["", "Class Labels.csv"])
def test_blood_cells_as_published_and_never_their_masks(shared: Path, data: str) -> None:
    dataset = open_dataset(shared / "datasets" / "blood_cells" / data)
    (images,) = dataset.splits.values()
    assert dataset.classes == ("1", "2", "3", "4", "5")
    assert np.bincount(images.labels).tolist() == [176, 53, 48, 22, 1]
    assert {images.key(row)[-4:] for row in range(len(images))} == {".bmp"}


@pytest.mark.parametrize("rule", ["(a", "a", "(a)(b)"])
def test_an_expression_for_labels_has_one_group(tmp_path: Path, rule: str) -> None:
    with pytest.raises(InputError, match=r"one group.*`label_from`"):
        open_dataset(tmp_path, table=TableOptions(label_from=rule))


def test_a_column_may_be_refused_or_demanded(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "x.csv").write_text("path,label,split,weight,group\na,0,train,70,x\nb,1,test,80,y\n")
    found = open_dataset(tmp_path / "x.csv", table=TableOptions(split_column="none", weight_column="weight"))
    assert list(found.splits) == ["all"]
    assert found.splits["all"].weights is not None and found.splits["all"].groups is not None
    found = open_dataset(tmp_path / "x.csv", table=TableOptions(group_column="none"))
    assert list(found.splits) == ["train", "test"] and found.splits["train"].groups is None
    assert found.splits["train"].weights is None


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("train_images", "train_labels", "test_images", "test_labels"), ["train", "test"]),
        (("x_train", "y_train", "x_test", "y_test"), ["train", "test"]),
        (("X", "y"), ["all"]),
    ],
)
def test_arrays(tmp_path: Path, names: tuple[str, ...], splits: list[str]) -> None:
    images = np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3)
    labels = np.array([[1], [0], [1], [0]])
    np.savez(tmp_path / "x.npz", **{name: (images, labels)[number % 2] for number, name in enumerate(names)})
    dataset = open_dataset(tmp_path / "x.npz")
    assert list(dataset.splits) == splits and dataset.classes == ("0", "1")
    for each in dataset.splits.values():
        assert each.labels.tolist() == [1, 0, 1, 0] and np.array_equal(each.read(2), images[2])


def test_arrays_of_shares_become_bytes_together_and_objects_are_refused(tmp_path: Path) -> None:
    low, high = np.full((2, 3, 3), 0.5, np.float32), np.ones((2, 3, 3), np.float32)
    np.savez(tmp_path / "x.npz", x_train=low, y_train=[0, 1], x_test=high, y_test=[0, 1])
    dataset = open_dataset(tmp_path / "x.npz")
    assert [int(np.max(images.read(0))) for images in dataset.splits.values()] == [128, 255]
    assert "shares of 255" in dataset.notes[0]
    np.savez(tmp_path / "y.npz", x_train=np.array([{}, {}], dtype=object), y_train=[0, 1])
    with pytest.raises(DataError, match="would have to be unpickled"):
        open_dataset(tmp_path / "y.npz")
    np.savez(tmp_path / "z.npz", x_train=low, y_train=[[1, 1], [0, 1]])
    with pytest.raises(DataError, match="one label for each image in y_train"):
        open_dataset(tmp_path / "z.npz")


def test_a_file_that_is_gone_is_not_taken_for_its_namesake(tmp_path: Path) -> None:
    for name in ("cat/1.jpg", "cat/2.jpg", "cat/3.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    lines = "cat/1.jpg,cat\ncat/2.jpg,cat\ncat/3.jpg,cat\ndog/1.jpg,dog\n"
    (tmp_path / "x.csv").write_text(f"path,label\n{lines}")
    dataset = open_dataset(tmp_path / "x.csv")
    assert labelled(dataset) == {"all": {f"cat/{number}.jpg": "cat" for number in (1, 2, 3)}}
    assert list(dataset.left_out.values()) == ["no such file"]


def test_one_of_several_divisions_is_named_or_none_is(tmp_path: Path) -> None:
    table = next(each for each in LISTS if each.name == "textures in ten divisions")
    data = build(table, tmp_path / "data")
    for kind in ("folder", "zip"):
        path = data if kind == "folder" else Path(shutil.make_archive(str(tmp_path / "packed"), kind, data))
        assert sorted(labelled(open_dataset(path, split="labels/train1.txt"))["train"]) == [
            "images/cat/cat_1.jpg",
            "images/dog/dog_1.jpg",
        ]
        assert sorted(labelled(open_dataset(path, split="labels/test2.txt"))["test"]) == [
            "images/cat/cat_1.jpg",
            "images/dog/dog_1.jpg",
        ]
        assert list(open_dataset(path, split="none").splits) == ["all"]
        with pytest.raises(DataError, match=r"a list of images in .* for `split_file`, got 'labels/train9\.txt'"):
            open_dataset(path, split="labels/train9.txt")
    assert list(open_dataset(data, split=data / "labels" / "train2.txt").splits) == ["train", "test"]


def test_images_that_no_table_names_are_left_out_by_name(tmp_path: Path) -> None:
    for name in ("train/a.jpg", "train/b.jpg", "test/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "labels.csv").write_text("id,breed\na,cat\nb,dog\n")
    dataset = open_dataset(tmp_path)
    assert dataset.left_out == {str(tmp_path / "test" / "c.jpg"): "no table names it"}
    assert list(dataset.splits) == ["train"]
