"""A head for several labels: the same optimum as scikit-learn's, whatever the labels are."""

import numpy as np
import pytest

from graft.errors import GraftError
from graft.transfer.head import UNTRIED
from graft.transfer.label_head import _solve, fit_label_head, log_loss_of_labels

RANDOM = np.random.default_rng(0)
X = RANDOM.standard_normal((240, 12)).astype(np.float32)
DIRECTIONS = RANDOM.standard_normal((12, 3))
Y = (X @ DIRECTIONS + RANDOM.standard_normal((240, 3)) > (0.0, 1.0, 3.0)).astype(np.float32)


def test_each_label_is_solved_to_the_optimum_that_scikit_learn_finds() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    penalties = np.array([0.01, 1.0, 100.0])
    solution, gradient = _solve(X.astype(np.float64), Y.astype(np.float64), np.ones(len(X)), penalties)
    assert gradient < 1e-5
    for label, inverse in enumerate(penalties):
        peer = linear.LogisticRegression(C=inverse, tol=1e-10, max_iter=5000).fit(X, Y[:, label])
        np.testing.assert_allclose(solution[:-1, label], peer.coef_[0], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(solution[-1, label], peer.intercept_[0], rtol=1e-3, atol=1e-4)


def test_held_out_logits_are_of_images_that_no_head_saw_and_tell_the_labels() -> None:
    fit = fit_label_head(X, Y)
    assert fit.weight.shape == (3, 12)
    np.testing.assert_array_equal(fit.labels, Y[fit.rows])
    losses = log_loss_of_labels(fit.logits, fit.labels).mean(0)
    share = Y.mean(0)
    assert (losses < -(share * np.log(share) + (1 - share) * np.log(1 - share))).all()
    noise = fit_label_head(X, Y[RANDOM.permutation(len(Y))])
    assert log_loss_of_labels(noise.logits, noise.labels).mean() > losses.mean() + 0.1


def test_labels_that_all_or_no_images_have_get_a_bias_alone() -> None:
    matrix = np.column_stack([Y[:, 0], np.ones(len(X)), np.zeros(len(X))]).astype(np.float32)
    fit = fit_label_head(X, matrix)
    assert not fit.weight[1:].any()
    assert fit.bias[1] > 4
    assert fit.bias[2] < -4
    assert fit.weight[0].any()


def test_views_of_an_image_count_together_and_infinite_features_are_refused() -> None:
    several = fit_label_head(np.concatenate([X, X]), np.concatenate([Y, Y]), views=2)
    assert len(several.rows) == len(X)
    with pytest.raises(GraftError, match="expected finite features"):
        fit_label_head(np.where(X > 3, np.inf, X), Y)


def test_images_that_are_all_one_group_are_held_out_as_if_there_were_none() -> None:
    x = np.random.default_rng(0).normal(size=(120, 6)).astype(np.float32)
    matrix = (x[:, :3] > 0).astype(np.float32)
    alone, one_group = (fit_label_head(x, matrix, groups=groups) for groups in (None, np.zeros(120, int)))
    assert np.array_equal(alone.logits, one_group.logits) and np.array_equal(alone.weight, one_group.weight)
    assert ((one_group.logits > 0) == one_group.labels).mean() > 0.9


def test_a_label_that_no_other_fold_knows_chooses_no_penalty() -> None:
    own = np.arange(len(X)) % 3
    matrix = np.eye(3, dtype=np.float32)[own]
    far = X + 6 * np.eye(3, 12, dtype=np.float32)[own]
    known = fit_label_head(far, matrix)
    grouped = fit_label_head(far, matrix, groups=own)
    assert known.inverse_penalty > UNTRIED == grouped.inverse_penalty
    logits = far @ grouped.weight.T + grouped.bias
    assert ((logits > 0) == (matrix > 0)).mean() > 0.99
