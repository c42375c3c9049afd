"""Scores of features without training."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

from graft.transfer.transferability import StageTransferability, h_score, logme


def features_and_labels(count: int, width: int, classes: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    return random.normal(size=(count, width)) + apart * random.normal(size=(classes, width))[labels], labels


def direct_logme(features: np.ndarray, labels: np.ndarray) -> float:
    """The density of the labels themselves, a Gaussian of covariance F F' / alpha + 1 / beta, at its maximum."""
    count, total = len(labels), 0.0
    for label in np.unique(labels):
        y = (labels == label).astype(float)

        def loss(logarithms: np.ndarray, y: np.ndarray = y) -> float:
            alpha, beta = np.exp(logarithms)
            covariance = features @ features.T / alpha + np.eye(count) / beta
            return -float(multivariate_normal.logpdf(y, np.zeros(count), covariance))

        total -= minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).fun
    return total / count / len(np.unique(labels))


@pytest.mark.parametrize(("count", "width"), [(30, 4), (12, 20)])
def test_logme_is_the_maximum_evidence(count: int, width: int) -> None:
    features, labels = features_and_labels(count, width, 3, apart=1)
    assert logme(features, labels) == pytest.approx(direct_logme(features, labels), abs=1e-5)


def direct_h_score(features: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.covariance import ledoit_wolf

    covariance, shrinkage = ledoit_wolf(features)
    means = np.stack([features[labels == label].mean(0) for label in labels])
    return (1 - shrinkage) * float(np.trace(np.linalg.solve(covariance, np.cov(means.T, bias=True))))


@pytest.mark.parametrize(("count", "width"), [(60, 5), (30, 80)])
def test_h_score_is_that_of_the_shrunk_covariance(count: int, width: int) -> None:
    features, labels = features_and_labels(count, width, 3, apart=1)
    assert h_score(features, labels) == pytest.approx(direct_h_score(features, labels), rel=1e-6)


@pytest.mark.parametrize("score", [logme, h_score])
@pytest.mark.parametrize("width", [10, 300])
def test_features_that_know_the_classes_score_above_those_that_do_not(score, width: int) -> None:
    values = [score(*features_and_labels(120, width, 4, apart)) for apart in (0, 0.5, 2)]
    assert values == sorted(values) and values[2] > values[0] + 0.1


@pytest.mark.parametrize("score", [logme, h_score])
def test_names_of_classes_order_of_images_and_scale_do_not_matter(score) -> None:
    features, labels = features_and_labels(60, 90, 3, apart=1)
    order = np.random.default_rng(1).permutation(60)
    expected = score(features, labels)
    assert score(features[order], labels[order]) == pytest.approx(expected)
    assert score(features, 7 - 2 * labels) == pytest.approx(expected)
    assert score(100 * features.astype(np.float32), labels) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("score", [logme, h_score])
@pytest.mark.parametrize(
    "features",
    [np.zeros((20, 5)), np.ones((20, 5)), np.eye(20), np.eye(2)[np.arange(20) % 2]],
    ids=("zeros", "ones", "names", "classes"),
)
def test_features_that_say_nothing_or_all_give_a_number(score, features: np.ndarray) -> None:
    assert np.isfinite(score(features, np.arange(20) % 2))


def test_a_row_prints_as_a_dictionary() -> None:
    assert StageTransferability("pool", 0.5, 1.0).to_dict() == {"stage": "pool", "logme": 0.5, "h_score": 1.0}
