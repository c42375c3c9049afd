"""The lookup tables of `calibration.json`: what it holds besides the temperature, and how requests are answered.

All of it was measured by `graft.evaluation` on images that no weights saw. A request between two rows gets the stricter
one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from graft.errors import WeightsError


@dataclass(frozen=True)
class ErrorBudget:
    """Answers with a confidence of `threshold` or more keep `budget`, the share that may be wrong.

    `threshold` is None if none is known to. Of `n` held-out images, one per group if they are grouped, `answered` had
    such a confidence and `wrong` of these were wrong. Showing that the budget is kept takes at least `needed` images.
    """

    budget: float
    threshold: float | None
    n: int
    answered: int
    wrong: int
    needed: int

    @property
    def too_few(self) -> bool:
        """Whether there are too few images to show it even without an error; otherwise errors rule it out."""
        return self.n < self.needed


@dataclass(frozen=True)
class Sets:
    """Classes with a probability of `threshold` or more form a set that holds the right one with chance `coverage`.

    With the thresholds `per_class`, in class order, this holds within every class.
    """

    coverage: float
    threshold: float
    per_class: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Domain:
    """The distribution of the training images: `bank`, float16 (m, D), unit-length features of some of them.

    An image is unlike them when its distance to the `neighbours`-th nearest exceeds `threshold`. This holds for a share
    of 1 - `kept` of images like the training images; `threshold` is None if there are too few to know it.
    """

    bank: np.ndarray
    neighbours: int
    threshold: float | None
    kept: float
    n: int

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Return the distances of `features` (n, D), float32 (n,), from 0 to 2: one minus the cosine.

        Raises WeightsError for features of another network than the one whose features are in the bank.
        """
        if features.shape[1] != self.bank.shape[1]:
            raise WeightsError(
                f"expected {features.shape[1]:,} features of each image in domain.safetensors, as the network has, got "
                f"{self.bank.shape[1]:,}: restore the file that was saved with the model"
            )
        features = features.astype(np.float32)
        unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        near = np.partition(unit @ self.bank.astype(np.float32).T, -self.neighbours, axis=1)
        return np.asarray(1 - near[:, -self.neighbours])

    def to_dict(self) -> dict[str, Any]:
        return {"neighbours": self.neighbours, "threshold": self.threshold, "kept": self.kept, "n": self.n}


@dataclass(frozen=True, eq=False)
class Calibration:
    """The tables: `source` says how the `n` images were held out; budgets hold with `confidence`. Rows are in order."""

    source: str
    n: int
    confidence: float
    budgets: tuple[ErrorBudget, ...]
    sets: tuple[Sets, ...]
    domain: Domain | None = None

    def budget(self, asked: float) -> ErrorBudget | None:
        """Return the row for a budget, or the next stricter one; None for one below all rows."""
        return max(
            (row for row in self.budgets if row.budget <= asked + 1e-12), key=lambda row: row.budget, default=None
        )

    def least_reachable(self) -> float | None:
        """The strictest budget that is known to be kept."""
        return min((row.budget for row in self.budgets if row.threshold is not None), default=None)

    def sets_of(self, asked: float) -> Sets | None:
        """Return the row for a coverage, or the next higher one; None for one above all rows."""
        return min(
            (row for row in self.sets if row.coverage >= asked - 1e-12), key=lambda row: row.coverage, default=None
        )

    def in_other_classes(self) -> "Calibration":
        """Return what still holds when the classifier is read in other classes than its own: what images it knows."""
        return replace(self, budgets=(), sets=())

    def to_dict(self) -> dict[str, Any]:
        return {
            "held_out": {"source": self.source, "n": self.n},
            "confidence": self.confidence,
            "error_budgets": [asdict(row) for row in self.budgets],
            "sets": [{**asdict(row), "per_class": list(row.per_class)} for row in self.sets],
            **({} if self.domain is None else {"domain": self.domain.to_dict()}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], classes: int, bank: np.ndarray | None = None) -> "Calibration | None":
        """Parse what `to_dict` returned; None for a file of an earlier version, which has none of it.

        Raises ValueError for anything else.
        """
        if "held_out" not in values:
            return None
        try:
            held_out = values["held_out"]
            found = cls(
                str(held_out["source"]),
                _whole(held_out["n"]),
                _share(values["confidence"]),
                tuple(_error_budget(row) for row in values["error_budgets"]),
                tuple(_sets(row, classes) for row in values["sets"]),
                None if bank is None or "domain" not in values else _domain(values["domain"], bank),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"nothing that can be read ({error})") from None
        return found


def _error_budget(row: Mapping[str, Any]) -> ErrorBudget:
    threshold = row["threshold"]
    numbers = (_whole(row[name]) for name in ("n", "answered", "wrong", "needed"))
    return ErrorBudget(_share(row["budget"]), None if threshold is None else _share(threshold), *numbers)


def _sets(row: Mapping[str, Any], classes: int) -> Sets:
    per_class = tuple(_share(each) for each in row["per_class"])
    if len(per_class) != classes:
        raise ValueError(f"thresholds of {len(per_class)} classes for {classes}")
    return Sets(_share(row["coverage"]), _share(row["threshold"]), per_class)


def _domain(values: Mapping[str, Any], bank: np.ndarray) -> Domain:
    neighbours, threshold = _whole(values["neighbours"]), values["threshold"]
    if bank.ndim != 2 or bank.dtype != np.float16 or not 1 <= neighbours <= len(bank) or not np.isfinite(bank).all():
        raise ValueError(f"a bank of features {bank.shape} {bank.dtype} for {neighbours} neighbours")
    limit = None if threshold is None else 2 * _share(threshold / 2)
    return Domain(bank, neighbours, limit, _share(values["kept"]), _whole(values["n"]))


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{str(value)[:40]} where a number from 0 to 1 has to be")
    return float(value)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{str(value)[:40]} where a number of images has to be")
    return value
