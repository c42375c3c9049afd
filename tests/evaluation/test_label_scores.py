"""Scores of several labels for each image: those of scikit-learn, thresholds, and what has no figure."""

import numpy as np
import pytest

from graft.evaluation.label_scores import best_thresholds, mean_average_precision, score_labels, sigmoid

RANDOM = np.random.default_rng(0)
ACTUAL = (RANDOM.random((300, 4)) < (0.5, 0.3, 0.1, 0.02)).astype(np.float32)
# With ties, since probabilities are often rounded.
LIKELY = np.round(np.clip(0.5 * ACTUAL + RANDOM.random((300, 4)) * 0.7, 0, 1), 2)
CLASSES = ("a", "b", "c", "d")


def test_average_precision_and_f1_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    thresholds = np.array([0.5, 0.4, 0.6, 0.7])
    scores = score_labels(LIKELY, ACTUAL, CLASSES, thresholds)
    answered = thresholds <= LIKELY
    expected = metrics.average_precision_score(ACTUAL, LIKELY, average=None)
    np.testing.assert_allclose([row.average_precision for row in scores.classes], expected)
    assert scores.mean_average_precision == pytest.approx(expected.mean())
    assert scores.micro_f1 == pytest.approx(metrics.f1_score(ACTUAL, answered, average="micro"))
    assert scores.macro_f1 == pytest.approx(metrics.f1_score(ACTUAL, answered, average="macro"))
    assert scores.exact == pytest.approx(metrics.accuracy_score(ACTUAL, answered))
    low, high = scores.mean_average_precision_ci95
    assert 0.02 < high - low < 0.4
    assert low < scores.mean_average_precision < high


def test_images_of_one_group_are_worth_less_than_as_many_of_their_own() -> None:
    repeated = np.repeat(np.arange(60), 5)
    alone = score_labels(LIKELY[repeated], ACTUAL[repeated], CLASSES, np.full(4, 0.5))
    grouped = score_labels(LIKELY[repeated], ACTUAL[repeated], CLASSES, np.full(4, 0.5), groups=repeated)
    width = [high - low for low, high in (alone.mean_average_precision_ci95, grouped.mean_average_precision_ci95)]
    assert width[1] > 1.5 * width[0]
    assert grouped.groups == 60


def test_no_ranking_has_a_narrower_interval_than_a_perfect_one() -> None:
    def interval(mistakes: int, groups: np.ndarray | None = None) -> tuple[float, float]:
        likely = ACTUAL[:100, :2].copy()
        likely[:mistakes] = 0.5
        return score_labels(likely, ACTUAL[:100, :2], CLASSES[:2], np.full(2, 0.5), groups).mean_average_precision_ci95

    perfect, nearly, worse = (interval(mistakes) for mistakes in (0, 1, 20))
    assert perfect[1] == 1 and nearly[0] <= perfect[0] and worse[0] < nearly[0]
    # The evidence is that of ten groups, not of a hundred images.
    assert interval(0, np.arange(100) // 10)[0] == pytest.approx(0.7225, abs=1e-3)


def test_no_other_threshold_has_a_higher_f1() -> None:
    def f1(label: int, threshold: float) -> float:
        answered, actual = LIKELY[:, label] >= threshold, ACTUAL[:, label] > 0
        return 2 * (answered & actual).sum() / (answered.sum() + actual.sum())

    thresholds = best_thresholds(LIKELY, ACTUAL)
    for label, threshold in enumerate(thresholds):
        assert f1(label, threshold) == max(f1(label, each / 200) for each in range(201))


def test_what_all_images_or_none_have_has_no_average_precision_and_the_usual_threshold() -> None:
    matrix = np.column_stack([ACTUAL[:, :1], np.ones(300), np.zeros(300)])
    likely = np.column_stack([LIKELY[:, 0], RANDOM.random((300, 2))])
    scores = score_labels(likely, matrix, CLASSES[:3], best_thresholds(likely, matrix))
    assert [row.average_precision is None for row in scores.classes] == [False, True, True]
    assert [row.threshold for row in scores.classes[1:]] == [0.5, 0.5]
    assert scores.mean_average_precision == scores.classes[0].average_precision
    assert scores.baseline == pytest.approx(ACTUAL[:, 0].mean())
    assert mean_average_precision(likely[:, 1:], matrix[:, 1:]) is None
    nothing = score_labels(likely[:, 1:], matrix[:, 1:], CLASSES[1:3], np.full(2, 0.5))
    assert nothing.mean_average_precision is nothing.mean_average_precision_ci95 is None


def test_logits_beyond_any_number_are_probabilities_all_the_same() -> None:
    np.testing.assert_allclose(sigmoid(np.array([-1e9, -2.0, 0.0, 1e9])), [0.0, 0.11920292, 0.5, 1.0])
