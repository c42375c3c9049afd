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
from graft.audit.image_findings import image_findings
from graft.audit.label_quality import (
    contradicted,
    far_out,
    missed_anyway,
    neighbour_distance,
    neighbours_agree,
    self_confidence,
)
from graft.audit.looking import Looks, look
from graft.audit.mark_findings import mark_findings
from graft.data.dataset import Dataset, Images, together
from graft.data.grouping import joined, linked, with_content
from graft.data.splitting import stratified_folds
from graft.evaluation.calibration import fit_temperature, softmax
from graft.files import LOOKS, cache_folder
from graft.html import table
from graft.images.levels import Levels
from graft.images.preprocessing import Preprocessing
from graft.names import shortened
from graft.progress import Reporter
from graft.transfer.head import held_out_logits
from graft.words import counted

FOLDS = 5
# Weight of the sum of losses against the penalty, with features centred and scaled to a mean squared length of one.
# Of 0.5, 1, 2 and 4, it had the lowest held-out loss or one within 0.05 nats of that (docs/audit.md). Choosing one for
# each data set would take several times as long.
INVERSE_PENALTY = 2.0
# The most images that a head is fitted on.
MOST_TO_FIT = 20_000
# A label is reported as wrong only if its probability is at most this and another class contradicts it.
LEAST_CONFIDENCE = 0.02
# No label is reported unless at least this share of labels with so low a probability is expected to be wrong.
LEAST_SHARE_WRONG = 0.4
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


def look_over(dataset: Dataset, preprocessing: Preprocessing, reporter: Reporter) -> LookedOver:
    """Look at every image and find whatever can be found without a network.

    `preprocessing` decides what a crop would cut off, and how deep samples are read.
    """
    looks = look_at(dataset, reporter, preprocessing.levels)
    copies = find_copies(dataset, looks, reporter, preprocessing.levels)
    same = alike_by_content(looks)
    kept = kept_together(together(dataset.splits.values()).labels, same, copies.pairs, copies.look_alikes)
    dataset = with_content(joined(dataset, kept.either), looks.digest, linked(same, kept.copies))
    dataset = replace(dataset, notes=(*dataset.notes, *_divided_nevertheless(dataset, kept)))
    findings = audit_images(dataset, preprocessing, looks, copies, kept)
    marks = mark_findings(dataset, looks, reporter, preprocessing.levels, cache_folder() / LOOKS)
    return LookedOver(dataset, gravest_first(chain(findings, marks)), looks)


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


def _named(dataset: Dataset, labels: np.ndarray) -> str:
    names = [repr(shortened(dataset.label_name(label))) for label in labels.tolist()]
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def look_at(dataset: Dataset, reporter: Reporter, levels: Levels = ()) -> Looks:
    """Return what is seen of every image, through all splits; unchanged files are not read again."""
    whole = together(dataset.splits.values())
    return look(whole, cache_folder() / LOOKS, reporter, levels)


@dataclass(frozen=True)
class Copies:
    """Pairs of rows through all splits, int64 (P, 2): copies, exact and near, and others that only look so."""

    pairs: np.ndarray
    look_alikes: np.ndarray

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
    reporter.step("comparing", 1, 1)
    return Copies(np.concatenate([*of_copies, found.pairs[same]]), found.pairs[~same])


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
    dataset: Dataset, indices: np.ndarray, features: np.ndarray, seed: int
) -> tuple[tuple[Finding, ...], tuple[Suspect, ...]]:
    """Return likely wrong labels and outliers, and the labels ranked with the least credible first.

    `features`, (n, D), belong to the images at `indices`, int (n,), counted through all splits.
    """
    whole = together(dataset.splits.values())
    ranking = rank_labels(whole.take(indices), dataset.classes, features, seed)
    suspects = ranking.suspects
    findings = []
    wrong = [suspect for suspect in suspects if suspect.contradicted]
    expected = min(len(wrong), round(ranking.share_wrong * len(wrong)))
    if expected:
        rows = {whole.name(row): row for row in indices.tolist()}
        findings.append(
            of_images(
                "likely_wrong_label",
                "warning",
                f"{counted(len(wrong), 'label is', 'labels are')} confidently contradicted by a head that had not seen "
                f"the image and by its nearest neighbours: expect about {expected:,} of {len(wrong):,} to be wrong; "
                "review such images in this order and correct the labels that are wrong",
                whole,
                [rows[suspect.path] for suspect in wrong],
                [f"labelled {each.label}, looks like {each.suggested}" for each in wrong],
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
    """The least credible labels, worst first, and the share of the contradicted ones expected to be wrong."""

    suspects: tuple[Suspect, ...]
    share_wrong: float


def rank_labels(images: Images, classes: tuple[str, ...], features: np.ndarray, seed: int) -> Ranking:
    """Rank the least credible labels by the features (N, D) of their images.

    Some labels of tiny probability are right: as many as a head of this accuracy misses anyway. Where these are the
    majority, no label is contradicted.
    """
    judged, logits = held_out(features, images, seed)
    if not len(judged):
        return Ranking((), 0.0)
    labels = images.labels[judged]
    probabilities = softmax(logits)
    confidence = self_confidence(probabilities, labels)
    others = probabilities.copy()
    others[np.arange(len(judged)), labels] = -1
    suggested = others.argmax(1)
    wrong = np.flatnonzero(contradicted(probabilities, labels) & (confidence <= LEAST_CONFIDENCE))
    # Labels in doubt are left out: they would make the head look less sure than it may be.
    credible = confidence > LEAST_CONFIDENCE
    calibrated = softmax(logits, fit_temperature(logits[credible], labels[credible]))
    share_wrong = 1 - missed_anyway(calibrated, LEAST_CONFIDENCE) / max(1, int((~credible).sum()))
    groups = np.arange(len(images)) if images.groups is None else images.groups
    agreed = np.zeros(len(judged), bool)
    if len(wrong) and share_wrong >= LEAST_SHARE_WRONG:
        agreed[wrong] = neighbours_agree(features[judged], labels, groups[judged], wrong, suggested[wrong])
    count = min(MOST_SUSPECTS, max(FEWEST_SUSPECTS, round(SUSPECT_SHARE * len(judged))))
    suspects = tuple(
        Suspect(
            images.name(int(judged[place])),
            classes[labels[place]],
            float(confidence[place]),
            classes[suggested[place]],
            bool(agreed[place]),
        )
        for place in np.argsort(confidence, kind="stable")[:count].tolist()
    )
    return Ranking(suspects, share_wrong)


def held_out_probabilities(features: np.ndarray, images: Images, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which images can be judged, int (n,), and their probabilities (n, classes); see `held_out`."""
    judged, logits = held_out(features, images, seed)
    return judged, softmax(logits)


def held_out(features: np.ndarray, images: Images, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which images can be judged, int (n,), and their logits (n, classes).

    Each is judged by a head fitted on the other folds, and so on no copy of it. An image cannot be judged if it has no
    label or its class is in no other fold.
    """
    labelled = np.flatnonzero(images.labels >= 0)
    images = images.take(labelled)
    classes = int(images.labels.max(initial=0)) + 1
    fold = stratified_folds(images.labels, FOLDS, seed, images.groups)
    # The only image of a class is in fold -1, the last row here.
    within = np.zeros((FOLDS + 1, classes), dtype=np.int64)
    np.add.at(within, (fold, images.labels), 1)
    elsewhere = within.sum(0) - within
    judged = np.flatnonzero(elsewhere[fold, images.labels])
    if not len(judged) or np.count_nonzero(within.sum(0)) < 2:
        return judged[:0], np.empty((0, classes))
    penalty = INVERSE_PENALTY / features.shape[1]
    of_judged = features[labelled[judged]]
    logits = held_out_logits(of_judged, images.labels[judged], classes, fold[judged], penalty, MOST_TO_FIT)
    return labelled[judged], logits


def gravest_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort errors first, then warnings, then remarks, otherwise keeping the order."""
    return tuple(sorted(findings, key=lambda finding: ORDER[finding.severity]))
