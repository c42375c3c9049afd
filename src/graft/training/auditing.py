"""What is wrong with labelled pictures, found before anything is trained on them."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from graft.data.copy_findings import copy_findings
from graft.data.dataset import Dataset, Pictures, together
from graft.data.duplicates import exact, near
from graft.data.findings import Finding, class_counts, class_findings, left_out, of_pictures
from graft.data.grouping import joined
from graft.data.looking import Looks, look
from graft.data.opening import open_dataset
from graft.data.picture_findings import picture_findings
from graft.data.splitting import stratified_folds
from graft.errors import FetchError, WeightsError
from graft.evaluation.calibration import softmax
from graft.evaluation.label_quality import contradicted, far_out, neighbour_distance, self_confidence
from graft.features.cache import LOOKS, cache_folder
from graft.features.engine import Choice, choose
from graft.features.extraction import check_input_size, extract
from graft.images.preprocessing import Fit, Preprocessing
from graft.training.fitting import Reporter, with_choices
from graft.training.head import held_out_logits
from graft.weights.base import Base, default_preprocessing, load_base

FOLDS = 5
# Pictures are enlarged so many times for the base to see them, and to this side at least, px. CIFAR-10's, of 32 px, are
# then shown at 96 px: enough to find wrong labels by (docs/audit.md), in a fifth of the time of 224 px.
ENLARGED, LEAST_SIZE = 3, 96
# Against the sum of losses, with features centred and scaled to a mean squared length of one. Candidates from 0.5 to 8
# gave held-out losses within 0.03 nats of the best on CIFAR-10 and on ants and bees, on two bases, with 400 to 5,000
# pictures (docs/audit.md); to choose one each time would take eight times as long.
INVERSE_PENALTY = 2.0
# Pictures that a head is fitted on.
MOST_TO_FIT = 20_000
# A label is named as wrong only if it is given no more than this, and another class contradicts it.
LEAST_CONFIDENCE = 0.02
# Of the ranking of labels, the part that is kept.
SUSPECT_SHARE, FEWEST_SUSPECTS, MOST_SUSPECTS = 0.25, 100, 10_000
ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True)
class Suspect:
    """A label that may be wrong: the probability that a head gives it that had not seen the picture, and its answer.

    `contradicted` says that another class is so likely that the label is named as wrong.
    """

    path: str
    label: str
    confidence: float
    suggested: str
    contradicted: bool

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "label": self.label, "confidence": self.confidence, "suggested": self.suggested}


@dataclass(frozen=True)
class Audit:
    """What was found in some data, the gravest first; `suspects` are the least believable labels, the worst first.

    `dataset` has copies of a picture in one group.
    """

    data: str
    dataset: Dataset
    findings: tuple[Finding, ...]
    suspects: tuple[Suspect, ...]
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """As `graft audit --json` prints it."""
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
    """A dataset with copies of a picture in one group, which no split divides, and what is wrong with it."""

    dataset: Dataset
    findings: tuple[Finding, ...]
    looks: Looks


def audit(
    data: str | Path,
    base: str = "mobilenet_v2",
    *,
    arch: str | None = None,
    group: str | None = None,
    split: str | Path | None = None,
    with_features: bool = True,
    image_size: int | None = None,
    fit: Fit | None = None,
    engine: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    progress: bool = False,
    reporter: Reporter | None = None,
) -> Audit:
    """Look at every picture of `data` and say what is wrong; nothing is written but in the cache.

    Likely wrong labels and outliers are told by the features of `base`; without them, or where its weights are not at
    hand, a note says so. Unless `image_size` says otherwise, pictures far smaller than the base's input are enlarged
    less than it would have them. Raises InputError and its kinds for what cannot be used.
    """
    started = time.perf_counter()
    reporter = reporter or Reporter()
    dataset = open_dataset(data, group, split)
    choice = choose(engine, precision)
    notes, start = list(dataset.notes), None
    if with_features:
        try:
            start = load_base(base, architecture=arch, progress=progress)
        except FetchError as error:
            notes.append(f"likely wrong labels and outliers were not looked for: {error}")
    if start is not None and not start.pretrained:
        raise WeightsError(
            f"expected a base with weights to judge labels by, got {base!r} without: name a file of them"
        )
    usual = default_preprocessing("mobilenet_v2", {}) if start is None else start.preprocessing
    preprocessing = with_choices(usual, image_size, fit)
    looked = look_over(dataset, preprocessing, reporter)
    dataset, findings = looked.dataset, looked.findings
    suspects: tuple[Suspect, ...] = ()
    if start is not None:
        if image_size is None:
            preprocessing = replace(preprocessing, size=_size_to_see(preprocessing.size, looked.looks))
        check_input_size(start.network, preprocessing)
        indices, features = _features(dataset, start, preprocessing, choice, reporter)
        by_features, suspects = audit_features(dataset, indices, features, seed)
        findings = in_order(findings + by_features)
    return Audit(str(data), dataset, findings, suspects, tuple(notes), time.perf_counter() - started)


def look_over(dataset: Dataset, preprocessing: Preprocessing, reporter: Reporter) -> LookedOver:
    """Look at every picture; `preprocessing` tells what a crop would cut away."""
    looks = look_at(dataset, reporter)
    pairs = duplicate_pairs(looks, reporter)
    dataset = joined(dataset, pairs)
    return LookedOver(dataset, audit_pictures(dataset, preprocessing, looks, pairs), looks)


def look_at(dataset: Dataset, reporter: Reporter) -> Looks:
    """What is to be seen of every picture through all splits; known of files that have not changed since."""
    whole = together(dataset.splits.values())
    return look(whole, cache_folder() / LOOKS, lambda done, total: reporter.step("looking", done, total))


def duplicate_pairs(looks: Looks, reporter: Reporter) -> np.ndarray:
    """Pairs of pictures through all splits, int64 (P, 2), that show the same: exact copies and near ones."""
    reporter.step("comparing", 0, 1)
    of_copies = [np.stack(np.broadcast_arrays(group[0], group[1:]), 1) for group in exact(looks)]
    pairs = np.concatenate([*of_copies, near(looks, cache_folder() / LOOKS)])
    reporter.step("comparing", 1, 1)
    return pairs


def audit_pictures(
    dataset: Dataset, preprocessing: Preprocessing, looks: Looks, pairs: np.ndarray
) -> tuple[Finding, ...]:
    """What can be told without a network, the gravest first: `pairs` are those of `duplicate_pairs`."""
    whole = together(dataset.splits.values())
    return in_order(
        chain(
            picture_findings(whole, looks, preprocessing),
            copy_findings(dataset, looks, pairs),
            class_findings(dataset),
            left_out(dataset),
        )
    )


def audit_features(
    dataset: Dataset, indices: np.ndarray, features: np.ndarray, seed: int
) -> tuple[tuple[Finding, ...], tuple[Suspect, ...]]:
    """Likely wrong labels and outliers, by features (n, D) of the pictures at `indices`, int (n,), through all splits.

    With them the ranking of labels, the least believable first.
    """
    whole = together(dataset.splits.values())
    suspects = rank_labels(whole.take(indices), dataset.classes, features, seed)
    findings = []
    wrong = [suspect for suspect in suspects if suspect.contradicted]
    if wrong:
        rows = {whole.name(row): row for row in indices.tolist()}
        findings.append(
            of_pictures(
                "likely_wrong_label",
                "warning",
                f"{len(wrong):,} label(s) are contradicted with confidence by a head that had not seen the picture: "
                "look at them, and mend those that are wrong",
                whole,
                [rows[suspect.path] for suspect in wrong],
                [f"labelled {each.label}, looks like {each.suggested}" for each in wrong],
            )
        )
    distance = neighbour_distance(features)
    outliers = np.flatnonzero(far_out(distance))
    if len(outliers):
        findings.append(
            of_pictures(
                "outlier",
                "info",
                f"{len(outliers):,} picture(s) are unlike all others in what the base sees in them: look whether they "
                "belong here",
                whole,
                indices[outliers[np.argsort(-distance[outliers])]],
            )
        )
    return tuple(findings), suspects


def rank_labels(pictures: Pictures, classes: tuple[str, ...], features: np.ndarray, seed: int) -> tuple[Suspect, ...]:
    """The labels that are least to be believed by features (N, D) of their pictures, the worst first."""
    judged, probabilities = held_out_probabilities(features, pictures, seed)
    labels = pictures.labels[judged]
    confidence = self_confidence(probabilities, labels)
    wrong = contradicted(probabilities, labels) & (confidence <= LEAST_CONFIDENCE)
    others = probabilities.copy()
    others[np.arange(len(judged)), labels] = -1
    suggested = others.argmax(1)
    count = min(MOST_SUSPECTS, max(FEWEST_SUSPECTS, round(SUSPECT_SHARE * len(judged))))
    return tuple(
        Suspect(
            pictures.name(int(judged[place])),
            classes[labels[place]],
            float(confidence[place]),
            classes[suggested[place]],
            bool(wrong[place]),
        )
        for place in np.argsort(confidence, kind="stable")[:count].tolist()
    )


def held_out_probabilities(features: np.ndarray, pictures: Pictures, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures can be judged, int (n,), and the probabilities (n, classes) of their classes.

    Each is judged by a head that was fitted on other folds, and so on no copy of it. A picture cannot be judged that
    has no label, or whose class is in no other fold.
    """
    labelled = np.flatnonzero(pictures.labels >= 0)
    pictures = pictures.take(labelled)
    classes = int(pictures.labels.max(initial=0)) + 1
    fold = stratified_folds(pictures.labels, FOLDS, seed, pictures.groups)
    # The only picture of a class is in fold -1, which is the last row here.
    within = np.zeros((FOLDS + 1, classes), dtype=np.int64)
    np.add.at(within, (fold, pictures.labels), 1)
    elsewhere = within.sum(0) - within
    judged = np.flatnonzero(elsewhere[fold, pictures.labels])
    if not len(judged) or np.count_nonzero(within.sum(0)) < 2:
        return judged[:0], np.empty((0, classes))
    penalty = INVERSE_PENALTY / features.shape[1]
    of_judged = features[labelled[judged]]
    logits = held_out_logits(of_judged, pictures.labels[judged], classes, fold[judged], penalty, MOST_TO_FIT)
    return labelled[judged], softmax(logits)


def _size_to_see(size: int, looks: Looks) -> int:
    """The side that pictures are shown to a base at, px: `size`, or ENLARGED times theirs if that is less."""
    sides = np.minimum(looks.width, looks.height)[looks.decoded]
    enough = ENLARGED * float(np.median(sides)) if len(sides) else size
    return min(size, max(LEAST_SIZE, 32 * ceil(enough / 32)))


def _features(
    dataset: Dataset, base: Base, preprocessing: Preprocessing, choice: Choice, reporter: Reporter
) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures through all splits can be decoded, int (n,), and what a head would see of them, float32 (n, D)."""
    trunk, _ = base.network.split(base.network.cuts[-2])
    trunk.eval()

    def tell(done: int, total: int) -> None:
        reporter.step("features", done, total)

    # By split, as a training on the same data asks for them.
    found = extract(trunk, dataset.splits, preprocessing, choice, progress=tell)
    starts = np.cumsum([0, *map(len, dataset.splits.values())])
    indices = [start + found[name].indices for start, name in zip(starts, dataset.splits, strict=False)]
    values = [found[name].values.float().numpy() for name in dataset.splits]
    return np.concatenate(indices), np.concatenate(values)


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The gravest first, else as they come."""
    return tuple(sorted(findings, key=lambda finding: ORDER[finding.severity]))
