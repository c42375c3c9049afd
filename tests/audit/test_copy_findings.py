"""Copies of images: counted twice, on both sides of a split, or under two labels."""

import numpy as np
from looked_at import dataset, looks

from graft.audit.copy_findings import copy_findings
from graft.audit.findings import Finding
from graft.audit.looking import Looks
from graft.data.dataset import Dataset


def found(data: Dataset, looked: Looks, pairs: list[tuple[int, int]] | None = None) -> dict[str, Finding]:
    given = np.array(pairs or [], dtype=np.int64).reshape(-1, 2)
    return {finding.kind: finding for finding in copy_findings(data, looked, given)}


def groups(finding: Finding) -> list[tuple[int, ...]]:
    return [tuple(finding.images[position] for position in group) for group in finding.groups]


def test_different_images_are_no_finding() -> None:
    assert not found(dataset(train=[0, 0, 1], val=[0, 1]), looks(5))


def test_files_of_the_same_content_are_grouped() -> None:
    result = found(dataset(all=[0, 1, 0, 1, 1, 0]), looks(6, digest={2: (0, 1), 5: (0, 1), 4: (3, 1)}))
    assert set(result) == {"exact_duplicates"}
    assert groups(result["exact_duplicates"]) == [(0, 2, 5), (3, 4)]
    assert result["exact_duplicates"].paths == ("0.jpg", "2.jpg", "5.jpg", "3.jpg", "4.jpg")
    assert "2 images appear more than once, in 5 files altogether" in result["exact_duplicates"].message


def test_near_copies_hang_together_with_exact_ones_and_those_alone_are_no_near_copies() -> None:
    data, looked = dataset(all=[0] * 6), looks(6, digest={1: (0, 1), 5: (4, 1)})
    result = found(data, looked, [(1, 3)])
    assert groups(result["exact_duplicates"]) == [(0, 1), (4, 5)]
    assert groups(result["near_duplicates"]) == [(0, 1, 3)]


def test_copies_on_both_sides_of_a_split_are_leakage_with_the_share_of_each_split() -> None:
    result = found(dataset(train=[0, 0, 0, 0], val=[0, 0], test=[0]), looks(7, digest={4: (1, 1)}), [(2, 6)])
    assert groups(result["split_leakage"]) == [(1, 4), (2, 6)]
    assert result["split_leakage"].severity == "error"
    assert "2 of 4 in train, 1 of 2 in val, 1 of 1 in test" in result["split_leakage"].message


def test_copies_under_two_labels_are_a_conflict_and_those_without_a_label_are_not() -> None:
    result = found(dataset(all=[0, 1, 1, -1, 0, 0]), looks(6, digest={1: (0, 1), 3: (2, 1), 5: (4, 1)}))
    assert groups(result["label_conflict"]) == [(0, 1)]


def test_files_that_cannot_be_read_are_no_copies_of_each_other() -> None:
    reasons = {1: "cut short", 2: "cut short"}
    assert not found(dataset(all=[0, 0, 0]), looks(3, reasons, digest={1: (0, 0), 2: (0, 0)}))


def test_a_chain_of_likeness_is_told_in_groups_with_a_member_in_common() -> None:
    data = dataset(all=[0] * 6)
    result = found(data, looks(6), [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)])
    told = groups(result["near_duplicates"])
    pairs = {(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)}
    assert all(any({*pair} <= {*group} for group in told) for pair in pairs)
    assert max(map(len, told)) <= 3
    assert result["near_duplicates"].images == (0, 1, 2, 3, 4, 5)


def test_only_copies_of_each_other_conflict_and_not_the_ends_of_a_chain() -> None:
    result = found(dataset(all=[0, 0, 0, 1]), looks(4), [(0, 1), (1, 2), (2, 3)])
    assert groups(result["label_conflict"]) == [(2, 3)]
    result = found(dataset(train=[0, 0, 0], val=[0]), looks(4), [(0, 1), (1, 2), (2, 3)])
    assert groups(result["split_leakage"]) == [(2, 3)]


def test_what_only_looks_alike_is_a_hint_and_no_error() -> None:
    data = dataset(train=[0, 1], val=[0])
    given = np.array([[0, 1], [0, 2]])
    result = {each.kind: each for each in copy_findings(data, looks(3), np.empty((0, 2), np.int64), given)}
    assert set(result) == {"look_alikes"}
    assert result["look_alikes"].severity == "info"


def test_thousands_of_files_of_two_contents_that_are_near_copies_are_few_groups() -> None:
    # Two placeholders, each half in one split and half in the other.
    half = 2000
    data = dataset(train=[0] * 2 * half, val=[0] * 2 * half)
    digest = {row: (row // half % 2 * half, 1) for row in range(4 * half)}
    result = found(data, looks(4 * half, digest=digest), [(0, half)])
    leaked = groups(result["split_leakage"])
    assert len(leaked) == 4 and all(len(group) == 2 * half for group in leaked)
    assert {row for group in leaked for row in group} == set(range(4 * half))
