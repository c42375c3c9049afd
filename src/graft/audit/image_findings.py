"""What is wrong with single images, judged by the measurements taken when they were looked at.

Thresholds start from those of the library cleanvision 0.3.7, which were set on photographs. A value that is common in a
dataset, as white paper is among sketches, says nothing about one image. So the value must also lie far from the median,
by the rule of Iglewicz and Hoaglin 1993, "How to Detect and Handle Outliers", section 3.3. docs/audit.md has the
measurements.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from graft.audit.duplicates import exact
from graft.audit.findings import Finding, of_images
from graft.data.dataset import Images
from graft.words import counted

if TYPE_CHECKING:
    from graft.audit.looking import Looks
    from graft.images.preprocessing import Preprocessing

# In units of the median absolute deviation, scaled to equal the standard deviation of normal values.
FAR = 3.5
# A drawing made by a program has at most this many colours, mostly few of them, and at least this size, in a dataset
# where most images have more colours than are counted. Smaller photographs can have as few.
DRAWN_COLOURS, DRAWN_ENTROPY, DRAWN_PIXELS = 64, 3.0, 64 * 64
# Names of drawings that stand for a missing image.
NAMED = re.compile(
    r"not.?found|(?<![a-z])no.?(image|photo|picture)|unavailable|not.?available|placeholder|(image|photo).?(missing|removed)",
    re.IGNORECASE,
)
# Levels of 255 between the darkest and the lightest part of an image in which something is plainly visible, like ink on
# paper.
PLAINLY_SEEN = 128
# A class with this many images has a spread of its own.
ENOUGH = 10
# Content that occurs this many times, under several labels, belongs to no class.
REPEATED = 5
# Shorter side over longer side.
NARROW = 0.35
# Side (of a square of the same area) over the median side, or the reverse.
ODD_SIDE = 0.5
# Entropy of grey levels, in bits. cleanvision's 3 bits are for three channels together, which adds the logarithm of
# three.
NOTHING_SHOWN = 3 - np.log2(3)
# Mean saturation below which an image has no colour: one level of 255.
GREY = 1 / 255


@dataclass(frozen=True)
class Rule:
    """An image is unusual when its `value` is below the threshold (above, unless `low`) and far from the median.

    The value must also be far from the median of the image's class. Where something is plainly visible, no image counts
    as too light, too dark or empty. The message consists of the number of images, `one` or `many`, and `advice`, into
    which the threshold is formatted.
    """

    kind: str
    value: Callable[[Looks], np.ndarray]
    threshold: float
    low: bool
    one: str
    many: str
    advice: str

    def message(self, found: int) -> str:
        return f"{counted(found, self.one, self.many)} {self.advice.format(self.threshold)}"

    def found(self, looks: Looks, among: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return which images are unusual, bool (N,); only those in `among` are compared."""
        values = self.value(looks).astype(np.float64)
        beyond = values < self.threshold if self.low else values > self.threshold
        found = np.asarray(among & beyond & _far(values, among, self.low))
        if self.kind != "blurry" and found.any():
            seen = looks.thumbnail[found].astype(np.int64)
            found[found] = seen.max((1, 2)) - seen.min((1, 2)) < PLAINLY_SEEN
        by_class = np.argsort(labels, kind="stable")
        for label in np.unique(labels[found & (labels >= 0)]).tolist():
            rows = by_class[slice(*np.searchsorted(labels, (label, label + 1), sorter=by_class))]
            rows = rows[among[rows]]
            if len(rows) >= ENOUGH:
                found[rows] &= _far(values[rows], np.ones(len(rows), bool), self.low)
        return found


RULES = (
    Rule(
        "low_information",
        lambda looks: looks.entropy,
        NOTHING_SHOWN,
        True,
        "image shows",
        "images show",
        "almost nothing (grey-level entropy below {:.1f} bits): check that the label fits",
    ),
    Rule(
        "blurry",
        # Blur divides sharpness, so sharpness is compared as a logarithm. On 500 px photographs, the threshold finds
        # 0.92 of those blurred by a Gaussian of 6 px, half of those blurred by 4 px, and no untouched one.
        lambda looks: np.log(np.maximum(looks.sharpness, 1e-9)),
        np.log(0.02),
        True,
        "image is",
        "images are",
        "blurred: leave such images out unless the images to be classified will be just as blurred",
    ),
    Rule(
        "dark",
        lambda looks: looks.dark,
        0.32,
        True,
        "image is",
        "images are",
        "dark throughout (99% of pixels below a luminance of {:.2f}): brighten such images or leave them out",
    ),
    Rule(
        "light",
        lambda looks: looks.bright,
        0.95,
        False,
        "image is",
        "images are",
        "light throughout (95% of pixels above a luminance of {:.2f}): check that anything is visible",
    ),
)


def image_findings(whole: Images, looks: Looks, preprocessing: Preprocessing) -> Iterator[Finding]:
    """Yield findings about images, rows of `whole` and `looks`; `preprocessing` decides what a crop would cut off."""
    decoded = looks.decoded
    if looks.reasons:
        yield of_images(
            "unreadable",
            "error",
            f"{len(looks.reasons):,} of {counted(len(whole), 'image')} cannot be decoded and will not be used for "
            "training: replace or remove such files",
            whole,
            sorted(looks.reasons),
            [looks.reasons[row] for row in sorted(looks.reasons)],
        )
    drawn = _drawn(looks)
    placeholders = _placeholders(whole, looks, drawn)
    if placeholders.any():
        yield of_images(
            "placeholder",
            "error",
            f"{counted(placeholders.sum(), 'image stands in for a missing one', 'images stand in for missing ones')}: "
            "drawings with few colours among photographs that are named like placeholders, have several labels or "
            "differ from all others in format and size, or content repeated many times under several labels; remove "
            "such files",
            whole,
            np.flatnonzero(placeholders),
        )
    if (drawn & ~placeholders).any():
        yield of_images(
            "possible_placeholder",
            "info",
            f"{counted((drawn & ~placeholders).sum(), 'image is a drawing', 'images are drawings')} with few colours "
            "among photographs: check that none stands in for a missing image",
            whole,
            np.flatnonzero(drawn & ~placeholders),
        )
    wrong = np.flatnonzero(looks.wrong_suffix)
    if len(wrong):
        yield of_images(
            "wrong_extension",
            "info",
            f"{counted(len(wrong), 'file has', 'files have')} the extension of another format: graft goes by the "
            "content, but other programs may not; rename such files",
            whole,
            wrong,
        )
    if not decoded.any():
        return
    for rule in RULES:
        found = np.flatnonzero(rule.found(looks, decoded, whole.labels))
        if len(found):
            yield of_images(rule.kind, "warning", rule.message(len(found)), whole, found)
    with_image = decoded & ~placeholders
    yield from _shapes(whole, looks, with_image, preprocessing)
    grey = with_image & (looks.saturation < GREY)
    if 0 < grey.sum() < with_image.sum() / 2:
        yield of_images(
            "grey",
            "info",
            f"{counted(grey.sum(), 'image is', 'images are')} grey and the other {with_image.sum() - grey.sum():,} are "
            "in colour: make sure that colour alone does not tell the classes apart",
            whole,
            np.flatnonzero(grey),
        )
    turned = np.flatnonzero(looks.orientation > 1)
    if len(turned):
        yield of_images(
            "exif_rotation",
            "info",
            f"{counted(len(turned), 'image is', 'images are')} rotated upright according to the Exif orientation",
            whole,
            turned,
        )
    moving = np.flatnonzero(looks.frames > 1)
    if len(moving):
        yield of_images(
            "animated",
            "info",
            f"{counted(len(moving), 'file has', 'files have')} several frames or pages; only the first is used",
            whole,
            moving,
        )


def _drawn(looks: Looks) -> np.ndarray:
    """Return which images are drawings of few colours in a dataset of photographs, bool (N,)."""
    if not looks.decoded.any() or not np.median(looks.colours[looks.decoded]) >= looks.colours.max() > DRAWN_COLOURS:
        return np.zeros(len(looks), bool)
    large = looks.width.astype(np.int64) * looks.height >= DRAWN_PIXELS
    return np.asarray(looks.decoded & large & (looks.colours <= DRAWN_COLOURS) & (looks.entropy < DRAWN_ENTROPY))


def _placeholders(whole: Images, looks: Looks, drawn: np.ndarray) -> np.ndarray:
    """Return which images almost certainly stand for a missing one, bool (N,).

    A drawing may be a genuine member of its class, as stripes and chequers are. So something else must confirm it: its
    name, the same content under several labels, or a format and size that no other image has, with next to nothing to
    see.
    """
    found = np.zeros(len(whole), bool)
    for row in np.flatnonzero(drawn).tolist():
        found[row] = bool(NAMED.search(PurePosixPath(whole.key(row)).stem))
    empty = np.flatnonzero(drawn & (looks.entropy < NOTHING_SHOWN))
    # Among several that show nothing, none is unlike all others.
    if len(empty) == 1:
        others = looks.decoded.copy()
        others[empty] = False
        same_size = (looks.width == looks.width[empty]) & (looks.height == looks.height[empty])
        found[empty] |= not (others & ((looks.format == looks.format[empty]) | same_size)).any()
    for group in exact(looks):
        several = len(np.unique(whole.labels[group])) > 1
        if several and (len(group) >= REPEATED or drawn[group].all()):
            found[group] = True
    return found


def _shapes(whole: Images, looks: Looks, with_image: np.ndarray, preprocessing: Preprocessing) -> Iterator[Finding]:
    """Yield findings about narrow images, and about those far smaller or larger than the others."""
    width, height = np.maximum(looks.width, 1).astype(float), np.maximum(looks.height, 1).astype(float)
    ratio = np.minimum(width, height) / np.maximum(width, height)
    if not with_image.any():
        return
    narrow = with_image & (ratio < NARROW)
    if narrow.any():
        kept = preprocessing.crop_fraction**2 * ratio[narrow]
        what = {
            "crop": f"a crop keeps {_span(kept, '.0%')} of the area, --resize letterbox all of it",
            "squash": "squashing changes the proportions, --resize letterbox does not",
            "letterbox": "letterboxing leaves their content small",
        }[preprocessing.resize_mode]
        yield of_images(
            "odd_aspect_ratio",
            "info" if preprocessing.resize_mode == "letterbox" else "warning",
            f"{counted(narrow.sum(), 'image is', 'images are')} {_span(1 / ratio[narrow], '.1f')} times as long as "
            f"wide: {what}",
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
            f"{counted(odd.sum(), 'image has', 'images have')} less than half or more than twice the usual side of "
            f"{2**middle:.0f} px: if classes differ in image size, sharpness alone can tell them apart",
            whole,
            np.flatnonzero(odd),
            sizes,
        )


def _span(values: np.ndarray, form: str) -> str:
    """Format the least and the largest value, or only one where both read the same."""
    least, largest = format(values.min(), form), format(values.max(), form)
    return least if least == largest else f"{least} to {largest}"


def _far(values: np.ndarray, among: np.ndarray, low: bool) -> np.ndarray:
    """Return which values lie far below (`low`) or far above the median of those in `among`, bool (N,)."""
    middle = np.median(values[among])
    deviation = 1.4826 * np.median(np.abs(values[among] - middle))
    return np.asarray(values < middle - FAR * deviation if low else values > middle + FAR * deviation)
