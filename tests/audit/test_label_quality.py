"""Rankings of labels and of outliers, on figures that can be worked out by hand."""

import numpy as np
import pytest

from graft.audit.label_quality import (
    contradicted,
    far_out,
    missed_anyway,
    neighbour_distance,
    neighbours_agree,
    self_confidence,
)


def test_self_confidence_is_the_probability_of_the_own_label() -> None:
    probabilities = np.array([[0.2, 0.8], [0.9, 0.1]])
    assert self_confidence(probabilities, np.array([0, 0])).tolist() == [0.2, 0.9]


def test_a_label_is_contradicted_when_another_class_is_as_likely_as_it_usually_is_on_its_own() -> None:
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.35, 0.65], [0.1, 0.9]])
    labels = np.array([0, 0, 1, 1, 0, 0])
    # Class 1 is usually given 0.7: the last image reaches that, the one before it does not.
    assert contradicted(probabilities, labels).tolist() == [False, False, False, False, False, True]


def test_a_class_without_images_contradicts_nobody() -> None:
    probabilities = np.array([[0.1, 0.1, 0.8], [0.2, 0.1, 0.7], [0.1, 0.5, 0.4]])
    assert not contradicted(probabilities, np.array([0, 0, 1])).any()


def test_the_mean_distance_to_the_nearest_does_not_count_the_image_itself() -> None:
    angles = np.array([0.0, 0.1, 0.2, np.pi])
    features = np.stack([np.cos(angles), np.sin(angles)], 1)
    found = neighbour_distance(features, neighbours=2)
    expected = [(2 - np.cos(0.1) - np.cos(0.2)) / 2, 1 - np.cos(0.1), (2 - np.cos(0.1) - np.cos(0.2)) / 2]
    assert found[:3] == pytest.approx(expected, abs=1e-6)
    assert found[3] > 1.9


@pytest.mark.parametrize("most", [30, 100])
def test_an_outlier_is_found_among_all_or_among_some(most: int) -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(100, 8)) * 0.1 + 1
    features[37] = -1
    found = neighbour_distance(features, most=most)
    assert found.argmax() == 37
    assert far_out(found)[37]
    assert far_out(found).sum() < 3


def test_few_images_have_no_outliers() -> None:
    assert neighbour_distance(np.ones((1, 4))).tolist() == [0]
    assert not far_out(neighbour_distance(np.eye(3))).any()
    assert len(far_out(np.empty(0))) == 0


def test_a_head_misses_as_many_right_labels_as_its_small_probabilities_say() -> None:
    assert missed_anyway(np.array([[0.98, 0.02], [0.5, 0.5], [0.01, 0.99]]), 0.02) == pytest.approx(0.03)


def test_neighbours_of_the_same_group_are_no_witnesses() -> None:
    features = np.array([[1.0, 0]] * 5 + [[0, 1.0]] * 12)
    features[:4] += 0.01 * np.arange(4)[:, None]
    labels = np.array([0, 1, 1, 1, 1] + [0] * 12)
    row, suggested = np.array([0]), np.array([1])
    alone = np.arange(17)
    # Four copies of one group say 1; without them all neighbours say 0.
    assert not neighbours_agree(features, labels, np.where(alone < 5, 0, alone), row, suggested)[0]
    assert neighbours_agree(features[:5], labels[:5], alone[:5], row, suggested)[0]
