"""The descent that heads are solved by."""

import numpy as np
import pytest

from graft.transfer.descent import PAIRS, Curvature, descend


def bowl(scales: np.ndarray, lowest: np.ndarray):
    """The quadratic with these curvatures along turned axes, and where it is least."""
    axes, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(len(scales), len(scales))))
    hessian = axes * scales @ axes.T
    return lambda x: (float((x - lowest) @ hessian @ (x - lowest)) / 2, hessian @ (x - lowest))


def test_a_quadratic_is_least_where_algebra_says() -> None:
    lowest = np.random.default_rng(1).normal(size=60)
    # Along some axes the first step, the whole gradient, goes much too far.
    found = descend(bowl(np.geomspace(0.01, 30, 60), lowest), np.zeros(60), 1e-9, least_fall=0.0)
    np.testing.assert_allclose(found.x, lowest, atol=1e-5)
    assert np.abs(found.gradient).max() <= 1e-9


def test_it_ends_where_scipy_ends() -> None:
    from scipy.optimize import minimize

    random = np.random.default_rng(2)
    x, signs = random.normal(size=(300, 40)), random.choice([-1.0, 1.0], 300)

    def value_and_gradient(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = signs * (x @ w)
        chance = 0.5 * (1 - np.tanh(margin / 2))
        return float(np.logaddexp(0, -margin).mean() + w @ w / 200), w / 100 - x.T @ (signs * chance) / len(x)

    found = descend(value_and_gradient, np.full(40, 3.0), 1e-9)
    theirs = minimize(value_and_gradient, np.zeros(40), jac=True, method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(found.x, theirs.x, atol=1e-7)


@pytest.mark.parametrize("count", [1, 7, PAIRS + 5])
def test_the_curvature_is_that_of_bfgs_from_the_latest_steps(count: int) -> None:
    value_and_gradient, curvature = bowl(np.linspace(0.5, 2, 12), np.zeros(12)), Curvature(12)
    steps = np.random.default_rng(3).normal(size=(count, 12))
    for step in steps:
        curvature.learn(step, value_and_gradient(step)[1])
    # One update of the full matrix for each stored pair, in order; Nocedal and Wright 2006, Numerical Optimization,
    # equation 6.17.
    inverse = None
    for step in steps[-PAIRS:]:
        change = value_and_gradient(step)[1]
        if inverse is None:
            latest = value_and_gradient(steps[-1])[1]
            inverse = np.eye(12) * (steps[-1] @ latest) / (latest @ latest)
        turn = np.eye(12) - np.outer(step, change) / (step @ change)
        inverse = turn @ inverse @ turn.T + np.outer(step, step) / (step @ change)
    gradient = np.arange(1.0, 13)
    np.testing.assert_allclose(curvature.newton_step(gradient), -inverse @ gradient, rtol=1e-8, atol=1e-9)


def test_a_step_never_leads_up() -> None:
    values: list[float] = []
    inner = bowl(np.geomspace(1e-2, 500, 30), np.ones(30))

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        values.append(inner(x)[0])
        return inner(x)

    found = descend(value_and_gradient, np.zeros(30), 1e-6)
    assert inner(found.x)[0] == min(values) < 1e-6 * values[0]
    # Some steps went too far and were taken back.
    assert sorted(values, reverse=True) != values


@pytest.mark.parametrize("size", [0, 1])
def test_it_ends_at_once_where_it_begins_at_the_lowest_point(size: int) -> None:
    asked: list[np.ndarray] = []

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        asked.append(x)
        return float(x @ x), 2 * x

    assert descend(value_and_gradient, np.zeros(size), 1e-6).x.tolist() == [0.0] * size
    assert len(asked) == 1


def test_where_rounding_hides_the_value_slopes_lead_on() -> None:
    inner, asked = bowl(np.geomspace(0.05, 2, 40), np.random.default_rng(4).normal(size=40)), []

    def value_and_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = inner(x)
        asked.append(value)
        # Like the gradient of a sum of losses in single precision, which never comes near zero.
        return float(np.float32(1 + value) + np.float32(1e-7) * (-1) ** len(asked)), gradient

    found = descend(value_and_gradient, np.zeros(40), 1e-7)
    assert np.abs(found.gradient).max() <= 1e-7
    assert inner(found.x)[0] < 1e-12 and len(asked) < 80
