"""Heads that judge images they have not seen: the same for features in memory and in storage, in little memory."""

import tracemalloc

import numpy as np
import pytest
import torch

from graft.transfer.head import Examples, centred, onto_principal_axes, solve
from graft.transfer.held_out import HeldOutHeads, fit_held_out_heads
from graft.transfer.streamed_head import StoredRows


def clouds(count: int, width: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, count)
    features = random.normal(size=(classes, width))[labels] + 2 * random.normal(size=(count, width))
    return np.maximum(features + 1, 0).astype(np.float32), labels


def fitted(features: np.ndarray | StoredRows, labels: np.ndarray, most: int = 20_000) -> HeldOutHeads:
    rows = np.arange(len(labels))
    return fit_held_out_heads(features, rows, labels, int(labels.max()) + 1, rows % 5, 0.01, most)


@pytest.mark.parametrize(("count", "width"), [(300, 40), (120, 400), (2000, 30)])
def test_each_image_is_judged_by_a_head_fitted_on_the_other_folds(count: int, width: int) -> None:
    features, labels = clouds(count, width, 4)
    x, _ = onto_principal_axes(centred(features)[0].astype(np.float32))
    fold = np.arange(count) % 5
    expected = np.zeros((count, 4))
    for number in range(5):
        kept, out = fold != number, fold == number
        examples = Examples(x[kept], labels[kept], np.ones(kept.sum()), 4)
        solution, _ = solve(examples, 0.01, tolerance=1e-3)
        expected[out] = x[out] @ solution[:-1] + solution[-1]
    heads = fitted(features, labels)
    np.testing.assert_allclose(heads.logits(np.arange(count)), expected, atol=1e-4)


def test_blocks_of_any_size_give_the_same_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = clouds(500, 20, 3)
    whole = fitted(features, labels).logits(np.arange(500))
    monkeypatch.setattr("graft.transfer.held_out.BLOCK", 700)
    places, logits = zip(*fitted(features, labels).blocks(), strict=True)
    assert len(places) == 15 and (np.concatenate(places) == np.arange(500)).all()
    np.testing.assert_allclose(np.concatenate(logits), whole, atol=1e-4)


def test_stored_features_and_some_of_them_give_the_same_heads() -> None:
    features, labels = clouds(400, 24, 3)
    stored = StoredRows((torch.from_numpy(features[:150]), torch.from_numpy(features[150:])))
    heads = fitted(features, labels)
    np.testing.assert_array_equal(fitted(stored, labels).weight, heads.weight)
    padded = np.concatenate([np.full((50, 24), 1e6, np.float32), features])
    some = fit_held_out_heads(padded, np.arange(50, 450), labels, 3, np.arange(400) % 5, 0.01, 20_000)
    np.testing.assert_array_equal(some.weight, heads.weight)


def test_heads_fitted_on_some_of_many_images_judge_all_alike() -> None:
    features, labels = clouds(6000, 16, 3)
    every, some = (fitted(features, labels, most).logits(np.arange(6000)).argmax(1) for most in (20_000, 1500))
    assert (every == some).mean() > 0.9
    assert (some == labels).mean() > (every == labels).mean() - 0.03


def test_features_that_do_not_vary_give_the_frequencies() -> None:
    labels = np.repeat([0, 1], [30, 10])
    logits = fitted(np.ones((40, 3), np.float32), labels).logits(np.arange(40))
    assert np.isfinite(logits).all() and (logits.argmax(1) == 0).all()


def test_memory_does_not_grow_with_the_number_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.transfer.held_out.BLOCK", 2**17)
    peaks = []
    for count in (20_000, 80_000):
        features, labels = clouds(count, 64, 3)
        tracemalloc.start()
        for _, _ in fitted(features, labels, 2000).blocks():
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Without a copy of the features, which are 256 bytes each: only what is noted of every image.
    assert (peaks[1] - peaks[0]) / 60_000 < 64
