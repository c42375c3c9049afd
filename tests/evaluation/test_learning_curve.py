"""Learning curves with a shape that can be worked out by hand."""

import numpy as np
import pytest

from graft.evaluation.learning_curve import CurveShape, describe_curve


@pytest.mark.parametrize(
    ("curve", "start", "slope", "asymptote"),
    [
        # Half of the way from 0.2 to 0.6 is 0.4, reached halfway between epochs 1 and 2.
        ([0.2, 0.3, 0.5, 0.6, 0.6], 0.2, 0.2 / 1.5, 0.6),
        # In the first epoch: its gain is the slope.
        ([0.0, 0.8, 0.8, 0.8, 0.8], 0.0, 0.8, 0.8),
        # Falling: half of the way from 0.9 to 0.5 is reached in epoch 2.
        ([0.9, 0.8, 0.7, 0.6, 0.5], 0.9, -0.1, 0.5),
        ([0.9, 0.9, 0.9], 0.9, 0.0, 0.9),
        ([0.1, 0.3], 0.1, 0.2, 0.3),
        # The last quarter of eight epochs is two, and first it goes down.
        ([0.4, 0.2, 0.4, 0.6, 0.7, 0.7, 0.7, 0.7, 0.9], 0.4, 0.2 / 3, 0.8),
    ],
)
def test_shape_by_hand(curve: list[float], start: float, slope: float, asymptote: float) -> None:
    expected = CurveShape(pytest.approx(start), pytest.approx(slope), pytest.approx(asymptote))
    assert describe_curve(np.array(curve)) == expected
