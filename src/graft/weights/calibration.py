"""What `calibration.json` says of a classifier beside its temperature, and how it is obeyed: as tables to look up.

All of it was found on images that no weights saw, by `graft.evaluation`. What is asked for between two rows is answered
by the stricter one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from graft.errors import WeightsError


@dataclass(frozen=True)
class ErrorBudget:
    """Answers with a confidence of `threshold` or more keep `budget`, the part that may be wrong.

    It is None where no threshold is known to. Of `n` held-out images, one of each group where they are in groups,
    `answered` had such a confidence and `wrong` of these were wrong. It takes `needed` images at the least to show that
    the budget is kept.
    """

    budget: float
    threshold: float | None
    n: int
    answered: int
    wrong: int
    needed: int

    @property
    def too_few(self) -> bool:
        """Whether so few images could not show it without an error among them; else it is errors that forbid it."""
        return self.n < self.needed


@dataclass(frozen=True)
class Sets:
    """Classes with a probability of `threshold` or more are a set that holds the right one with the chance `coverage`.

    With the thresholds `per_class`, in the order of the classes, the chance holds within every class.
    """

    coverage: float
    threshold: float
    per_class: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Domain:
    """What the images trained on are like: `bank`, float16 (m, D), features of some at length one.

    An image whose distance to the `neighbours`-th nearest is above `threshold` is unlike them. That is so of the part 1
    - `kept` of images such as these; `threshold` is None with too few to know it.
    """

    bank: np.ndarray
    neighbours: int
    threshold: float | None
    kept: float
    n: int

    def distances(self, features: np.ndarray) -> np.ndarray:
        """How far off the images of `features` (n, D) are, float32 (n,), from 0 to 2: one minus the cosine.

        Raises WeightsError for features of another network than those that were kept.
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
    """`source` says how the `n` images were held out; budgets hold with the given `confidence`. Rows are in order."""

    source: str
    n: int
    confidence: float
    budgets: tuple[ErrorBudget, ...]
    sets: tuple[Sets, ...]
    domain: Domain | None = None

    def budget(self, asked: float) -> ErrorBudget | None:
        """The row for a budget, or the next stricter one; None for one below all."""
        return max(
            (row for row in self.budgets if row.budget <= asked + 1e-12), key=lambda row: row.budget, default=None
        )

    def least_reachable(self) -> float | None:
        """The strictest budget that is known to be kept."""
        return min((row.budget for row in self.budgets if row.threshold is not None), default=None)

    def sets_of(self, asked: float) -> Sets | None:
        """The row for a coverage, or the next higher one; None for one above all."""
        return min(
            (row for row in self.sets if row.coverage >= asked - 1e-12), key=lambda row: row.coverage, default=None
        )

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
        """What `to_dict` gave; None of a file of an earlier version, which has none of it.

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
