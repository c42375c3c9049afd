"""The head on features that memory cannot hold is the head that memory would give."""

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from graft.errors import GraftError
from graft.progress import Reporter
from graft.transfer import streamed_head
from graft.transfer.head import fit_head, log_softmax
from graft.transfer.streamed_head import StoredRows, fit_streamed_head


def clouds(count: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clouds of features, each of a scale and a mean of its own."""
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, count)
    centres = random.normal(size=(classes, width)) * 0.3
    scales = np.exp(random.normal(size=width))
    return ((centres[labels] + random.normal(size=(count, width))) * scales + 5).astype(np.float32), labels


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streamed_head, "BLOCK_BYTES", 4 * 24 * 170)
    monkeypatch.setattr(streamed_head, "PART", 24 * 300)
    with threadpool_limits(1):
        yield


@pytest.mark.parametrize(
    ("blocks", "weighted", "double", "slope"),
    # In single precision the loss's precision ends the search, at a steeper slope with few rows than with millions.
    [(None, False, True, 1e-5), ((10, 14), True, True, 1e-5), ((10, 14), True, False, 1e-4)],
)
def test_it_is_the_same_head(
    blocks: tuple[int, ...] | None, weighted: bool, double: bool, slope: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not double:
        monkeypatch.setattr(streamed_head, "DOUBLE_UP_TO", 0)
    x, labels = clouds(1500, 24, 4)
    # A feature that never changes, and groups of three.
    x[:, 7] = 3.0
    groups = np.arange(1500) // 3
    weights = np.random.default_rng(1).uniform(0.5, 2, 1500).astype(np.float32) if weighted else None
    rows = StoredRows((torch.from_numpy(x[:700]).view(700, 24, 1, 1), torch.from_numpy(x[700:]).view(800, 24, 1, 1)))
    ours = fit_streamed_head(rows, labels, 4, 3, groups, weights, blocks)
    theirs = fit_head(x, labels, 4, 3, groups=groups, weights=weights, blocks=blocks)
    assert ours.inverse_penalty == theirs.inverse_penalty and ours.gradient < slope and theirs.gradient < 1e-5
    np.testing.assert_array_equal(ours.rows, theirs.rows)
    np.testing.assert_allclose(ours.logits, theirs.logits, atol=5e-3)
    one, other = (log_softmax(x @ head.weight.T + head.bias) for head in (ours, theirs))
    np.testing.assert_allclose(np.exp(one), np.exp(other), atol=1e-3)


def test_features_as_they_are_kept_are_read_in_their_precision() -> None:
    x, labels = clouds(600, 24, 3)
    kept = torch.from_numpy(x).bfloat16()
    ours = fit_streamed_head(StoredRows((kept,)), labels, 3)
    theirs = fit_head(kept.float().numpy(), labels, 3)
    np.testing.assert_allclose(ours.weight, theirs.weight, atol=2e-3)


def test_progress_is_told_and_features_that_are_not_finite_are_refused() -> None:
    x, labels = clouds(600, 24, 3)
    told: list[tuple[int, int, str]] = []
    reporter = Reporter(step=lambda name, done, total, text="": told.append((done, total, text)))
    fit_streamed_head(StoredRows((torch.from_numpy(x),)), labels, 3, reporter=reporter)
    assert told[0] == (170, 600, "mean and covariance") and told[-1][:2] == (600, 600) and "pass" in told[-1][2]
    x[599, 3] = np.nan
    with pytest.raises(GraftError, match=r"expected finite features to fit a head on, got NaN or infinity in 1 of 90"):
        fit_streamed_head(StoredRows((torch.from_numpy(x),)), labels, 3)
