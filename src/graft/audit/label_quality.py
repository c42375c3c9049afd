"""How credible labels are, judged by classifiers that have not seen the image.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", arXiv 1911.00068; for
outliers, Kuan and Mueller 2022, "Back to the Basics: Revisiting Out-of-Distribution Detection Baselines", arXiv
2207.03061. The library cleanlab has both; docs/audit.md says how they were chosen.
"""

from collections.abc import Iterator

import numpy as np

from graft.transfer.held_out import Rows, evenly_spaced

# Inner products between images that are computed at a time.
BLOCK = 2**22
# Neighbours are searched among at most this many images.
AMONG = 20_000
# Nearest neighbours that vote on a label.
WITNESSES = 10


def self_confidence(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the probability of each image's own label, (N,); `probabilities` (N, C), `labels` int (N,)."""
    return np.asarray(probabilities[np.arange(len(labels)), labels])


def usual_confidence(confidence: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the mean of `confidence` (N,) over the images with each label, (classes,), infinite without images."""
    sizes = np.bincount(labels, minlength=classes)
    # A class without images claims none.
    return np.where(sizes > 0, np.bincount(labels, confidence, classes) / np.maximum(sizes, 1), np.inf)


def contradicted(probabilities: np.ndarray, labels: np.ndarray, usual: np.ndarray | None = None) -> np.ndarray:
    """Return which labels another class confidently contradicts, bool (N,).

    A class claims an image when its probability there is at least its mean over the images with its label (section 3.1,
    equation 2); among several such classes, the most probable one claims it. A label is contradicted when another class
    claims the image. If these are some images of many, `usual` (C,) has the means over all of them.
    """
    if usual is None:
        usual = usual_confidence(self_confidence(probabilities, labels), labels, probabilities.shape[1])
    claims = np.where(probabilities >= usual, probabilities, 0.0)
    return np.asarray((claims.max(1) > 0) & (claims.argmax(1) != labels))


def missed_anyway(probabilities: np.ndarray, least: float) -> float:
    """Return how many right labels get a probability of at most `least`, given calibrated `probabilities` (N, C).

    With calibration, a label of probability p is right in a share p of all cases. So the sum of all probabilities that
    small is the number of right labels that a head of this accuracy contradicts.
    """
    return float(probabilities[probabilities <= least].sum())


def neighbours_agree(
    features: Rows,
    labels: np.ndarray,
    groups: np.ndarray,
    rows: np.ndarray,
    suggested: np.ndarray,
    voters: np.ndarray | None = None,
    most: int = AMONG,
) -> np.ndarray:
    """Return for which of `rows` more nearest neighbours have the suggested label than the own one, bool (len(rows),).

    `features` (N, D), `labels` and `groups` int (N,). Images of a row's own group do not vote. The others are those at
    `voters`, int (V,), all by default; of more than `most`, only that many vote, evenly spaced.
    """
    among = evenly_spaced(np.arange(len(labels)) if voters is None else voters, most)
    agree = np.zeros(len(rows), bool)
    for block, alike in _likeness(features, rows, among):
        alike[groups[rows[block], None] == groups[among]] = -np.inf
        nearest = _nearest(alike, WITNESSES)
        voted = np.where(np.take_along_axis(alike, nearest, 1) > -np.inf, labels[among][nearest], -1)
        for_suggested, for_own = (voted == each[block, None] for each in (suggested, labels[rows]))
        agree[block] = for_suggested.sum(1) > for_own.sum(1)
    return agree


def neighbour_distance(features: Rows, neighbours: int = 10, most: int = AMONG) -> np.ndarray:
    """Return the mean cosine distance of each row of `features` (N, D) to its nearest neighbours, float32 (N,).

    With more than `most` rows, neighbours are searched among that many, evenly spaced.
    """
    count = len(features)
    among = evenly_spaced(np.arange(count), most)
    nearest = min(neighbours, len(among) - 1)
    distance = np.zeros(count, np.float32)
    if nearest < 1:
        return distance
    for block, alike in _likeness(features, np.arange(count), among):
        place = np.searchsorted(among, block).clip(max=len(among) - 1)
        own = among[place] == block
        alike[own, place[own]] = -np.inf
        alike.partition(-nearest, axis=1)
        distance[block] = 1 - alike[:, -nearest:].mean(1)
    return distance


def _likeness(features: Rows, rows: np.ndarray, among: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the cosine of `rows`, a block at a time, with the rows `among`: places in `rows`, and float32 (n, A)."""
    others = _unit(features, among).T
    step = max(1, BLOCK // max(1, len(among)))
    for start in range(0, len(rows), step):
        block = np.arange(start, min(start + step, len(rows)))
        yield block, _unit(features, rows[block]) @ others


def _unit(features: Rows, rows: np.ndarray) -> np.ndarray:
    """Return some rows of the features at a length of one, float32 (n, D)."""
    unit = features[rows].astype(np.float32, copy=False)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    return unit


def _nearest(alike: np.ndarray, number: int) -> np.ndarray:
    """Return the columns of the largest values in each row of `alike` (n, A), int (n, number), of equals the first."""
    count = alike.shape[1]
    if count <= number:
        return np.argsort(-alike, axis=1, kind="stable")
    least = np.partition(alike, count - number, axis=1)[:, count - number, None]
    # The largest before those that equal the least of them, and both in order.
    rank = np.where(alike > least, 2, alike == least) * count - np.arange(count)
    return np.argpartition(-rank, number - 1, axis=1)[:, :number]


def far_out(distances: np.ndarray) -> np.ndarray:
    """Return which lie over three interquartile ranges above the third quartile, bool (N,): Tukey 1977, section 2D."""
    if not len(distances):
        return np.zeros(0, bool)
    lower, upper = np.percentile(distances, [25, 75])
    return np.asarray(distances > upper + 3 * (upper - lower))
