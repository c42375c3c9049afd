"""Scores of several labels for each image: those of scikit-learn, thresholds, and what has no figure."""

import numpy as np
import pytest

from graft.evaluation.label_interval import mean_average_precision_interval
from graft.evaluation.label_scores import best_thresholds, mean_average_precision, score_labels, sigmoid
from graft.evaluation.ranking import average_precision

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


def as_many(
    random: np.random.Generator, count: int, labels: int, share: float, distance: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return figures and labels, (count, labels) each, of images of which `size` each are alike."""
    drawn = np.repeat(np.arange(count // size), size)
    actual = (random.random((count // size, labels)) < share)[drawn]
    return (
        actual * distance + random.normal(size=(count // size, labels))[drawn] + 0.01 * random.normal(size=actual.shape)
    ), actual


@pytest.mark.parametrize(
    ("count", "labels", "share", "size"), [(60, 80, 0.05, 1), (153, 20, 0.1, 1), (200, 3, 0.4, 1), (400, 10, 0.2, 4)]
)
def test_the_interval_of_mean_average_precision_holds_and_contains_the_figure(
    count: int, labels: int, share: float, size: int
) -> None:
    random, held = np.random.default_rng(0), 0
    distance = random.uniform(0.5, 2.5, labels)
    large, of_large = as_many(random, 40_000, labels, share, distance, 1)
    true = np.array([average_precision(large[:, label], of_large[:, label]) for label in range(labels)])
    for _ in range(100):
        figures, actual = as_many(random, count, labels, share, distance, size)
        groups = np.arange(count) // size if size > 1 else None
        scores = score_labels(sigmoid(figures), actual.astype(np.float32), ("",) * labels, np.full(labels, 0.5), groups)
        low, high = scores.mean_average_precision_ci95
        occur = actual.any(0)
        held += low <= true[occur].mean() <= high
        assert low <= scores.mean_average_precision <= high
    # Of 100 intervals that hold in 95 %, 90 or more do in 99 of 100 such simulations.
    assert held >= 90


def test_the_interval_of_mean_average_precision_is_about_as_wide_as_the_figure_varies() -> None:
    random, figures = np.random.default_rng(0), []
    for _ in range(100):
        each, actual = as_many(random, 500, 10, 0.2, np.full(10, 1.5), 1)
        low, high = mean_average_precision_interval(each, actual)
        figures.append((mean_average_precision(each, actual), high - low))
    deviation, width = np.std([figure for figure, _ in figures]), np.mean([width for _, width in figures])
    assert 0.9 * 3.92 * deviation < width < 1.6 * 3.92 * deviation


def test_labels_of_one_image_each_or_of_one_group_have_an_interval_that_says_little() -> None:
    figures = np.random.default_rng(0).random((30, 2))
    one = np.zeros((30, 2), bool)
    one[(3, 20), (0, 1)] = True
    low, high = mean_average_precision_interval(figures, one)
    assert low <= mean_average_precision(figures, one) <= high and high - low > 0.5
    assert mean_average_precision_interval(figures, one, np.zeros(30, int)) == (0.0, 1.0)


def test_images_of_equal_figures_pass_together_in_the_interval_too() -> None:
    figures, actual = np.round(LIKELY, 1), ACTUAL > 0
    again = np.random.default_rng(0).permutation(300)
    expected = mean_average_precision_interval(figures, actual)
    assert mean_average_precision_interval(figures[again], actual[again]) == pytest.approx(expected, abs=1e-12)
    assert mean_average_precision_interval(figures, actual, again) == pytest.approx(expected, abs=1e-12)


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


def test_without_images_every_threshold_is_the_usual_one() -> None:
    assert best_thresholds(np.empty((0, 3)), np.empty((0, 3))).tolist() == [0.5, 0.5, 0.5]


def test_logits_beyond_any_number_are_probabilities_all_the_same() -> None:
    np.testing.assert_allclose(sigmoid(np.array([-1e9, -2.0, 0.0, 1e9])), [0.0, 0.11920292, 0.5, 1.0])
