"""Rankings of labels and of outliers, on figures that can be worked out by hand."""

import numpy as np
import pytest

from graft.audit import label_quality
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


def in_a_loop(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, rows: np.ndarray, suggested: np.ndarray
) -> np.ndarray:
    """The votes of the ten nearest, one row at a time, all sorted."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    agree = []
    for row, label in zip(rows, suggested, strict=True):
        alike = np.where(groups == groups[row], -np.inf, unit @ unit[row])
        nearest = labels[np.argsort(-alike, kind="stable")[:10]]
        agree.append((nearest == label).sum() > (nearest == labels[row]).sum())
    return np.array(agree)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("block", [1, 1000, 2**22])
def test_neighbours_vote_the_same_in_blocks_of_any_size(
    block: int, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_quality, "BLOCK", block)
    random = np.random.default_rng(0)
    labels, groups = random.integers(0, 3, 300), random.integers(0, 200, 300)
    if tied:
        # Of images that are equally near, the first vote.
        features = np.eye(8, dtype=np.float32)[random.integers(0, 8, 300)]
    else:
        features = (random.normal(size=(300, 4)) + np.eye(4)[labels]).astype(np.float32)
    rows = random.permutation(300)[:80]
    suggested = (labels[rows] + 1) % 3
    found = neighbours_agree(features, labels, groups, rows, suggested)
    assert (found == in_a_loop(features, labels, groups, rows, suggested)).all() and 0 < found.sum() < 80
    distance = neighbour_distance(features)
    monkeypatch.setattr(label_quality, "BLOCK", 2**22)
    np.testing.assert_allclose(neighbour_distance(features), distance, atol=1e-6)


def test_of_many_images_only_so_many_vote_and_only_voters() -> None:
    angles = np.linspace(0, 1, 100)
    features, labels = np.stack([np.cos(angles), np.sin(angles)], 1), np.arange(100) % 2
    row, suggested, alone = np.array([50]), np.array([1]), np.arange(100)
    assert neighbours_agree(features, labels, alone, row, suggested, voters=np.arange(1, 100, 2))[0]
    assert not neighbours_agree(features, labels, alone, row, suggested, voters=np.arange(0, 100, 2))[0]
    # Every eleventh of the images labelled 1 and the image itself, which does not vote.
    voters = np.append(np.arange(1, 99, 2), 99)
    assert neighbours_agree(features, labels, alone, row, suggested, voters=voters, most=5)[0]


def test_an_image_without_ten_others_does_not_vote_for_itself() -> None:
    features, labels = np.ones((3, 2)), np.array([0, 1, 0])
    assert neighbours_agree(features, labels, np.array([0, 1, 0]), np.array([0]), np.array([1]))[0]
