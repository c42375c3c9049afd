"""What is wrong with single images, from what was measured when they were looked at.

Thresholds start from those of the library cleanvision 0.3.7, which were set on photographs. Where a measure is common
in a data set, as white paper is among sketches, it says nothing of one image: so it must also lie far from the
median of the data, by the rule of Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers", section 3.3.
docs/audit.md has what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from graft.audit.duplicates import exact
from graft.audit.findings import Finding, of_images
from graft.data.dataset import Images

if TYPE_CHECKING:
    from graft.audit.looking import Looks
    from graft.images.preprocessing import Preprocessing

# In units of the median absolute deviation, scaled to be a standard deviation where values are normal.
FAR = 3.5
# An image of up to so many colours, and mostly of a few of them, was drawn by a program, if most others have more
# colours than can be counted. Photographs that are smaller may have as few.
DRAWN_COLOURS, DRAWN_ENTROPY, DRAWN_PIXELS = 64, 3.0, 64 * 64
# One content as often as this, and under several labels, stands for no class.
REPEATED = 5
# Shorter over longer side.
NARROW = 0.35
# Side (of a square of the same area) over the median side, or the other way round.
ODD_SIDE = 0.5
# Mean saturation below which an image has no colour: one level of 255.
GREY = 1 / 255


@dataclass(frozen=True)
class Rule:
    """A measure beyond which an image is not usual, if it is also far from the median of the data."""

    kind: str
    measure: Callable[[Looks], np.ndarray]
    threshold: float
    low: bool
    message: str

    def found(self, looks: Looks, among: np.ndarray) -> np.ndarray:
        """Which images are beyond it, bool (N,); `among` says which are compared."""
        values = self.measure(looks).astype(np.float64)
        beyond = values < self.threshold if self.low else values > self.threshold
        return np.asarray(among & beyond & _far(values, among, self.low))


RULES = (
    Rule(
        "low_information",
        lambda looks: looks.entropy,
        # cleanvision's 3 bits count the levels of three channels together, which adds the logarithm of three.
        3 - np.log2(3),
        True,
        "{} image(s) show next to nothing (an entropy of grey levels below {:.1f} bits): look whether they are what "
        "their label says",
    ),
    Rule(
        "blurry",
        # Blur makes sharpness a fraction of what it was. Of photographs of 500 px the threshold takes 0.92 blurred by
        # a Gaussian of 6 px, half of those by 4, and none untouched.
        lambda looks: np.log(np.maximum(looks.sharpness, 1e-9)),
        np.log(0.02),
        True,
        "{} image(s) are blurred: leave them out unless what is to be classified comes as blurred",
    ),
    Rule(
        "dark",
        lambda looks: looks.dark,
        0.32,
        True,
        "{} image(s) are dark throughout (99 of 100 pixels below a luminance of {:.2f}): brighten them or leave them "
        "out",
    ),
    Rule(
        "light",
        lambda looks: looks.bright,
        0.95,
        False,
        "{} image(s) are light throughout (95 of 100 pixels above a luminance of {:.2f}): look whether anything is "
        "to be seen",
    ),
)


def image_findings(whole: Images, looks: Looks, preprocessing: Preprocessing) -> Iterator[Finding]:
    """Findings about all images, rows of `whole` and of `looks`, some of them for this way to a network's input."""
    decoded = looks.decoded
    if looks.reasons:
        yield of_images(
            "unreadable",
            "error",
            f"{len(looks.reasons):,} of {len(whole):,} image(s) cannot be decoded and have no part in training: "
            "replace or remove them",
            whole,
            sorted(looks.reasons),
            [looks.reasons[row] for row in sorted(looks.reasons)],
        )
    placeholders = _placeholders(whole, looks)
    if placeholders.any():
        yield of_images(
            "placeholder",
            "error",
            f"{placeholders.sum():,} image(s) are not of any class: a drawing of few colours among photographs, such "
            "as 'image not found', or one content many times under several labels; remove them",
            whole,
            np.flatnonzero(placeholders),
        )
    wrong = np.flatnonzero(looks.wrong_suffix)
    if len(wrong):
        yield of_images(
            "wrong_extension",
            "info",
            f"{len(wrong):,} file(s) are of another format than their ending says: graft goes by the content, other "
            "programs may not; rename them",
            whole,
            wrong,
        )
    if not decoded.any():
        return
    for rule in RULES:
        found = np.flatnonzero(rule.found(looks, decoded))
        if len(found):
            message = rule.message.format(f"{len(found):,}", rule.threshold)
            yield of_images(rule.kind, "warning", message, whole, found)
    with_image = decoded & ~placeholders
    yield from _shapes(whole, looks, with_image, preprocessing)
    grey = with_image & (looks.saturation < GREY)
    if 0 < grey.sum() < with_image.sum() / 2:
        yield of_images(
            "grey",
            "info",
            f"{grey.sum():,} image(s) are grey and the other {with_image.sum() - grey.sum():,} in colour: see that no "
            "class is told by that",
            whole,
            np.flatnonzero(grey),
        )
    turned = np.flatnonzero(looks.orientation > 1)
    if len(turned):
        yield of_images(
            "exif_rotation",
            "info",
            f"{len(turned):,} image(s) are turned upright by their Exif orientation",
            whole,
            turned,
        )
    moving = np.flatnonzero(looks.frames > 1)
    if len(moving):
        yield of_images(
            "animated",
            "info",
            f"{len(moving):,} file(s) have several frames or pages, of which the first is used",
            whole,
            moving,
        )


def _placeholders(whole: Images, looks: Looks) -> np.ndarray:
    """Images that stand for a missing one, bool (N,)."""
    found = np.zeros(len(whole), bool)
    if looks.decoded.any() and np.median(looks.colours[looks.decoded]) >= looks.colours.max() > DRAWN_COLOURS:
        large = looks.width.astype(np.int64) * looks.height >= DRAWN_PIXELS
        found = looks.decoded & large & (looks.colours <= DRAWN_COLOURS) & (looks.entropy < DRAWN_ENTROPY)
    for group in exact(looks):
        if len(group) >= REPEATED and len(np.unique(whole.labels[group])) > 1:
            found[group] = True
    return found


def _shapes(whole: Images, looks: Looks, with_image: np.ndarray, preprocessing: Preprocessing) -> Iterator[Finding]:
    """Images that are narrow, and those far smaller or larger than the others."""
    width, height = np.maximum(looks.width, 1).astype(float), np.maximum(looks.height, 1).astype(float)
    ratio = np.minimum(width, height) / np.maximum(width, height)
    if not with_image.any():
        return
    narrow = with_image & (ratio < NARROW)
    if narrow.any():
        kept = preprocessing.crop_fraction**2 * ratio[narrow]
        what = {
            "crop": f"the crop keeps {kept.min():.0%} to {kept.max():.0%} of them, --resize letterbox all",
            "squash": "squashing changes their proportions, --resize letterbox does not",
            "letterbox": "they are kept whole, and small",
        }[preprocessing.resize_mode]
        yield of_images(
            "odd_aspect_ratio",
            "info" if preprocessing.resize_mode == "letterbox" else "warning",
            f"{narrow.sum():,} image(s) are {1 / ratio[narrow].max():.1f} to {1 / ratio[narrow].min():.1f} times as "
            f"long as wide: {what}",
            whole,
            np.flatnonzero(narrow),
        )
    side = np.log2(np.sqrt(width * height))
    middle = np.median(side[with_image])
    least = -np.log2(ODD_SIDE)
    odd = with_image & (np.abs(side - middle) > least) & (_far(side, with_image, True) | _far(side, with_image, False))
    if odd.any():
        sizes = [f"{looks.width[row]} x {looks.height[row]} px" for row in np.flatnonzero(odd)]
        yield of_images(
            "odd_size",
            "info",
            f"{odd.sum():,} image(s) have less than half or more than twice the side of the usual "
            f"{2**middle:.0f} px: a class that differs in sharpness may be told by that",
            whole,
            np.flatnonzero(odd),
            sizes,
        )


def _far(values: np.ndarray, among: np.ndarray, low: bool) -> np.ndarray:
    """Which values lie far below, or above, the median of those that are `among`, bool (N,)."""
    middle = np.median(values[among])
    deviation = 1.4826 * np.median(np.abs(values[among] - middle))
    return np.asarray(values < middle - FAR * deviation if low else values > middle + FAR * deviation)
