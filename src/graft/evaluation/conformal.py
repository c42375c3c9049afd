"""Conformal sets: sets of classes that contain the right one with a stated chance, whatever the network.

These are the least ambiguous sets of Sadinle, Lei and Wasserman 2019, JASA 114(525), 223-234: all classes whose
probability is at or above a threshold, a quantile of the probabilities that held-out images gave their own classes.
"""

from math import ceil

import numpy as np


def set_threshold(of_label: np.ndarray, coverage: float, groups: np.ndarray | None = None) -> float:
    """Return the probability from which on a class is in the set, given those that n images gave their labels, (n,).

    Over images and the draw of these n, the set then contains the right class with a chance between `coverage` and
    `coverage` + 1 / (n + 1). If n is too small for that, the threshold is 0 and the set is all classes. With `groups`,
    int (n,), the n images count as joined by a new group of average size; with groups of one size, the groups are
    exchangeable and the lower bound holds. Dunn, Wasserman and Ramdas 2022, JASA 118(544), 2491-2502.
    """
    count = len(of_label)
    one_more = 1.0 if groups is None or not count else count / len(np.unique(groups))
    # The k-th smallest probability of a label, such that n - k + 1 of n + 1 are at or above it.
    rank = count + 1 - ceil((count + one_more) * coverage - 1e-9)
    return float(np.partition(of_label, rank - 1)[rank - 1]) if rank >= 1 else 0.0


def class_thresholds(
    of_label: np.ndarray, labels: np.ndarray, classes: int, coverage: float, groups: np.ndarray | None = None
) -> np.ndarray:
    """Return a threshold for each class, float64 (classes,), from its own images: the chance then holds in every class.

    Vovk 2012, "Conditional validity of inductive conformal predictors", section 4.
    """
    own = [labels == index for index in range(classes)]
    return np.array([set_threshold(of_label[rows], coverage, None if groups is None else groups[rows]) for rows in own])


def images_for_sets(coverage: float) -> int:
    """Return the number of held-out images below which a set has to be all classes."""
    return ceil(coverage / (1 - coverage) - 1e-9)


def in_set(probabilities: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray:
    """Return the sets, bool (N, classes), for `probabilities` (N, classes); they always contain the likeliest class."""
    found = probabilities >= thresholds
    found[np.arange(len(found)), probabilities.argmax(1)] = True
    return np.asarray(found)
