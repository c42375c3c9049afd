"""From the splits a source has to those that training needs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.data.dataset import Dataset, Images, counts
from graft.data.readers.folder import Files
from graft.data.splitting import answerable, carve, stratified_folds, with_validation
from graft.errors import DataError


def images(labels: list[int], groups: list[int] | None = None) -> Images:
    files = Files.of(f"{number}.jpg" for number in range(len(labels)))
    numbers = None if groups is None else np.array(groups, dtype=np.int64)
    return Images(files, np.arange(len(labels)), np.array(labels, dtype=np.int64), numbers)


def dataset(classes: tuple[str, ...] = ("a", "b"), **splits: list[int]) -> Dataset:
    return Dataset("data", classes, {name: images(labels) for name, labels in splits.items()})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 3), st.floats(0.05, 0.95))
def test_carving_is_stratified_disjoint_and_complete(labels: list[int], seed: int, fraction: float) -> None:
    whole = images(labels)
    train, val = carve(whole, 5, fraction, seed)
    assert sorted([*train.rows, *val.rows]) == list(range(len(labels)))
    assert (np.diff(train.rows) > 0).all() and (np.diff(val.rows) > 0).all()
    for part in (train, val):
        assert (part.labels == whole.labels[part.rows]).all()
    for label in set(labels):
        members, kept_out = labels.count(label), int((val.labels == label).sum())
        assert abs(kept_out - fraction * members) <= 1 and kept_out < members
        assert kept_out >= 1 or members == 1


GROUPED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=80)


@settings(max_examples=200, deadline=None)
@given(GROUPED, st.integers(0, 3), st.floats(0.05, 0.95))
def test_carving_divides_no_group_and_empties_no_class(
    members: list[tuple[int, int]], seed: int, fraction: float
) -> None:
    labels, groups = (list(column) for column in zip(*members, strict=True))
    whole = images(labels, groups)
    train, val = carve(whole, 4, fraction, seed)
    assert sorted([*train.rows, *val.rows]) == list(range(len(labels)))
    assert train.groups is not None and val.groups is not None
    assert not set(train.groups) & set(val.groups)
    assert set(train.labels) == set(labels)
    for part in (train, val):
        assert (part.labels == whole.labels[part.rows]).all()
        assert (part.groups == whole.groups[part.rows]).all()


def test_groups_are_kept_out_as_near_to_the_fraction_as_they_allow() -> None:
    # Forty patients of five images each, of one class each.
    groups = np.repeat(np.arange(40), 5)
    labels = (groups % 2).tolist()
    _, val = carve(images(labels, groups.tolist()), 2, 0.2, seed=0)
    assert np.bincount(val.labels).tolist() == [20, 20]


@pytest.mark.parametrize("copies", [0, 1, 3, 10, 40])
def test_copies_among_single_images_come_to_both_sides_in_proportion(copies: int) -> None:
    """Two classes of 120 images, some of which have a copy."""
    labels, groups = [0, 1] * 120, list(range(240))
    labels += [0, 1] * copies
    groups += range(2 * copies)
    held_out = []
    for seed in range(40):
        _, val = carve(images(labels, groups), 2, 0.2, seed)
        assert val.groups is not None
        assert np.bincount(val.labels).tolist() == [round(0.2 * (120 + copies))] * 2
        held_out.append(2 * copies - len(set(range(2 * copies)) - set(val.groups.tolist())))
    # A fifth of the pairs on average, to the nearest pair of each class.
    assert abs(float(np.mean(held_out)) - 0.2 * 2 * copies) <= 1


def test_a_class_of_two_large_groups_gives_the_smaller_one() -> None:
    _, val = carve(images([0] * 10 + [1] * 10, [0] * 6 + [1] * 4 + list(range(2, 12))), 2, 0.2, seed=0)
    assert sorted(np.bincount(val.labels).tolist()) == [2, 4]


def test_a_class_in_one_group_stays_in_train_and_is_noted() -> None:
    whole = Dataset("data", ("a", "b"), {"all": images([0] * 5 + [1] * 5, [0] * 5 + [1, 2, 3, 4, 5])})
    done = with_validation(whole)
    assert counts(done.splits["val"], done.classes) == {"a": 0, "b": 1}
    assert any("val has no images of 'a'" in note for note in done.notes)
    assert any("groups kept whole" in note for note in done.notes)


@settings(max_examples=100, deadline=None)
@given(GROUPED, st.integers(2, 6))
def test_folds_divide_no_group(members: list[tuple[int, int]], folds: int) -> None:
    labels, groups = (np.array(column) for column in zip(*members, strict=True))
    fold = stratified_folds(labels, folds, 0, groups)
    assert fold.max() < folds and fold.min() >= -1
    for group in np.unique(groups):
        assert len(set(fold[groups == group])) == 1 or (groups == group).sum() == 1
    # Images alone in their class and group are never held out.
    assert all((labels == label).sum() == 1 for label in labels[fold == -1])


@pytest.mark.parametrize(
    ("sizes", "folds"), [((40,), 1), ((39, 1), 2), ((20, 20), 2), ((30, 8, 1, 1), 4), ((10,) * 4, 4), ((5,) * 8, 5)]
)
def test_few_groups_make_as_many_folds(sizes: tuple[int, ...], folds: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(20):
        labels = np.random.default_rng(seed).permutation(np.arange(40) % 2)
        fold = stratified_folds(labels, 5, seed, groups)
        assert sorted(set(fold.tolist())) == list(range(folds))
        assert all(len(set(fold[groups == group])) == 1 for group in range(len(sizes)))


def test_a_classifier_can_answer_for_an_image_if_another_fold_has_its_class() -> None:
    labels, fold = np.array([0, 0, 1, 1, 2, 3, 3]), np.array([0, 1, 0, 0, -1, -1, 1])
    assert answerable(labels, fold).tolist() == [True, True, False, False, False, False, True]
    assert not answerable(labels, np.zeros(7, np.int64)).any()
    assert not len(answerable(labels[:0], fold[:0]))


def test_folds_of_groups_are_balanced() -> None:
    groups = np.repeat(np.arange(50), 4)
    labels = groups % 2
    fold = stratified_folds(labels, 5, 0, groups)
    assert [np.bincount(labels[fold == number]).tolist() for number in range(5)] == [[20, 20]] * 5


def test_carving_follows_the_seed() -> None:
    whole = images([0, 1] * 50)
    first, again, other = (carve(whole, 2, 0.2, seed)[1].rows.tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_a_missing_val_is_carved_and_said() -> None:
    done = with_validation(dataset(all=[0] * 10 + [1] * 30), seed=7)
    assert counts(done.splits["val"], done.classes) == {"a": 2, "b": 6}
    assert counts(done.splits["train"], done.classes) == {"a": 8, "b": 24}
    assert done.notes == ("no val split: 8 of 40 images were set aside for it, stratified by class, seed 7",)


@pytest.mark.parametrize("weight", [0.1, 1.0, 3.0])
def test_weights_that_are_equal_are_left_out_and_others_stay(weight: float) -> None:
    whole = images([0, 1] * 20)
    equal, other = np.full(40, weight, np.float32), np.linspace(0, 1, 40, dtype=np.float32)
    for weights, kept in ((equal, False), (other, True), (np.zeros(40, np.float32), True)):
        done = with_validation(Dataset("data", ("a", "b"), {"all": replace(whole, weights=weights)}))
        assert all((part.weights is not None) == kept for part in done.splits.values())


def test_an_empty_val_is_carved_too() -> None:
    assert len(with_validation(dataset(train=[0, 1] * 5, val=[])).splits["val"]) == 2


def test_splits_that_are_there_stay_as_they_are() -> None:
    done = with_validation(dataset(train=[0, 1, 1, 0], val=[1, 0], test=[0, 1]))
    assert {name: p.labels.tolist() for name, p in done.splits.items()} == {
        "train": [0, 1, 1, 0],
        "val": [1, 0],
        "test": [0, 1],
    }
    assert list(done.splits) == ["train", "val", "test"] and done.notes == ()


def test_a_label_that_train_does_not_know_is_named() -> None:
    with pytest.raises(DataError, match="'val', got 'b' as well"):
        with_validation(dataset(("a", "b", "c"), train=[0, 2], val=[1]))


def test_a_class_missing_from_val_is_noted_and_nothing_shifts() -> None:
    done = with_validation(dataset(("a", "b", "c"), train=[0, 0, 1, 1, 2, 2], val=[0, 2]))
    assert done.splits["val"].labels.tolist() == [0, 2]
    assert done.notes == ("val has no images of 'b': its scores say nothing about that",)


def test_declared_classes_without_images_are_left_out_by_name() -> None:
    done = with_validation(dataset(("a", "b", "c"), train=[2, 0, 2, 0], val=[2, 0]))
    assert done.classes == ("a", "c") and done.splits["train"].labels.tolist() == [1, 0, 1, 0]
    assert done.item("val", 0).label == "c"
    assert "cannot be learned: b" in done.notes[0]


def test_a_single_image_stays_in_train_and_is_noted() -> None:
    done = with_validation(dataset(train=[0, 0, 0, 1]))
    assert counts(done.splits["train"], done.classes) == {"a": 2, "b": 1}
    assert any("only one image to train on: 'b'" in note for note in done.notes)
    assert any("val has no images of 'b'" in note for note in done.notes)


@pytest.mark.parametrize(
    ("classes", "splits", "message"),
    [
        (("a",), {"all": [0, 0, 0]}, "two classes or more, got only 'a'"),
        (("a", "b"), {"train": [0, 0]}, "two classes or more, got only 'a'"),
        (("a", "b"), {"all": [0, 1]}, "two images or more .* got only one image of each class"),
        (("a", "b"), {"val": [0, 1]}, "images to train on in data, got 2 in 'val'"),
        (("a", "b"), {"train": [], "val": [0]}, "images to train on"),
    ],
)
def test_too_little_is_one_sentence(classes: tuple[str, ...], splits: dict[str, list[int]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        with_validation(dataset(classes, **splits))


def test_a_split_of_another_name_is_noted() -> None:
    done = with_validation(dataset(train=[0, 1, 0, 1], extra=[0, 1]))
    assert "extra" not in done.splits
    assert any("'extra'" in note and "2 images were left out" in note for note in done.notes)
    # Rows are counted anew in every split of this dataset, so these are the names of its images.
    assert done.left_out == dict.fromkeys(["0.jpg", "1.jpg"], "split 'extra' is not train, val or test")
