"""Every figure equals that of scikit-learn, to 1e-12, on random and edge cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.isotonic import IsotonicRegression

from graft.evaluation.ranking import average_precision, roc_area, top_accuracy
from graft.evaluation.reliability import brier_of_classes, brier_of_event, recalibrated, reliability
from graft.evaluation.scores import score

EXACT = {"rel": 0, "abs": 1e-12}


@st.composite
def answered(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, classes) and labels: sharp or flat, with ties or without, with classes that have no images."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    classes, count = draw(st.integers(2, 9)), draw(st.integers(1, 60))
    probabilities = random.dirichlet(np.full(classes, draw(st.sampled_from([0.1, 1.0, 20.0]))), count)
    if draw(st.booleans()):
        # Many equal figures, as after rounding.
        probabilities = np.round(probabilities * 4) + 0.5
        probabilities /= probabilities.sum(1, keepdims=True)
    probabilities = np.clip(probabilities, 1e-6, None)
    probabilities /= probabilities.sum(1, keepdims=True)
    kind = draw(st.sampled_from(["any", "one class", "right", "few"]))
    labels = random.integers(0, classes, count)
    labels = {
        "any": labels,
        "one class": np.full(count, labels[0]),
        "right": probabilities.argmax(1),
        "few": labels % 2,
    }[kind]
    return probabilities, labels


@settings(max_examples=15, deadline=None)
@given(answered())
def test_scores(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    found, answers = (
        score(probabilities, labels, tuple(map(str, range(probabilities.shape[1])))),
        probabilities.argmax(1),
    )
    every, present = np.arange(probabilities.shape[1]), np.unique(labels)
    theirs = metrics.precision_recall_fscore_support(labels, answers, labels=every, zero_division=0)
    ours = np.array([[row.precision or 0, row.recall or 0, row.f1 or 0, row.n] for row in found.classes]).T
    assert ours == pytest.approx(np.array(theirs), **EXACT)
    for row, number in zip(found.classes, every.tolist(), strict=True):
        if row.n < len(labels):
            of_others = metrics.recall_score(labels == number, answers == number, pos_label=False)
            assert row.specificity == pytest.approx(of_others, **EXACT)
        else:
            assert row.specificity is row.specificity_ci95 is None
    for means, average in ((found.macro, "macro"), (found.weighted, "weighted")):
        of_average = {"labels": present, "average": average, "zero_division": 0}
        expected = metrics.precision_recall_fscore_support(labels, answers, **of_average)[:3]
        assert (means.precision, means.recall, means.f1) == pytest.approx(expected, **EXACT)
    recall = metrics.recall_score(labels, answers, labels=present, average="macro")
    assert found.balanced_accuracy == pytest.approx(recall, **EXACT)
    assert (found.confusion == metrics.confusion_matrix(labels, answers, labels=every)).all()
    assert found.log_loss == pytest.approx(metrics.log_loss(labels, probabilities, labels=every), **EXACT)
    assert [row.roc_area for row in found.classes] == [roc_area(probabilities[:, c], labels == c) for c in every]
    assert (found.top5 is None) == (len(every) <= 5)


@settings(max_examples=100, deadline=None)
@given(answered())
def test_areas(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    figures, positive = probabilities[:, 0], labels == 0
    if not positive.any():
        assert (roc_area(figures, positive), average_precision(figures, positive)) == (None, None)
        return
    theirs = metrics.average_precision_score(positive, figures)
    assert average_precision(figures, positive) == pytest.approx(theirs, **EXACT)
    if positive.all():
        assert roc_area(figures, positive) is None
    else:
        assert roc_area(figures, positive) == pytest.approx(metrics.roc_auc_score(positive, figures), **EXACT)


@settings(max_examples=100, deadline=None)
@given(answered())
def test_brier_score(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    every = np.arange(probabilities.shape[1])
    brier = brier_of_classes(probabilities, labels)
    theirs = metrics.brier_score_loss(labels, probabilities, labels=every, scale_by_half=False)
    assert brier.score == pytest.approx(theirs, **EXACT)
    parts = brier.miscalibration - brier.discrimination + brier.uncertainty
    assert parts == pytest.approx(brier.score, **EXACT)
    assert min(brier.miscalibration, brier.discrimination) >= -1e-12


@settings(max_examples=100, deadline=None)
@given(answered())
def test_top_k(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    # scikit-learn breaks ties differently from `argmax`.
    probabilities = probabilities + np.arange(probabilities.size).reshape(probabilities.shape) * 1e-9
    every = np.arange(probabilities.shape[1])
    for most in range(1, len(every)):
        if len(every) > 2:
            theirs = metrics.top_k_accuracy_score(labels, probabilities, k=most, labels=every)
            assert top_accuracy(most, probabilities, labels) == pytest.approx(theirs, **EXACT)


@settings(max_examples=30, deadline=None)
@given(answered())
def test_isotonic_regression_and_what_it_makes_of_the_brier_score(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    # scikit-learn's goes wrong with confidences that differ only in their last bits.
    confidences, right = probabilities.max(1).round(9), probabilities.argmax(1) == labels
    theirs = IsotonicRegression().fit_transform(confidences, right.astype(float))
    assert recalibrated(confidences, right) == pytest.approx(theirs, rel=0, abs=1e-9)
    brier, page = brier_of_event(confidences, right), reliability(confidences, right)
    assert brier.score == pytest.approx(metrics.brier_score_loss(right, confidences, labels=[0, 1]), **EXACT)
    assert sum(block.n for block in page.blocks) == len(labels)
    rates = [block.rate for block in page.blocks]
    assert rates == sorted(set(rates)) and all(low <= high for _, low, high in page.band)


def test_areas_without_positives_or_negatives() -> None:
    figures = np.array([0.1, 0.2])
    assert roc_area(figures, np.array([True, True])) is None and average_precision(figures, np.ones(2, bool)) == 1
    assert roc_area(figures, np.zeros(2, bool)) is None and average_precision(figures, np.zeros(2, bool)) is None
