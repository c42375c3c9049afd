"""L-BFGS: minimise a smooth convex function of very many variables.

SciPy's version finds the same minimum. It also handles bounds on variables, with bookkeeping that takes as long as the
loss of a head with many classes, and it stops where single precision hides whether the value still falls.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

# How many of the latest steps the curvature is estimated from.
PAIRS = 20
# A step is accepted when the function falls by this fraction of what its slope there promises.
ENOUGH = 1e-4
# The relative error of a sum in single precision.
ROUNDING = 1e-6
# Limits on the steps in all, on steps in a row without progress, and on the lengths tried for one step.
MOST_STEPS, MOST_IDLE, MOST_TRIED = 500, 3, 20


@dataclass(frozen=True)
class Lowest:
    """The variables (n,) that minimise a function, and its gradient (n,) there."""

    x: np.ndarray
    gradient: np.ndarray


def descend(
    value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
    start: np.ndarray,
    tolerance: float,
    least_fall: float = 1e-13,
) -> Lowest:
    """Minimise a convex function of variables (n,), float64, from `start`, scaled so that its curvature is about one.

    Stop when no slope exceeds `tolerance`, or when for several steps neither the steepest slope falls nor the value, by
    more than `least_fall` of itself. The first step is the negative gradient, which has the right length for a
    curvature of one. Nocedal 1980, "Updating quasi-Newton matrices with limited storage", in the compact form of Byrd,
    Nocedal and Schnabel 1994, "Representations of quasi-Newton matrices and their use in limited memory methods",
    equation 3.1.
    """
    x, curvature, idle = start, Curvature(len(start)), 0
    value, gradient = value_and_gradient(x)
    for _ in range(MOST_STEPS):
        if np.abs(gradient).max(initial=0.0) <= tolerance:
            break
        direction = curvature.newton_step(gradient)
        slope, length = float(gradient @ direction), 1.0
        for _ in range(MOST_TRIED):
            step = length * direction
            new_value, new_gradient = value_and_gradient(x + step)
            if new_value <= value + ENOUGH * length * slope:
                break
            # The same test for a parabola, by its slopes, for when rounding hides which value is lower: Hager and Zhang
            # 2005, "A new conjugate gradient method with guaranteed descent and an efficient line search", equation
            # 4.1.
            if new_value <= value + ROUNDING * abs(value) and new_gradient @ direction <= (2 * ENOUGH - 1) * slope:
                break
            # Go to the minimum of the parabola through both values, but shorten the step by a factor of 2 to 10.
            bend = new_value - value - length * slope
            length *= min(0.5, max(0.1, -length * slope / (2 * bend))) if np.isfinite(bend) else 0.1
        else:
            break
        curvature.learn(step, new_gradient - gradient)
        lower = value - new_value > least_fall * max(abs(value), 1.0)
        flatter = np.abs(new_gradient).max() < np.abs(gradient).max()
        idle = 0 if lower or flatter else idle + 1
        x, value, gradient = x + step, new_value, new_gradient
        if idle == MOST_IDLE:
            break
    return Lowest(x, gradient)


@dataclass
class Curvature:
    """The estimate of the inverse Hessian from the latest steps and the changes of the gradient (n,) along them."""

    n: int
    steps: np.ndarray = field(init=False)
    changes: np.ndarray = field(init=False)
    # Places in `steps` and `changes` from the oldest pair to the latest. The matrices below are in this order.
    order: list[int] = field(default_factory=list)
    # Products of changes with each other, and the inverse of the upper triangle of those of steps with changes. Both
    # grow and shrink at their ends, so that no step has to solve a system: for few variables, that took half the time.
    squared: np.ndarray = field(init=False)
    inverse: np.ndarray = field(init=False)
    # Of each step with its own change.
    along: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.steps, self.changes = np.empty((PAIRS, self.n)), np.empty((PAIRS, self.n))
        self.squared, self.inverse, self.along = np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0)

    def learn(self, step: np.ndarray, change: np.ndarray) -> None:
        """Add the latest step, unless rounding hides how the gradient changed along it."""
        along = float(step @ change)
        if not along > np.finfo(float).eps * float(change @ change):
            return
        if len(self.order) == PAIRS:
            place = self.order.pop(0)
            self.squared, self.inverse, self.along = self.squared[1:, 1:], self.inverse[1:, 1:], self.along[1:]
        else:
            place = len(self.order)
        self.order.append(place)
        self.steps[place], self.changes[place] = step, change
        known, places = len(self.order), self.order
        squared, inverse = np.empty((known, known)), np.zeros((known, known))
        squared[:-1, :-1], inverse[:-1, :-1] = self.squared, self.inverse
        squared[-1] = squared[:, -1] = (self.changes[:known] @ change)[places]
        crossed = (self.steps[:known] @ change)[places[:-1]]
        inverse[:-1, -1] = self.inverse @ crossed / -along
        inverse[-1, -1] = 1 / along
        self.squared, self.inverse, self.along = squared, inverse, np.append(self.along, along)

    def newton_step(self, gradient: np.ndarray) -> np.ndarray:
        """Return the negative gradient (n,) times the estimated inverse Hessian: a descent direction."""
        if not self.order:
            return -gradient
        known = len(self.order)
        unit = self.along[-1] / self.squared[-1, -1]
        inner = self.inverse @ (self.steps[:known] @ gradient)[self.order]
        of_changes = (self.changes[:known] @ gradient)[self.order]
        outer = (self.along * inner + unit * (self.squared @ inner - of_changes)) @ self.inverse
        by_place = np.empty((2, known))
        by_place[:, self.order] = outer, unit * inner
        return by_place[1] @ self.changes[:known] - by_place[0] @ self.steps[:known] - unit * gradient
