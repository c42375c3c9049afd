"""An export that answers differently from the run is not kept."""

import numpy as np
import pytest

from graft.errors import GraftError
from graft.export.gate import check_accuracy, check_agreement

EXPECTED = np.array([[0.7, 0.3], [0.2, 0.8], [0.5004, 0.4996]])
CLASSES = ("ants", "bees")


def test_answers_within_the_bound_agree() -> None:
    found = EXPECTED + np.array([[1e-4, -1e-4]])
    found[2] = (0.4998, 0.5002)
    agreement = check_agreement(EXPECTED, found, CLASSES, CLASSES, (0.001, 0.002))
    # Two equally likely classes may come in either order.
    assert (agreement.n, agreement.same_labels) == (3, 2)
    assert agreement.largest_difference == pytest.approx(6e-4)
    assert agreement.to_dict()["seconds_per_image"] == {"exported": 0.001, "run": 0.002}


@pytest.mark.parametrize(
    ("found", "classes"),
    [
        (EXPECTED[:, ::-1], CLASSES),
        (EXPECTED, ("bees", "ants")),
        (EXPECTED + np.array([[2e-3, -2e-3]]), CLASSES),
        (EXPECTED * np.nan, CLASSES),
        (EXPECTED[:, :1], CLASSES),
    ],
)
def test_other_answers_other_classes_and_no_numbers_are_refused(found: np.ndarray, classes: tuple[str, ...]) -> None:
    with pytest.raises(GraftError, match="nothing was kept"):
        check_agreement(EXPECTED, found, CLASSES, classes, (0.0, 0.0))


def eight_bits(lost: int, of: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Answers of a run with 95 of 100 right, of a file with `lost` more wrong, and the labels."""
    labels = np.arange(of) % 2
    right = np.eye(2)[labels] * 0.6 + 0.2
    expected, found = right.copy(), right.copy()
    expected[: of // 20] = found[: of // 20] = right[: of // 20, ::-1]
    found[of - lost :] = right[of - lost :, ::-1]
    return expected, found, labels


def test_eight_bits_may_move_probabilities_but_not_lose_more_than_a_point() -> None:
    expected, found, labels = eight_bits(2)
    found = found * 0.9 + 0.05
    agreement = check_accuracy(expected, found, labels, CLASSES, CLASSES, (0.001, 0.002))
    said = agreement.to_dict()["accuracy"]
    assert (said["run"], round(said["exported"], 9)) == (0.95, 0.94)
    assert said["difference_ci95"][0] < -0.01 < said["difference_ci95"][1]
    assert "-1.0 points" in str(agreement) and agreement.same_labels == 198


@pytest.mark.parametrize("labelled", [True, False])
def test_eight_bits_that_lose_three_points_are_refused(labelled: bool) -> None:
    expected, found, labels = eight_bits(6)
    labels = labels if labelled else np.full(len(labels), -1)
    with pytest.raises(GraftError, match=r"-3\.0 points"):
        check_accuracy(expected, found, labels, CLASSES, CLASSES, (0.0, 0.0))


def test_eight_bits_of_other_classes_are_refused() -> None:
    expected, found, labels = eight_bits(0)
    with pytest.raises(GraftError, match="run's classes"):
        check_accuracy(expected, found, labels, CLASSES, CLASSES[::-1], (0.0, 0.0))


def test_another_precision_has_another_bound() -> None:
    found = EXPECTED + np.array([[0.02, -0.02]])
    with pytest.raises(GraftError, match=r"within 0\.001"):
        check_agreement(EXPECTED, found, CLASSES, CLASSES, (0.0, 0.0))
    assert check_agreement(EXPECTED, found, CLASSES, CLASSES, (0.0, 0.0), 0.1).n == 3


def test_of_several_labels_all_that_reach_their_threshold_are_to_be_the_same():
    classes, thresholds = ("a", "b", "c"), (0.5, 0.3, 0.9)
    expected = np.array([[0.99999, 0.99998, 0.1], [0.2, 0.31, 0.95]])
    # The likeliest is another, and the labels are the same.
    near = expected + np.array([[-2e-5, 0, 0], [0, 0, 0]])
    assert check_agreement(expected, near, classes, classes, (1.0, 1.0), thresholds=thresholds).same_labels == 2
    with pytest.raises(GraftError, match="1 of 2 labels as the run gives them"):
        check_agreement(expected, expected - [[0, 0, 0], [0, 0.02, 0]], classes, classes, (1, 1), 0.01, thresholds)
