"""Images that belong together are in one group, whatever shows it."""

from dataclasses import replace

import numpy as np
import pytest

from graft.data.dataset import Dataset, Images
from graft.data.grouping import by_path, joined, straddling
from graft.data.readers.folder import Files
from graft.errors import InputError

PATHS = ("ants/p1_a.jpg", "ants/p1_b.jpg", "ants/p2_a.jpg", "bees/p1_c.jpg", "bees/other.jpg")


def dataset(*sizes: int, groups: list[int] | None = None) -> Dataset:
    """A dataset of the paths above, with the given number in each split."""
    files, start, splits = Files.of(PATHS), 0, {}
    for name, size in zip(("train", "val", "test"), sizes, strict=False):
        rows = np.arange(start, start + size)
        labels = np.array([int(PATHS[row].startswith("bees")) for row in rows])
        splits[name] = Images(files, rows, labels, None if groups is None else np.array(groups)[rows])
        start += size
    return Dataset("data", ("ants", "bees"), splits)


def together(found: Dataset) -> set[frozenset[str]]:
    """Names of images by group, through all splits."""
    groups: dict[int, set[str]] = {}
    for images in found.splits.values():
        assert images.groups is not None
        for index, group in enumerate(images.groups.tolist()):
            groups.setdefault(group, set()).add(images.key(index))
    return {frozenset(members) for members in groups.values()}


def test_images_in_one_folder_are_a_group() -> None:
    found = by_path(dataset(2, 3), "folder")
    assert together(found) == {frozenset(PATHS[:3]), frozenset(PATHS[3:])}
    assert found.notes == ()


@pytest.mark.parametrize("rule", [r"p\d", r"/(p\d)_"])
def test_an_expression_finds_the_patient_in_every_class_and_split(rule: str) -> None:
    found = by_path(dataset(2, 3), rule)
    assert together(found) == {
        frozenset({PATHS[0], PATHS[1], PATHS[3]}),
        frozenset({PATHS[2]}),
        frozenset({PATHS[4]}),
    }
    assert found.notes == ("--group matches 4 of 5 paths; every other image is its own group",)


@pytest.mark.parametrize(("rule", "message"), [("patient", "matches none of 5"), ("(", "unterminated")])
def test_what_tells_no_group_is_refused(rule: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        by_path(dataset(5), rule)


def test_copies_join_the_groups_that_they_are_in() -> None:
    found = joined(dataset(3, 2, groups=[7, 7, 1, 3, 4]), np.array([[1, 3]]))
    assert together(found) == {frozenset({PATHS[0], PATHS[1], PATHS[3]}), frozenset({PATHS[2]}), frozenset({PATHS[4]})}


def test_merged_groups_are_named_after_all_of_them() -> None:
    named = replace(dataset(3, 2, groups=[2, 2, 0, 1, 4]), group_names=("left", "", "right"))
    found = joined(named, np.array([[0, 2], [3, 4]]))
    groups = np.concatenate([images.groups for images in found.splits.values()])
    called = [found.group_names[group] if group < len(found.group_names) else "" for group in groups.tolist()]
    assert called == ["left + right"] * 3 + ["", ""]


def test_copies_of_copies_are_one_group() -> None:
    found = joined(dataset(5), np.array([[0, 1], [1, 2], [4, 3]]))
    assert together(found) == {frozenset(PATHS[:3]), frozenset(PATHS[3:])}


def test_without_copies_nothing_is_grouped() -> None:
    whole = dataset(5)
    assert joined(whole, np.empty((0, 2), np.int64)) is whole


def test_groups_on_both_sides_of_a_split_are_counted() -> None:
    assert list(straddling(dataset(2, 2, 1, groups=[0, 1, 1, 0, 5]))) == [("train", "val", 2)]
    assert list(straddling(dataset(2, 2, 1))) == []
