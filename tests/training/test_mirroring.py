"""Whether mirror images keep their class is tried, not assumed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graft.data.dataset import TRAIN, VAL, Dataset
from graft.data.opening import open_dataset
from graft.features.engine import choose
from graft.progress import Reporter
from graft.training.mirroring import Mirroring, try_mirroring, with_flips_tried
from graft.training.recipe import Recipe
from graft.training.task import Task
from graft.transfer.race import paired_gain
from graft.weights.base import load_base, untrained_base

BASE = "mobilenet_v1_025_imagenet.safetensors"


def some(dataset: Dataset, count: int) -> Dataset:
    """`dataset` with so many images of it to train on."""
    images = dataset.splits[TRAIN]
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[:count])
    return replace(dataset, splits={TRAIN: images.take(chosen), VAL: images.take(chosen[:9])})


def task_of(dataset: Dataset, shared: Path, recipe: Recipe, size: int = 64, **others: object) -> Task:
    base = load_base(str(shared / "weights" / BASE))
    base = replace(base, preprocessing=replace(base.preprocessing, size=size))
    return Task.of(dataset, base, choose("torch", "float32"), recipe, **others)


@pytest.fixture(scope="module")
def digits(shared: Path) -> Dataset:
    return some(open_dataset(shared / "datasets" / "mnist"), 500)


@pytest.fixture(scope="module")
def photographs(shared: Path) -> Dataset:
    return some(open_dataset(shared / "datasets" / "ants_bees"), 160)


def test_digits_are_not_flipped(digits: Dataset, shared: Path) -> None:
    told: list[str] = []
    task = with_flips_tried(task_of(digits, shared, Recipe(), reporter=Reporter(note=told.append)))
    assert task.recipe.flip is False and task.recipe.augmentation().flip == 0.0
    assert any(note.startswith("flips are left out: a probe recognises") for note in told)
    # All else is augmented as before.
    assert task.recipe.augmentation().crop is not None


def test_photographs_are_flipped(photographs: Dataset, shared: Path) -> None:
    told: list[str] = []
    task = task_of(photographs, shared, Recipe(), size=128, reporter=Reporter(note=told.append))
    tried = with_flips_tried(task)
    assert tried.recipe.flip is True and tried.recipe.augmentation().flip > 0
    assert any(note.startswith("flips are used: a probe recognises") and "of 160 held-out" in note for note in told)


def test_a_network_that_knows_letters_has_no_doubt_of_digits(digits: Dataset) -> None:
    found = try_mirroring(Task.of(digits, load_base("latin_letters"), choose("torch", "float32"), Recipe()))
    assert found is not None and found.mirrored < 0.5 < found.accuracy and not found.harmless


def test_the_same_seed_tries_the_same(digits: Dataset, shared: Path) -> None:
    task = task_of(digits, shared, Recipe())
    found = try_mirroring(task)
    assert found is not None and found == try_mirroring(task)
    assert found.mirrored < found.accuracy - 0.04 and found.n == 500


def test_the_error_of_a_difference_is_by_groups(digits: Dataset, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, known = digits.splits[TRAIN], []

    def kept(right: np.ndarray, other: np.ndarray, units: np.ndarray | None) -> tuple[float, float]:
        known.append(units)
        return paired_gain(right, other, units)

    monkeypatch.setattr("graft.training.mirroring.paired_gain", kept)
    grouped = replace(images, groups=np.arange(len(images)) // 5)
    found = try_mirroring(task_of(replace(digits, splits={**digits.splits, TRAIN: grouped}), shared, Recipe()))
    (units,) = known
    assert found is not None and len(units) == found.n and len(np.unique(units)) == 100


@pytest.mark.parametrize("recipe", [Recipe(flip=True), Recipe(flip=False), Recipe(augment="none")])
def test_what_was_asked_for_or_makes_no_difference_is_not_tried(
    recipe: Recipe, digits: Dataset, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tried(task: Task) -> None:
        raise AssertionError("mirror images were tried")

    monkeypatch.setattr("graft.training.mirroring.try_mirroring", tried)
    task = task_of(digits, shared, recipe)
    assert with_flips_tried(task) is task
    untrained = replace(task_of(digits, shared, Recipe(augment="light")), base=untrained_base("resnet20"))
    assert with_flips_tried(untrained) is untrained


def test_with_one_image_per_class_nothing_can_be_tried(digits: Dataset, shared: Path) -> None:
    images = digits.splits[TRAIN]
    first = np.sort(np.unique(images.labels, return_index=True)[1])
    alone = replace(digits, splits={TRAIN: images.take(first), VAL: digits.splits[VAL]})
    task = task_of(alone, shared, Recipe())
    assert try_mirroring(task) is None and with_flips_tried(task) is task


def test_with_images_of_one_group_nothing_is_tried_and_that_is_said(digits: Dataset, shared: Path) -> None:
    told: list[str] = []
    images = digits.splits[TRAIN].take(np.arange(60))
    for groups in (np.zeros(60, np.int64), images.labels):
        grouped = replace(digits, splits={TRAIN: replace(images, groups=groups), VAL: digits.splits[VAL]})
        task = task_of(grouped, shared, Recipe(), reporter=Reporter(note=told.append))
        assert try_mirroring(task) is None and with_flips_tried(task) is task
        assert told.pop().startswith("flips are used without a trial") and not told


def test_mirror_images_are_harmless_up_to_what_chance_makes_of_so_few() -> None:
    assert Mirroring(0.9, 0.885, 0.02, 100).harmless
    assert not Mirroring(0.9, 0.87, 0.02, 100).harmless
    assert Mirroring(0.9, 0.95, 0.01, 100).harmless
