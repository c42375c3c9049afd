"""Parts of images with several labels, in which every label has its share."""

import numpy as np

from graft.stratification import held_out_part, stratified_parts

RANDOM = np.random.default_rng(0)
MATRIX = (RANDOM.random((400, 6)) < (0.5, 0.3, 0.2, 0.1, 0.05, 0.02)).astype(float)


def test_each_part_has_its_share_of_every_label_and_better_than_by_chance() -> None:
    part = stratified_parts(MATRIX, np.full(5, 0.2), seed=0)
    counts = np.array([MATRIX[part == number].sum(0) for number in range(5)])
    assert np.bincount(part).tolist() == [80] * 5
    assert (np.abs(counts - MATRIX.sum(0) / 5) <= 1.5).all()
    by_chance = RANDOM.permutation(part)
    assert np.ptp([MATRIX[by_chance == number].sum(0) for number in range(5)], axis=0).max() > 1.5


def test_groups_stay_whole_and_a_rare_label_is_on_both_sides() -> None:
    groups = np.repeat(np.arange(100), 4)
    out = held_out_part(MATRIX, 0.2, seed=1, groups=groups)
    assert not set(groups[out]) & set(groups[~out])
    assert 0.1 < out.mean() < 0.3
    assert MATRIX[out].any(0).all()
    assert MATRIX[~out].any(0).all()


def test_of_a_label_with_two_images_one_is_held_out_and_the_only_one_of_another_is_trained_on() -> None:
    matrix = np.zeros((20, 2))
    matrix[[3, 9], 0] = 1
    matrix[5, 1] = 1
    for seed in range(5):
        out = held_out_part(matrix, 0.2, seed)
        assert matrix[out].sum(0).tolist() == [1, 0]
