"""Manifests: every row is in a split under its own label, or is named, or repeats another."""

import csv
import gzip
import json
import lzma
import os
import tempfile
import unicodedata
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.data.readers.split_names import SPLIT_FOLDERS
from graft.data.readers.table import read_table
from graft.data.table_options import TableOptions
from graft.errors import DataError
from graft.names import plain


def plant(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.fsencode(name))
    return root


def table(root: Path, text: str, name: str = "x.csv", encoding: str = "utf-8") -> Path:
    (root / name).write_bytes(text.encode(encoding))
    return root / name


def labelled(dataset: Dataset) -> dict[str, list[tuple[bytes, str | None]]]:
    """Content and class of every image, in order, by split."""
    return {
        split: [(bytes(images.read(row)), dataset.item(split, row).label) for row in range(len(images))]
        for split, images in dataset.splits.items()
    }


def test_rows_keep_their_order_and_their_labels(tmp_path: Path) -> None:
    plant(tmp_path, "b/2.jpg", "a/1.jpg", "3.jpg")
    dataset = open_dataset(table(tmp_path, "path,label\n3.jpg,wasp\nb/2.jpg,ant\na/1.jpg,wasp\n"))
    assert dataset.name == "x" and dataset.classes == ("ant", "wasp") and not dataset.notes and not dataset.left_out
    assert labelled(dataset) == {"all": [(b"3.jpg", "wasp"), (b"b/2.jpg", "ant"), (b"a/1.jpg", "wasp")]}
    assert dataset.splits["all"].name(1) == str(tmp_path / "b" / "2.jpg")
    assert dataset.splits["all"].key(1) == "b/2.jpg"


@pytest.mark.parametrize("path", ["path", "image", "file_name", " FilePath ", "filename", "FILE"])
@pytest.mark.parametrize("label", ["label", "Class", "category ", "TARGET"])
def test_names_that_columns_may_have(tmp_path: Path, path: str, label: str) -> None:
    plant(tmp_path, "1")
    assert labelled(read_table(table(tmp_path, f"id,{label},{path}\n7,ant,1\n"))) == {"all": [(b"1", "ant")]}


def test_the_first_name_that_is_there_counts(tmp_path: Path) -> None:
    plant(tmp_path, "1", "2")
    assert labelled(read_table(table(tmp_path, "file,class,path,label\n1,b,2,a\n"))) == {"all": [(b"2", "a")]}


@pytest.mark.parametrize(
    "text",
    [
        "path;label\n1;a,b\n",
        "path\tlabel\n1\ta,b\n",
        'path,label\n1,"a,b"\n',
        '\ufeffpath,label\r\n1,"a,b"\r\n',
        'note,path,label\n"two\nlines",1,"a,b"\n\n',
        '"no\nte",path,label\n,1,"a,b"',
        'path,label\n1," a,b\t"\n',
    ],
    ids=["semicolon", "tab", "comma", "mark and CRLF", "newline in a cell", "newline in the header", "blanks"],
)
def test_ways_to_write_a_table(tmp_path: Path, text: str) -> None:
    plant(tmp_path, "1")
    assert labelled(read_table(table(tmp_path, text))) == {"all": [(b"1", "a,b")]}


def test_tsv_and_json_lines(tmp_path: Path) -> None:
    plant(tmp_path, "1", "2")
    assert labelled(open_dataset(table(tmp_path, "path\tlabel\n1\ta\n2\tb\n", "x.tsv"))) == {
        "all": [(b"1", "a"), (b"2", "b")]
    }
    lines = '{"path": "2", "label": 1.50}\n\n{"label": 7, "path": "1", "more": [1]}\n'
    assert labelled(open_dataset(table(tmp_path, lines, "x.jsonl"))) == {"all": [(b"2", "1.50"), (b"1", "7")]}
    with pytest.raises(DataError, match=r"JSON object in every line of x\.jsonl, got '7' in line 2"):
        open_dataset(table(tmp_path, '{"path": "2", "label": 1}\n7\n', "x.jsonl"))


def test_labels_that_are_numbers_keep_their_spelling(tmp_path: Path) -> None:
    plant(tmp_path, *"1234")
    dataset = read_table(table(tmp_path, "path,label\n1,01\n2,1\n3,10\n4,2\n"))
    assert dataset.classes == ("01", "1", "2", "10")
    assert [label for _, label in labelled(dataset)["all"]] == ["01", "1", "10", "2"]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([1.0, 2.5, float("nan")], ["1", "2.5", None]),
        ([10, 9, None], ["10", "9", None]),
        ([True, False, True], ["true", "false", "true"]),
        (pa.array(["b", "a", "b"]).dictionary_encode(), ["b", "a", "b"]),
        (pa.array([b"b", b"a", b"b"]), ["b", "a", "b"]),
    ],
    ids=["floats", "whole numbers", "truth", "dictionary", "bytes"],
)
def test_parquet_labels_of_any_plain_type(tmp_path: Path, labels: Any, names: list[str | None]) -> None:
    plant(tmp_path, *"123")
    pq.write_table(pa.table({"path": ["1", "2", "3"], "label": labels}), tmp_path / "x.parquet")
    found = dict(labelled(open_dataset(tmp_path / "x.parquet"))["all"])
    assert [found.get(name) for name in (b"1", b"2", b"3")] == names


@pytest.mark.parametrize("column", ["path", "label"])
def test_parquet_columns_of_lists_are_refused(tmp_path: Path, column: str) -> None:
    pq.write_table(pa.table({"path": ["1"], "label": ["a"], column: [[1]]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="list<"):
        open_dataset(tmp_path / "x.parquet")


def test_splits_in_any_spelling_and_unknown_ones_as_they_are(tmp_path: Path) -> None:
    names = ["Training", "valid", " VALIDATION", "val", "test", "holdout", "train"]
    plant(tmp_path, *map(str, range(7)))
    text = "path,label,split\n" + "".join(f"{row},a,{name}\n" for row, name in enumerate(names))
    found = labelled(read_table(table(tmp_path, text)))
    assert {split: [int(data) for data, _ in images] for split, images in found.items()} == {
        "train": [0, 6],
        "val": [1, 2, 3],
        "test": [4],
        "holdout": [5],
    }


def test_a_split_called_all_beside_others_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, "1", "2")
    with pytest.raises(DataError, match="got 'all' beside train"):
        read_table(table(tmp_path, "path,label,split\n1,a,all\n2,a,train\n"))


def test_empty_cells_are_left_out_by_name(tmp_path: Path) -> None:
    plant(tmp_path, *"12345")
    text = "path,label,split\n1,a,train\n2, ,train\n3,b,\n,a,train\n5,b,train\n"
    dataset = read_table(table(tmp_path, text))
    assert labelled(dataset) == {"train": [(b"1", "a"), (b"5", "b")]}
    assert dataset.left_out == {
        "x, row 3": "it has no path",
        str(tmp_path / "2"): "it has no label",
        str(tmp_path / "3"): "it has no split",
    }
    assert len(dataset.notes) == 3 and all(note.startswith("1 of 5 rows of x left out: no ") for note in dataset.notes)


def test_files_that_are_not_there_are_all_named(tmp_path: Path) -> None:
    plant(tmp_path, "there")
    dataset = read_table(table(tmp_path, "path,label\n" + "".join(f"gone{row},b\n" for row in range(5)) + "there,a\n"))
    assert dataset.classes == ("a",) and labelled(dataset) == {"all": [(b"there", "a")]}
    assert dataset.left_out == {str(tmp_path / f"gone{row}"): "no such file" for row in range(5)}
    (note,) = dataset.notes
    assert note.startswith("5 files that x names left out: no such file") and "gone0" in note and "gone3" not in note


def test_when_no_file_is_there_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_table(table(tmp_path, "path,label\nphotos/1,a\nphotos/2,a\n"))
    assert f"below {tmp_path}, got none of 2" in str(caught.value)
    assert str(tmp_path / "photos" / "1") in str(caught.value)


def test_large_folders_are_listed_and_the_answers_are_the_same(tmp_path: Path) -> None:
    plant(tmp_path, *(f"many/{row}" for row in range(300) if row % 7), "few/1")
    text = "path,label\nfew/1,a\nfew/2,a\n" + "".join(f"many/{row},{row % 3}\n" for row in range(300))
    dataset = read_table(table(tmp_path, text))
    assert [data.decode() for data, _ in labelled(dataset)["all"]] == [
        "few/1",
        *(f"many/{row}" for row in range(300) if row % 7),
    ]
    assert len(dataset.left_out) == 43 + 1


def test_a_large_folder_on_a_disk_that_does_not_tell_capitals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, *(f"Many/p{row}" for row in range(200)))
    plain = os.path.exists

    def as_on_a_mac(path: bytes) -> bool:
        return plain(path) or plain(path.replace(b"/P", b"/p"))

    path = table(tmp_path, "path,label\n" + "".join(f"Many/P{row},a\n" for row in range(200)))
    found = read_table(path)
    assert len(found) == 200 and "found by name below" in found.notes[0]
    monkeypatch.setattr(os.path, "exists", as_on_a_mac)
    found = read_table(path)
    assert len(found) == 200 and not found.notes


def test_absolute_paths_and_paths_of_windows(tmp_path: Path) -> None:
    plant(tmp_path, "a/1", "b\\2", "c/3", " 4 ")
    text = f"path,label\ngone\\1,x\na\\1,x\nb\\2,y\n{tmp_path}/c/3,z\n 4 ,x\n  a/1\t,x\n"
    dataset = read_table(table(tmp_path, text))
    assert labelled(dataset) == {"all": [(b"a/1", "x"), (b"b\\2", "y"), (b"c/3", "z"), (b" 4 ", "x")]}
    assert "1 row of x repeats another" in dataset.notes[1]
    assert list(dataset.left_out) == [str(tmp_path / "gone\\1")]


def test_a_name_that_is_not_utf8_finds_its_file(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xe9.jpg")).write_bytes(b"x")
    (tmp_path / "x.csv").write_bytes(b"path,label\n\xe9.jpg,a\n")
    assert labelled(read_table(tmp_path / "x.csv")) == {"all": [(b"x", "a")]}


def test_a_path_in_windows_1252_finds_the_file_named_in_utf8(tmp_path: Path) -> None:
    plant(tmp_path, "k\xe4se.jpg")
    found = read_table(table(tmp_path, "path,label\nk\xe4se.jpg,a\n", encoding="cp1252"))
    assert [label for _, label in labelled(found)["all"]] == ["a"] and not found.left_out


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_words_for_a_missing_value_are_no_labels(tmp_path: Path, kind: str) -> None:
    words = ["NA", "n/a", "NaN", "n/a", "None", "none", "-", "0", "cat", "cat", *["dog"] * 10]
    names = [str(number) for number in range(len(words))]
    plant(tmp_path, *names)
    columns = {"path": names, "label": words, "group": ["NA", *names[1:]], "split": ["NA", *["train"] * 19]}
    if kind == "parquet":
        pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    else:
        rows = zip(*columns.values(), strict=True)
        separator = "," if kind == "csv" else "\t"
        table(tmp_path, "".join(separator.join(row) + "\n" for row in (tuple(columns), *rows)), f"x.{kind}")
    found = open_dataset(tmp_path / f"x.{kind}")
    assert set(found.classes) == {"None", "none", "-", "0", "cat", "dog"}
    assert sorted(map(str, found.left_out.values())) == ["it has no label"] * 4
    assert "4 labels were taken as missing in 'label' of x." in " ".join(found.notes)
    assert "('n/a' 2, 'NA' 1, 'NaN' 1)" in " ".join(found.notes) and "give it another name" not in " ".join(found.notes)
    assert "NA" in found.group_names


def test_a_note_tells_when_words_for_a_missing_value_are_many(tmp_path: Path) -> None:
    plant(tmp_path, *"1234")
    found = open_dataset(table(tmp_path, "path,label\n1,NA\n2,a\n3,b\n4,b\n"))
    assert found.classes == ("a", "b")
    assert any("if 'NA' is a class, give it another name" in note for note in found.notes)
    with pytest.raises(DataError, match=r"got none of 2 \(2 labels were taken as missing in 'label' of x.csv"):
        open_dataset(table(tmp_path, "path,label\n1,NA\n2,NA\n"))


def test_rows_that_repeat_another_count_once(tmp_path: Path) -> None:
    plant(tmp_path, "1", "2")
    text = "path,label,split\n1,a,train\n2,b,train\n1,a,train\n1,a,val\n1, a,train\n"
    dataset = read_table(table(tmp_path, text))
    assert labelled(dataset) == {"train": [(b"1", "a"), (b"2", "b")], "val": [(b"1", "a")]}
    assert dataset.notes == ("2 rows of x repeat others and count once (1, 1)",) and not dataset.left_out


def test_an_image_with_two_labels_keeps_the_first_and_is_noted(tmp_path: Path) -> None:
    plant(tmp_path, "1", "2")
    dataset = read_table(table(tmp_path, "path,label\n1,a\n2,b\n2,b\n1,b\n"))
    assert labelled(dataset) == {"all": [(b"1", "a"), (b"2", "b")]}
    assert dataset.notes == (
        "1 row of x repeats another and counts once (2)",
        "1 row of x contradicts the label of an earlier one, which was kept (1: 'a' and 'b')",
    )


def test_an_image_that_another_row_keeps_is_not_called_left_out(tmp_path: Path) -> None:
    plant(tmp_path, "1", "2")
    dataset = read_table(table(tmp_path, "path,label\n1,\n1,a\n2,\n"))
    assert labelled(dataset) == {"all": [(b"1", "a")]} and list(dataset.left_out) == [str(tmp_path / "2")]


def test_groups_run_through_all_splits_and_an_empty_cell_is_alone(tmp_path: Path) -> None:
    plant(tmp_path, *"12345")
    text = "path,label,split,group\n1,a,train,p\n2,a,train,\n3,a,val, p\n4,a,val,q\n5,a,val,\n"
    splits = read_table(table(tmp_path, text)).splits
    assert all(images.groups is not None and images.groups.dtype == np.int64 for images in splits.values())
    first, second, third, fourth, fifth = [*splits["train"].groups, *splits["val"].groups]
    assert first == third and len({first, second, fourth, fifth}) == 4


def test_weights(tmp_path: Path) -> None:
    plant(tmp_path, *"123")
    weights = read_table(table(tmp_path, "path,label,weight\n1,a,2\n2,a, 0.5\n3,a,0\n")).splits["all"].weights
    assert weights is not None and weights.dtype == np.float32 and weights.tolist() == [2, 0.5, 0]


@pytest.mark.parametrize("weight", ["-1", "nan", "inf", "", "much", "1e99"])
def test_a_weight_that_is_none_is_named_with_its_row(tmp_path: Path, weight: str) -> None:
    plant(tmp_path, "1", "3")
    with pytest.raises(DataError, match=rf"got '{weight}' in row 2"):
        # The second row is left out, so its weight does not matter.
        options = TableOptions(weight_column="weight")
        read_table(table(tmp_path, f"path,label,weight\n1,a,2\n2,a,x\n3,a,{weight}\n"), options=options)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "got none"),
        (b"path,label\n", "got none of 0"),
        (b"path,label", "got none of 0"),
        (b"path,label\n\n \n", "got none"),
        (b"size,label\n7,a\n", r"a column 'path' \(or image, .*got 'size', 'label'.*`path_column`"),
        (b"path,size,name\n1,7,a\n", r"a column 'label' \(or class.*`label_column="),
        (b"path,label\n1,a,b\n", "as many cells in every row of x.csv as in its first, 2, got 3 in line 2"),
        (b"path,label\n1,\x81\n", "UTF-8"),
        (b"path,label\n1,\xc3\xa9 \xe9\n", "UTF-8"),
        ("path,label\n1,\n".encode("utf-16"), "got none of 1"),
        (b"path,lab\x81l\n1,a\n", "UTF-8"),
        (b'path,label\n"1,a\n', "x.csv"),
        (b"path,label\n1,\n", "got none of 1"),
    ],
)
def test_what_is_no_table_of_images_is_one_sentence(tmp_path: Path, content: bytes, told: str) -> None:
    plant(tmp_path, "1")
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(DataError, match=told):
        open_dataset(tmp_path / "x.csv")


@pytest.mark.parametrize("place", ["alone", "beside its images"])
@pytest.mark.parametrize("name", ["train.csv.gz", "train.csv.zip", "train.txt.xz", "train.csv"])
def test_a_table_that_is_compressed_or_in_utf16_is_read_as_any_other(tmp_path: Path, name: str, place: str) -> None:
    plant(tmp_path, "images/1.jpg", "images/2.jpg")
    text = "path,label\nimages/1.jpg,käse\nimages/2.jpg,dog\n"
    content = text.encode("utf-16" if name == "train.csv" else "utf-8")
    if name.endswith(".zip"):
        with ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("train.csv", content)
    else:
        pack = {".gz": gzip.compress, ".xz": lzma.compress}.get(Path(name).suffix, bytes)
        (tmp_path / name).write_bytes(pack(content))
    dataset = open_dataset(tmp_path / name if place == "alone" else tmp_path)
    assert {label for images in labelled(dataset).values() for _, label in images} == {"käse", "dog"}
    if place != "alone" and name == "train.csv.gz":
        # The table unpacked beside the images is the same.
        (tmp_path / "train.csv").write_text(text)
        assert len(open_dataset(tmp_path)) == 2


@pytest.mark.parametrize(("name", "content"), [("x.csv.gz", b"\x1f\x8b\x08cut"), ("x.csv.zip", b"PK\3\4cut")])
def test_a_compressed_table_that_is_damaged_is_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        open_dataset(tmp_path / name)


def test_whole_numbers_with_a_point_are_those_without(tmp_path: Path) -> None:
    plant(tmp_path, *"1234")
    rows = "path,label,size\n1,0.0,1.5\n2,,2.0\n3,1.0,3.0\n4,0.0,4.0\n"
    dataset = open_dataset(table(tmp_path, rows), table=TableOptions(group_column="size"))
    assert dataset.classes == ("0", "1") and dataset.group_names[0] == "1.5"


def test_rows_may_end_in_a_separator_that_the_names_lack(tmp_path: Path) -> None:
    plant(tmp_path, *"12")
    assert labelled(read_table(table(tmp_path, "path;label\n1;a;\n2;b;\n"))) == {"all": [(b"1", "a"), (b"2", "b")]}


@pytest.mark.parametrize("cell", ["x" * 3_000_000, '"' + "x\n" * 1_500_000 + '"'], ids=["one line", "many lines"])
def test_long_cells_are_read(tmp_path: Path, cell: str) -> None:
    plant(tmp_path, *"12345")
    text = "path,label,note\n" + "".join(f"{row},a,{cell}\n" for row in range(1, 6))
    assert len(read_table(table(tmp_path, text))) == 5


CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=6)
NAMES = st.one_of(
    st.sampled_from(["a", "b ", " b", 'c"', "d,e", "é", "Я", "x;y", "f'g", "two\nlines", "back\\slash", "写真", "-"]),
    CELLS.filter(lambda name: "/" not in name and name.strip() and name not in (".", "..") and len(name.encode()) < 99),
)
ROWS = st.lists(
    st.tuples(
        NAMES,
        st.one_of(st.sampled_from(["ant", "Ant", " ant", "1", "01", "", "NaN", "[]"]), CELLS),
        st.booleans(),
        CELLS,
    ),
    min_size=1,
    max_size=12,
)
SPLITS = st.sampled_from(["train", "Valid", "test", "other", ""])
# What pandas writes or reads for a missing value, as its documentation of `read_csv` lists it (`None` may be a class),
# and a list of no labels, as tools for labelling write it.
FOR_MISSING = ["#N/A", "#N/A N/A", "#NA", "-1.#IND", "-nan", "<NA>", "N/A", "NA", "NULL", "NaN", "n/a", "nan", "null"]
FOR_MISSING += ["[]"]


@settings(max_examples=150, deadline=None)
@given(
    ROWS,
    st.lists(SPLITS, min_size=12, max_size=12) | st.none(),
    st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]),
)
def test_no_manifest_shifts_a_label_or_loses_a_row_silently(
    rows: list[tuple[str, str, bool, str]], splits: list[str] | None, ending: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        planted = {name for name, _, there, _ in rows if there and not name.startswith(" ")}
        plant(root, *(f"p/{name}" for name in planted))
        records = [
            {"path": f"p/{name}", "label": label, "note": note} | ({"split": split} if splits else {})
            for (name, label, _, note), split in zip(rows, splits or [""] * 12, strict=False)
        ]
        path = write(root / f"manifest{ending}", records)
        try:
            dataset = open_dataset(path)
        except DataError as error:
            assert str(error).startswith("expected")
            # Refused for a reason: no row has a file, a label and a split, or a cell seems to hold the next row.
            assert not [each for each in records if usable(root, each)] or any(map(seems_swallowed, records))
            return
        # The first row with a file, a label and a split counts for an image and a split.
        truth: dict[tuple[str, str], str] = {}
        for each in filter(lambda each: usable(root, each), records):
            split = SPLIT_FOLDERS.get(each["split"].strip().lower(), each["split"].strip()) if splits else "all"
            truth.setdefault((split, plain(found_at(root, each["path"]))), trimmed(each["label"]))
        found = {
            (split, str(dataset.splits[split].key(row))): dataset.item(split, row).label
            for split in dataset.splits
            for row in range(len(dataset.splits[split]))
        }
        assert found == truth and list(dataset.classes) == list(dict.fromkeys(dataset.classes))
        assert len(dataset) == len(found)
        kept = {plain(f"{root / key}") for _, key in truth}
        assert not kept & set(dataset.left_out)
        for each in records:
            if not usable(root, each):
                assert {plain(f"{root / path}") for path in (found_at(root, each["path"]), each["path"])} & (
                    kept | set(dataset.left_out)
                )
        repeated = sum(usable(root, each) for each in records) - len(truth)
        told = [int(note.split()[0]) for note in dataset.notes if "and count" in note or "earlier one" in note]
        assert sum(told) == repeated


def write(path: Path, records: list[dict[str, str]]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(each)}\n" for each in records))
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(records[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(records)
    return path


def trimmed(text: str) -> str:
    """A class name in Unicode's composed form, whichever form the table has."""
    return unicodedata.normalize("NFC", plain(text.strip()))


def found_at(root: Path, path: str) -> str:
    """The path of the file that the row means."""
    tidy = path.replace("\\", "/").strip()
    return tidy if not (root / path).exists() and (root / tidy).exists() else path


def seems_swallowed(record: dict[str, str]) -> bool:
    """Whether a cell with a role has an end of line and a separator of cells in it."""
    cells = (cell for role, cell in record.items() if role != "note")
    return any({*cell} & {*"\r\n"} and {*cell} & {*",;\t|"} for cell in cells)


def usable(root: Path, record: dict[str, str]) -> bool:
    return bool(
        (root / found_at(root, record["path"])).is_file()
        and trimmed(record["label"])
        and record["label"].strip() not in FOR_MISSING
        and ("split" not in record or record["split"].strip())
    )
