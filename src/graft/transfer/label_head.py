"""A head for several labels on frozen features: a logistic regression per label, each solved to its optimum.

Each label has its own penalty, chosen as in `graft.transfer.head`: by the log loss of held-out images. Features are
centred, scaled and rotated once, and all labels are solved together, as one separable convex problem.
"""

from collections.abc import Sequence

import numpy as np

from graft.stratification import stratified_parts
from graft.transfer.descent import descend
from graft.transfer.head import (
    FOLDS,
    IMAGES_TO_CHOOSE_ON,
    INVERSE_PENALTIES,
    ONE_THREAD_UP_TO,
    UNTRIED,
    HeadFit,
    centred,
    check_finite,
    loss_weights,
    onto_principal_axes,
)


def fit_label_head(
    features: np.ndarray,
    matrix: np.ndarray,
    seed: int = 0,
    views: int = 1,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    blocks: Sequence[int] | None = None,
) -> HeadFit:
    """Fit a head that minimises the log loss of each label on `features` (N, D), for `matrix` (N, C) of 0 and 1.

    Views, groups, weights, blocks and errors are those of `fit_head`. In the fit, `labels` is a matrix (n, C) too, and
    `inverse_penalty` is the median over the labels. A label that all images have, or none, gets only a bias and no
    weights.
    """
    from threadpoolctl import threadpool_limits

    check_finite(features, "features to fit a head on")
    with threadpool_limits(1 if features.size <= ONE_THREAD_UP_TO else None):
        x, centre, scale = centred(features, blocks)
        x, basis = onto_principal_axes(x)
        counting = loss_weights(weights, len(matrix), views)
        share = matrix.mean(0)
        varied = np.flatnonzero((share > 0) & (share < 1))
        targets = matrix.astype(np.float64)
        inverse, logits, rows = _choose_penalties(x, targets, counting, varied, seed, views, groups)
        solution, gradient = _solve(x, targets[:, varied], counting, inverse[varied])
        weight, bias = np.zeros((len(share), features.shape[1])), _constant_bias(share, len(matrix))
        weight[varied] = solution[:-1].T @ basis / scale
        bias[varied] = solution[-1]
        bias -= weight @ centre
    with np.errstate(over="ignore"):
        weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    check_finite(np.column_stack([weight, bias]), "weights and biases of the head")
    middle = float(np.median(inverse[varied])) if len(varied) else INVERSE_PENALTIES[0]
    return HeadFit(weight, bias, middle, logits, matrix[rows], gradient, rows)


def log_loss_of_labels(logits: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the log loss of each label of each image, (N, C), from logits (N, C) and labels (N, C) of 0 and 1."""
    return np.asarray(np.logaddexp(0.0, logits) - matrix * logits)


def _constant_bias(share: np.ndarray, count: int) -> np.ndarray:
    """Return the bias that gives a label its frequency among `count` images, with half an image added on each side."""
    having = share * count
    return np.asarray(np.log((having + 0.5) / (count - having + 0.5)))


def _choose_penalties(
    x: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    varied: np.ndarray,
    seed: int,
    views: int,
    groups: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each label's candidate with the least held-out log loss, the held-out logits it gave, and their rows.

    A label is judged in the folds outside which some images have it and some have not; if no image that has it, or none
    that has not, is in one of these, nothing tells its penalty. Candidates are tried from the strongest penalty on; a
    label is done when its loss has risen twice in a row.
    """
    count = len(targets) // views
    rows = np.arange(count)
    if count > IMAGES_TO_CHOOSE_ON:
        rows = np.sort(np.random.default_rng(seed).permutation(count)[:IMAGES_TO_CHOOSE_ON])
    number = min(FOLDS, len(rows))
    # If all images are one group, there is nothing else to hold out.
    of_rows = None if groups is None or len(np.unique(groups[rows])) < 2 else groups[rows]
    fold = stratified_parts(targets[rows], np.full(number, 1 / number), seed, of_rows)
    labels = targets.shape[1]
    best, least, risen = np.full(labels, INVERSE_PENALTIES[0]), np.full(labels, np.inf), np.zeros(labels, int)
    found = np.tile(_constant_bias(targets.mean(0), len(targets)), (len(rows), 1))
    judged = _judged(targets[rows], fold) & (weights[rows, None] > 0)
    having = targets[rows] == 1
    known = (judged & having).any(0) & (judged & ~having).any(0)
    best[~known] = UNTRIED
    varied = varied[known[varied]]
    starts = {each: np.zeros((x.shape[1] + 1, labels)) for each in np.unique(fold).tolist()}
    for inverse in INVERSE_PENALTIES if len(starts) > 1 else ():
        going = varied[risen[varied] < 2]
        if not len(going):
            break
        logits = np.zeros((len(rows), len(going)))
        for each, start in starts.items():
            out, kept = rows[fold == each], rows[fold != each]
            kept = (kept + count * np.arange(views)[:, None]).ravel()
            penalties = np.full(len(going), inverse)
            solution, _ = _solve(x[kept], targets[np.ix_(kept, going)], weights[kept], penalties, start[:, going], 1e-3)
            logits[fold == each] = x[out] @ solution[:-1] + solution[-1]
            start[:, going] = solution
        every = log_loss_of_labels(logits, targets[np.ix_(rows, going)])
        losses = weights[rows] @ (every * judged[:, going]) / len(rows)
        better = losses < least[going]
        risen[going] = np.where(better, 0, risen[going] + 1)
        least[going[better]], best[going[better]] = losses[better], inverse
        found[:, going[better]] = logits[:, better]
    return best, found, rows


def _judged(targets: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return of which labels (n, C) a head fitted on the other folds of an image knows both values, bool (n, C)."""
    known = np.zeros(targets.shape, bool)
    for each in np.unique(fold):
        kept = targets[fold != each]
        known[fold == each] = (kept.min(0, initial=1) == 0) & (kept.max(0, initial=0) == 1)
    return known


def _solve(
    x: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    inverse_penalties: np.ndarray,
    start: np.ndarray | None = None,
    tolerance: float = 1e-6,
) -> tuple[np.ndarray, float]:
    """Minimise the sum over labels of weighted mean log loss + |w|^2 / (2 inverse_penalty N), from `start` (r + 1, c).

    Uses L-BFGS in variables scaled by a bound on the curvature along each axis, a quarter of the mean square of the
    coordinates plus the penalty, as in `graft.transfer.head`. Returns the solution, biases last, and the largest
    remaining slope.
    """
    (count, width), number = x.shape, targets.shape[1]
    penalties = 1 / (inverse_penalties * count)
    squares = np.einsum("nr,nr->r", x, x, dtype=np.float64) / (4 * count)
    curvature = np.vstack([squares[:, None] + penalties, np.full((1, number), 0.25)])
    scale = 1 / np.sqrt(curvature)

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        solution = flat.reshape(width + 1, number) * scale
        logits = x @ solution[:-1].astype(x.dtype) + solution[-1]
        loss = (weights @ log_loss_of_labels(logits, targets)).sum() / count
        loss += (penalties / 2 * np.square(solution[:-1])).sum()
        error = weights[:, None] * (0.5 * (1 + np.tanh(0.5 * logits)) - targets) / count
        gradient = np.vstack([x.T @ error.astype(x.dtype) + penalties * solution[:-1], error.sum(0)])
        return float(loss), (gradient * scale).ravel()

    first = np.zeros((width + 1, number)) if start is None else start / scale
    if not number:
        return first, 0.0
    found = descend(loss_and_gradient, first.ravel(), tolerance)
    return found.x.reshape(width + 1, number) * scale, float(np.abs(found.gradient).max())
