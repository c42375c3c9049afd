"""When a classifier gives no answer, or not the likeliest: error budgets, sets, strange images, favoured classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from xxhash import xxh3_64

from graft.errors import InputError, did_you_mean
from graft.given import share, truth
from graft.names import plain
from graft.weights.calibration import Calibration, Domain
from graft.words import first_few, independent

# The reasons for abstaining, as every format writes them.
UNSURE, UNLIKE = "unsure", "unlike the training images"


@dataclass(frozen=True, eq=False)
class Rule:
    """Withholds answers with less confidence than `threshold`, and those for images outside of `domain`.

    `sets` are the probabilities from which each class belongs to a set, (classes,); None where no sets are asked for.
    `favoured` is the number of a class, and the probability from which on it is the answer even if another is likelier.
    """

    threshold: float = 0.0
    sets: np.ndarray | None = None
    domain: Domain | None = None
    favoured: tuple[int, float] | None = None

    def key(self) -> str:
        """A short text that identifies the rule; empty for no rule."""
        if self is NO_RULE:
            return ""
        sets = "" if self.sets is None else xxh3_64(self.sets.tobytes()).hexdigest()
        favoured = "" if self.favoured is None else f" {self.favoured}"
        return f"{self.threshold} {sets} {None if self.domain is None else self.domain.threshold}{favoured}"

    def answer(self, probabilities: np.ndarray) -> int:
        """Return the class to answer with, from probabilities (classes,)."""
        if self.favoured is not None and probabilities[self.favoured[0]] >= self.favoured[1]:
            return self.favoured[0]
        return int(probabilities.argmax())

    def reason(self, confidence: float, distance: float | None = None) -> str | None:
        """Return why an answer with this confidence, this far from the domain, is withheld; None if it is given."""
        limit = None if self.domain is None else self.domain.threshold
        if limit is not None and distance is not None and distance > limit:
            return UNLIKE
        return UNSURE if confidence < self.threshold else None

    def members(self, probabilities: np.ndarray) -> list[int] | None:
        """Return the classes in the set of an image, likeliest first, from probabilities (classes,); at least one."""
        if self.sets is None:
            return None
        likeliest, *others = np.argsort(-probabilities, kind="stable").tolist()
        return [likeliest, *(index for index in others if probabilities[index] >= self.sets[index])]


NO_RULE = Rule()


def rule_for(
    calibration: Calibration | None,
    *,
    error_budget: float | str | None = None,
    sets: float | str | None = None,
    sets_per_class: bool = False,
    abstain: bool = False,
    recall: Mapping[str, float | str] | str | None = None,
    classes: Sequence[str] = (),
) -> Rule:
    """Return the rule asked for, within what the classifier's `calibration` promises. Raises InputError beyond that.

    `recall` is a class with the share of its images to find: a text such as `defect=95%`, or a mapping of one entry.
    """
    abstain, per_class = truth(abstain, "--abstain"), truth(sets_per_class, "--sets-per-class")
    if per_class and sets is None:
        raise InputError("expected --sets with --sets-per-class, got none: add it, such as --sets 90%")
    if recall is not None and (error_budget is not None or sets is not None):
        raise InputError(
            "expected --recall without --error-budget and --sets, got both: the promises of these are about the "
            "likeliest class, so leave one of them out"
        )
    if error_budget is None and sets is None and recall is None and not abstain:
        return NO_RULE
    if calibration is None:
        raise InputError(
            "expected a classifier saved with its held-out results, got one without (of an earlier version, of too "
            "few images, or not made by graft): train it again, or leave --error-budget, --sets, --recall and "
            "--abstain out"
        )
    return Rule(
        threshold=0.0 if error_budget is None else _threshold(calibration, share(error_budget, "--error-budget")),
        sets=None if sets is None else _sets(calibration, share(sets, "--sets"), per_class),
        domain=_domain(calibration) if abstain else None,
        favoured=None if recall is None else _favoured(calibration, *_of_class(recall, classes)),
    )


def _threshold(calibration: Calibration, asked: float) -> float:
    row = calibration.budget(asked)
    if row is not None and row.threshold is not None:
        return row.threshold
    least = calibration.least_reachable()
    instead = "give more images to train on" if least is None else f"{100 * least:.3g}% is reachable"
    reason = ""
    if row is not None:
        reason = (
            f" (it takes {row.needed:,} without an error)"
            if row.too_few
            else " (too many of the surest answers are wrong)"
        )
    raise InputError(
        f"expected an error budget that the held-out images can guarantee, got {100 * asked:.3g}%, which is not "
        f"reachable with {independent(calibration.n if row is None else row.n, calibration.n)}{reason}: {instead}"
    )


def _sets(calibration: Calibration, asked: float, per_class: bool) -> np.ndarray:
    row = calibration.sets_of(asked)
    if row is None:
        most = max(row.coverage for row in calibration.sets)
        raise InputError(
            f"expected sets that contain the right class with a probability of {most} or less, got {asked}: lower it"
        )
    return np.array(row.per_class) if per_class else np.full(len(row.per_class), row.threshold)


def _of_class(recall: Mapping[str, float | str] | str, classes: Sequence[str]) -> tuple[str, int, float]:
    """Return the class, its number and the share that `recall` says. Raises InputError."""
    if isinstance(recall, str):
        name, is_said, asked = recall.rpartition("=")
        said: list[tuple[str, float | str]] = [(name, asked)] if is_said else []
    else:
        said = list(recall.items()) if isinstance(recall, Mapping) else []
    if len(said) != 1:
        raise InputError(
            f"expected a class and the share of its images to find, such as {plain(classes[0])}=95%, for --recall, got "
            f"{recall!r}: give one class"
        )
    name, value = said[0]
    # As a table writes them, and as they are.
    known = {plain(each): number for number, each in enumerate(classes)}
    known |= {each: number for number, each in enumerate(classes)}
    if name not in known:
        raise InputError(
            f"expected a class of the classifier for --recall, got {name!r}{did_you_mean(name, classes)}: its classes "
            f"are {first_few(map(repr, classes), 6)}"
        )
    return name, known[name], share(value, "--recall")


def _favoured(calibration: Calibration, name: str, number: int, asked: float) -> tuple[int, float]:
    row = calibration.sets_of(asked)
    least = 0.0 if row is None else row.per_class[number]
    # With a threshold of zero every image would get the class.
    if row is None or not least > 0:
        raise InputError(
            f"expected a share of {name!r} that the held-out images of this class can guarantee to find, got "
            f"{100 * asked:.6g}%: lower it, or train with more images of it"
        )
    return number, least


def _domain(calibration: Calibration) -> Domain:
    if calibration.domain is None or calibration.domain.threshold is None:
        raise InputError(
            "expected a classifier that keeps features of its training images for --abstain, got one without (an "
            "exported file, or one of too few images): use the run itself, or leave --abstain out"
        )
    return calibration.domain
