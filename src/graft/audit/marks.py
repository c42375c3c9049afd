"""Marks in one class: the same thing at the same place in many of its images and in hardly any other.

A sticker, a stamp, a scanner's label or a coloured border tells a classifier the class but nothing about the object.
One image of the class is laid over the others: where many of its own class agree with it to within a few levels and
hardly any others do, there may be a mark. Its area is found on one half of the images and tested on the other half, so
searching everywhere costs no statistical certainty (Cox 1975, Biometrika 62(2), 441-444).

A background that is common in a class, such as white paper, is not a mark: it ends where the object begins, at a
different place in each image. A mark ends at the same place in all, so at its outline every image that has it changes
at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from graft.evaluation.intervals import hypergeometric_tail

# The side of the images when laid over each other, px. Small ones are enlarged, so that strokes which happen to
# coincide change too gradually to be marks.
SIDE = 64
# Images differ in proportions where the widest aspect ratio is more than this many times the narrowest.
SAME_PROPORTIONS = 1.05
CORNERS = {f"{one} {other}": (one, other) for one in ("top", "bottom") for other in ("left", "right")}
# Pixels agree if no channel differs by more levels; the remains of a mark after JPEG compression do.
ALIKE = 16
# Images looked at: the fewest and the most of each class, and about how many in all.
FEWEST, MOST_OF_CLASS, MOST = 12, 120, 1600
# How many images of the class are tried as candidates, and how many of the others each is laid over.
CANDIDATES, OTHERS = 8, 150
# The least share of the class that has a mark, and the most of the others, relative to that share.
SHARE, OF_OTHERS = 0.25, 0.15
# The least and the largest area, as a share of the image, and how much of it an image must agree with.
LEAST_AREA, LARGEST_AREA, AGREEING = 0.002, 0.4, 0.8
# How far beyond its outline a mark must have ended, px, by how many levels, and along how much of the outline; and what
# share of the pixels at its edge are alike in the images that have it. Nothing that classes have in common by nature,
# such as the hollow of a 0 among photographs, reached both. All squares, discs, frames and labels planted in
# photographs that were found lay above 0.79 and 0.80.
BEYOND, ENDED, OUTLINE, AT_EDGE = 2, 24, 0.7, 0.78
# The accepted probability of reporting a mark in a set without marks.
CHANCE = 0.01


@dataclass(frozen=True)
class Mark:
    """A mark in the class with this index: its place in words, and which images of the class and of others have it.

    `rows` index the stack that was searched, int64. `of_class` and `of_others` count the images that confirm it;
    `with_mark` and `others_with` count how many of these have it. `area` is (top, left, bottom, right) as shares of the
    image, or of its corner.
    """

    label: int
    place: str
    rows: np.ndarray
    with_mark: int
    of_class: int
    others_with: int
    of_others: int
    chance: float
    area: tuple[float, float, float, float]


def chosen_for_marks(labels: np.ndarray, copies: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """Return which images are looked at, int64 (n,): a random draw, equally many of each class; -1 is no class.

    Of images with the same number in `copies`, int (N,), only the first counts.
    """
    once = np.arange(len(labels)) if copies is None else np.unique(copies, return_index=True)[1]
    labels = labels[once]
    random = np.random.default_rng(seed)
    rows = np.flatnonzero(labels >= 0)
    rows = rows[np.argsort(labels[rows], kind="stable")]
    found = np.split(rows, np.flatnonzero(np.diff(labels[rows])) + 1) if len(rows) else []
    most = min(MOST_OF_CLASS, max(FEWEST, MOST // max(len(found), 1)))
    chosen = [random.permutation(rows)[:most] for rows in found if len(rows) >= FEWEST]
    return once[np.sort(np.concatenate(chosen))] if len(chosen) > 1 else np.empty(0, np.int64)


@dataclass(frozen=True)
class Seen:
    """An image prepared for overlaying: `proportion` is width over height, `views` uint8 (h, w, 3) by place."""

    proportion: float
    views: dict[str, np.ndarray]


def seen(image: np.ndarray) -> Seen:
    """Prepare an image, uint8 (H, W, 3) of any size.

    The views are the whole image, whatever its proportions (""), and its corners in their own proportions, since a mark
    is equally far from a corner in every image.
    """
    half, scale = SIDE // 2, SIDE / max(image.shape[:2])
    small = _resized(image, *(max(half, round(length * scale)) for length in image.shape[:2]))
    views = {"": _resized(image, SIDE, SIDE)}
    for name, (vertical, horizontal) in CORNERS.items():
        rows = small[:half] if vertical == "top" else small[-half:]
        views[name] = rows[:, :half] if horizontal == "left" else rows[:, -half:]
    return Seen(image.shape[1] / image.shape[0], views)


def laid_together(images: Sequence[Seen]) -> dict[str, np.ndarray]:
    """Stack the views of n images by place, uint8 (n, h, w, 3): corners only where the images differ in proportions."""
    proportions = [image.proportion for image in images]
    places = [""] if max(proportions) <= SAME_PROPORTIONS * min(proportions) else ["", *CORNERS]
    return {place: np.stack([image.views[place] for image in images]) for place in places}


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    from PIL import Image

    small = Image.fromarray(np.ascontiguousarray(image))
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0))


def find_marks(
    views: dict[str, np.ndarray], labels: np.ndarray, among: int | None = None, seed: int = 0
) -> tuple[Mark, ...]:
    """Find the marks of classes in overlaid images, the surest of each class.

    `views` has the same n images as a whole ("") and in other ways, by the name of the place, uint8 (n, h, w, 3);
    `labels` int (n,). `among` is the number of classes searched in all, if these are only some of them.
    """
    random = np.random.default_rng(seed)
    half = np.zeros(len(labels), bool)
    classes = np.unique(labels)
    for label in classes:
        rows = random.permutation(np.flatnonzero(labels == label))
        half[rows[: len(rows) // 2]] = True
    tests, marks = len(views) * (among or len(classes)), []
    for label in classes.tolist():
        found = [
            mark
            for place, stack in views.items()
            if (mark := _find_mark(stack, labels == label, half, label, place, random)) is not None
            and mark.chance <= CHANCE / tests
        ]
        if found:
            marks.append(min(found, key=lambda mark: mark.chance))
    return tuple(marks)


def _find_mark(
    stack: np.ndarray, own: np.ndarray, half: np.ndarray, label: int, place: str, random: np.random.Generator
) -> Mark | None:
    """Find the largest mark on one half of the images, and measure it on the other."""
    searched = np.flatnonzero(own & half)
    candidates = random.permutation(searched)[:CANDIDATES]
    best: tuple[float, int, np.ndarray] | None = None
    for candidate in candidates.tolist():
        for area, score in _areas(stack, candidate, own, half, place):
            if best is None or score > best[0]:
                best = (score, candidate, area)
    if best is None:
        return None
    _, candidate, area = best
    has = _has(stack, stack[candidate], area)
    known = ~half
    counts = int((has & own & known).sum()), int((own & known).sum())
    others = int((has & ~own & known).sum()), int((~own & known).sum())
    if counts[0] < SHARE * counts[1] or others[0] / others[1] > OF_OTHERS * counts[0] / counts[1]:
        return None
    # The chance that so few of the others are among all images that have it.
    chance = hypergeometric_tail(others[0], sum(others[1:]) + counts[1], others[0] + counts[0], others[1])
    if not _ends(stack, np.flatnonzero(has & own & known), area):
        return None
    rows, columns = np.nonzero(area)
    height, width = area.shape
    top, left = float(rows.min() / height), float(columns.min() / width)
    bottom, right = float((rows.max() + 1) / height), float((columns.max() + 1) / width)
    return Mark(label, place, np.flatnonzero(has & own), *counts, *others, chance, (top, left, bottom, right))


def _areas(
    stack: np.ndarray, candidate: int, own: np.ndarray, half: np.ndarray, place: str
) -> Iterator[tuple[np.ndarray, float]]:
    """Yield connected areas, bool (h, w), where images of the class agree with the candidate but hardly any others."""
    mine, others = np.flatnonzero(own & half), np.flatnonzero(~own & half)
    mine, others = mine[mine != candidate], others[:: -(-len(others) // OTHERS)]
    share = _alike(stack[mine], stack[candidate]).mean(0)
    of_others = _alike(stack[others], stack[candidate]).mean(0)
    told = (share >= SHARE) & (of_others <= OF_OTHERS * share)
    least = max(4, LEAST_AREA * told.size)
    if np.count_nonzero(told) < least:
        return
    from scipy.ndimage import label as connected

    pieces, number = connected(told, np.ones((3, 3)))
    sizes = np.bincount(pieces.ravel(), minlength=number + 1)
    for piece in np.argsort(-sizes[1:])[:4] + 1:
        area = pieces == piece
        if least <= sizes[piece] <= LARGEST_AREA * told.size and not _cut_off(area, place):
            with_it = mine[_has(stack[mine], stack[candidate], area)]
            rate, rest = len(with_it) / len(mine), _has(stack[others], stack[candidate], area).mean()
            if rate >= SHARE and rest <= OF_OTHERS * rate and _ends(stack, with_it, area):
                yield area, float(rate - rest) * sizes[piece] ** 0.5


def _cut_off(area: np.ndarray, place: str) -> bool:
    """Return whether an area reaches the inner edge of a corner view, beyond which it may be anything."""
    below = area[-1] if place.startswith("top") else area[0] if place.startswith("bottom") else np.zeros(1)
    beside = area[:, -1] if place.endswith("left") else area[:, 0] if place.endswith("right") else np.zeros(1)
    return bool(below.any() or beside.any())


def _alike(images: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return where images uint8 (n, h, w, 3) agree with another, bool (n, h, w)."""
    near = np.maximum(images, other) - np.minimum(images, other) <= ALIKE
    # Three times as fast as `all` over an axis of three.
    return np.asarray(near[..., 0] & near[..., 1] & near[..., 2])


def _has(images: np.ndarray, candidate: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Return which images agree with the candidate in the area, bool (n,)."""
    agreeing = _alike(images[:, area], candidate[area])
    return np.asarray(agreeing.mean(1) >= AGREEING)


def _ends(stack: np.ndarray, rows: np.ndarray, area: np.ndarray) -> bool:
    """Return whether images are alike up to the outline of the area, and change along most of it."""
    from scipy.ndimage import binary_erosion, distance_transform_edt

    beyond, nearest = distance_transform_edt(~area, return_indices=True)
    ring = (beyond > BEYOND) & (beyond <= BEYOND + 1)
    if not ring.any() or not len(rows):
        return False
    inside = nearest[:, ring]
    images = stack[rows].astype(np.int16)
    change = np.abs(images[:, ring] - images[:, inside[0], inside[1]]).max(-1)
    of_all = np.median(stack[rows], 0).astype(np.uint8)
    edge = area & ~binary_erosion(area, border_value=1)
    alike = _alike(stack[rows][:, edge], of_all[edge]).mean()
    return bool(np.median((change > ENDED).mean(1)) >= OUTLINE and alike >= AT_EDGE)
