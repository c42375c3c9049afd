"""Seconds to choose a head's penalty and to solve the head, by graft's descent and by SciPy's L-BFGS-B in its place.

    python benchmarks/heads.py [--repeats 3]

Features are drawn at random: classes are overlapping clouds, cut off at zero as after a ReLU. Both solvers take turns
on the same problems, on one thread and to the same slope. As the optimum is unique, their final objectives are
compared. Then come the passes over features that do not fit in memory, which are computed in single precision.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

import numpy as np

from graft.progress import Reporter
from graft.transfer import head, streamed_head
from graft.transfer.descent import Lowest, descend
from graft.transfer.head import HeadFit, centred, fit_head, log_softmax

# Images, features, classes: two classes of photographs, ten of small ones, and many.
PROBLEMS = ((245, 1280, 2), (400, 256, 10), (430, 1280, 43), (1010, 256, 101), (1010, 1280, 101))
STREAMED = ((20_000, 128, 10), (30_000, 256, 40), (8_000, 64, 3))
# Rows per block, as read from a file.
BLOCK = 4096


def by_scipy(
    value_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, tolerance: float
) -> Lowest:
    from scipy.optimize import minimize

    options = {"maxiter": 500, "gtol": tolerance, "ftol": 1e-13, "maxcor": 20}
    found = minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    return Lowest(found.x, found.jac)


def drawn(count: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw features (count, width) and labels (count,)."""
    random = np.random.default_rng(0)
    labels = np.sort(np.arange(count) % classes)
    centres = random.normal(0, 1.6 / width**0.5, (classes, width))
    return np.maximum(0, centres[labels] + random.normal(size=(count, width)) + 0.3).astype(np.float32), labels


def objective(found: HeadFit, features: np.ndarray, labels: np.ndarray) -> float:
    """The objective that a head with this penalty minimises, per image."""
    _, _, scale = centred(features)
    losses = -log_softmax(features @ found.weight.T.astype(float) + found.bias)[np.arange(len(labels)), labels]
    weights = np.square(found.weight.astype(float) * scale).sum()
    return float(losses.mean() + weights / (2 * found.inverse_penalty * len(labels)))


class Rows(np.ndarray):
    """Features in memory that come in blocks, like features on disk."""

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        for start in range(0, len(self), BLOCK):
            yield slice(start, min(start + BLOCK, len(self))), np.asarray(self[start : start + BLOCK])


def show_passes() -> None:
    print("| images | features | classes | SciPy's passes | its slope | graft's passes | its slope |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    streamed_head.DOUBLE_UP_TO = 0
    for count, width, classes in STREAMED:
        features, labels = drawn(count, width, classes)
        cells = [f"{count:,}", f"{width:,}", f"{classes}"]
        for way in (by_scipy, descend):
            head.descend = way  # type: ignore[assignment]
            told: list[str] = []
            reporter = Reporter(step=lambda name, done, total, text="", told=told: told.append(text))  # type: ignore[misc]
            found = streamed_head.fit_streamed_head(features.view(Rows), labels, classes, reporter=reporter)
            cells += [told[-1].removeprefix("pass "), f"{found.gradient:.0e}"]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Solving heads by graft's descent and by SciPy's.")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    print("| images | features | classes | SciPy's, s | graft's, s | graft's / SciPy's | penalty | objective, apart |")
    print("|--:|--:|--:|--:|--:|--:|---|--:|")
    for count, width, classes in PROBLEMS:
        features, labels = drawn(count, width, classes)
        taken: list[tuple[float, float]] = []
        for _ in range(given.repeats):
            found, seconds = [], []
            for way in (by_scipy, descend):
                head.descend = way  # type: ignore[assignment]
                started = time.process_time()
                found.append(fit_head(features, labels, classes))
                seconds.append(time.process_time() - started)
            taken.append((seconds[0], seconds[1]))
        theirs, ours = found
        same = theirs.inverse_penalty == ours.inverse_penalty
        apart = abs(objective(ours, features, labels) - objective(theirs, features, labels)) if same else float("nan")
        cells = (
            f"{median(one for one, _ in taken):.2f}",
            f"{median(other for _, other in taken):.2f}",
            f"{median(other / one for one, other in taken):.2f}",
            "the same" if same else f"{theirs.inverse_penalty:.2g}, {ours.inverse_penalty:.2g}",
            f"{apart:.0e}",
        )
        print(f"| {count:,} | {width:,} | {classes} | {' | '.join(cells)} |")
        sys.stdout.flush()
    print()
    show_passes()


if __name__ == "__main__":
    main()
