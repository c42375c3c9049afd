"""Which crops a head is solved on, as decided by their folds."""

from dataclasses import replace

import numpy as np
import pytest

from graft.data.dataset import TRAIN
from graft.data.handed_over import from_arrays
from graft.features.engine import choose
from graft.training.heads import solve_head, solve_head_on_crops
from graft.training.recipe import Recipe
from graft.training.task import Task
from graft.transfer.head import log_softmax
from graft.weights.base import load_base

COUNT, WIDTH = 60, 16
RANDOM = np.random.default_rng(0)
LABELS = np.arange(COUNT) % 3
FEATURES = (RANDOM.normal(size=(3, WIDTH))[LABELS] + RANDOM.normal(size=(COUNT, WIDTH))).astype(np.float32)
NOISE = np.random.default_rng(1).normal(size=(4, COUNT, WIDTH))


@pytest.fixture(scope="module")
def task() -> Task:
    """A task whose images are never read: only their labels count here."""
    pixels, names = RANDOM.integers(0, 256, (COUNT, 8, 8)).astype(np.uint8), [f"class {each}" for each in LABELS]
    dataset = from_arrays(pixels, names)
    dataset = replace(dataset, splits={TRAIN: dataset.splits["all"]})
    return Task.of(dataset, load_base("latin_letters"), choose("torch", "float32"), Recipe())


@pytest.mark.parametrize(
    ("other", "all_of_them"),
    [
        # The same objects in another light: the folds do worse with it, but not significantly.
        (FEATURES + NOISE[2], True),
        # The same objects, and the folds do better.
        (FEATURES + NOISE[1], True),
        # An object of another class in each image.
        (np.roll(FEATURES, 1, axis=0), False),
    ],
)
def test_all_crops_count_unless_the_first_alone_is_known_to_do_better(
    other: np.ndarray, all_of_them: bool, task: Task
) -> None:
    crops = np.stack([FEATURES, other.astype(np.float32)])
    shown = task.dataset.splits[TRAIN]
    head = solve_head_on_crops(task, crops, shown)
    expected = solve_head(task, crops if all_of_them else crops[:1], shown)
    np.testing.assert_array_equal(head.weight, expected.weight)
    assert not np.array_equal(head.weight, solve_head(task, crops[:1] if all_of_them else crops, shown).weight)


def test_rare_classes_weigh_more_in_a_head_if_classes_are_balanced(task: Task) -> None:
    shown = task.dataset.splits[TRAIN]
    # Of one class there are 3 images, of the others 20 each.
    rows = np.flatnonzero((LABELS > 0) | (np.arange(COUNT) < 9))
    # Features say nothing of the class, so that its frequency decides.
    few, features = shown.take(rows), NOISE[:1, rows].astype(np.float32)
    balanced = replace(task, recipe=replace(task.recipe, class_weights="balanced"))
    alone = solve_head(balanced, features, few)
    by_hand = len(rows) / (3 * np.bincount(few.labels)[few.labels])
    np.testing.assert_allclose(
        alone.weight, solve_head(task, features, replace(few, weights=by_hand)).weight, rtol=1e-5
    )
    # Weights of images count as well, and more is stated of what is rare.
    twice = replace(few, weights=np.where(few.labels == 1, 2.0, 1.0))
    assert not np.array_equal(solve_head(balanced, features, twice).weight, alone.weight)
    stated = [
        np.exp(log_softmax(features[0] @ head.weight.T + head.bias))[:, 0].mean()
        for head in (alone, solve_head(task, features, few))
    ]
    assert stated[0] > 1.5 * stated[1]
