"""Hugging Face's imagefolder: a table beside the images gives the classes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.data.table_options import TableOptions
from graft.errors import DataError, InputError


def plant(root: Path, *names: str, **tables: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    for place, text in tables.items():
        (root / place.replace("__", "/")).with_suffix(".csv").write_text(text)
    return root


def labelled(dataset: Dataset) -> dict[str, list[tuple[bytes, str | None]]]:
    return {
        split: [(bytes(images.read(row)), dataset.item(split, row).label) for row in range(len(images))]
        for split, images in dataset.splits.items()
    }


def test_a_table_beside_the_images(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", "sub/2.jpg", metadata="file_name,label,text\nsub/2.jpg,bee,x\n1.jpg,ant,y\n")
    dataset = open_dataset(tmp_path)
    assert labelled(dataset) == {"all": [(b"sub/2.jpg", "bee"), (b"1.jpg", "ant")]}
    assert dataset.name == tmp_path.name and not dataset.notes and not dataset.left_out


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("kind", r"labels.csv has 'kind' but was not used: expected a column 'path'.*give .*labels.csv$"),
        ("size", r"no column 'size' in labels.csv\)"),
    ],
)
@pytest.mark.parametrize("role", ["label", "group"])
def test_a_column_that_nothing_uses_is_refused(tmp_path: Path, column: str, told: str, role: str) -> None:
    for patient in "abcd":
        plant(tmp_path, *(f"img/{patient}/{view}.jpg" for view in ("left", "right")))
    rows = [f"{patient},{view},{'bee' if patient < 'c' else 'ant'}" for patient in "abcd" for view in ("left", "right")]
    (tmp_path / "labels.csv").write_text("\n".join(["Patient,View,kind", *rows, ""]))
    assert open_dataset(tmp_path).classes == ("a", "b", "c", "d")
    with pytest.raises(InputError, match=told):
        open_dataset(tmp_path, table=TableOptions(**{f"{role}_column": column}))


def test_a_column_of_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.jpg", "b/1.jpg")
    with pytest.raises(InputError, match="a folder has no columns"):
        open_dataset(tmp_path, table=TableOptions(label_column="kind"))


def test_a_table_in_each_split(tmp_path: Path) -> None:
    plant(tmp_path, "train/1.jpg", "train/sub/2.jpg", "validation/1.jpg")
    plant(
        tmp_path,
        train__metadata="file_name,label\nsub/2.jpg,bee\n1.jpg,ant\n",
        validation__metadata="file_name,label\n1.jpg,bee\n",
    )
    dataset = open_dataset(tmp_path)
    assert labelled(dataset) == {
        "train": [(b"train/sub/2.jpg", "bee"), (b"train/1.jpg", "ant")],
        "val": [(b"validation/1.jpg", "bee")],
    }
    assert dataset.splits["val"].key(0) == "validation/1.jpg"


def test_one_table_above_the_folders_of_splits(tmp_path: Path) -> None:
    plant(tmp_path, "train/1.jpg", "test/1.jpg", metadata="file_name,label\ntrain/1.jpg,ant\ntest/1.jpg,bee\n")
    assert labelled(open_dataset(tmp_path)) == {"train": [(b"train/1.jpg", "ant")], "test": [(b"test/1.jpg", "bee")]}


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_json_lines_and_parquet(tmp_path: Path, ending: str) -> None:
    plant(tmp_path, "1.jpg")
    if ending == "jsonl":
        (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.jpg", "label": 3}\n')
    else:
        pq.write_table(pa.table({"file_name": ["1.jpg"], "label": [3]}), tmp_path / "metadata.parquet")
    assert labelled(open_dataset(tmp_path)) == {"all": [(b"1.jpg", "3")]}


def test_without_labels_the_folders_tell_the_classes(tmp_path: Path) -> None:
    plant(tmp_path, "ant/1.jpg", "bee/2.jpg", metadata="file_name,text\nant/1.jpg,small\nbee/2.jpg,large\n")
    assert labelled(open_dataset(tmp_path)) == {"all": [(b"ant/1.jpg", "ant"), (b"bee/2.jpg", "bee")]}


def test_images_that_the_table_does_not_name_are_left_out_by_name(tmp_path: Path) -> None:
    plant(
        tmp_path, "a\\1.jpg", "b/2.jpg", "c/3.jpg", metadata="file_name,label\nb\\2.jpg,ant\na\\1.jpg,ant\n4.jpg,bee\n"
    )
    dataset = open_dataset(tmp_path)
    assert labelled(dataset) == {"all": [(b"b/2.jpg", "ant"), (b"a\\1.jpg", "ant")]}
    assert dataset.left_out == {
        str(tmp_path / "4.jpg"): "no such file",
        str(tmp_path / "c" / "3.jpg"): "no table names it",
    }
    assert len(dataset.notes) == 2 and "1 file in" in dataset.notes[1]


def test_a_table_that_is_damaged_is_one_sentence(tmp_path: Path) -> None:
    plant(tmp_path, "1.jpg", metadata="file_name,label\n1.jpg,ant,more\n")
    with pytest.raises(DataError, match=r"metadata\.csv"):
        open_dataset(tmp_path)


def test_groups_by_a_column(tmp_path: Path) -> None:
    plant(tmp_path, *"123", metadata="file_name,label,video\n1,a,x\n2,a,y\n3,b,x\n")
    groups = open_dataset(tmp_path, group="video").splits["all"].groups
    assert groups is not None and groups[0] == groups[2] != groups[1]
