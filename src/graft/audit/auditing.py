"""Find what is wrong with labelled images before anything is trained on them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np

from graft.audit.chains import KeptTogether, kept_together
from graft.audit.confirming import confirmed
from graft.audit.copy_findings import alike_by_content, copy_findings
from graft.audit.duplicates import alike, exact
from graft.audit.findings import Finding, class_counts, class_findings, left_out, of_images
from graft.audit.fine_copies import fine_copies
from graft.audit.image_findings import image_findings
from graft.audit.label_quality import (
    contradicted,
    far_out,
    missed_anyway,
    neighbour_distance,
    neighbours_agree,
    usual_confidence,
)
from graft.audit.looking import Looks, look
from graft.audit.mark_findings import mark_findings
from graft.audit.marks import MOST, chosen_for_marks
from graft.data.dataset import Dataset, Images, together
from graft.data.grouping import joined, linked, with_content
from graft.data.splitting import answerable, stratified_folds
from graft.evaluation.calibration import fit_temperature, softmax
from graft.files import LOOKS, cache_folder
from graft.html import table
from graft.images.levels import Levels
from graft.images.preprocessing import Preprocessing
from graft.names import shortened
from graft.progress import Reporter
from graft.transfer.held_out import HeldOutHeads, Rows, evenly_spaced, fit_held_out_heads
from graft.words import counted, first_few

FOLDS = 5
# Weight of the sum of losses against the penalty, with features centred and scaled to a mean squared length of one.
# Of 0.5, 1, 2 and 4, it had the lowest held-out loss or one within 0.05 nats of that (docs/audit.md). Choosing one for
# each data set would take several times as long.
INVERSE_PENALTY = 2.0
# The most images that a head is fitted on, and that a temperature is, with at most so many logits.
MOST_TO_FIT, MOST_LOGITS = 20_000, 2**24
# A label is reported as wrong only if its probability is at most this and another class contradicts it.
LEAST_CONFIDENCE = 0.02
# No label is reported unless at least this share of labels with so low a probability is expected to be wrong.
LEAST_SHARE_WRONG = 0.4
# Labels of up to this probability are shown all the same, at most so many (docs/audit.md).
DOUBTFUL, MOST_DOUBTFUL = 0.2, 100
# How much of the label ranking is kept.
SUSPECT_SHARE, FEWEST_SUSPECTS, MOST_SUSPECTS = 0.25, 100, 10_000
ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong.

    `confidence` is the probability of the label under a head that has not seen the image; `suggested` is the other
    class that it finds most likely. `contradicted` says that the label is reported as wrong.
    """

    path: str
    label: str
    confidence: float
    suggested: str
    contradicted: bool

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "label": self.label, "confidence": self.confidence, "suggested": self.suggested}


@dataclass(frozen=True, repr=False)
class Audit:
    """The findings, most serious first, and `suspects`, the least credible labels, worst first.

    In `dataset`, copies of an image share a group; `levels` are the black and white points of deep images. Two audits
    are equal if they found the same.
    """

    data: str
    dataset: Dataset = field(compare=False)
    findings: tuple[Finding, ...]
    suspects: tuple[Suspect, ...]
    notes: tuple[str, ...]
    seconds: float = field(compare=False)
    levels: Levels = field(default=(), compare=False)

    def __repr__(self) -> str:
        kinds = ", ".join(dict.fromkeys(finding.kind for finding in self.findings)) or "nothing"
        return f"Audit({self.data!r}, {counted(len(self.dataset), 'image')}: {kinds})"

    def _repr_html_(self) -> str:
        rows = [(finding.kind, finding.severity, len(finding.paths), finding.message) for finding in self.findings]
        return table(("finding", "severity", "images", "message"), rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the audit as `graft audit --json` prints it."""
        return {
            "items": len(self.dataset),
            "classes": class_counts(self.dataset),
            "findings": [finding.to_dict() for finding in self.findings],
            "suspects": [suspect.to_dict() for suspect in self.suspects],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class LookedOver:
    """A dataset with copies of an image in one group, which no split divides, and the findings about it."""

    dataset: Dataset
    findings: tuple[Finding, ...]
    looks: Looks


def look_over(
    dataset: Dataset, preprocessing: Preprocessing, reporter: Reporter, looks: Looks | None = None
) -> LookedOver:
    """Look at every image, unless `looks` are given, and find whatever can be found without a network.

    `preprocessing` decides what a crop would cut off, and how deep samples are read.
    """
    if looks is None:
        looks = look_at(dataset, reporter, preprocessing.levels)
    copies = find_copies(dataset, looks, reporter, preprocessing.levels)
    same = alike_by_content(looks)
    whole = together(dataset.splits.values())
    # Where groups are known, images that only look alike join none of them.
    look_alikes = copies.look_alikes if whole.groups is None else _in_one_group(whole.groups, copies.look_alikes)
    kept = kept_together(whole.labels, same, copies.pairs, look_alikes)
    said = (*_divided_nevertheless(dataset, kept), *_joins_groups(whole, kept.copies), *_not_compared(whole, copies))
    dataset = with_content(joined(dataset, kept.either), looks.digest, linked(same, kept.copies))
    dataset = replace(dataset, notes=(*dataset.notes, *said))
    findings = audit_images(dataset, preprocessing, looks, copies, kept)
    marks = mark_findings(dataset, looks, reporter, preprocessing.levels, cache_folder() / LOOKS)
    found = gravest_first(chain(findings, marks))
    # What was prepared for the marks would take megabytes from here on.
    return LookedOver(dataset, found, replace(looks, overlays={}))


def _divided_nevertheless(dataset: Dataset, kept: KeptTogether) -> Iterator[str]:
    """Yield notes on classes whose images look so much alike that copies are divided, or few are left to measure on."""
    if len(kept.copied):
        yield (
            f"all images of {_named(dataset, kept.copied)} look like copies of each other, so they are split like any "
            "others: if they are copies, scores on val are optimistic; use --group to keep related images together, or "
            "--val FILE to measure on other images"
        )
    if len(kept.parted):
        yield (
            f"keeping look-alikes of {_named(dataset, kept.parted)} together would put more than half of the class in "
            "one split, so they are split like any others: use --group to keep related images together"
        )
    if len(kept.held):
        yield (
            f"more than half of the images of {_named(dataset, kept.held)} look like copies of each other and stay in "
            "one split, which may leave few to measure on: use --no-audit to split them like any others"
        )


def _in_one_group(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    return pairs[groups[pairs[:, 0]] == groups[pairs[:, 1]]]


def _joins_groups(whole: Images, copies: np.ndarray) -> Iterator[str]:
    """Yield a note on copies, pairs of rows, that join groups which the user wants apart."""
    if whole.groups is None:
        return
    across = copies[whole.groups[copies[:, 0]] != whole.groups[copies[:, 1]]]
    if len(across):
        before, left = len(np.unique(whole.groups)), len(np.unique(linked(whole.groups, across)))
        one, other = (whole.name(row) for row in across[0].tolist())
        yield (
            f"{counted(len(np.unique(across)), 'image')} with copies in other groups, such as {one} and {other}, join "
            f"{before:,} groups to {left:,}, since no split may divide copies: remove them (graft audit --fix-list) to "
            "keep the groups apart"
        )


def _not_compared(whole: Images, copies: "Copies") -> Iterator[str]:
    """Yield a note on images that were not compared, since too many others are as fine."""
    if len(copies.not_compared):
        yield (
            f"{counted(len(copies.not_compared), 'image')} with nothing but fine detail, such as "
            f"{whole.name(int(copies.not_compared[0]))}, {'was' if len(copies.not_compared) == 1 else 'were'} not "
            "compared for near duplicates, since there are too many such images: use --group to keep related images "
            "together"
        )


def _named(dataset: Dataset, labels: np.ndarray) -> str:
    return first_few(repr(shortened(dataset.label_name(label))) for label in labels.tolist())


def look_at(dataset: Dataset, reporter: Reporter, levels: Levels = ()) -> Looks:
    """Return what is seen of every image, through all splits; unchanged files are not read again."""
    whole = together(dataset.splits.values())
    rows = chosen_for_marks(whole.labels, whole.copies)
    return look(whole, cache_folder() / LOOKS, reporter, levels, rows.tolist() if len(rows) <= MOST else ())


@dataclass(frozen=True)
class Copies:
    """Pairs of rows through all splits, int64 (P, 2): copies, exact and near, and others that only look so.

    `not_compared`, int64, are rows of which near copies were not looked for, though they show something.
    """

    pairs: np.ndarray
    look_alikes: np.ndarray
    not_compared: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def either(self) -> np.ndarray:
        return np.concatenate([self.pairs, self.look_alikes])


def find_copies(dataset: Dataset, looks: Looks, reporter: Reporter, levels: Levels = ()) -> Copies:
    """Find copies of images through all splits; near ones are confirmed by reading both images again."""
    reporter.step("comparing", 0, 1)
    of_copies = [np.stack(np.broadcast_arrays(group[0], group[1:]), 1) for group in exact(looks)]
    found = alike(looks, cache_folder() / LOOKS, reporter)
    whole = together(dataset.splits.values())
    same = confirmed(whole, looks, found, cache_folder() / LOOKS, reporter, levels)
    fine = fine_copies(whole, looks, cache_folder() / LOOKS, reporter, levels, found.limit)
    reporter.step("comparing", 1, 1)
    return Copies(np.concatenate([*of_copies, found.pairs[same], fine.pairs]), found.pairs[~same], fine.left)


def audit_images(
    dataset: Dataset, preprocessing: Preprocessing, looks: Looks, copies: Copies, kept: KeptTogether | None = None
) -> tuple[Finding, ...]:
    """Return what can be found without a network, most serious first; `kept` says which copies share a split."""
    whole = together(dataset.splits.values())
    return gravest_first(
        chain(
            image_findings(whole, looks, preprocessing),
            copy_findings(dataset, looks, copies.pairs, copies.look_alikes, kept),
            class_findings(dataset),
            left_out(dataset),
        )
    )


def audit_features(
    dataset: Dataset, indices: np.ndarray, features: Rows, seed: int
) -> tuple[tuple[Finding, ...], tuple[Suspect, ...]]:
    """Return likely wrong labels and outliers, and the labels ranked with the least credible first.

    `features`, (n, D), belong to the images at `indices`, int (n,), counted through all splits. No label is ranked if
    no class has images in two groups.
    """
    whole = together(dataset.splits.values())
    ranking = rank_labels(whole.take(indices), dataset.classes, features, seed)
    suspects = ranking.suspects
    findings = []
    wrong = [(suspect, row) for suspect, row in zip(suspects, ranking.rows, strict=True) if suspect.contradicted]
    expected = min(len(wrong), round(ranking.share_wrong * len(wrong)))
    if expected:
        findings.append(
            of_images(
                "likely_wrong_label",
                "warning",
                f"{counted(len(wrong), 'label is', 'labels are')} confidently contradicted by a head that had not seen "
                f"the image and by its nearest neighbours: expect about {expected:,} of {len(wrong):,} to be wrong; "
                "review such images in this order and correct the labels that are wrong",
                whole,
                indices[[row for _, row in wrong]],
                [f"labelled {each.label}, looks like {each.suggested}" for each, _ in wrong],
            )
        )
    doubtful = [
        (suspect, row)
        for suspect, row in zip(suspects, ranking.rows, strict=True)
        if suspect.confidence <= DOUBTFUL and not suspect.contradicted
    ][:MOST_DOUBTFUL]
    if doubtful:
        findings.append(
            of_images(
                "doubtful_label",
                "info",
                f"{counted(len(doubtful), 'label has', 'labels have')} a probability of at most {DOUBTFUL:.0%} from a "
                "head that had not seen the image, but not one so low that they must be wrong: look at them in this "
                "order, the likeliest errors first",
                whole,
                indices[[row for _, row in doubtful]],
                [f"labelled {each.label}, looks like {each.suggested} ({each.confidence:.0%})" for each, _ in doubtful],
            )
        )
    distance = neighbour_distance(features)
    outliers = np.flatnonzero(far_out(distance))
    if len(outliers):
        findings.append(
            of_images(
                "outlier",
                "info",
                f"{counted(len(outliers), 'image is', 'images are')} unlike all others in the features of the base: "
                "check whether such images belong in the dataset",
                whole,
                indices[outliers[np.argsort(-distance[outliers])]],
            )
        )
    return tuple(findings), suspects


@dataclass(frozen=True)
class Ranking:
    """The least credible labels, worst first, and the share of the contradicted ones expected to be wrong.

    `rows` are the places of the suspects among the images that were ranked.
    """

    suspects: tuple[Suspect, ...]
    rows: tuple[int, ...]
    share_wrong: float


def rank_labels(images: Images, classes: tuple[str, ...], features: Rows, seed: int) -> Ranking:
    """Rank the least credible labels by the features (N, D) of their images.

    Some labels of tiny probability are right: as many as a head of this accuracy misses anyway. Where these are the
    majority, no label is contradicted.
    """
    heads = held_out(features, images, seed)
    if heads is None:
        return Ranking((), (), 0.0)
    labels = images.labels[heads.rows]
    count = len(labels)
    confidence, suggested = np.empty(count), np.empty(count, np.int64)
    for block, logits in heads.blocks():
        probabilities, own = softmax(logits), (np.arange(len(block)), labels[block])
        confidence[block] = probabilities[own]
        probabilities[own] = -1
        suggested[block] = probabilities.argmax(1)
    doubted = confidence <= LEAST_CONFIDENCE
    # Labels in doubt are left out: they would make the head look less sure than it may be.
    some = evenly_spaced(np.flatnonzero(~doubted), min(MOST_TO_FIT, max(1, MOST_LOGITS // heads.classes)))
    temperature = fit_temperature(heads.logits(some), labels[some])
    calibrated = (softmax(logits, temperature) for _, logits in heads.blocks())
    missed = sum(missed_anyway(each, LEAST_CONFIDENCE) for each in calibrated)
    share_wrong = 1 - missed / max(1, int(doubted.sum()))
    least = min(MOST_SUSPECTS, max(FEWEST_SUSPECTS, round(SUSPECT_SHARE * count)))
    places = np.argsort(confidence, kind="stable")[:least]
    agreed = np.zeros(count, bool)
    if share_wrong >= LEAST_SHARE_WRONG:
        usual = usual_confidence(confidence, labels, heads.classes)
        for block, logits in heads.blocks(places[doubted[places]]):
            agreed[block] = contradicted(softmax(logits), labels[block], usual)
        wrong = np.flatnonzero(agreed)
        groups = np.arange(len(images)) if images.groups is None else images.groups
        agreed[wrong] = neighbours_agree(
            features, images.labels, groups, heads.rows[wrong], suggested[wrong], heads.rows
        )
    suspects = tuple(
        Suspect(
            images.name(int(heads.rows[place])),
            classes[labels[place]],
            float(confidence[place]),
            classes[suggested[place]],
            bool(agreed[place]),
        )
        for place in places.tolist()
    )
    return Ranking(suspects, tuple(heads.rows[places].tolist()), share_wrong)


def held_out_probabilities(features: Rows, images: Images, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which images can be judged, int (n,), and their probabilities (n, classes); see `held_out`."""
    heads = held_out(features, images, seed)
    if heads is None:
        return np.empty(0, np.int64), np.empty((0, 0))
    return heads.rows, np.concatenate([softmax(logits) for _, logits in heads.blocks()])


def held_out(features: Rows, images: Images, seed: int) -> HeldOutHeads | None:
    """Return the heads that judge the images that can be judged; None if none can.

    Each is judged by a head fitted on the other folds, and so on no copy of it. An image cannot be judged if it has no
    label or its class is in no other fold, as when all images are of one group.
    """
    labelled = np.flatnonzero(images.labels >= 0)
    labels = images.labels[labelled]
    fold = stratified_folds(labels, FOLDS, seed, None if images.groups is None else images.groups[labelled])
    judged = np.flatnonzero(answerable(labels, fold))
    if not len(judged) or len(np.unique(labels)) < 2:
        return None
    penalty, classes = INVERSE_PENALTY / features.shape[1], int(labels.max()) + 1
    return fit_held_out_heads(features, labelled[judged], labels[judged], classes, fold[judged], penalty, MOST_TO_FIT)


def gravest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort errors first, then warnings, then remarks, otherwise keeping the order."""
    return tuple(sorted(findings, key=lambda finding: ORDER[finding.severity]))
