"""DATA is recognised by what it is; what is not data is one sentence."""

import os
from pathlib import Path

import pytest

from graft.data.opening import open_dataset
from graft.data.table_options import TableOptions
from graft.errors import DataError, InputError


@pytest.mark.parametrize(
    "path",
    ["no/such/folder", "", "a\0b", "x" * 5000, "~nobody-of-that-name/x", "http://example.org/x"],
    ids=["missing", "empty", "null byte", "too long", "no home", "address"],
)
def test_a_path_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^expected .*: (check the path|put the images)"):
        open_dataset(path)


@pytest.mark.parametrize("name", ["photo.jpg", "labels.txt"])
def test_a_file_that_is_no_dataset_is_told_what_was_looked_for(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=rf"folder per class.*zip.*WebDataset.*\.csv.*IDX.*hf:.*got the file .*{name}"):
        open_dataset(tmp_path / name)


@pytest.mark.parametrize("name", ["data.zip", "data.tar", "labels.csv", "LABELS.TSV", "rows.jsonl", "x.parquet"])
def test_a_file_that_is_not_what_its_ending_says_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"^expected .*got .*"):
        open_dataset(tmp_path / name)


def test_a_column_tells_groups_before_paths_do(tmp_path: Path) -> None:
    for name in ("a1", "a2", "b1"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "x.csv").write_text("path,label,patient\na1,a,p\na2,b,q\nb1,b,p\n")
    groups = open_dataset(tmp_path / "x.csv", group="Patient").splits["all"].groups
    assert groups is not None and groups[0] == groups[2] != groups[1]
    groups = open_dataset(tmp_path / "x.csv", group="^.").splits["all"].groups
    assert groups is not None and groups[0] == groups[1] != groups[2]
    assert open_dataset(tmp_path / "x.csv").splits["all"].groups is None
    with pytest.raises(InputError, match="column of the manifest"):
        open_dataset(tmp_path / "x.csv", group="pateint")


def test_classes_that_differ_only_in_case_or_blanks_are_noted(tmp_path: Path) -> None:
    for name in ("Ant", "ant", "bee", "wild bee", "wild  bee"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1").write_bytes(b"x")
    dataset = open_dataset(tmp_path)
    assert len(dataset.classes) == 5
    assert len(dataset.notes) == 1 and "'Ant' and 'ant', 'wild  bee' and 'wild bee'" in dataset.notes[0]


def test_a_table_that_is_a_link_names_files_beside_the_link(tmp_path: Path) -> None:
    for folder in ("lists", "photos"):
        (tmp_path / folder).mkdir()
    (tmp_path / "photos" / "1").write_bytes(b"x")
    (tmp_path / "lists" / "all.csv").write_text("path,label\n1,a\n")
    (tmp_path / "photos" / "all.csv").symlink_to(tmp_path / "lists" / "all.csv")
    assert open_dataset(tmp_path / "photos" / "all.csv").splits["all"].read(0) == b"x"


def test_a_folder_by_a_relative_path_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1").write_bytes(b"x")
    monkeypatch.chdir(tmp_path / "photos")
    assert open_dataset(".").name == "photos"
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    assert open_dataset("../link").classes == ("a", "b")


def test_a_folder_without_rights_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"\(Permission denied\): check"):
        open_dataset(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_locked_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(DataError, match="rights"):
        open_dataset(tmp_path / "locked")


def test_folders_of_splits_win_over_a_stray_parquet_file(tmp_path: Path) -> None:
    for path in ("train/a/1", "train/b/2"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(b"x")
    (tmp_path / "facts.parquet").write_bytes(b"x")
    assert open_dataset(tmp_path).classes == ("a", "b")


def test_nothing_is_written_beside_the_images(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "1").write_bytes(b"x")
    before = {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}
    open_dataset(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]}


def test_a_path_that_leads_through_a_folder_above_is_read_as_the_straight_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, work = tmp_path / "pets", tmp_path / "pets" / "notebooks" / "inner"
    work.mkdir(parents=True)
    (root / "images").mkdir()
    for number in range(4):
        (root / "images" / f"{number}.jpg").write_bytes(b"x%d" % number)
    for name, numbers in (("labels", "0123"), ("first", "01"), ("last", "23")):
        lines = [f"{number},{'ab'[int(number) % 2]}\n" for number in numbers]
        (root / f"{name}.csv").write_text("".join(["id,label\n", *lines]))
    (tmp_path / "elsewhere").symlink_to(work)
    (root / "loop").symlink_to(root)
    monkeypatch.chdir(work)
    straight = open_dataset(root / "labels.csv")
    assert straight.notes
    keys = [straight.splits["all"].key(row) for row in range(4)]
    for given in (
        *("../../labels.csv", "./../../labels.csv", "../inner/../../labels.csv"),
        *(work / ".." / ".." / "labels.csv", tmp_path / "elsewhere" / ".." / ".." / "labels.csv"),
    ):
        dataset = open_dataset(given)
        assert dataset.notes == straight.notes and [dataset.splits["all"].key(row) for row in range(4)] == keys
    apart = open_dataset("../../first.csv", test="../../last.csv")
    assert {name: len(images) for name, images in apart.splits.items()} == {"train": 2, "test": 2}
    for given in ("../../images", "../../images/", "./../../images/../images"):
        dataset = open_dataset("../../labels.csv", table=TableOptions(image_dir=given))
        assert dataset.name == "labels" and len(dataset.splits["all"]) == 4 and "below images" in dataset.notes[-1]
    for given in ("../..", "../../", "../../notebooks/.."):
        table = TableOptions(image_dir="../../images", label_column="label")
        with pytest.raises(DataError, match=r"expected one table of the images in pets"):
            open_dataset(given, table=table)
    (root / "first.csv").unlink()
    (root / "last.csv").unlink()
    assert "no table names" not in "".join(open_dataset("../..", table=TableOptions(image_dir="../../images")).notes)
