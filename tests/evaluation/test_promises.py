"""Error budgets, conformal sets, paired tests, slices and domains keep what they promise, in simulations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, fisher_exact

from graft.evaluation.conformal import class_thresholds, images_for_sets, in_set, set_threshold
from graft.evaluation.domain import NEIGHBOURS, fit_domain
from graft.evaluation.error_budget import find_threshold, images_needed, risk_coverage, why_unreachable
from graft.evaluation.mcnemar import compare_answers, mcnemar
from graft.evaluation.reliability import reliability
from graft.evaluation.slices import chance_of_so_many, compare_slices, ends_of, holm, parts_by


def test_a_budget_is_broken_in_few_of_many_simulations() -> None:
    random, broken, reached = np.random.default_rng(0), 0, 0
    reference = np.sort(random.beta(6, 0.6, 100_000))
    above = np.cumsum(1 - reference[::-1])[::-1] / np.arange(len(reference), 0, -1)
    for _ in range(500):
        confidences = random.beta(6, 0.6, 1000)
        found = find_threshold(confidences, random.random(1000) < confidences, 0.05)
        if found.at is not None:
            reached += 1
            broken += above[min(np.searchsorted(reference, found.at), len(reference) - 1)] > 0.05
    assert broken / 500 <= 0.05 and reached / 500 > 0.9


def test_a_budget_that_is_not_reachable_says_whether_images_are_few_or_errors_many() -> None:
    assert why_unreachable(80, images_needed(0.02)) == "it takes 149 without an error"
    # Far more images than an error-free run would need: their number is not the reason.
    found = find_threshold(np.linspace(1, 0.5, 400), np.arange(400) % 3 > 0, 0.02)
    assert found.at is None
    assert why_unreachable(found.n, found.needed) == "too many of the surest answers are wrong"


def test_without_an_error_the_least_number_of_images_is_enough_and_one_less_is_not() -> None:
    needed = images_needed(0.02)
    assert needed == 149
    confidences = np.linspace(0.5, 1, needed)
    found = find_threshold(confidences, np.ones(needed, bool), 0.02)
    assert (found.at, found.answered, found.wrong) == (0.0, needed, 0)
    short = find_threshold(confidences[1:], np.ones(needed - 1, bool), 0.02)
    assert (short.at, short.n, short.needed) == (None, needed - 1, needed)


@pytest.mark.parametrize(("number", "size"), [(300, 10), (60, 30)])
def test_a_budget_over_groups_is_broken_in_few_of_many_simulations(number: int, size: int) -> None:
    random, groups = np.random.default_rng(0), np.repeat(np.arange(number), size)
    broken = {"groups": 0, "images": 0}
    for _ in range(1000):
        # Images of a group are right or wrong together; 5 % are wrong at any confidence.
        rate, confidences = random.beta(0.95 * 0.5, 0.05 * 0.5, number), random.random(number * size)
        right = random.random(number * size) < rate[groups]
        for name, known in (("groups", groups), ("images", None)):
            broken[name] += find_threshold(confidences, right, 0.0499, groups=known).at is not None
    # By chance, one in 40 such tests exceeds the expected 50 of 1,000 by 14.
    assert broken["groups"] <= 50 + 14 < 100 < broken["images"]


def test_groups_of_one_image_are_images() -> None:
    random = np.random.default_rng(0)
    confidences, groups = random.beta(6, 0.6, 1000), random.permutation(1000)
    right = random.random(1000) < confidences
    assert find_threshold(confidences, right, 0.05, groups=groups) == find_threshold(confidences, right, 0.05)
    assert set_threshold(confidences, 0.9, groups) == set_threshold(confidences, 0.9)


def test_images_as_sure_as_each_other_are_answered_together() -> None:
    confidences = np.repeat([0.99, 0.6], [300, 300])
    right = np.r_[np.ones(300, bool), np.arange(300) % 2 == 0]
    found = find_threshold(confidences, right, 0.05)
    assert (found.at, found.answered, found.wrong) == (0.99, 300, 0)


def test_no_image_and_only_errors_promise_nothing() -> None:
    assert find_threshold(np.empty(0), np.empty(0, bool), 0.5).at is None
    assert find_threshold(np.ones(500), np.zeros(500, bool), 0.5).at is None


def test_risk_rises_to_the_error_of_all() -> None:
    confidences, right = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, True, False, True])
    assert risk_coverage(confidences, right) == [
        (0.25, 0.0, 0.9),
        (0.5, 0.0, 0.8),
        (0.75, pytest.approx(1 / 3), 0.7),
        (1.0, 0.25, 0.6),
    ]


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_hold_the_right_class_over_a_thousand_splits(coverage: float) -> None:
    random = np.random.default_rng(1)
    scores = random.beta(3, 1, (1000, 250))
    held = [(each[50:] >= set_threshold(each[:50], coverage)).mean() for each in scores]
    error = 1.96 * np.std(held) / np.sqrt(1000)
    assert coverage - error <= np.mean(held) <= coverage + 1 / 51 + error


@settings(max_examples=50)
@given(st.integers(1, 400), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_a_set_leaves_out_as_many_as_it_may_and_no_more(count: int, coverage: float) -> None:
    scores = np.random.default_rng(count).permutation(np.arange(1, count + 1) / (count + 1))
    threshold = set_threshold(scores, coverage)
    left_out = (scores < threshold).sum()
    if count < images_for_sets(coverage):
        assert threshold == 0
    else:
        assert (left_out + 1) / (count + 1) <= 1 - coverage + 1e-9 < (left_out + 2) / (count + 1) + 1e-9


@pytest.mark.parametrize("number", [12, 40])
def test_sets_hold_the_right_class_of_an_image_of_a_new_group(number: int) -> None:
    random, groups = np.random.default_rng(1), np.repeat(np.arange(number), 20)
    held: dict[str, list[float]] = {"groups": [], "images": []}
    for _ in range(2000):
        scores = random.beta(random.uniform(0.5, 6, number + 20)[:, None], 1, (number + 20, 20))
        known = scores[:number].ravel()
        held["groups"].append((scores[number:] >= set_threshold(known, 0.9, groups)).mean())
        held["images"].append((scores[number:] >= set_threshold(known, 0.9)).mean())
    error = 1.96 * np.std(held["groups"]) / np.sqrt(2000)
    assert np.mean(held["images"]) + error < 0.9 <= np.mean(held["groups"]) + error
    assert np.mean(held["groups"]) <= 0.9 + 1 / (number + 1) + error


def test_sets_per_class_hold_in_the_class_that_is_harder() -> None:
    random = np.random.default_rng(2)
    labels = np.arange(4000) % 2
    scores = random.beta(1 + 5 * labels, 1)
    thresholds = class_thresholds(scores[:2000], labels[:2000], 2, 0.9)
    later, of = scores[2000:], labels[2000:]
    held = [(later[of == index] >= thresholds[index]).mean() for index in (0, 1)]
    assert held == pytest.approx([0.9, 0.9], abs=0.04)
    assert (later[of == 0] >= set_threshold(scores[:2000], 0.9)).mean() < 0.87


def test_the_likeliest_class_is_in_every_set() -> None:
    found = in_set(np.array([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0]]), 0.6)
    assert found.tolist() == [[True, False, False], [True, False, False]]


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_exact_test_of_a_coin(first: int, second: int) -> None:
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_finds_no_more_than_it_may_where_there_is_no_difference() -> None:
    random = np.random.default_rng(3)
    unequal = random.binomial(300, 0.1, 3000)
    first = random.binomial(unequal, 0.5)
    assert np.mean([mcnemar(a, b - a) <= 0.05 for a, b in zip(first, unequal, strict=True)]) <= 0.055


def test_two_that_answer_alike_do_not_differ_and_that_is_not_certain() -> None:
    found = compare_answers(np.ones(50, bool), np.ones(50, bool))
    assert (found.difference, found.p_value) == (0, 1) and found.ci95[0] < 0 < found.ci95[1]


def test_groups_make_a_difference_less_certain() -> None:
    right = np.repeat(np.random.default_rng(0).random(20) < 0.9, 10)
    other = np.repeat(np.random.default_rng(1).random(20) < 0.7, 10)
    alone, grouped = compare_answers(right, other), compare_answers(right, other, np.repeat(np.arange(20), 10))
    assert grouped.p_value is None and grouped.difference == alone.difference
    assert np.ptp(grouped.ci95) > 1.5 * np.ptp(alone.ci95)


def test_a_few_groups_that_answer_alike_prove_no_difference() -> None:
    same = np.ones(60, bool)
    three = compare_answers(same, same, np.arange(60) % 3)
    assert three.difference == 0 and three.ci95[0] < -0.3 and three.ci95[1] > 0.3
    one = compare_answers(same, np.arange(60) > 1, np.zeros(60, int))
    assert -1 <= one.ci95[0] < 0 < one.difference < one.ci95[1] <= 1


@pytest.mark.parametrize(("number", "size"), [(5, 40), (20, 20), (100, 3)])
def test_the_interval_of_a_difference_between_groups_holds(number: int, size: int) -> None:
    random, groups, held = np.random.default_rng(0), np.repeat(np.arange(number), size), 0
    for _ in range(400):
        rate, shift = random.beta(8, 2, number), random.normal(0, 0.1, number)
        drawn = random.random(number * size)
        again = np.where(random.random(len(drawn)) < 0.7, drawn, random.random(len(drawn)))
        found = compare_answers(drawn < rate[groups], again < np.clip(rate + shift, 0, 1)[groups], groups)
        # Rates clipped at 1 lose 0.005 on average.
        held += found.ci95[0] <= 0.005 <= found.ci95[1]
    assert held >= 0.93 * 400


def test_a_dark_part_that_fails_is_flagged_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    brightness, size = random.random(400), random.random(400)
    right = random.random(400) < np.where(brightness < 0.25, 0.6, 0.95)
    parts = ends_of("brightness", ("darkest", "lightest"), brightness)
    parts |= ends_of("size", ("smallest", "largest"), size)
    found = compare_slices(right, np.arange(400) % 4, parts)
    assert [each.name for each in found if each.flagged] == ["the darkest 25%"]
    assert found[0].top1 < found[0].rest and found[0].n == 100


def test_where_errors_fall_anywhere_a_flag_is_rare_however_many_parts_are_looked_at() -> None:
    random, flagged = np.random.default_rng(5), 0
    for _ in range(200):
        right = random.random(200) < 0.85
        flagged += any(
            each.flagged
            for each in compare_slices(right, np.arange(200) % 5, parts_by("folder", [str(i % 12) for i in range(200)]))
        )
    assert flagged / 200 <= 0.02


@pytest.mark.parametrize(("number", "size"), [(60, 20), (10, 60), (3, 60)])
def test_groups_that_are_dark_and_hard_by_chance_raise_no_more_flags_than_images_would(number: int, size: int) -> None:
    random, groups = np.random.default_rng(0), np.repeat(np.arange(number), size)
    labels, small, flagged = np.arange(number * size) % 3, np.zeros(2), np.zeros(2)
    for _ in range(150):
        # Patients differ in brightness and in difficulty, the one unrelated to the other.
        brightness = random.normal(size=number)[groups] + random.normal(size=len(groups))
        right = random.random(len(groups)) < random.beta(1.6, 0.4, number)[groups]
        parts = ends_of("brightness", ("darkest", "lightest"), brightness)
        for at, known in enumerate((groups, None)):
            found = compare_slices(right, labels, parts, known)
            small[at] += min(each.p_value for each in found) <= 0.01
            flagged[at] += any(each.flagged for each in found)
    # Of 150 tests at 1 %, four or fewer pass in 98 of 100 such simulations.
    assert small[0] <= 4 < 15 < small[1]
    assert flagged[0] <= 4 < flagged[1]


@pytest.mark.parametrize(("number", "size"), [(60, 20), (10, 60)])
def test_a_dark_part_that_fails_in_every_group_is_flagged(number: int, size: int) -> None:
    random, groups, flagged = np.random.default_rng(0), np.repeat(np.arange(number), size), 0
    for _ in range(20):
        brightness = random.normal(size=number)[groups] + random.normal(size=len(groups))
        rate = random.beta(1.6, 0.4, number)[groups] * np.where(brightness < np.quantile(brightness, 0.1), 0.4, 1)
        parts = ends_of("brightness", ("darkest", "lightest"), brightness)
        found = compare_slices(random.random(len(groups)) < rate, groups * 0, parts, groups)
        flagged += found[0].flagged and found[0].name == "the darkest 10%"
        assert not any(each.flagged for each in found if "lightest" in each.name)
    assert flagged >= 18


def test_the_interval_of_a_slice_holds_for_groups_that_differ() -> None:
    random, groups = np.random.default_rng(0), np.repeat(np.arange(60), 20)
    held = np.zeros(2)
    for _ in range(300):
        right = random.random(1200) < random.beta(1.6, 0.4, 60)[groups]
        parts = {("side", "left"): np.flatnonzero(groups % 2)}
        for at, known in enumerate((groups, None)):
            (found,) = compare_slices(right, groups * 0, parts, known)
            held[at] += found.top1_ci95[0] <= 0.8 <= found.top1_ci95[1]
    assert held[0] >= 0.92 * 300 > held[1] + 30


def test_one_whole_group_is_judged_by_its_images_and_a_part_of_it_is_not() -> None:
    groups = np.repeat(np.arange(20), 20)
    right = (np.arange(400) % 10 > 0) & (groups > 0)
    whole, part = (compare_slices(right, groups * 0, {("a", "b"): np.arange(of)}, groups)[0] for of in (20, 15))
    assert whole.flagged and whole.top1_ci95[1] < 0.2
    assert not part.flagged and part.top1_ci95[1] > 0.5


def test_where_nearly_every_image_is_its_own_group_slices_are_those_of_images() -> None:
    random, groups = np.random.default_rng(0), np.arange(400)
    groups[1] = 0
    right = random.random(400) < np.where(np.arange(400) < 40, 0.5, 0.9)
    parts = ends_of("brightness", ("darkest", "lightest"), np.arange(400.0))
    assert compare_slices(right, groups % 4, parts, groups) == compare_slices(right, groups % 4, parts)


def test_the_chance_of_a_slice_is_fishers() -> None:
    right = np.r_[np.zeros(6, bool), np.ones(14, bool), np.zeros(5, bool), np.ones(75, bool)]
    one_class = np.zeros(100, int)
    (found,) = compare_slices(right, one_class, {("a", "b"): np.arange(20)})
    assert found.p_value == pytest.approx(fisher_exact([[6, 14], [5, 75]], alternative="greater").pvalue)
    assert compare_slices(right, one_class, {("a", "few"): np.arange(9)}) == ()


def test_the_chance_by_class_is_that_of_drawing_images_of_every_class() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), [12, 30, 5, 40])
    wrong = random.random(len(labels)) < np.array([0.5, 0.1, 1.0, 0.2])[labels]
    part = random.random(len(labels)) < np.array([0.6, 0.3, 0.4, 1.0])[labels]
    sizes = [np.bincount(labels[chosen], minlength=4) for chosen in (labels >= 0, wrong, part)]
    drawn = np.array(
        [
            sum(wrong[random.permutation(np.flatnonzero(labels == each))[: sizes[2][each]]].sum() for each in range(4))
            for _ in range(4000)
        ]
    )
    for errors in np.unique(drawn).tolist():
        assert chance_of_so_many(errors, *sizes) == pytest.approx((drawn >= errors).mean(), abs=0.03)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_reliability_of_calibrated_confidences_is_inside_its_band_and_of_sure_ones_outside() -> None:
    random = np.random.default_rng(0)
    confidences = random.uniform(0.5, 1, 2000)
    right = random.random(2000) < confidences
    good = reliability(confidences, right)
    bad = reliability(1 - (1 - confidences) / 5, right)
    assert good.outside < 0.25 and bad.outside > 0.9
    assert bad.brier.miscalibration > 10 * good.brier.miscalibration


def test_a_domain_keeps_its_own_and_knows_strangers() -> None:
    random = np.random.default_rng(0)
    centre = random.normal(size=(3, 40)) * 3
    features = centre[np.arange(500) % 3] + random.normal(size=(500, 40))
    found = fit_domain(features[:300])
    assert found is not None and found.threshold is not None and found.bank.dtype == np.float16

    def beyond(others: np.ndarray) -> float:
        unit = others / np.linalg.norm(others, axis=1, keepdims=True)
        near = np.sort(unit @ found.bank.T.astype(float), 1)[:, -NEIGHBOURS]
        return float((1 - near > found.threshold).mean())

    assert beyond(features[300:]) == pytest.approx(0.05, abs=0.05)
    assert beyond(random.normal(size=(200, 40)) * 3) > 0.95


def test_a_domain_does_not_take_images_of_a_group_for_neighbours() -> None:
    features = np.repeat(np.random.default_rng(0).normal(size=(40, 30)), 8, axis=0)
    alone, grouped = fit_domain(features), fit_domain(features, np.repeat(np.arange(40), 8))
    assert alone is not None and grouped is not None and alone.threshold is not None and grouped.threshold is not None
    assert alone.threshold < 0.01 < grouped.threshold
    assert fit_domain(features[:5]) is None


def test_images_that_all_are_one_group_tell_nothing_of_strangers() -> None:
    features = np.random.default_rng(0).normal(size=(60, 30))
    assert fit_domain(features, np.zeros(60, int)) is None
    # Images of the large group have too few neighbours in other groups to be judged by; the other images have enough.
    found = fit_domain(features, np.concatenate([np.zeros(56, int), np.arange(1, 5)]))
    assert found is None
