"""Figures against values worked out by hand or by other means."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from graft.evaluation.accuracy import Accuracy
from graft.evaluation.intervals import Z95, accuracy_interval, interval_in_words, wilson_interval
from graft.evaluation.reliability import expected_calibration_error
from graft.evaluation.scores import _over_groups, score


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_against_published_values(right: int, count: int, low: float, high: float) -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3.
    assert wilson_interval(right, count) == pytest.approx((low, high), abs=5.1e-5)


@pytest.mark.parametrize(
    ("right", "count"), [(149, 153), (0, 1), (1, 1), (29, 29), (5_000, 10_000), (999_999, 1_000_000)]
)
def test_wilson_interval_against_scipy(right: int, count: int) -> None:
    theirs = binomtest(right, count).proportion_ci(method="wilson")
    assert wilson_interval(right, count) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_wilson_interval_ends_where_the_observed_rate_is_z_deviations_away(count: int, part: float) -> None:
    right = round(part * count)
    low, high = wilson_interval(right, count)
    rate = right / count
    assert 0 <= low <= rate <= high <= 1
    for end in (low, high):
        if 0 < end < 1:
            assert abs(rate - end) == pytest.approx(Z95 * (end * (1 - end) / count) ** 0.5, rel=1e-6, abs=1e-9)


PROBABILITIES = np.array(
    [
        [0.7, 0.2, 0.1],
        [0.6, 0.3, 0.1],
        [0.1, 0.8, 0.1],
        [0.5, 0.4, 0.1],
        [0.2, 0.2, 0.6],
    ]
)
LABELS = np.array([0, 0, 1, 1, 0])


def test_scores_by_hand() -> None:
    found = score(PROBABILITIES, LABELS, ("a", "b", "c"))
    assert (found.n, found.top1, found.majority) == (5, 0.6, 0.6)
    assert found.top1_ci95 == wilson_interval(3, 5)
    # Rows by label, columns by answer.
    assert found.confusion.tolist() == [[2, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert found.log_loss == pytest.approx(-np.log([0.7, 0.6, 0.8, 0.4, 0.2]).mean())
    a, b, c = found.classes
    assert (a.name, a.n, a.recall, a.precision) == ("a", 3, pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (b.n, b.recall, b.precision) == (2, 0.5, 1.0)
    assert (c.n, c.recall, c.precision) == (0, None, 0.0)


def test_a_class_never_answered_has_no_precision() -> None:
    (a, b) = score(np.array([[1.0, 0.0], [0.9, 0.1]]), np.array([0, 1]), ("a", "b")).classes
    assert (a.precision, b.precision, b.recall) == (0.5, None, 0.0)


def test_certain_and_wrong_has_a_finite_loss() -> None:
    assert np.isfinite(score(np.array([[1.0, 0.0]]), np.array([1]), ("a", "b")).log_loss)


def test_the_dictionary_is_plain() -> None:
    import json

    found = json.loads(json.dumps(score(PROBABILITIES.astype(np.float32), LABELS, ("a", "b", "c")).to_dict()))
    assert found["n"] == 5
    without_images = found["classes"][2]
    assert {name: without_images[name] for name in ("name", "n", "recall", "precision", "f1")} == {
        "name": "c",
        "n": 0,
        "recall": None,
        "precision": 0.0,
        "f1": 0.0,
    }


@pytest.mark.parametrize("probabilities", [np.empty((0, 3)), np.ones((5, 2)), np.ones((4, 3))])
def test_arrays_that_do_not_fit_are_refused(probabilities: np.ndarray) -> None:
    labels = LABELS if len(probabilities) else LABELS[:0]
    with pytest.raises(ValueError, match="expected"):
        score(probabilities, labels, ("a", "b", "c"))


def test_calibration_error_by_hand() -> None:
    # Two bins of 15 are used: (0.5, 0.6 right, wrong) and (0.9, 0.9, 0.9 right, right, wrong).
    confidence = np.array([0.54, 0.58, 0.9, 0.9, 0.9])
    probabilities = np.stack([confidence, 1 - confidence], 1)
    labels = np.array([0, 1, 0, 0, 1])
    by_hand = 2 / 5 * abs(0.5 - 0.56) + 3 / 5 * abs(2 / 3 - 0.9)
    assert expected_calibration_error(probabilities, labels) == pytest.approx(by_hand)


def test_calibration_error_of_sure_and_right_is_none_and_of_sure_and_wrong_is_all() -> None:
    sure = np.array([[1.0, 0.0]] * 4)
    assert expected_calibration_error(sure, np.zeros(4, int)) == 0
    assert expected_calibration_error(sure, np.ones(4, int)) == 1


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.integers(2, 6))
def test_scores_count_every_image_once(seed: int, count: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(classes), count)
    labels = random.integers(0, classes, count)
    found = score(probabilities, labels, tuple(map(str, range(classes))))
    assert found.confusion.sum() == count
    assert found.top1 == pytest.approx((probabilities.argmax(1) == labels).mean())
    assert [row.n for row in found.classes] == np.bincount(labels, minlength=classes).tolist()
    assert 0 <= found.calibration_error <= 1


def test_an_interval_says_over_how_many_groups_it_is() -> None:
    assert interval_in_words((0.5, 0.75), 100) == "95 % interval 50.0% to 75.0%"
    assert interval_in_words((0.5, 0.75), 100, 12) == "95 % interval 50.0% to 75.0% over 12 groups"
    # With a copy or two, images are counted all the same.
    assert interval_in_words((0.5, 0.75), 100, 99) == "95 % interval 50.0% to 75.0%"
    labels, groups = np.arange(40) % 2, np.arange(40) // 4
    found = score(np.eye(2)[labels], labels, ("a", "b"), groups)
    assert found.interval.endswith("over 10 groups")
    assert str(Accuracy(found.top1, found.top1_ci95, found.n, groups=found.groups)).endswith("over 10 groups)")


def test_scores_print_on_one_short_line() -> None:
    found = score(np.full((4, 2), 0.5), np.array([0, 0, 0, 1]), ("a", "b"))
    assert repr(found) == "Scores(top1=0.750 (0.301 to 0.954), n=4, classes=2)"


def test_groups_without_an_error_are_certain_of_no_figure() -> None:
    labels = np.arange(60) % 3
    found = score(np.eye(3)[labels], labels, tuple("abc"), np.repeat(np.arange(6), 10))
    assert found.top1_ci95[0] < 0.6 and found.worth is not None and found.worth < 6
    assert found.balanced_accuracy_ci95 == found.macro_f1_ci95 == found.top1_ci95


def test_the_interval_of_an_accuracy_holds_for_groups_that_differ() -> None:
    random, groups, held = np.random.default_rng(0), np.repeat(np.arange(20), 40), [0, 0]
    for _ in range(300):
        right = random.random(800) < random.beta(4, 1, 20)[groups]
        for which, (low, high) in enumerate((accuracy_interval(right, groups), accuracy_interval(right))):
            held[which] += low <= 0.8 <= high
    assert held[0] >= 0.91 * 300 and held[1] < 0.7 * 300


def test_the_interval_of_a_class_holds_for_groups_that_differ() -> None:
    random, groups, held, alone = np.random.default_rng(0), np.repeat(np.arange(20), 40), [0, 0, 0, 0], 0
    labels = np.tile([0, 1], 400)
    whole = score(np.eye(2)[labels], labels, ("a", "b"), groups).classes
    for _ in range(200):
        # Of a class and of those called so, the same share of each group is right on average.
        right = random.random(800) < random.beta(4, 1, 20)[groups]
        answers = np.where(right, labels, 1 - labels)
        row, _ = _over_groups(whole, labels, answers, groups, with_specificity=True)
        intervals = (row.recall_ci95, row.precision_ci95, row.specificity_ci95, row.f1_ci95)
        for which, (low, high) in enumerate(intervals):
            held[which] += low <= 0.8 <= high
        low, high = accuracy_interval(right[labels == 0])
        alone += low <= 0.8 <= high
    assert min(held) >= 0.9 * 200 and alone < 0.8 * 200
    # The figures themselves count images.
    with_groups, without = (score(np.eye(2)[answers], labels, ("a", "b"), each).classes[0] for each in (groups, None))
    assert (with_groups.recall, with_groups.f1) == (without.recall, without.f1)
    assert with_groups.recall_ci95 == row.recall_ci95 != without.recall_ci95
