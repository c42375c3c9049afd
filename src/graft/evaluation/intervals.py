"""Confidence intervals of rates, bootstrap intervals of other figures, and the chance of a count."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from graft.words import HARDLY_GROUPED, counted, in_percent

# The quantile of the normal distribution for a 95 % interval.
Z95 = 1.959963984540054
RESAMPLES, FEWEST_RESAMPLES = 1000, 200
# The most images drawn over all resamples; beyond it there are fewer resamples, as the intervals of large sets are
# narrow.
MOST_DRAWN = 50_000_000
# The number of images drawn at once; the memory is several times as many bytes.
DRAWN_TOGETHER = 2**15

Interval = tuple[float, float]


def interval_in_words(ends: Interval, count: int, groups: int | None = None) -> str:
    """Format `95 % interval 92.6% to 98.6%`, with the number of groups if they were counted instead of `count` images.

    When nearly every image is its own group, as with a few copies, the interval is that of images, and groups are not
    mentioned.
    """
    return f"95 % interval {in_percent(ends[0])} to {in_percent(ends[1])}{over_groups(count, groups)}"


def over_groups(count: int, groups: int | None) -> str:
    """Return ` over 12 groups` for an interval over the groups of `count` images; nothing if it is over the images."""
    return "" if groups is None or groups > HARDLY_GROUPED * count else f" over {counted(groups, 'group')}"


def wilson_interval(right: float, count: float) -> Interval:
    """Return the 95 % confidence interval of a rate, `right` of `count`. Wilson 1927, JASA 22(158), equation 4."""
    low, high = _wilson_intervals(np.asarray(right, np.float64), np.asarray(count, np.float64), Z95)
    return float(low), float(high)


def hypergeometric_tail(right: int, count: int, successes: int, drawn: int) -> float:
    """Return the hypergeometric chance of at most `right` of `successes` among `drawn` of `count`."""
    least = max(0, drawn - (count - successes))
    if right < least:
        return 0.0
    each = np.arange(least, min(right, successes) + 1)
    return min(1.0, float(hypergeometric(each, count, successes, drawn).sum()))


def hypergeometric(each: np.ndarray, count: int, successes: int, drawn: int) -> np.ndarray:
    """Return the chance of each possible number of `successes` among `drawn` of `count`, float64, shaped as `each`."""
    logs = log_factorials(count)

    def log_combinations(of: int, chosen: np.ndarray | int) -> np.ndarray:
        return np.asarray(logs[of] - logs[chosen] - logs[of - chosen])

    ways = log_combinations(successes, each) + log_combinations(count - successes, drawn - each)
    return np.asarray(np.exp(ways - log_combinations(count, drawn)))


def log_factorials(most: int) -> np.ndarray:
    """Return the logarithms of the factorials of 0 to `most`, float64 (most + 1,).

    A run ends with few such chances, for which importing scipy would take longer than all else that is measured.
    """
    # Summed with more digits, where the machine has them, as errors of a million summands add up.
    summed = np.cumsum(np.log(np.arange(1, most + 1)), dtype=np.longdouble)
    return np.concatenate([[0.0], summed]).astype(np.float64)


def normal_below(value: float) -> float:
    """Return the chance that a standard normal variable is below `value`."""
    return math.erfc(-value / math.sqrt(2)) / 2


def chance_of_at_most(successes: int, count: int, rate: float) -> float:
    """Return the binomial chance of at most so many `successes` of `count`, each with a chance of `rate` in (0, 1)."""
    logs, each = log_factorials(count), np.arange(min(successes, count) + 1)
    ways = logs[count] - logs[each] - logs[count - each]
    return min(1.0, float(np.exp(ways + each * math.log(rate) + (count - each) * math.log1p(-rate)).sum()))


def f1_interval(both: float, either: float) -> Interval:
    """Return the 95 % interval of F1, given the images in both the class and its predictions, and those in either.

    F1 = 2 J / (1 + J) rises with the rate J = both / either, whose interval is Wilson's.
    """
    low, high = wilson_interval(both, either)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def mean_interval(right: Sequence[int], counts: Sequence[int]) -> Interval:
    """Return the 95 % interval of the mean of independent rates, `right` of `counts` each, every count 1 or more.

    It runs from the lower of two lower ends to the higher of two upper ones. The first method, Zou and Donner 2008,
    Statistics in Medicine 27, 1693-1702, recovers variances from the margins of each rate's own interval, so that the
    mean of rates of 1 is not certain. With many classes these all lean to one side, and the mean lies beyond the
    interval too often. The second, Yan and Su 2010, Statistics in Biopharmaceutical Research 2(3), 329-335, averages
    intervals that are each narrowed as much as the interval of the mean requires; with few images it is too narrow.
    Unlike there, the variance of a rate counts one more image, half of it right.
    """
    found, number = np.asarray(right, np.float64), np.asarray(counts, np.float64)
    rates, mean = found / number, float((found / number).mean())
    low, high = _wilson_intervals(found, number, Z95)
    down, up = (float(np.sqrt(np.square(margin).sum())) / len(rates) for margin in (rates - low, high - rates))
    shrunk = (found + 0.5) / (number + 1)
    deviation = np.sqrt(shrunk * (1 - shrunk) / (number + 1))
    narrower = Z95 * float(np.sqrt(np.square(deviation).sum()) / deviation.sum())
    lower, upper = (float(ends.mean()) for ends in _wilson_intervals(found, number, narrower))
    return max(min(mean - down, lower), 0.0), min(max(mean + up, upper), 1.0)


def _wilson_intervals(right: np.ndarray, counts: np.ndarray, quantile: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper ends, float64 (n,) or (), of as many rates."""
    rates, square = right / counts, quantile**2
    centre = (rates + square / (2 * counts)) / (1 + square / counts)
    half = quantile / (1 + square / counts) * np.sqrt(rates * (1 - rates) / counts + square / (4 * counts**2))
    # With none or all correct, one bound is exactly 0 or 1; rounding must not move it.
    return np.where(right == 0, 0.0, centre - half), np.where(right == counts, 1.0, centre + half)


def effective_count(right: np.ndarray, groups: np.ndarray) -> float:
    """Return how many independent images the answers `right`, bool (N,), of groups int (N,) are worth, from 1 to N.

    That many have the variance that the mean over the groups has. Korn and Graubard 1998, Survey Methodology 24(2),
    section 2. Student's quantile for the number of groups replaces the normal one, which lowers the number most with
    few groups. If each image is its own group, it is N.
    """
    from scipy.special import stdtrit

    count, mean = len(right), float(right.mean())
    _, index = np.unique(groups, return_inverse=True)
    number = int(index.max()) + 1
    if number == count:
        return float(count)
    if number < 2:
        return 1.0
    between = float(np.square(np.bincount(index, right - mean)).sum()) * number / (number - 1)
    # When all answers are correct, or all wrong, nothing tells how alike the images of a group are. Groups of which the
    # same share is correct differ no more than independent images do.
    alone = count * count * mean * (1 - mean)
    independent = float(number) if not alone else alone / between if between else math.inf
    quantile = float(stdtrit(number - 1, 0.975))
    return max(min(independent, count) * (Z95 / quantile) ** 2, 1.0)


def accuracy_interval(right: np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """Return the 95 % interval of the accuracy of answers `right`, bool (N,), for images in groups int (N,).

    It is Wilson's, for the number of independent images that they are worth.
    """
    worth = len(right) if groups is None else effective_count(right, groups)
    # If all count as independent, no rounding of the rate may move a bound off 0 or 1.
    return wilson_interval(int(right.sum()) if worth == len(right) else float(right.mean()) * worth, worth)


def bootstrap_interval(
    statistic: Callable[[np.ndarray], np.ndarray],
    count: int,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Interval, ...]:
    """Return the 95 % percentile intervals of a `statistic` over resamples of `count` images, drawing whole groups.

    `statistic` gets how often each image was drawn in some resamples, float64 (resamples, count), and returns figures
    (resamples, figures), with NaN where a resample does not determine one. Efron and Tibshirani 1993, An Introduction
    to the Bootstrap, sections 13.3 and 8.
    """
    random = np.random.default_rng(seed)
    _, index = np.unique(np.arange(count) if groups is None else groups, return_inverse=True)
    number = int(index.max()) + 1
    resamples, together = min(RESAMPLES, max(FEWEST_RESAMPLES, MOST_DRAWN // count)), max(1, DRAWN_TOGETHER // count)
    found = []
    for done in range(0, resamples, together):
        drawn = random.integers(0, number, (min(together, resamples - done), number))
        often = np.array([np.bincount(each, minlength=number) for each in drawn], np.float64)
        found.append(statistic(often[:, index]))
    low, high = np.nanquantile(np.concatenate(found), (0.025, 0.975), axis=0)
    return tuple(zip(low.tolist(), high.tolist(), strict=True))


def sums_by_kind(values: np.ndarray, kinds: np.ndarray, number: int) -> np.ndarray:
    """Return the sums (R, number) in each row of `values` (R, N) over each of `number` kinds, int (N,)."""
    if len(values) == 1:
        return np.bincount(kinds, values[0], number)[None]
    place = np.arange(len(values))[:, None] * number + kinds
    return np.bincount(place.ravel(), values.ravel(), len(values) * number).reshape(len(values), number)
