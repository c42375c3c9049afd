"""Temperature scaling against a search of the whole grid."""

import math

import numpy as np
import pytest

from graft.evaluation.calibration import EXPECTED_DEVIATION, HIGHEST, LOWEST, fit_temperature, softmax


def prior(temperature: float) -> float:
    return math.log(temperature) ** 2 / (2 * EXPECTED_DEVIATION**2)


def log_loss(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    return float(-np.log(softmax(logits, temperature)[np.arange(len(labels)), labels]).mean())


def drawn(seed: int, temperature: float, count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels drawn from their probabilities at `temperature`."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (count, 4))
    labels = np.array([random.choice(4, p=row) for row in softmax(logits, temperature)])
    return logits, labels


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
@pytest.mark.parametrize("count", [5, 300])
def test_the_fit_is_the_best_of_a_fine_grid(temperature: float, count: int) -> None:
    logits, labels = drawn(0, temperature, count)
    fitted = fit_temperature(logits, labels)
    grid = np.geomspace(LOWEST, HIGHEST, 2000)
    losses = [count * log_loss(logits, labels, value) + prior(value) for value in grid]
    assert fitted == pytest.approx(grid[int(np.argmin(losses))], rel=0.005)
    assert count * log_loss(logits, labels, fitted) + prior(fitted) <= min(losses) + 1e-9


def test_a_dozen_images_that_are_all_right_do_not_make_every_answer_certain() -> None:
    labels = np.arange(12) % 3
    logits = 4.0 * np.eye(3)[labels]
    fitted = fit_temperature(logits, labels)
    # By likelihood alone, a lower temperature is always better here.
    assert log_loss(logits, labels, LOWEST) < log_loss(logits, labels, fitted)
    assert 0.6 < fitted < 1.0


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_of_a_thousand_images_the_likeliest_temperature_is_found(temperature: float) -> None:
    logits, labels = drawn(3, temperature, 1000)
    grid = np.geomspace(LOWEST, HIGHEST, 4000)
    likeliest = grid[int(np.argmin([log_loss(logits, labels, value) for value in grid]))]
    assert fit_temperature(logits, labels) == pytest.approx(likeliest, rel=0.025)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(1, temperature, 4000)) == pytest.approx(temperature, rel=0.1)


def test_without_images_nothing_changes() -> None:
    assert fit_temperature(np.empty((0, 3)), np.empty(0, int)) == 1.0


def test_what_the_images_do_not_decide_stays_within_bounds() -> None:
    # Enough images to outweigh the prior on the temperature.
    count = 50_000
    logits = np.tile([[0.02, 0.0], [0.0, 0.02]], (count // 2, 1))
    assert fit_temperature(logits, np.tile([0, 1], count // 2)) == LOWEST
    logits = np.tile([[5.0, 0.0], [0.0, 5.0]], (count // 2, 1))
    assert fit_temperature(logits, np.tile([1, 0], count // 2)) == HIGHEST


def test_softmax_of_large_logits() -> None:
    probabilities = softmax(np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4]], np.float32))
    assert probabilities.tolist() == [[1.0, 0.0, 0.0], [pytest.approx(1 / 3)] * 3]
    assert probabilities.dtype == np.float64


def test_temperature_keeps_the_answer() -> None:
    logits, _ = drawn(2, 1.0)
    for temperature in (LOWEST, 1.0, HIGHEST):
        probabilities = softmax(logits, temperature)
        assert (probabilities.argmax(1) == logits.argmax(1)).all()
        assert np.allclose(probabilities.sum(1), 1)
