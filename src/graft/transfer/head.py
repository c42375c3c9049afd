"""A head on frozen features: multinomial logistic regression, solved to its optimum.

The loss is convex, so there is nothing to tune but the weight penalty, which is chosen by cross-validation. With fewer
images than features, the problem is first rotated into the span of the images. The optimum lies in that span, so this
changes only the cost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graft.data.splitting import answerable, stratified_folds
from graft.errors import GraftError
from graft.transfer.descent import descend
from graft.words import counted

# Candidates for the inverse penalty, strongest penalty first, so that each solution starts the next. The penalty is
# weighed against the sum of losses over images, with features centred and scaled to a mean square of one.
INVERSE_PENALTIES = tuple(10.0**power for power in np.arange(-5.0, 2.1, 0.5))
FOLDS = 5
# The inverse penalty where no image tells which is best.
UNTRIED = 1.0
# The least deviation that a feature is divided by, relative to that of its block, so that nearly constant features are
# not blown up. With 0.5 instead of 0.05, the accuracy of a head over all stages was higher by 0.02 on blood cells and
# the same within 0.003 on ants and bees, sketches, textures, CIFAR-10 and MNIST (means of four: 10 and 40 images per
# class, on MobileNet 0.25 and MobileNetV2).
LEAST_DEVIATION = 0.5
# The penalty is chosen on at most this many images; the head is fitted on all.
IMAGES_TO_CHOOSE_ON = 4000
# Folds are solved together while their logits number at most this many; the memory is several times as many bytes.
NUMBERS_TOGETHER = 2**22
# Above this many numbers the features are kept in float32.
DOUBLE_UP_TO = 2**27
# Up to this many numbers, a single core solves the problem.
ONE_THREAD_UP_TO = 2**23


@dataclass(frozen=True)
class HeadFit:
    """Weight (classes, D) and bias (classes,), float32, for features as given.

    `logits` (N, classes) are those of the images the penalty was chosen on, each by a head that had not seen it but had
    seen others of its class; `labels` and `rows` are their labels and their rows among the images given. All are empty
    when no image could be held out. `gradient` is the largest remaining slope.
    """

    weight: np.ndarray
    bias: np.ndarray
    inverse_penalty: float
    logits: np.ndarray
    labels: np.ndarray
    gradient: float
    rows: np.ndarray


@dataclass(frozen=True)
class Examples:
    """The data a head is fitted on: coordinates (N, r), labels int (N,), the weight of each loss, and `classes`."""

    x: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    classes: int

    def take(self, rows: np.ndarray) -> "Examples":
        return Examples(self.x[rows], self.labels[rows], self.weights[rows], self.classes)


def fit_head(
    features: np.ndarray,
    labels: np.ndarray,
    classes: int,
    seed: int = 0,
    views: int = 1,
    groups: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    blocks: Sequence[int] | None = None,
) -> HeadFit:
    """Fit a head that minimises log loss on `features` (N, D) with `labels` int (N,), each class present.

    With several views, the rows are all images in their first view, then all in their second, and so on. Views of an
    image, and images of one group, int (images,), are never on both sides of a fold, and only the first view is held
    out. `weights` (images,) say how much the loss of each counts; an image with 0 has no say in the penalty, either.
    The penalty applies to the weights of features centred on their mean and divided by a single scale; if `blocks` of
    so many features each come from different layers, every feature is standardised instead. Raises GraftError for
    features that are not finite, or so large that no finite head exists for them.
    """
    from threadpoolctl import threadpool_limits

    check_finite(features, "features to fit a head on")
    # Thousands of products are too small to share: on a busy machine, threads that wait for each other made them 30
    # times slower, and on an idle one they gained nothing.
    with threadpool_limits(1 if features.size <= ONE_THREAD_UP_TO else None):
        x, centre, scale = centred(features, blocks)
        x, basis = onto_principal_axes(x)
        examples = Examples(x, labels, loss_weights(weights, len(labels), views), classes)
        rows, fold = rows_to_choose_on(labels, len(labels) // views, seed, groups)
        chosen, logits, judged = choose_penalty(examples, rows, fold, views)
        rows = rows[judged]
        solution, gradient = solve(examples, chosen)
        weight = solution[:-1].T @ basis / scale
        bias = solution[-1] - weight @ centre
    with np.errstate(over="ignore"):
        weight, bias = weight.astype(np.float32), bias.astype(np.float32)
    check_finite(np.column_stack([weight, bias]), "weights and biases of the head")
    return HeadFit(weight, bias, chosen, logits, labels[rows], gradient, rows)


def loss_weights(weights: np.ndarray | None, count: int, views: int = 1) -> np.ndarray:
    """Return how much the loss of each of `count` rows counts, averaging one, by the weights of the images in them."""
    if weights is None:
        return np.ones(count)
    whole = weights.astype(np.float64)
    return np.asarray(np.tile(whole / whole.mean(), views))


def check_finite(values: np.ndarray, what: str) -> None:
    """Raise GraftError unless every row of `values` (N, D) is finite."""
    wrong = int((~np.isfinite(values).all(1)).sum())
    if wrong:
        raise GraftError(
            f"expected finite {what}, got NaN or infinity in {wrong:,} of {counted(len(values), 'row')}: check the "
            "weights of the base, or give --precision float32"
        )


def centred(features: np.ndarray, blocks: Sequence[int] | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (N, D) less their mean (D,) and scaled to a mean square of one, with the mean and the scale.

    For the scale see `scale_of`.
    """
    kind = np.float64 if features.size <= DOUBLE_UP_TO else np.float32
    centre = features.mean(0, dtype=np.float64)
    x = (features - centre).astype(kind)
    scale = scale_of(np.asarray(np.mean(np.square(x), 0, dtype=np.float64)), blocks)
    return (x / scale).astype(kind), centre, scale


def scale_of(squares: np.ndarray, blocks: Sequence[int] | None = None) -> np.ndarray:
    """Return the divisor of centred features, from the mean square (D,) of each.

    This is one number (1,), or with `blocks` one for each feature (D,): its deviation, but at least `LEAST_DEVIATION`
    of that of its block. The mean square is then at most one.
    """
    scale = np.sqrt(squares.mean(keepdims=True))
    if blocks is not None:
        of_block = np.split(squares, np.cumsum(blocks)[:-1])
        least = np.repeat([LEAST_DEVIATION * np.sqrt(each.mean()) for each in of_block], blocks)
        scale = np.maximum(np.sqrt(squares), least)
    return np.asarray(np.where(scale > 0, scale, 1.0))


def onto_principal_axes(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates (N, r) of the rows on the axes (r, D) along which they vary, and the axes; r <= min(N, D).

    The penalty is invariant under the rotation, and no optimum has a component off these axes.
    """
    # The smaller of the two Gram matrices has the same eigenvalues.
    if x.shape[0] < x.shape[1]:
        values, vectors = np.linalg.eigh(x @ x.T)
        kept = values > max(values[-1], 1e-30) * 1e-10
        spread = np.sqrt(values[kept])
        return vectors[:, kept] * spread, (vectors[:, kept] / spread).T @ x
    values, vectors = np.linalg.eigh(x.T @ x)
    axes = vectors[:, values > max(values[-1], 1e-30) * 1e-10]
    return x @ axes, axes.T


def rows_to_choose_on(
    labels: np.ndarray, count: int, seed: int, groups: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows among `count` images that the penalty is chosen on, and the fold of each, both int64 (n,)."""
    random = np.random.default_rng(seed)
    rows = random.permutation(count)
    rows = rows[np.argsort(labels[rows], kind="stable")]
    if count > IMAGES_TO_CHOOSE_ON:
        rows = rows[np.linspace(0, count - 1, IMAGES_TO_CHOOSE_ON).astype(int)]
    # Images sorted by class are dealt out in turn, so every fold has its share of every class.
    fold = np.arange(len(rows)) % min(FOLDS, len(rows))
    together = 0 if groups is None else len(np.unique(groups[rows]))
    # If all images are one group, there is nothing else to hold out.
    if groups is not None and together > 1:
        fold = stratified_folds(labels[rows], FOLDS, seed, groups[rows])
        only_ones = fold < 0
        # They go on where the others end: two groups, one of them such an image, are two folds.
        fold[only_ones] = (fold.max() + 1 + np.arange(only_ones.sum())) % min(FOLDS, together)
    return rows, fold


def choose_penalty(
    examples: Examples, rows: np.ndarray, fold: np.ndarray, views: int = 1
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the candidate with the least held-out log loss over `rows` in folds, and the held-out logits it gave.

    The third value says which of the rows are judged, bool (n,), and so have logits: those that count and have others
    of their class outside their fold. About the rest every head is wrong, the more so the surer it is. Candidates are
    tried from the strongest penalty on, until the loss has risen twice in a row.
    """
    judged = answerable(examples.labels[rows], fold) & (examples.weights[rows] > 0)
    if not judged.any():
        return UNTRIED, np.zeros((0, examples.classes)), judged
    labels, classes, count = examples.labels, examples.classes, len(examples.labels) // views
    shown = examples.take((rows + count * np.arange(views)[:, None]).ravel())
    # Single precision is enough to tell candidates apart.
    shown = replace(shown, x=shown.x.astype(np.float32))
    of_row, numbers, number = np.tile(fold, views), np.unique(fold), np.arange(len(rows))
    together = max(1, NUMBERS_TOGETHER // max(1, len(of_row) * classes))
    parts = [numbers[start : start + together] for start in range(0, len(numbers), together)]
    starts: list[np.ndarray | None] = [None] * len(parts)
    best, least, risen = INVERSE_PENALTIES[0], np.inf, 0
    best_logits = np.zeros((len(rows), classes))
    counting = examples.weights[rows] * judged
    for inverse_penalty in INVERSE_PENALTIES:
        logits = np.zeros((len(rows), classes))
        for place, part in enumerate(parts):
            kept = of_row[:, None] != part
            starts[place], _ = solution, _ = solve_folds(shown, kept, inverse_penalty, starts[place], tolerance=1e-3)
            for own, each in enumerate(part.tolist()):
                out = fold == each
                logits[out] = examples.x[rows[out]] @ solution[own, :-1] + solution[own, -1]
        loss = -(counting * log_softmax(logits)[number, labels[rows]]).mean()
        risen = 0 if loss < least else risen + 1
        if loss < least:
            best, least, best_logits = inverse_penalty, loss, logits
        if risen == 2:
            break
    return best, best_logits[judged], judged


def solve(
    examples: Examples, inverse_penalty: float, start: np.ndarray | None = None, tolerance: float = 1e-6
) -> tuple[np.ndarray, float]:
    """Minimise the weighted mean log loss + |W|^2 / (2 inverse_penalty N), from `start` (r + 1, classes), bias last.

    Returns the solution and the largest remaining slope.
    """
    kept = np.ones((len(examples.x), 1), bool)
    first = None if start is None else start[None]
    solution, slope = solve_folds(examples, kept, inverse_penalty, first, tolerance)
    return solution[0], slope


def solve_folds(
    examples: Examples,
    kept: np.ndarray,
    inverse_penalty: float,
    start: np.ndarray | None = None,
    tolerance: float = 1e-6,
) -> tuple[np.ndarray, float]:
    """Solve the same for several subsets of the examples at once, `kept` bool (N, F), from `start` (F, r + 1, classes).

    Their losses are added up into one separable problem. All subsets share the products with the coordinates: a fold is
    not a copy of four fifths of them, and a step of five folds takes as long as a step of one.
    """
    x, classes, (count, folds) = examples.x, examples.classes, kept.shape
    number, sizes = np.arange(count), np.maximum(kept.sum(0), 1)
    weights = examples.weights[:, None] * kept / sizes

    def loss_and_gradient(solution: np.ndarray) -> tuple[float, np.ndarray]:
        logits = x @ solution[:-1].astype(x.dtype) + solution[-1]
        share = logits.reshape(count, folds, classes)
        share -= share.max(-1, keepdims=True)
        of_label = share[number, :, examples.labels]
        total = np.exp(share, out=share).sum(-1)
        loss = float((weights * (np.log(total) - of_label)).sum())
        share *= (weights / total)[:, :, None]
        share[number, :, examples.labels] -= weights
        return loss, np.vstack([x.T @ logits.astype(x.dtype), logits.sum(0)])

    squares = np.einsum("nr,nr->r", x, x) / count
    penalties = np.repeat(1 / (inverse_penalty * sizes), classes)
    first = None if start is None else start.transpose(1, 0, 2).reshape(-1, folds * classes)
    solution, slope = minimise(loss_and_gradient, squares, penalties, first, tolerance)
    return solution.reshape(-1, folds, classes).transpose(1, 0, 2), slope


def minimise(
    loss_and_gradient: Callable[[np.ndarray], tuple[float, np.ndarray]],
    squares: np.ndarray,
    penalties: np.ndarray,
    start: np.ndarray | None,
    tolerance: float,
) -> tuple[np.ndarray, float]:
    """Minimise loss + sum of penalties |w|^2 / 2; return the solution (r + 1, columns), bias last, and its slope.

    `loss_and_gradient` gives the first term and its gradient (r + 1, columns); `squares` (r,) are the mean squares of
    the coordinates, `penalties` (columns,) those of each column's weights. Uses L-BFGS in variables scaled by a bound
    on the curvature along each axis, half the mean square of the coordinates plus the penalty (Böhning 1992,
    "Multinomial logistic regression algorithm"), which conditions the problem well.
    """
    shape = (len(squares) + 1, len(penalties))
    scale = 1 / np.sqrt(np.vstack([squares[:, None] / 2 + penalties, np.full((1, len(penalties)), 0.5)]))

    def scaled(flat: np.ndarray) -> tuple[float, np.ndarray]:
        solution = flat.reshape(shape) * scale
        loss, gradient = loss_and_gradient(solution)
        decay = penalties * solution[:-1]
        gradient[:-1] += decay
        gradient *= scale
        return loss + float(np.vdot(decay, solution[:-1])) / 2, gradient.ravel()

    first = np.zeros(shape) if start is None else start / scale
    found = descend(scaled, first.ravel(), tolerance)
    return found.x.reshape(shape) * scale, float(np.abs(found.gradient).max())


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return the log-softmax over the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
