"""How many images it takes before a deep level beats a head: accuracy by images per class and by level.

The base is `latin_letters`, as in `graft.lab.transfer`, whose `scenarios` compares levels at two numbers of images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor

from graft.lab.drawn_images import LETTERS, MOSAICS, mosaic
from graft.lab.experiment import Conditions, Experiment, Figure, Measure, Outcome, Series, Side, over_seeds
from graft.lab.trained import Images, paired
from graft.lab.transfer import ALL, CLASSES, HEAD, MOST, cyrillic, reached

LEVELS = (HEAD, MOST, ALL)
# For each level, the test accuracy of every seed at each number of images.
Reached = Mapping[str, list[list[float]]]


@dataclass(frozen=True)
class Form:
    """Training images per class, fewest first; test images per class; training steps; seeds."""

    numbers: tuple[int, ...]
    test: int
    steps: int
    seeds: int


QUICK, FULL = Form((2, 10, 50), 20, 80, 4), Form((2, 5, 10, 20, 50, 100), 20, 400, 5)


NEAR, FAR = "letters", "mosaics"
CHANGES: dict[str, Callable[[Tensor], Tensor]] = {NEAR: lambda images: images, FAR: mosaic}


def few_of(images: Images, number: int) -> Images:
    """Return the first `number` images of each class; a larger number includes the images of a smaller one."""
    pixels, labels = images
    rows = torch.cat([torch.nonzero(labels == label).flatten()[:number] for label in labels.unique()])
    return pixels[rows], labels[rows]


def crossing(differences: Sequence[Measure], numbers: Sequence[int]) -> int | None:
    """Return the least number from which on the difference's whole interval is above 0; None if there is none.

    `differences` are the deeper level less the head, one for each of `numbers`, which increase.
    """
    found = None
    for number, difference in zip(reversed(numbers), reversed(differences), strict=True):
        if difference.low <= 0:
            break
        found = number
    return found


def run_crossing(conditions: Conditions) -> Outcome:
    """Compare three levels at several numbers of images, on Cyrillic letters and on mosaics of them. T6."""
    form = QUICK if conditions.quick else FULL
    seeds = conditions.seeds(form.seeds, form.seeds)
    ends: dict[str, dict[str, list[list[float]]]] = {
        task: {level: [[] for _ in form.numbers] for level in LEVELS} for task in CHANGES
    }
    for turn, seed in enumerate(seeds):
        (images, labels), (others, other_labels) = cyrillic(form.numbers[-1], form.test, seed)
        for task, change in CHANGES.items():
            train, test = (change(images), labels), (change(others), other_labels)
            for at, number in enumerate(form.numbers):
                own = few_of(train, number)
                for level in LEVELS:
                    ends[task][level][at].append(reached(level, own, test, form.steps, seed))
        conditions.reporter.step("seeds", turn + 1, len(seeds))
    return outcome_of(ends, form)


def outcome_of(ends: Mapping[str, Reached], form: Form) -> Outcome:
    """Build the outcome from the accuracies on both tasks."""
    few, many = form.numbers[0], form.numbers[-1]
    each = {
        (task, level): _differences(task, own, level, form.numbers)
        for task, own in ends.items()
        for level in (MOST, ALL)
    }
    told = []
    for (task, level), differences in each.items():
        found = crossing(differences, form.numbers)
        told.append(f"{task}, {level}: " + (f"from {found} on" if found is not None else "not within these"))
    over = {task: [paired(*pair) for pair in zip(own[ALL], own[HEAD], strict=True)] for task, own in ends.items()}
    # For each seed, the mean over the numbers of images.
    gains = {task: [mean(values) for values in zip(*found, strict=True)] for task, found in over.items()}
    return Outcome(
        f"{CLASSES} Cyrillic letters from the Latin base, {few} to {many} images of each, and the same as mosaics of "
        f"shuffled tiles; {form.steps} steps. A deeper level is better than head by more than chance: "
        + "; ".join(told)
        + ".",
        (
            *(measure for differences in each.values() for measure in differences),
            over_seeds(
                f"what more images add to all over head, {NEAR}",
                paired(over[NEAR][-1], over[NEAR][0]),
                "above",
                percent=True,
            ),
            over_seeds("what mosaics add to all over head", paired(gains[FAR], gains[NEAR]), "above", percent=True),
        ),
        Figure(
            "Few images against many, at three levels",
            "images of each class",
            "test accuracy, %",
            tuple(
                Series(
                    f"{task}, {level}",
                    tuple(map(float, form.numbers)),
                    tuple(100 * mean(values) for values in found),
                )
                for task, own in ends.items()
                for level, found in own.items()
            ),
            logarithmic_x=True,
        ),
        f"{LETTERS}; {MOSAICS}",
    )


def _differences(task: str, own: Reached, level: str, numbers: Sequence[int]) -> list[Measure]:
    """Return a level's differences from head.

    The claim is about `all`: worse with few letters, better with many letters and with many mosaics.
    """
    predicted: dict[int, Side] = {}
    if level == ALL:
        predicted = {numbers[-1]: "above"} if task == FAR else {numbers[0]: "below", numbers[-1]: "above"}
    return [
        over_seeds(
            f"{task}, {number} of each: {level} less head", paired(deep, head), predicted.get(number), percent=True
        )
        for number, deep, head in zip(numbers, own[level], own[HEAD], strict=True)
    ]


CROSSING = Experiment(
    "crossing",
    ("T6",),
    "From few images a head is better, from many deeper fine-tuning, and the less alike the data the sooner.",
    run_crossing,
    seconds=50,
    full_seconds=900,
)
