"""The manifest of what is left: which copies go, and that graft opens it as what it says."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from looked_at import dataset

from graft.audit.findings import Finding
from graft.audit.fix_list import check_kinds, without_faults, write_manifest, write_split_file
from graft.data.dataset import Dataset, together
from graft.data.grouping import by_path, with_content
from graft.data.opening import open_dataset
from graft.data.split_file import split_as
from graft.errors import InputError


def name_of(number: int) -> str:
    return together(DATA.splits.values()).name(number)


def finding(kind: str, *groups: tuple[int, ...]) -> Finding:
    """About groups of images; the rows of a stand-in data set are their numbers through all splits."""
    numbers = tuple(number for group in groups for number in group)
    bounds = np.cumsum([0, *map(len, groups)]).tolist()
    positions = tuple(tuple(range(start, end)) for start, end in pairwise(bounds))
    return Finding(kind, "warning", "", tuple(map(name_of, numbers)), numbers, positions)


def left(data: Dataset, *findings: Finding, more: tuple[str, ...] = ()) -> dict[str, list[int]]:
    return {name: part.rows.tolist() for name, part in without_faults(data, findings, more).splits.items()}


DATA = dataset(train=[0, 0, 1, 1], val=[0, 1], test=[0, 1])


def test_of_copies_in_one_split_the_first_stays() -> None:
    assert left(DATA, finding("exact_duplicates", (0, 1, 3))) == {"train": [0, 2], "val": [4, 5], "test": [6, 7]}


def test_of_copies_on_both_sides_those_that_are_trained_on_go_and_test_goes_before_val() -> None:
    leaking = finding("split_leakage", (0, 1, 4), (2, 5, 7))
    assert left(DATA, leaking) == {"train": [3], "val": [4], "test": [6, 7]}


def test_unreadable_files_placeholders_and_all_copies_under_several_labels_go() -> None:
    given = [
        Finding("unreadable", "error", "", (name_of(0),), (0,)),
        Finding("placeholder", "error", "", (name_of(4),), (4,)),
    ]
    digests = np.stack([np.arange(8), np.ones(8)], 1).astype(np.uint64)
    digests[2] = digests[1]
    data = with_content(DATA, digests, np.arange(8))
    assert left(data, *given, finding("label_conflict", (1, 2))) == {"train": [3], "val": [5], "test": [6, 7]}


def test_near_copies_under_several_labels_stay_unless_they_are_asked_to_go() -> None:
    conflict = finding("label_conflict", (1, 2))
    assert left(DATA, conflict)["train"] == [0, 1, 2, 3]
    assert left(DATA, conflict, more=("label_conflict",))["train"] == [0, 3]


def test_other_kinds_stay_unless_they_are_asked_to_go() -> None:
    given = [finding("near_duplicates", (0, 1)), Finding("blurry", "warning", "", (name_of(5),), (5,))]
    assert left(DATA, *given)["train"] == [0, 1, 2, 3]
    assert left(DATA, *given, more=("near_duplicates", "blurry")) == {"train": [0, 2, 3], "val": [4], "test": [6, 7]}


def test_a_kind_that_is_none_is_refused_with_the_one_that_was_meant() -> None:
    check_kinds(("blurry", "near_duplicates"))
    with pytest.raises(InputError, match="did you mean 'blurry'"):
        check_kinds(("blury",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("train/a b/1.jpg", "train/a b/2.jpg", 'train/ç,"/3.jpg', "val/a b/4.jpg"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return tmp_path / "data"


def test_the_manifest_opens_as_the_same_images_labels_splits_and_groups(folder: Path, tmp_path: Path) -> None:
    data = by_path(open_dataset(folder), r"\d")
    with (tmp_path / "left.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        write_manifest(
            without_faults(data, [Finding("unreadable", "error", "", (str(folder / "train/a b/2.jpg"),), (1,))]), file
        )
    opened = open_dataset(tmp_path / "left.csv")
    assert opened.classes == data.classes
    assert list(opened.splits) == ["train", "val"]
    assert [opened.splits["train"].name(index) for index in range(2)] == [
        str(folder / "train/a b/1.jpg"),
        str(folder / 'train/ç,"/3.jpg'),
    ]
    assert opened.splits["train"].labels.tolist() == [0, 1]
    assert opened.splits["train"].groups is not None


def test_data_without_splits_give_a_manifest_without(tmp_path: Path, folder: Path) -> None:
    file = io.StringIO()
    write_manifest(open_dataset(folder / "train"), file)
    assert file.getvalue().splitlines()[0] == "path,label"


def test_images_that_are_no_files_are_refused_and_a_split_file_is_offered(shared: Path, tmp_path: Path) -> None:
    data = open_dataset(shared / "datasets" / "mnist")
    some = Dataset(data.name, data.classes, {"all": data.splits["test"].take(np.arange(5))})
    with pytest.raises(InputError, match="`fix_split=FILE`"):
        write_manifest(some, io.StringIO())
    with (tmp_path / "split.csv").open("w", newline="") as file:
        write_split_file(some, file)
    again = split_as(data, tmp_path / "split.csv")
    assert {name: len(part) for name, part in again.splits.items()} == {"train": 5}


def test_findings_about_other_images_are_refused(folder: Path) -> None:
    data = by_path(open_dataset(folder), r"\d")
    for wrong in (Finding("unreadable", "error", "", ("other.jpg",), (1,)), None, 3, "blurry"):
        with pytest.raises(InputError, match="expected findings"):
            without_faults(data, [wrong])  # type: ignore[list-item]
