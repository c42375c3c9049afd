"""Parquet with embedded images."""

import io
import json
import shlex
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from PIL import Image

from graft.data.loading import batches
from graft.data.opening import open_dataset
from graft.data.readers import parquet
from graft.data.readers.parquet import Rows, read_parquet
from graft.data.splitting import with_validation
from graft.data.table_options import TableOptions
from graft.data.unlabelled import open_images
from graft.errors import DataError
from graft.images.preprocessing import Preprocessing

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
HUGGINGFACE = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["ant", "bee"]}}}}


def save(path: Path, labels: list[Any], images: list[Any] | None = None, **metadata: Any) -> Path:
    images = images or [f"{path.stem} {row}".encode() for row in range(len(labels))]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    cells = [None if image is None else {"bytes": image, "path": None} for image in images]
    table = pa.table({"image": pa.array(cells, kind), "label": labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({name: json.dumps(value) for name, value in metadata.items()}), path)
    return path


def labels(path: Path, split: str = "all") -> list[str | None]:
    dataset = read_parquet(path)
    return [dataset.item(split, index).label for index in range(len(dataset.splits[split]))]


def test_cifar10_has_its_classes_in_the_order_of_the_schema(shared: Path) -> None:
    dataset = open_dataset(shared / "datasets" / "cifar10")
    assert dataset.classes == CIFAR10
    assert {name: np.bincount(p.labels).tolist() for name, p in dataset.splits.items()} == {
        "test": [1000] * 10,
        "train": [5000] * 10,
    }
    data = dataset.splits["train"].read(49_999)
    assert isinstance(data, bytes) and data.startswith(b"\xff\xd8")


def test_numbers_count_in_the_declared_list(tmp_path: Path) -> None:
    path = save(tmp_path / "x.parquet", [1, 0], classes=["zebra", "ant"])
    assert read_parquet(path).classes == ("zebra", "ant") and labels(path) == ["ant", "zebra"]
    assert read_parquet(path).splits["all"].read(1) == b"x 1"
    assert read_parquet(path).splits["all"].name(1) == "x.parquet[1]"


def test_hugging_face_metadata(tmp_path: Path) -> None:
    assert labels(save(tmp_path / "x.parquet", [1, 0, 1], huggingface=HUGGINGFACE)) == ["bee", "ant", "bee"]


def test_labels_that_are_words_are_the_names(tmp_path: Path) -> None:
    path = save(tmp_path / "x.parquet", ["bee", "ant", "bee"])
    assert read_parquet(path).classes == ("ant", "bee") and labels(path) == ["bee", "ant", "bee"]


def test_words_for_a_missing_value_are_no_labels(tmp_path: Path) -> None:
    found = read_parquet(save(tmp_path / "x.parquet", ["bee", "NA", "ant"]))
    assert found.classes == ("ant", "bee") and len(found.left_out) == 1
    assert any("1 label was taken as missing in the labels of x.parquet ('NA' 1)" in note for note in found.notes)


def test_numbers_without_names_are_sorted_as_numbers(tmp_path: Path) -> None:
    path = save(tmp_path / "x.parquet", [10, 9, 2])
    assert read_parquet(path).classes == ("2", "9", "10") and labels(path) == ["10", "9", "2"]


@pytest.mark.parametrize("metadata", ["no list", {"a": 1}, []])
def test_metadata_that_is_no_list_of_names_is_passed_over(tmp_path: Path, metadata: Any) -> None:
    assert labels(save(tmp_path / "x.parquet", ["b", "a"], classes=metadata, huggingface={"info": 1})) == ["b", "a"]


def test_splits_come_from_the_names_of_files(tmp_path: Path) -> None:
    save(tmp_path / "data" / "train-00001-of-00002.parquet", ["b"], [b"third"])
    save(tmp_path / "data" / "train-00000-of-00002.parquet", ["a", "c"], [b"first", b"second"])
    save(tmp_path / "data" / "validation-00000-of-00001.parquet", ["c"])
    dataset = open_dataset(tmp_path)
    assert labels(tmp_path, "train") == ["a", "c", "b"] and labels(tmp_path, "val") == ["c"]
    assert [dataset.splits["train"].read(row) for row in range(3)] == [b"first", b"second", b"third"]


def test_files_that_list_the_classes_in_other_orders_agree_by_name(tmp_path: Path) -> None:
    save(tmp_path / "train.parquet", [0, 1], classes=["ant", "bee"])
    save(tmp_path / "test.parquet", [0, 1, 2], classes=["bee", "ant", "wasp"])
    assert labels(tmp_path, "train") == ["ant", "bee"]
    assert labels(tmp_path, "test") == ["bee", "ant", "wasp"]
    with pytest.raises(DataError, match="'wasp' as well"):
        with_validation(read_parquet(tmp_path))


def test_a_file_without_names_counts_in_the_list_of_another(tmp_path: Path) -> None:
    save(tmp_path / "test.parquet", [1, 0])
    save(tmp_path / "train.parquet", [0, 1], classes=["zebra", "ant"])
    assert labels(tmp_path, "test") == ["ant", "zebra"]


def test_shards_of_different_column_types_are_read_as_one(tmp_path: Path) -> None:
    save(tmp_path / "train-0.parquet", np.array([0], np.int32), [b"one"], classes=["a", "b"])
    plain = pa.table({"image": pa.array([b"two"], pa.large_binary()), "label": np.array([1], np.int64)})
    pq.write_table(plain, tmp_path / "train-1.parquet")
    dataset = read_parquet(tmp_path)
    assert [dataset.splits["train"].read(row) for row in range(2)] == [b"one", b"two"]
    assert labels(tmp_path, "train") == ["a", "b"]


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"img": [b"x"], "label": [0]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"expected a column 'path' \(or image, .*x\.parquet, got 'img', 'label'"):
        read_parquet(tmp_path / "x.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all" * 10])
def test_what_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(DataError, match="expected a Parquet file"):
        open_dataset(tmp_path / "x.parquet")


def test_a_file_cut_off_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "x.parquet", [0, 1])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="expected a Parquet file"):
        read_parquet(path)


@pytest.mark.parametrize("label", [2, -2])
def test_a_label_out_of_range_is_named_with_its_row(tmp_path: Path, label: int) -> None:
    path = save(tmp_path / "x.parquet", [0, 1, label], classes=["a", "b"])
    with pytest.raises(DataError, match=rf"2 classes of x\.parquet, got {label} in row 2"):
        read_parquet(path)


@pytest.mark.parametrize("label", [-1, None])
def test_an_image_without_a_label_is_left_out_by_name(tmp_path: Path, label: int | None) -> None:
    path = save(tmp_path / "x.parquet", [1, label, 0], classes=["a", "b"])
    dataset = read_parquet(path)
    assert labels(path) == ["b", "a"] and [dataset.splits["all"].read(row) for row in (0, 1)] == [b"x 0", b"x 2"]
    assert dataset.left_out == {"x.parquet[1]": "it has no label"}
    assert dataset.notes == ("1 of 3 rows of x left out: no label (x.parquet[1])",)


def test_a_word_that_is_not_declared_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got 'c' in row 1"):
        read_parquet(save(tmp_path / "x.parquet", ["a", "c"], classes=["a", "b"]))


@pytest.mark.parametrize(
    "column",
    [pa.array([{"path": "a.jpg"}]), pa.array([{"bytes": "text"}])],
    ids=["struct without bytes", "bytes that are text"],
)
def test_images_that_are_not_embedded_are_refused(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"image": column, "label": [0]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="expected images as bytes"):
        read_parquet(tmp_path / "x.parquet")


def test_an_empty_cell_is_a_failure_and_not_the_end(tmp_path: Path) -> None:
    path = save(tmp_path / "x.parquet", [0, 0, 0], [None, b"", b"no image"])
    (batch,) = batches(read_parquet(path).splits["all"], Preprocessing(8, (0.5,), (0.5,)), 8, threads=1)
    assert sorted(batch.failures) == [0, 1, 2] and "empty cell" in batch.failures[0]
    assert batch.pixels.shape == (0, 1, 8, 8)


def test_the_split_may_stand_within_the_name(tmp_path: Path) -> None:
    save(tmp_path / "x-train.parquet", ["a"], [b"one"])
    save(tmp_path / "x-val.parquet", ["a"], [b"two"])
    splits = open_dataset(tmp_path).splits
    assert {name: images.read(0) for name, images in splits.items()} == {"train": b"one", "val": b"two"}


def test_a_file_not_named_after_a_split_among_others_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "train.parquet", [0])
    save(tmp_path / "more.parquet", [0])
    with pytest.raises(DataError, match=r"named after its split, got more\.parquet"):
        open_dataset(tmp_path)


def test_stamps_differ_by_row_and_follow_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "x.parquet", [0, 1])
    before = list(read_parquet(path).splits["all"].stamps())
    assert len(set(before)) == 2 and before == list(read_parquet(path).splits["all"].stamps())
    save(path, [0, 1], [b"another", b"image"])
    assert not set(before) & set(read_parquet(path).splits["all"].stamps())


def test_columns_of_splits_groups_and_weights(tmp_path: Path) -> None:
    facts = {"Split": ["validation", "train", "train"], "patient": ["p", "q", "p"], "weight": [1, 0.5, 2]}
    table = pa.table({"image": pa.array([b"0", b"1", b"2"]), "class": ["a", "b", "a"], **facts})
    pq.write_table(table, tmp_path / "train.parquet")
    dataset = open_dataset(tmp_path / "train.parquet", group="patient")
    train, val = dataset.splits["train"], dataset.splits["val"]
    assert [train.read(0), train.read(1), val.read(0)] == [b"1", b"2", b"0"]
    assert train.weights is not None and train.weights.tolist() == [0.5, 2] and train.weights.dtype == np.float32
    assert train.groups is not None and val.groups is not None
    assert train.groups[1] == val.groups[0] != train.groups[0]


def test_files_without_weights_beside_one_that_has_them_weigh_one(tmp_path: Path) -> None:
    save(tmp_path / "val.parquet", ["a"])
    table = pa.table({"image": [b"1"], "label": ["a"], "weight": [3], "group": ["p"]})
    pq.write_table(table, tmp_path / "train.parquet")
    splits = read_parquet(tmp_path).splits
    assert {name: images.weights.tolist() for name, images in splits.items() if images.weights is not None} == {
        "train": [3],
        "val": [1],
    }
    assert splits["train"].groups is not None and splits["val"].groups is not None
    assert splits["train"].groups[0] != splits["val"].groups[0]


def test_images_in_a_column_of_another_name(tmp_path: Path) -> None:
    cells = pa.array([{"bytes": b"1", "path": None}, {"bytes": b"2", "path": None}])
    pq.write_table(pa.table({"img": cells, "label": ["a", "b"]}), tmp_path / "x.parquet")
    assert read_parquet(tmp_path / "x.parquet").splits["all"].read(1) == b"2"


def test_paths_in_place_of_images_are_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"one")
    pq.write_table(pa.table({"image": ["1.jpg"], "label": [7]}), tmp_path / "x.parquet")
    dataset = open_dataset(tmp_path / "x.parquet")
    assert dataset.classes == ("7",) and dataset.splits["all"].read(0) == b"one"


def test_a_folder_of_manifests(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        (tmp_path / "data" / f"{split}.jpg").write_bytes(split.encode())
        pq.write_table(pa.table({"path": [f"{split}.jpg"], "label": ["a"]}), tmp_path / "data" / f"{split}.parquet")
    dataset = open_dataset(tmp_path)
    assert {split: images.read(0) for split, images in dataset.splits.items()} == {
        "train": b"train",
        "test": b"test",
    }


@pytest.mark.parametrize(
    "names",
    [
        ("plain_text/train-00000-of-00001", "plain_text/test-00000-of-00001"),
        ("default/train/0000", "default/test/0000"),
    ],
)
def test_folders_of_a_configuration_and_of_its_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        save(tmp_path / f"{name}.parquet", [0, 1], huggingface=HUGGINGFACE)
    (tmp_path / "README.md").write_text("about it")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("ant", "bee") and {name: len(images) for name, images in dataset.splits.items()} == {
        "train": 2,
        "test": 2,
    }
    save(tmp_path / "coarse" / "train-00000-of-00001.parquet", ["insect"])
    with pytest.raises(DataError, match=r"of one data set, got some in 'coarse' and '(plain_text|default)': give the"):
        open_dataset(tmp_path)


def test_files_that_are_not_there_are_told_by_those_that_are(tmp_path: Path) -> None:
    for number in (0, 2):
        save(tmp_path / "data" / f"train-{number:05d}-of-00004.parquet", ["a", "b"])
    assert open_dataset(tmp_path).notes == (
        "2 of 4 files called data/train-…-of-00004 are not there, nor are the images in them",
    )


def test_embedded_images_beside_paths_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "train.parquet", [0])
    pq.write_table(pa.table({"path": ["1.jpg"], "label": [7]}), tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"got none in test\.parquet"):
        read_parquet(tmp_path)


def rows_in_groups(folder: Path, count: int, each: int, kept_bytes: int) -> Rows:
    """Images `0`, `1`, … of 1,000 bytes in two files, `each` in a row group."""
    for split, start in (("test", 0), ("train", count // 2)):
        cells = [f"{row:01000}".encode() for row in range(start, start + count // 2)]
        table = pa.table({"image": pa.array(cells), "label": ["a"] * len(cells)})
        pq.write_table(table, folder / f"{split}.parquet", row_group_size=each)
    source = read_parquet(folder).splits["train"].source
    assert isinstance(source, Rows)
    return Rows(folder, source.files, kept_bytes)


def test_row_groups_are_read_when_asked_for_and_kept_while_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_in_groups(tmp_path, 40, 5, kept_bytes=12_000)
    read: list[int] = []
    plain = parquet._read_group
    monkeypatch.setattr(parquet, "_read_group", lambda file, group: read.append(group) or plain(file, group))
    assert [int(rows.read(row)) for row in range(40)] == list(range(40))
    assert read == [0, 1, 2, 3] * 2
    rows.read(39), rows.read(31)
    assert len(read) == 8, "the last two groups fit"
    rows.read(0)
    assert len(read) == 9 and sum(group.nbytes for group in rows._kept.values()) <= 12_000


def test_rows_are_read_by_several_threads_at_once(tmp_path: Path) -> None:
    rows = rows_in_groups(tmp_path, 200, 7, kept_bytes=20_000)
    order = np.random.default_rng(0).integers(200, size=2000).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert [int(data) for data in pool.map(rows.read, order)] == order


def test_a_file_that_is_gone_is_a_failure_of_its_images(tmp_path: Path) -> None:
    rows = rows_in_groups(tmp_path, 4, 1, kept_bytes=10)
    (tmp_path / "train.parquet").write_bytes(b"something else that is shorter")
    assert int(rows.read(0)) == 0
    with pytest.raises(OSError, match=r"train\.parquet cannot be read any more"):
        rows.read(2)
    (tmp_path / "train.parquet").unlink()
    with pytest.raises(OSError):
        rows.read(3)


def encoded(number: int, form: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (60, 60, 3), np.uint8)).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("name", ["bytes", "img_bytes", "img", "jpg", "content", "data", "picture", "x"])
def test_a_column_of_bytes_that_start_as_images_is_that_of_the_images_whatever_its_name(
    tmp_path: Path, name: str
) -> None:
    images = [None, encoded(1), encoded(2, "PNG")]
    pq.write_table(pa.table({"digest": [b"ab"] * 3, name: images, "label": ["a", "a", "b"]}), tmp_path / "x.parquet")
    for options in (None, TableOptions(path_column=name)):
        dataset = open_dataset(tmp_path / "x.parquet", table=options)
        assert dataset.splits["all"].read(2) == images[2] and dataset.classes == ("a", "b")
    assert len(open_images(tmp_path / "x.parquet")) == 3


def test_of_several_columns_of_images_the_named_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"left": [encoded(1)], "right": [encoded(2)], "label": ["a"]}), path)
    with pytest.raises(DataError, match="got 'left' and 'right': name one, as in `path_column='left'`"):
        open_dataset(path)
    with pytest.raises(DataError, match=r"got 'left' and 'right': .* or give the images or their folder"):
        open_images(path)
    assert open_dataset(path, table=TableOptions(path_column="right")).splits["all"].read(0) == encoded(2)


@pytest.mark.parametrize("size", [3_000, 43_000])
def test_bytes_that_are_no_image_are_not_shown_in_the_error(tmp_path: Path, size: int) -> None:
    content = [np.random.default_rng(row).integers(0, 256, size, np.uint8).tobytes() for row in range(4)]
    pq.write_table(pa.table({"img": content, "label": list("abab")}), tmp_path / "x.parquet")
    with pytest.raises(DataError) as told:
        open_dataset(tmp_path / "x.parquet", table=TableOptions(path_column="img"))
    assert len(str(told.value)) < 500 + len(str(tmp_path))


def test_several_named_columns_of_yes_and_no_are_the_labels(tmp_path: Path) -> None:
    columns = {"image": [b"1", b"2", b"3"], "label": [0, 1, 2], "round": [True, False, True], "red": [1, 0, 0]}
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    options = TableOptions(label_column=["round", "red"], multi_label=True)
    dataset = open_dataset(tmp_path / "x.parquet", table=options)
    assert [dataset.item("all", row).label for row in range(3)] == ["red|round", "", "round"]


@pytest.mark.parametrize("kind", ["file", "folder", "folder of data"])
def test_numbers_take_the_names_of_a_list_beside_them(tmp_path: Path, kind: str) -> None:
    save(tmp_path / ("data" if kind == "folder of data" else "") / "x.parquet", [1, 0])
    (tmp_path / "classes.txt").write_text("zebra\nant\n")
    dataset = open_dataset(tmp_path / "x.parquet" if kind == "file" else tmp_path)
    assert [dataset.item("all", row).label for row in range(2)] == ["ant", "zebra"]
    assert dataset.notes == ("classes are named as in classes.txt (0 is 'zebra', 1 is 'ant')",)


@pytest.mark.parametrize("kind", ["feather", "file", "stream"])
def test_a_file_of_arrow_is_refused_with_the_line_that_converts_it(tmp_path: Path, kind: str) -> None:
    table, path = pa.table({"image": [b"1", b"2"], "label": ["a", "b"]}), tmp_path / "it's.arrow"
    if kind == "feather":
        path = path.with_suffix(".feather")
        pyarrow.feather.write_feather(table, path)
    else:
        begin = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        with path.open("wb") as file, begin(file, table.schema) as writer:
            writer.write_table(table)
    for read in (open_dataset, open_images):
        with pytest.raises(DataError, match=r"the Arrow file .*: convert it, as with `python -c ") as told:
            read(path)
    code = shlex.split(str(told.value).split("`")[1])[2]
    with chdir(tmp_path):
        exec(code, {})
    assert open_dataset(tmp_path / "it's.parquet").classes == ("a", "b")
