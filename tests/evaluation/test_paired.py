"""Differences between classifiers, against published values and simulated ones."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from graft.evaluation.intervals import wilson_interval
from graft.evaluation.paired import Estimate, accuracy, mean_over_seeds, paired_difference


def paired(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers of two classifiers, by how many images both, only the first, only the second and neither had right."""
    counts = (both, first, second, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33, 2850-2875: bronchial reactivity before and
        # after transplantation.
        ((1, 1, 7, 12), -0.507, -0.026),
        # Newcombe 1998, table II, method 10.
        ((36, 12, 2, 0), 0.0569, 0.3404),
    ],
)
def test_with_one_seed_the_difference_is_newcombes_method_10(table: tuple, low: float, high: float) -> None:
    right, other = paired(*table)
    images, seeds = np.arange(len(right)), np.zeros(len(right), int)
    found = paired_difference(right, other, images, seeds)
    assert found.value == pytest.approx((table[1] - table[2]) / sum(table))
    assert found.ci95 == pytest.approx((low, high), abs=5.1e-4)
    back = paired_difference(other, right, images, seeds)
    assert back.ci95 == pytest.approx((-found.ci95[1], -found.ci95[0]))


@pytest.mark.parametrize("right", [0, 1, 17, 29, 30])
def test_with_one_seed_the_accuracy_is_wilsons(right: int) -> None:
    found = accuracy(np.arange(30) < right, np.arange(30), np.zeros(30, int))
    assert found == Estimate(right / 30, pytest.approx(wilson_interval(right, 30)))


def test_the_same_answers_under_every_seed_are_no_more_images() -> None:
    right, other = (np.tile(each, 3) for each in paired(70, 12, 4, 14))
    images, seeds = np.tile(np.arange(100), 3), np.repeat(np.arange(3), 100)
    assert accuracy(right, images, seeds).ci95 == pytest.approx(wilson_interval(82, 100))
    once = paired_difference(right[:100], other[:100], images[:100], seeds[:100])
    assert paired_difference(right, other, images, seeds).ci95 == pytest.approx(once.ci95)


def test_images_of_their_own_under_every_seed_count_for_themselves() -> None:
    right = np.tile(np.arange(100) < 82, 3)
    own = accuracy(right, np.arange(300), np.repeat(np.arange(3), 100)).ci95
    shared = accuracy(right, np.tile(np.arange(100), 3), np.repeat(np.arange(3), 100)).ci95
    assert own == pytest.approx(wilson_interval(246, 300))
    assert own[1] - own[0] < 0.7 * (shared[1] - shared[0])


def test_seeds_that_disagree_widen_the_interval() -> None:
    images, seeds = np.tile(np.arange(200), 3), np.repeat(np.arange(3), 200)
    steady = np.tile(np.arange(200) < 160, 3)
    shaky = np.concatenate([np.arange(200) < right for right in (130, 160, 190)])
    narrow, wide = accuracy(steady, images, seeds), accuracy(shaky, images, seeds)
    assert narrow.value == wide.value == 0.8
    assert narrow.ci95 == pytest.approx(wilson_interval(160, 200))
    # A deviation of 0.15, so an error of 0.087 of the mean of three; Student's quantile is about 4, the normal one 2.
    assert 0.8 - wide.ci95[0] > 3 * 0.0866
    assert paired_difference(steady, shaky, images, seeds).sign == 0


def test_two_classifiers_without_an_error_are_still_not_known_to_be_equal() -> None:
    right = np.ones(60, bool)
    low, high = paired_difference(right, right, np.arange(60), np.zeros(60, int)).ci95
    margin = 1 - wilson_interval(60, 60)[0]
    assert (low, high) == pytest.approx((-margin, margin))


def simulated(of_seeds: float, carved: bool, cases: int) -> tuple[float, float]:
    """How often the intervals of an accuracy and of a difference cover the truth.

    Images vary in difficulty and the three seeds in luck; with `carved`, each seed holds out 80 of 400 images.
    """
    random = np.random.default_rng(0)
    logits, count, seeds = (1.5, 0.9), 80, np.repeat(np.arange(3), 80)

    def chance(logit: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-logit))

    true, other = (chance(logit + np.hypot(2, of_seeds) * random.normal(size=200_000)).mean() for logit in logits)
    held = np.zeros(2)
    for _ in range(cases):
        number = 5 * count if carved else count
        images = np.concatenate([random.permutation(number)[:count] for _ in range(3)])
        ease = 2 * random.normal(size=number)[images]
        one, two = (
            random.random(len(ease)) < chance(logit + ease + of_seeds * random.normal(size=3)[seeds])
            for logit in logits
        )
        low, high = accuracy(one, images, seeds).ci95
        lower, higher = paired_difference(one, two, images, seeds).ci95
        held += (low <= true <= high, lower <= true - other <= higher)
    return tuple(held / cases)


@pytest.mark.parametrize(("of_seeds", "carved"), [(0.0, False), (0.3, False), (0.3, True)])
def test_the_intervals_hold_in_about_95_cases_of_100(of_seeds: float, carved: bool) -> None:
    for held in simulated(of_seeds, carved, cases=300):
        assert 0.9 < held < 0.995


@pytest.mark.parametrize(("number", "size", "of_seeds"), [(30, 20, 0.0), (10, 30, 0.02)])
def test_the_intervals_hold_for_groups_that_differ_under_several_seeds(number: int, size: int, of_seeds: float) -> None:
    random, of_one = np.random.default_rng(0), np.repeat(np.arange(number), size)
    count, cases, held = len(of_one), 200, np.zeros((2, 2))
    images, groups, seeds = np.tile(np.arange(count), 3), np.tile(of_one, 3), np.repeat(np.arange(3), count)
    for _ in range(cases):
        rate, shift = random.beta(8, 2, number), random.normal(0, 0.1, number)
        luck = of_seeds * random.normal(size=(2, 3))[:, seeds]
        drawn = np.where(random.random((2, 3 * count)) < 0.7, random.random(count)[images], random.random(3 * count))
        one = drawn[0] < np.clip(rate[groups] + luck[0], 0, 1)
        two = drawn[1] < np.clip((rate + shift)[groups] + luck[1], 0, 1)
        for at, known in enumerate((groups, None)):
            low, high = accuracy(one, images, seeds, known).ci95
            lower, higher = paired_difference(one, two, images, seeds, known).ci95
            # Rates clipped at 1 lose 0.005 on average.
            held[at] += (low <= 0.8 <= high, lower <= 0.005 <= higher)
    assert (held[0] >= 0.9 * cases).all() and (held[1] < 0.88 * cases).all()


def test_where_nearly_every_image_is_its_own_group_intervals_are_those_of_images() -> None:
    right, other = paired(70, 12, 4, 14)
    images, seeds, groups = np.arange(100), np.zeros(100, int), np.arange(100)
    groups[1] = 0
    expected = paired_difference(right, other, images, seeds)
    assert paired_difference(right, other, images, seeds, groups) == expected
    assert accuracy(right, images, seeds, groups) == accuracy(right, images, seeds)


def test_one_group_proves_nothing_under_any_number_of_seeds() -> None:
    right, other = (np.tile(each, 3) for each in paired(70, 30, 0, 0))
    images, seeds = np.tile(np.arange(100), 3), np.repeat(np.arange(3), 100)
    low, high = paired_difference(right, other, images, seeds, np.zeros(300, int)).ci95
    assert low < 0 < high


def test_a_mean_over_seeds_has_students_interval() -> None:
    values = np.array([0.4, 0.7, 0.55, 0.5])
    found = mean_over_seeds(values)
    theirs = ttest_1samp(values, 0).confidence_interval()
    assert found == Estimate(pytest.approx(0.5375), pytest.approx((theirs.low, theirs.high)))
    assert mean_over_seeds(values[:1]) == Estimate(0.4, None)


def test_what_images_add_is_not_taken_for_uncertainty_of_the_seeds() -> None:
    # The seeds agree: all variance comes from the images, whose interval is normal.
    assert mean_over_seeds(np.full(3, 0.5), of_images=0.01).ci95 == pytest.approx((0.304, 0.696), abs=1e-4)
    # Two degrees of freedom for a quarter of the variance, so 32 for the whole.
    half = 2.0369 * np.sqrt(0.01 + 0.01 / 3)
    assert mean_over_seeds(np.array([0.4, 0.5, 0.6]), of_images=0.01).ci95[0] == pytest.approx(0.5 - half, abs=1e-4)


@pytest.mark.parametrize(
    ("estimate", "sign"),
    [
        (Estimate(0.2, (0.1, 0.3)), 1),
        (Estimate(-0.2, (-0.3, -0.1)), -1),
        (Estimate(0.2, (-0.1, 0.5)), 0),
        (Estimate(0.2, None), 0),
        (Estimate(0.0, (0.0, 0.0)), 0),
    ],
)
def test_a_sign_is_known_where_the_interval_excludes_zero(estimate: Estimate, sign: int) -> None:
    assert estimate.sign == sign


def test_an_estimate_prints_rounded_with_its_interval_if_it_has_one() -> None:
    assert repr(Estimate(1 / 3, (0.1, 2 / 3))) == "Estimate(0.333 (0.100 to 0.667))"
    assert repr(Estimate(1 / 3, None)) == "Estimate(0.333)"
