"""Compare two classifiers on the same labelled images."""

import time
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from graft.errors import DataError, InputError
from graft.evaluation.mcnemar import Difference, compare_answers
from graft.evaluation.scores import Scores
from graft.given import path, truth
from graft.progress import Reporter, reporting
from graft.weights.model_files import refuse_several_labels
from graft.words import counted
from graft.workflows.evaluate import answer
from graft.workflows.prepare import BaseOptions, DataOptions


@dataclass(frozen=True, repr=False)
class Contest:
    """Two classifiers on the same images, neither trained on any of them: the scores of each and their `difference`."""

    models: tuple[str, str]
    data: str
    split: str
    scores: tuple[Scores, Scores]
    difference: Difference
    seconds: float
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        low, high = self.difference.ci95
        gain = f"{self.difference.difference:+.3f} ({low:+.3f} to {high:+.3f})"
        return f"Contest({self.models[0]!r}, {self.models[1]!r}, difference={gain}, n={self.difference.n})"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that `graft evaluate RUN_A RUN_B DATA --json` prints."""
        named = zip(self.models, self.scores, strict=True)
        return {
            "data": self.data,
            "split": self.split,
            "runs": [{"run": name, **found.to_dict()} for name, found in named],
            "difference": self.difference.to_dict(),
            "seconds": {"total": self.seconds},
            "notes": list(self.notes),
        }


def evaluate_two(
    first: str | PathLike[str],
    second: str | PathLike[str],
    data: str | Path | DataOptions,
    *,
    split: str | None = None,
    known_only: bool = False,
    engine: str = "auto",
    precision: str = "auto",
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Contest:
    """Find out which of two classifiers is better on the labelled images at `data`, and whether that may be chance.

    Only images that neither was trained on count. Raises InputError if the two do not know the same classes or do not
    answer for the same images, DataError if no image is left.
    """
    started = time.perf_counter()
    known_only = truth(known_only, "--known-only")
    names = (path(first, "RUN_A"), path(second, "RUN_B"))
    with reporting(reporter, quiet) as told:
        # Both look at the same data, of which the same is to be said.
        told = replace(told, note=told.note_once)
        one, two = (answer(BaseOptions(each), data, split, None, known_only, engine, precision, told) for each in names)
    refuse_several_labels(one.base.thresholds is not None, "a comparison of two")
    if set(one.base.classes or ()) != set(two.base.classes or ()):
        differing = sorted(set(one.base.classes or ()) ^ set(two.base.classes or ()))
        raise InputError(
            f"expected two classifiers of the same classes, got {', '.join(map(repr, differing[:6]))} in only one of "
            "them: evaluate each on its own"
        )
    if [one.images.key(i) for i in range(len(one.images))] != [two.images.key(i) for i in range(len(two.images))]:
        odd = sorted(set(one.skipped) ^ set(two.skipped))
        raise InputError(
            f"expected answers of both classifiers for the same images, got some that one could not read "
            f"({', '.join(odd[:3]) or 'their order differs'}): leave these out"
        )
    fair = ~(one.seen | two.seen)
    if not fair.any():
        raise DataError(
            f"expected images that neither {names[0]} nor {names[1]} was trained on, got none in {one.split}: give "
            "others, or another --split"
        )
    notes = tuple(dict.fromkeys((*one.notes, *two.notes)))
    if not fair.all():
        notes = (*notes, f"{(~fair).sum():,} of {counted(len(fair), 'image')} were trained on, so they are not counted")
    # Either run may be the one that knows which images belong together.
    of_both = one.images.groups if one.images.groups is not None else two.images.groups
    one, two = (replace(each, images=replace(each.images, groups=of_both)) for each in (one, two))
    difference = compare_answers(one.right[fair], two.right[fair], None if of_both is None else of_both[fair])
    scores = (one.of(fair), two.of(fair))
    return Contest(names, one.source, one.split, scores, difference, time.perf_counter() - started, notes)
