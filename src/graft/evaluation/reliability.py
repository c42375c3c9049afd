"""Whether probabilities mean what they say, without bins: isotonic regression of outcomes on forecasts.

Dimitriadis, Gneiting and Jordan 2021, "Stable reliability diagrams for probabilistic classifiers", PNAS 118(8), the
CORP approach: the recalibrated forecast is the optimal isotonic one, and the Brier score splits into three parts.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

# How many sets of outcomes are drawn for the band, and at how many confidences it is computed.
DRAWS, BAND_POINTS = 100, 41


@dataclass(frozen=True)
class Brier:
    """The mean squared error of probabilities: `miscalibration` - `discrimination` + `uncertainty`.

    Miscalibration is what recalibration would save, uncertainty the error of always forecasting the base rate, and
    discrimination the improvement of recalibrated forecasts over that.
    """

    score: float
    miscalibration: float
    discrimination: float
    uncertainty: float

    def to_dict(self) -> dict[str, float]:
        return {
            "score": self.score,
            "miscalibration": self.miscalibration,
            "discrimination": self.discrimination,
            "uncertainty": self.uncertainty,
        }


@dataclass(frozen=True)
class Block:
    """The `n` images with confidences from `low` to `high`, of which the share `rate` is right."""

    low: float
    high: float
    rate: float
    n: int


@dataclass(frozen=True)
class Reliability:
    """How often answers are right at each confidence: `blocks` in rising order, and the confidences' `brier` score.

    `band` holds (confidence, low, high): the range of the rate in 90 of 100 data sets with calibrated confidences.
    `outside` is the share of images whose rate lies outside it.
    """

    blocks: tuple[Block, ...]
    band: tuple[tuple[float, float, float], ...]
    brier: Brier
    outside: float

    def to_dict(self) -> dict[str, Any]:
        return {
            "blocks": [[block.low, block.high, block.rate, block.n] for block in self.blocks],
            "band": [list(point) for point in self.band],
            "brier": self.brier.to_dict(),
            "outside": self.outside,
        }


def recalibrated(forecasts: np.ndarray, outcomes: np.ndarray) -> np.ndarray:
    """Return the isotonic regression of `outcomes` (N,), 0 or 1, on `forecasts` (N,): what each should have been, (N,).

    Equal forecasts get equal values: they form one point with the mean of their outcomes.
    """
    _, index, count = _points(forecasts)
    return _isotonic(np.bincount(index, outcomes), count)[index]


def brier_of_event(forecasts: np.ndarray, outcomes: np.ndarray) -> Brier:
    """Return the Brier score of `forecasts` (N,) of an event, and its parts, given `outcomes` (N,), 0 or 1."""
    outcomes = outcomes.astype(np.float64)
    of_forecast = float(np.square(forecasts - outcomes).mean())
    of_recalibrated = float(np.square(recalibrated(forecasts, outcomes) - outcomes).mean())
    of_base_rate = float(np.square(outcomes.mean() - outcomes).mean())
    return Brier(of_forecast, of_forecast - of_recalibrated, of_base_rate - of_recalibrated, of_base_rate)


def brier_of_classes(probabilities: np.ndarray, labels: np.ndarray) -> Brier:
    """Return the Brier score of `probabilities` (N, classes), 0 to 2, and its parts, each summed over the classes."""
    of_class = [brier_of_event(column, labels == index) for index, column in enumerate(probabilities.T)]
    return Brier(
        sum(each.score for each in of_class),
        sum(each.miscalibration for each in of_class),
        sum(each.discrimination for each in of_class),
        sum(each.uncertainty for each in of_class),
    )


def reliability(confidences: np.ndarray, right: np.ndarray, seed: int = 0) -> Reliability:
    """Return the reliability of `confidences` (N,) in answers that are `right`, bool (N,); N is one or more."""
    values, index, count = _points(confidences)
    rates = _isotonic(np.bincount(index, right), count)
    starts = np.flatnonzero(np.diff(rates, prepend=-1.0) > 0)
    ends = np.append(starts[1:], len(rates)) - 1
    sizes = np.add.reduceat(count, starts)
    blocks = tuple(
        Block(float(values[first]), float(values[last]), float(rates[first]), int(n))
        for first, last, n in zip(starts, ends, sizes, strict=True)
    )
    shown = np.unique(np.linspace(0, len(values) - 1, BAND_POINTS).round().astype(int))
    random, chances = np.random.default_rng(seed), np.clip(values, 0.0, 1.0)
    drawn = [_isotonic(random.binomial(count, chances), count)[shown] for _ in range(DRAWS)]
    low, high = np.quantile(drawn, (0.05, 0.95), axis=0)
    band = tuple(zip(values[shown].tolist(), low.tolist(), high.tolist(), strict=True))
    lowest, highest = np.interp(values, values[shown], low), np.interp(values, values[shown], high)
    outside = float(count[(rates < lowest) | (rates > highest)].sum() / len(right))
    return Reliability(blocks, band, brier_of_event(confidences, right), outside)


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over bins of confidence, weighted by the size of the bins.

    Guo, Pleiss, Sun and Weinberger 2017, arXiv 1706.04599, equation 3. A confidence of exactly 1 is in the last bin.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(right[index == b].mean() - confidence[index == b].mean()) * (index == b).mean() for b in np.unique(index)
    ]
    return float(sum(gaps))


def _points(forecasts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distinct values, rising, each forecast's index, and the counts; digits beyond 12 are noise."""
    return np.unique(np.round(forecasts, 12), return_inverse=True, return_counts=True)


def _isotonic(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the rising sequence (n,) closest in `weights`-weighted squares to the means `sums` / `weights` (n,).

    Adjacent violators are pooled, every falling run at once. SciPy has the same, but importing it takes longer than
    everything else about the figures of a small run.
    """
    sizes, rows = weights, np.ones(len(weights), np.int64)
    while True:
        means = sums / sizes
        first = np.flatnonzero(np.append(True, means[1:] > means[:-1]))
        if len(first) == len(means):
            return np.repeat(means, rows)
        sums, sizes, rows = (np.add.reduceat(each, first) for each in (sums, sizes, rows))
