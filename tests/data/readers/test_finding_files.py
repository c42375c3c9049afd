"""Which file a cell means: never an image of another split that has the name of a missing one."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.errors import DataError


def plant(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def labelled(dataset: Dataset) -> dict[str, dict[str, str | None]]:
    """The class of each image, by its path and split."""
    return {
        split: {images.read(row).decode(): dataset.item(split, row).label for row in range(len(images))}
        for split, images in dataset.splits.items()
    }


def rows(*labels: str, start: int = 0, ending: str = "") -> str:
    return "id,label\n" + "".join(f"{start + number}{ending},{label}\n" for number, label in enumerate(labels))


@pytest.mark.parametrize("ending", ["", ".png"])
@pytest.mark.parametrize("data", ["", "train.csv"])
def test_a_missing_image_is_not_replaced_by_its_namesake_of_another_split(
    tmp_path: Path, data: str, ending: str
) -> None:
    plant(tmp_path, *(f"train/{each}.png" for each in range(3)), *(f"test/{each}.png" for each in range(4)))
    (tmp_path / "train.csv").write_text(rows("a", "b", "a", "b", ending=ending))
    dataset = open_dataset(tmp_path / data)
    found = next(iter(labelled(dataset).values()))
    assert found == {"train/0.png": "a", "train/1.png": "b", "train/2.png": "a"}
    assert any("1 file that train names left out: no such file" in note for note in dataset.notes)


def test_tables_of_two_splits_lead_each_to_its_own_folder(tmp_path: Path) -> None:
    plant(tmp_path, "train/0.png", "train/1.png", "test/0.png", "test/2.png")
    (tmp_path / "train.csv").write_text(rows("a", "b", "a"))
    (tmp_path / "test.csv").write_text(rows("b", "a", "b"))
    assert labelled(open_dataset(tmp_path)) == {
        "train": {"train/0.png": "a", "train/1.png": "b"},
        "test": {"test/0.png": "b", "test/2.png": "b"},
    }


@pytest.mark.parametrize("names", [("train.csv", "val.csv"), ("first.csv", "second.csv")])
def test_a_table_given_for_a_split_leads_to_its_folder_only(tmp_path: Path, names: tuple[str, str]) -> None:
    # Most of the images of val are missing.
    plant(tmp_path, *(f"train/{each}.png" for each in range(8)), "val/1.png")
    for name, text in zip(names, (rows("a", "b"), rows("b", "a", "b", "a", "b", "a")), strict=True):
        (tmp_path / name).write_text(text)
    assert labelled(open_dataset(tmp_path / names[0], val=tmp_path / names[1])) == {
        "train": {"train/0.png": "a", "train/1.png": "b"},
        "val": {"val/1.png": "a"},
    }


def test_a_parquet_table_leads_to_the_folder_of_its_split(tmp_path: Path) -> None:
    plant(tmp_path, "train/0.png", "train/1.png", *(f"test/{each}.png" for each in range(4)))
    pq.write_table(pa.table({"path": ["0.png", "1.png", "3.png"], "label": [*"aba"]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"path": ["0.png", "2.png"], "label": [*"ba"]}), tmp_path / "test.parquet")
    assert labelled(open_dataset(tmp_path)) == {
        "train": {"train/0.png": "a", "train/1.png": "b"},
        "test": {"test/0.png": "b", "test/2.png": "a"},
    }


def test_lists_of_lines_lead_to_the_folders_of_their_splits(tmp_path: Path) -> None:
    plant(tmp_path, *(f"train/{each}.png" for each in range(5)), *(f"test/{each}.png" for each in range(6)))
    (tmp_path / "train_images.txt").write_text("".join(f"{each}.png\n" for each in range(6)))
    (tmp_path / "train_labels.txt").write_text("a\nb\n" * 3)
    assert labelled(open_dataset(tmp_path))["train"] == {f"train/{each}.png": "ab"[each % 2] for each in range(5)}


def test_a_table_of_one_split_finds_images_elsewhere_if_its_folder_has_none_of_them(tmp_path: Path) -> None:
    plant(tmp_path, "train/0.png", "train/1.png", "val/7.png")
    (tmp_path / "val.csv").write_text(rows("a", "b"))
    assert labelled(open_dataset(tmp_path / "val.csv")) == {"all": {"train/0.png": "a", "train/1.png": "b"}}


def test_rows_that_name_another_split_lead_there(tmp_path: Path) -> None:
    plant(tmp_path, "train/0.png", "train/1.png", "val/1.png", "val/2.png")
    text = "path,label\n/data/train/0.png,a\n/data/val/1.png,b\n/data/val/2.png,a\n"
    (tmp_path / "train.csv").write_text(text)
    assert labelled(open_dataset(tmp_path / "train.csv")) == {
        "all": {"train/0.png": "a", "val/1.png": "b", "val/2.png": "a"}
    }
    # Here, all rows are below a folder named after a split, which says nothing.
    (tmp_path / "train.csv").write_text("path,label\n/test/x/0.png,a\n/test/x/1.png,b\n")
    assert labelled(open_dataset(tmp_path / "train.csv")) == {"all": {"train/0.png": "a", "train/1.png": "b"}}


def test_rows_of_several_splits_in_a_table_named_after_one_lead_to_their_own_folders(tmp_path: Path) -> None:
    plant(tmp_path, "train/0.png", "train/1.png", "val/0.png", "val/2.png")
    (tmp_path / "train.csv").write_text("id,label,split\n0,a,train\n1,b,train\n0,b,val\n2,a,val\n1,a,val\n")
    assert labelled(open_dataset(tmp_path / "train.csv")) == {
        "train": {"train/0.png": "a", "train/1.png": "b"},
        "val": {"val/0.png": "b", "val/2.png": "a"},
    }


@pytest.mark.parametrize("split", [True, False])
def test_files_that_were_divided_later_are_found_where_they_are(tmp_path: Path, split: bool) -> None:
    plant(tmp_path, *(f"train/{each}.jpg" for each in range(6)), *(f"val/{each}.jpg" for each in (6, 7)))
    lines = [f"/kaggle/input/train/{each}.jpg,{'ab'[each % 2]}" for each in range(8)]
    lines = [f"{line},{'val' if each > 5 else 'train'}" if split else line for each, line in enumerate(lines)]
    (tmp_path / "labels.csv").write_text("\n".join([f"path,label{',split' * split}", *lines]))
    for data in (tmp_path, tmp_path / "labels.csv"):
        found = open_dataset(data)
        assert sum(map(len, found.splits.values())) == 8 and not found.left_out.keys() - {"labels.csv"}
        if split or data == tmp_path:
            assert {name: len(images) for name, images in found.splits.items()} == {"train": 6, "val": 2}


def test_a_missing_image_in_a_folder_of_a_split_is_not_its_namesake_of_another(tmp_path: Path) -> None:
    plant(tmp_path, "train/0.png", "train/1.png", "test/2.png", "test/3.png")
    (tmp_path / "x.csv").write_text(
        "path,label\n/data/train/0.png,a\n/data/train/1.png,b\n/data/train/2.png,a\n/data/test/3.png,b\n"
    )
    assert labelled(open_dataset(tmp_path / "x.csv")) == {
        "all": {"train/0.png": "a", "train/1.png": "b", "test/3.png": "b"}
    }


def test_where_folders_could_mean_two_things_the_table_beside_them_is_named_too(tmp_path: Path) -> None:
    for site in ("north", "south"):
        for day in ("2023-05-17", "2023-05-18"):
            plant(tmp_path, *(f"{site}/{day}/{number}.png" for number in range(3)))
    names = [path.relative_to(tmp_path) for path in sorted(tmp_path.rglob("*.png"))]
    lines = "".join(f"{name},{'fox' if number % 3 else 'deer'},{number}\n" for number, name in enumerate(names))
    (tmp_path / "species.csv").write_text(f"Datei,Art,w\n{lines}")
    with pytest.raises(
        DataError, match=r"label_from=.*; or have the labels read from species\.csv.*label_column='Art'"
    ):
        open_dataset(tmp_path)
    (tmp_path / "species.csv").unlink()
    with pytest.raises(DataError, match=r"for both together$"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("others", [["masks/0.png"], ["masks/0.png", "thumbs/0.png"], ["other/x.png"]])
@pytest.mark.parametrize("written", ["", "./"])
def test_images_in_the_root_beside_a_folder_of_others_are_those_of_the_table(
    tmp_path: Path, written: str, others: list[str]
) -> None:
    plant(tmp_path, *(f"{each}.jpg" for each in range(8)), *others)
    lines = [f"{written}{each}.jpg,{'cat' if each % 2 else 'dog'}" for each in range(8)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *lines]))
    found = open_dataset(tmp_path)
    assert labelled(found) == {"all": {f"{each}.jpg": "cat" if each % 2 else "dog" for each in range(8)}}
    assert {f"{tmp_path / each}" for each in others} == set(found.left_out)
