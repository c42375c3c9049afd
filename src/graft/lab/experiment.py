"""What an experiment is, the conditions it runs under, and its outcome."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from graft.progress import NOBODY, Reporter

# A claim holds if its whole interval lies on the predicted side of the bound, and does not hold if none of it does; in
# between it is undecided.
Verdict = Literal["held", "did not hold", "undecided"]
HELD, FAILED, UNDECIDED = "held", "did not hold", "undecided"
Side = Literal["above", "below", "equal"]


@dataclass(frozen=True)
class Measure:
    """A measured figure, and where the claim puts it.

    `low` and `high` bound its 95 % interval, over seeds or images as the experiment says; both equal the value for a
    figure that is counted, not estimated. `predicted` is the side of `bound` on which the claim puts it, None for a
    figure that only informs. `percent` displays it as a percentage.
    """

    name: str
    value: float
    low: float
    high: float
    predicted: Side | None = None
    bound: float = 0.0
    percent: bool = False

    @property
    def verdict(self) -> Verdict | None:
        if self.predicted is None:
            return None
        if self.predicted == "equal":
            return "held" if self.low <= self.bound <= self.high else "did not hold"
        low, high, bound = self.low, self.high, self.bound
        if self.predicted == "below":
            low, high, bound = -high, -low, -bound
        return "held" if low > bound else "did not hold" if high <= bound else "undecided"

    def shown(self) -> str:
        """Format the value, with its interval where it has one: "+3.1 % (+2.0 to +4.2)"."""
        value = _figure(self.value, self.percent) + (" %" if self.percent else "")
        if self.low == self.high:
            return value
        return f"{value} ({_figure(self.low, self.percent)} to {_figure(self.high, self.percent)})"


def exactly(name: str, value: float, predicted: Side | None = None, bound: float = 0.0) -> Measure:
    """Return a counted figure."""
    return Measure(name, value, value, value, predicted, bound)


def over_seeds(
    name: str,
    values: Iterable[float],
    predicted: Side | None = None,
    bound: float = 0.0,
    *,
    percent: bool = False,
) -> Measure:
    """Return the mean of one value per seed, with Student's interval. Raises ValueError for fewer than two values."""
    from scipy.special import stdtrit

    found = [float(value) for value in values]
    if len(found) < 2:
        raise ValueError(f"expected 2 seeds or more for an interval, got {len(found)}: run more")
    mean = math.fsum(found) / len(found)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in found) / (len(found) - 1))
    half = float(stdtrit(len(found) - 1, 0.975)) * deviation / math.sqrt(len(found))
    return Measure(name, mean, mean - half, mean + half, predicted, bound, percent)


@dataclass(frozen=True)
class Series:
    """A line or a row of bars: values `y` at `x`, which are numbers for a line and names for bars."""

    name: str
    x: tuple[float, ...] | tuple[str, ...]
    y: tuple[float, ...]
    # Half the width of each value's 95 % interval; empty for none.
    half: tuple[float, ...] = ()


@dataclass(frozen=True)
class Figure:
    """The drawing of an experiment: lines where the x are numbers, bars where they are names."""

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    logarithmic: bool = False
    # For lines only, with ticks at the x of the series.
    logarithmic_x: bool = False


@dataclass(frozen=True)
class Outcome:
    """The outcome of an experiment: a sentence, the measured figures, and the drawing."""

    found: str
    measures: tuple[Measure, ...]
    figure: Figure
    data: str

    @property
    def verdict(self) -> Verdict:
        """Held if everything that the claim predicts does; not if anything does not; undecided if nothing tests it."""
        verdicts = [measure.verdict for measure in self.measures if measure.verdict is not None]
        if not verdicts:
            return "undecided"
        return "did not hold" if FAILED in verdicts else "undecided" if UNDECIDED in verdicts else "held"


@dataclass(frozen=True)
class Conditions:
    """What an experiment runs under; `data` is the folder that the user named, None for the data that graft carries."""

    quick: bool = False
    seed: int = 0
    data: Path | None = None
    reporter: Reporter = field(default=NOBODY, compare=False)

    def seeds(self, quick: int, full: int) -> range:
        """Return as many seeds as the form takes; different values of `seed` share none."""
        return range(1000 * self.seed, 1000 * self.seed + (quick if self.quick else full))


@dataclass(frozen=True)
class Experiment:
    """A textbook claim, by its numbers there, and the function that measures it.

    `seconds` is about how long the quick form takes on an idle x86 core, `full_seconds` the full form; a record has the
    time actually taken. `data` describes what `--data` expects, None if nothing; with `needs_data` there is no
    substitute.
    """

    name: str
    claims: tuple[str, ...]
    claim: str
    run: Callable[[Conditions], Outcome]
    seconds: float
    full_seconds: float
    data: str | None = None
    needs_data: bool = False


def _figure(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:.1f}"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def as_dict(outcome: Outcome) -> dict[str, Any]:
    """Convert an outcome for JSON, the figure's series included."""
    return {
        "verdict": outcome.verdict,
        "found": outcome.found,
        "data": outcome.data,
        "measures": [
            {
                "name": each.name,
                "value": each.value,
                "low": each.low,
                "high": each.high,
                "predicted": each.predicted,
                "bound": each.bound,
                "shown": each.shown(),
                "verdict": each.verdict,
            }
            for each in outcome.measures
        ],
        "series": [
            {"name": each.name, "x": list(each.x), "y": list(each.y), "half": list(each.half)}
            for each in outcome.figure.series
        ],
    }
