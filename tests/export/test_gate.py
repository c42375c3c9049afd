"""What answers otherwise than the run is not kept."""

import numpy as np
import pytest

from graft.errors import GraftError
from graft.export.gate import check_agreement

EXPECTED = np.array([[0.7, 0.3], [0.2, 0.8], [0.5004, 0.4996]])
CLASSES = ("ants", "bees")


def test_answers_within_the_bound_agree() -> None:
    found = EXPECTED + np.array([[1e-4, -1e-4]])
    found[2] = (0.4998, 0.5002)
    agreement = check_agreement(EXPECTED, found, CLASSES, CLASSES, (0.001, 0.002))
    # Which of two that are as likely comes first may differ.
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
