"""How credible labels are, judged by classifiers that have not seen the image.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", arXiv 1911.00068; for
outliers, Kuan and Mueller 2022, "Back to the Basics: Revisiting Out-of-Distribution Detection Baselines", arXiv
2207.03061. The library cleanlab has both; docs/audit.md says how they were chosen.
"""

import numpy as np

# Inner products between images that are computed at a time.
BLOCK = 2**25
# Nearest neighbours that vote on a label.
WITNESSES = 10


def self_confidence(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the probability of each image's own label, (N,); `probabilities` (N, C), `labels` int (N,)."""
    return np.asarray(probabilities[np.arange(len(labels)), labels])


def contradicted(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return which labels another class confidently contradicts, bool (N,).

    A class claims an image when its probability there is at least its mean over the images with its label (section 3.1,
    equation 2); among several such classes, the most probable one claims it. A label is contradicted when another class
    claims the image.
    """
    classes = probabilities.shape[1]
    of_label = np.bincount(labels, self_confidence(probabilities, labels), classes)
    usual = of_label / np.maximum(np.bincount(labels, minlength=classes), 1)
    # A class without images claims none.
    usual[np.bincount(labels, minlength=classes) == 0] = np.inf
    claims = np.where(probabilities >= usual, probabilities, 0.0)
    return np.asarray((claims.max(1) > 0) & (claims.argmax(1) != labels))


def missed_anyway(probabilities: np.ndarray, least: float) -> float:
    """Return how many right labels get a probability of at most `least`, given calibrated `probabilities` (N, C).

    With calibration, a label of probability p is right in a share p of all cases. So the sum of all probabilities that
    small is the number of right labels that a head of this accuracy contradicts.
    """
    return float(probabilities[probabilities <= least].sum())


def neighbours_agree(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, rows: np.ndarray, suggested: np.ndarray
) -> np.ndarray:
    """Return for which of `rows` more nearest neighbours have the suggested label than the own one, bool (len(rows),).

    `features` (N, D), `labels` and `groups` int (N,). Images of a row's own group do not vote.
    """
    unit = features.astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    agree = np.zeros(len(rows), bool)
    for place, (row, label) in enumerate(zip(rows.tolist(), suggested.tolist(), strict=True)):
        alike = np.where(groups == groups[row], -np.inf, unit @ unit[row])
        nearest = labels[np.argsort(-alike, kind="stable")[:WITNESSES]]
        agree[place] = np.count_nonzero(nearest == label) > np.count_nonzero(nearest == labels[row])
    return agree


def neighbour_distance(features: np.ndarray, neighbours: int = 10, most: int = 20_000) -> np.ndarray:
    """Return the mean cosine distance of each row of `features` (N, D) to its nearest neighbours, float32 (N,).

    With more than `most` rows, neighbours are searched among that many, evenly spaced.
    """
    count = len(features)
    unit = features.astype(np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    among = np.linspace(0, count - 1, min(count, most)).astype(np.int64)
    others, nearest = unit[among].T, min(neighbours, len(among) - 1)
    distance = np.zeros(count, np.float32)
    step = max(1, BLOCK // max(1, len(among)))
    for start in range(0, count if nearest > 0 else 0, step):
        rows = np.arange(start, min(start + step, count))
        alike = unit[rows] @ others
        place = np.searchsorted(among, rows).clip(max=len(among) - 1)
        own = among[place] == rows
        alike[own, place[own]] = -np.inf
        distance[rows] = 1 - np.partition(alike, -nearest, axis=1)[:, -nearest:].mean(1)
    return distance


def far_out(distances: np.ndarray) -> np.ndarray:
    """Return which lie over three interquartile ranges above the third quartile, bool (N,): Tukey 1977, section 2D."""
    if not len(distances):
        return np.zeros(0, bool)
    lower, upper = np.percentile(distances, [25, 75])
    return np.asarray(distances > upper + 3 * (upper - lower))
