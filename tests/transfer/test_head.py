"""The convex head."""

import numpy as np
import pytest

from graft.errors import GraftError
from graft.transfer.head import INVERSE_PENALTIES, UNTRIED, fit_head, log_softmax, rows_to_choose_on


def clouds(count: int, width: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping Gaussian clouds on an uneven scale, a few of whose axes matter."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = random.normal(size=(classes, width)) * 0.3
    scales = np.exp(random.normal(size=width))
    return ((centres[labels] + random.normal(size=(count, width))) * scales + 5).astype(np.float32), labels


def objective(weight: np.ndarray, bias: np.ndarray, x: np.ndarray, labels: np.ndarray, inverse_penalty: float) -> float:
    """The problem as the docstring states it, on features centred and scaled to a mean square of one."""
    centre, x = x.mean(0, dtype=np.float64), x.astype(np.float64)
    scale = np.sqrt(np.mean((x - centre) ** 2))
    logits = x @ weight.T.astype(np.float64) + bias
    losses = -log_softmax(logits)[np.arange(len(labels)), labels]
    return float(losses.sum() + np.square(weight.astype(np.float64) * scale).sum() / (2 * inverse_penalty))


@pytest.mark.parametrize(("count", "width", "classes"), [(60, 200, 3), (400, 20, 2), (300, 40, 7)])
def test_the_head_is_the_optimum_that_scikit_learn_finds(count: int, width: int, classes: int) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is a test dependency")
    x, labels = clouds(count, width, classes)
    head = fit_head(x, labels, classes)
    assert head.inverse_penalty in INVERSE_PENALTIES
    centre, scale = x.mean(0), np.sqrt(np.mean((x - x.mean(0)) ** 2))
    scaled = ((x - centre) / scale).astype(np.float64)
    # With two classes scikit-learn solves for the difference of the two vectors, whose penalty is half of ours.
    factor = 2 if classes == 2 else 1
    solver = linear_model.LogisticRegression(C=factor * head.inverse_penalty, tol=1e-10, max_iter=20_000)
    reference = solver.fit(scaled, labels)
    weight, bias = reference.coef_, reference.intercept_
    if classes == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    theirs = objective(weight / scale, bias - weight / scale @ centre, x, labels, head.inverse_penalty)
    assert objective(head.weight, head.bias, x, labels, head.inverse_penalty) == pytest.approx(theirs, rel=1e-5)


def test_features_of_two_blocks_count_alike_whatever_the_scale_of_their_layers() -> None:
    x, labels = clouds(200, 30, 4)
    louder = x * np.repeat([1, 1000], [10, 20]).astype(np.float32)
    one, other = (fit_head(each, labels, 4, blocks=(10, 20)) for each in (x, louder))
    assert one.inverse_penalty == other.inverse_penalty
    ours, theirs = (each @ head.weight.T + head.bias for each, head in ((x, one), (louder, other)))
    np.testing.assert_allclose(log_softmax(ours), log_softmax(theirs), atol=2e-2)


def test_the_head_on_standardised_features_is_the_optimum_that_scikit_learn_finds() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is a test dependency")
    random = np.random.default_rng(0)
    # Deviations from 0.6 to 1.4 of their mean: none is so small that it is held back.
    labels = np.arange(150) % 3
    x = random.normal(size=(3, 400))[labels] * 0.2 + random.normal(size=(150, 400))
    x = (x * random.uniform(0.6, 1.4, 400) + 5).astype(np.float32)
    head = fit_head(x, labels, 3, blocks=(150, 250))
    z = ((x - x.mean(0)) / x.std(0)).astype(np.float64)
    reference = linear_model.LogisticRegression(C=head.inverse_penalty, tol=1e-10, max_iter=20_000).fit(z, labels)
    ours, theirs = x @ head.weight.T + head.bias, reference.decision_function(z)
    np.testing.assert_allclose(np.exp(log_softmax(ours)), np.exp(log_softmax(theirs)), atol=2e-5)


def test_a_feature_that_never_or_hardly_changes_is_not_blown_up() -> None:
    x, labels = clouds(90, 12, 3)
    x = (x - x.mean(0)) / x.std(0)
    x[:, 4], x[:, 8] = 3.0, 1 + x[:, 0] * 1e-4
    head = fit_head(x, labels, 3, blocks=(6, 6))
    assert np.isfinite(head.weight).all()
    assert np.abs(head.weight[:, 4]).max() < 1e-6
    # If it varied as much as the others, it would move the logits no more than they do.
    assert np.abs(head.weight[:, 8]).max() < np.abs(np.delete(head.weight, [4, 8], 1)).max()


def test_the_penalty_is_chosen_for_images_not_seen() -> None:
    x, labels = clouds(120, 300, 4)
    head = fit_head(x, labels, 4)
    assert len(head.logits) == len(head.labels) == 120
    held_out = (head.logits.argmax(1) == head.labels).mean()
    on_its_own = ((x @ head.weight.T + head.bias).argmax(1) == labels).mean()
    assert held_out < on_its_own


def test_pure_noise_is_left_to_the_strongest_penalties() -> None:
    random = np.random.default_rng(0)
    head = fit_head(random.normal(size=(200, 50)).astype(np.float32), random.integers(0, 3, 200), 3)
    assert head.inverse_penalty <= 1e-2


def test_views_of_an_image_never_stand_on_both_sides_of_a_fold() -> None:
    # Repeated noise: one view in the training part gives away the label of the other.
    random = np.random.default_rng(1)
    x, labels = random.normal(size=(80, 400)).astype(np.float32), np.arange(80) % 2
    random.shuffle(labels)
    head = fit_head(np.concatenate([x, x, x]), np.tile(labels, 3), 2, views=3)
    assert len(head.labels) == 80
    assert (head.logits.argmax(1) == head.labels).mean() < 0.7


def test_one_image_per_class_is_enough_to_get_a_head() -> None:
    x = np.eye(3, 8, dtype=np.float32)
    head = fit_head(x, np.arange(3), 3)
    assert ((x @ head.weight.T + head.bias).argmax(1) == np.arange(3)).all()


def test_features_without_any_difference_give_equal_chances() -> None:
    head = fit_head(np.ones((10, 5), np.float32), np.arange(10) % 2, 2)
    logits = np.ones((1, 5)) @ head.weight.T + head.bias
    np.testing.assert_allclose(logits[0, 0], logits[0, 1], atol=1e-6)


def test_an_image_of_weight_three_counts_as_three() -> None:
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(60, 8)).astype(np.float32), np.arange(60) % 3
    weights = np.where(np.arange(60) < 30, 3.0, 1.0)
    repeated = np.repeat(np.arange(60), weights.astype(int))
    heavy = fit_head(x - x[repeated].mean(0), labels, 3, weights=weights)
    # Copies of an image are in one fold, so the same penalty is chosen on the same grounds.
    thrice = fit_head(x[repeated] - x[repeated].mean(0), labels[repeated], 3, groups=repeated)
    assert np.corrcoef(heavy.weight.ravel(), thrice.weight.ravel())[0, 1] > 0.95
    assert np.corrcoef(heavy.weight.ravel(), fit_head(x, labels, 3).weight.ravel())[0, 1] < 0.95


def test_a_group_is_on_one_side_of_every_fold() -> None:
    # Ten copies of each of twelve random images with random labels: a copy in the training part would tell the label.
    random = np.random.default_rng(0)
    x, labels = random.normal(size=(12, 40)).astype(np.float32), np.arange(12) % 2
    copies = np.repeat(np.arange(12), 10)
    told = fit_head(x[copies], labels[copies], 2)
    honest = fit_head(x[copies], labels[copies], 2, groups=copies)
    assert (told.logits.argmax(1) == told.labels).mean() == 1
    assert (honest.logits.argmax(1) == honest.labels).mean() < 0.9


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    x, labels = clouds(60, 20, 3)
    x[4, 7] = value
    with pytest.raises(
        GraftError, match="expected finite features to fit a head on, got NaN or infinity in 1 of 60 rows"
    ):
        fit_head(x, labels, 3)


def test_a_head_that_float32_has_no_numbers_for_is_refused() -> None:
    x, labels = clouds(60, 20, 3)
    # So similar that only enormous weights separate them.
    tiny = (x.astype(np.float64) * 1e-100, labels)
    with pytest.raises(GraftError, match="expected finite weights and biases of the head"):
        fit_head(*tiny, 3)


@pytest.mark.parametrize(
    ("sizes", "folds"), [((190, 10), 2), ((199, 1), 2), ((80, 10, 10), 3), ((40,) * 6, 5), ((3,) * 20, 5)]
)
def test_a_few_groups_of_any_size_make_as_many_folds(sizes: tuple[int, ...], folds: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(100):
        labels = np.random.default_rng(seed).integers(0, 2, len(groups))
        rows, fold = rows_to_choose_on(labels, len(labels), seed, groups)
        assert sorted(rows) == list(range(len(labels))) and len(np.unique(fold)) == folds
        assert all(len(np.unique(fold[groups[rows] == each])) == 1 for each in range(len(sizes)))


def test_a_group_and_the_only_image_of_a_class_are_two_folds() -> None:
    labels = np.append(np.arange(50) % 2, 2)
    _, fold = rows_to_choose_on(labels, 51, 0, np.append(np.zeros(50, int), 1))
    assert sorted(np.bincount(fold)) == [1, 50]


def test_of_two_groups_each_tells_how_well_the_other_does() -> None:
    # With both in one fold nothing was fitted, every penalty did as well, and the strongest was taken.
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(int)
    found = fit_head(x, labels, 2, seed=2, groups=np.repeat([0, 1], [190, 10]))
    assert (found.logits.argmax(1) == found.labels).mean() > 0.6 and np.abs(found.weight).max() > 1


def test_images_whose_class_no_other_fold_has_choose_no_penalty() -> None:
    x, labels = clouds(90, 64, 3)
    x += 8 * np.eye(3, 64, dtype=np.float32)[labels] * x.std()
    alone = fit_head(x, labels, 3)
    assert alone.inverse_penalty > UNTRIED
    # A video for each class: nothing that is held out was seen of it.
    whole = fit_head(x, labels, 3, groups=labels)
    assert whole.inverse_penalty == UNTRIED and not len(whole.logits) and not len(whole.labels) and not len(whole.rows)
    right = (x @ whole.weight.T + whole.bias).argmax(1) == labels
    assert right.all()
    # Two of the classes can be judged, and choose as they would.
    groups = np.where(labels == 0, -1, np.arange(90))
    some = fit_head(x, labels, 3, groups=groups)
    assert some.inverse_penalty > UNTRIED and set(some.labels.tolist()) == {1, 2}
    assert (labels[some.rows] == some.labels).all() and len(some.rows) == len(some.logits) == 60
    # One image of each class.
    once = fit_head(x[:3], labels[:3], 3)
    assert once.inverse_penalty == UNTRIED and not len(once.rows)


def test_an_image_that_does_not_count_has_no_say_in_the_penalty() -> None:
    x, labels = clouds(120, 30, 3)
    x += 6 * np.eye(3, 30, dtype=np.float32)[labels] * x.std()
    wrong = np.arange(120) % 4 == 0
    given = np.where(wrong, (labels + 1) % 3, labels)
    head = fit_head(x, given, 3, weights=(~wrong).astype(np.float32))
    assert not wrong[head.rows].any() and len(head.rows) == (~wrong).sum()
    assert (head.logits.argmax(1) == head.labels).mean() > 0.95
    # However large the weights are, only their ratios count.
    large = fit_head(x, given, 3, weights=np.where(wrong, 0, 3e38).astype(np.float32))
    np.testing.assert_allclose(large.weight, head.weight, rtol=1e-3, atol=1e-5)
