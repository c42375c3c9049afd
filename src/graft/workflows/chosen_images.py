"""Choose which images of a run its page shows: mistakes, doubtful answers, confused classes and findings."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, zip_longest
from typing import Any

import numpy as np

from graft.evaluation.answers import Answers, most_doubtful, worst_mistakes, worst_pairs
from graft.evaluation.report.values import Finding, Pair, Shown
from graft.explanation.evidence import Evidence
from graft.workflows.material import Material
from graft.workflows.thumbnails import Album

# Images per finding and per pair of classes; pairs; worst mistakes; most doubtful images.
OF_FINDING, OF_PAIR, PAIRS, MISTAKES, DOUBTFUL = 6, 4, 5, 12, 12
# Findings shown with images.
FINDINGS = 12


class Chosen:
    """The images that the page shows of the split it judges by."""

    def __init__(self, material: Material, judged_on: tuple[str, Answers] | None) -> None:
        self._classes = material.kept.classes
        self._dataset = material.dataset
        self.name: str = judged_on[0] if judged_on else ""
        self.answers: Answers | None = judged_on[1] if judged_on else None
        self.mistakes: list[int] = []
        self.doubtful: list[int] = []
        self._pairs: list[tuple[int, int, int, list[int]]] = []
        self._index: dict[str, int] = {}
        if self.answers is None:
            return
        given, labels = self.answers.answers, self.answers.labels
        self.mistakes = worst_mistakes(self.answers, MISTAKES)
        known = set(self.mistakes)
        self.doubtful = [row for row in most_doubtful(self.answers, DOUBTFUL + MISTAKES) if row not in known][:DOUBTFUL]
        confusion = np.zeros((len(self._classes), len(self._classes)), dtype=np.int64)
        np.add.at(confusion, (labels, given), 1)
        confidences = self.answers.confidences
        for label, answer, count in worst_pairs(confusion, PAIRS):
            rows = np.flatnonzero((labels == label) & (given == answer))
            rows = rows[np.argsort(-confidences[rows], kind="stable")][:OF_PAIR]
            self._pairs.append((label, answer, count, rows.tolist()))
        self._sums = confusion.sum(1)
        if self._dataset is not None and self.name in self._dataset.splits:
            images = self._dataset.splits[self.name]
            self._index = {images.key(index): index for index in range(len(images))}

    def places(self) -> list[tuple[str, int]]:
        if self.answers is None:
            return []
        rows = [*self.mistakes, *self.doubtful, *(row for *_, several in self._pairs for row in several)]
        names = [self.answers.names[row] for row in rows]
        return [(self.name, self._index[name]) for name in names if name in self._index]

    def looked_into(self) -> dict[int, int]:
        """Return the answers to the worst mistakes and most doubtful images, alternating, by index in the split."""
        if self.answers is None:
            return {}
        turns = chain.from_iterable(zip_longest(self.mistakes, self.doubtful))
        rows = [row for row in turns if row is not None and self.answers.names[row] in self._index]
        given = self.answers.answers
        return {self._index[self.answers.names[row]]: int(given[row]) for row in rows}

    def shown(self, album: Album, rows: list[int], evidence: Evidence | None = None) -> tuple[Shown, ...]:
        found = self.answers
        if found is None:
            return ()
        shown = [_answered(album, self.name, found, row, self._classes, self._index) for row in rows]
        return tuple(each if evidence is None else self._with_evidence(each, album, evidence) for each in shown)

    def _with_evidence(self, shown: Shown, album: Album, evidence: Evidence) -> Shown:
        index = self._index.get(shown.name, -1)
        if index in evidence.maps:
            jpeg, size = album.own(evidence.maps[index])
            shown = replace(shown, map_jpeg=jpeg, map_size=size)
        nearest = []
        for each in evidence.nearest.get(index, ()):
            jpeg, size = album.jpeg((each.split, each.index))
            label = f"labelled {each.label}" if each.label is not None else "no label"
            nearest.append(Shown(each.path, (label, f"likeness {each.likeness:.2f}"), jpeg, size))
        return replace(shown, nearest=tuple(nearest))

    def pairs(self, album: Album) -> tuple[Pair, ...]:
        return tuple(
            Pair(self._classes[label], self._classes[answer], count, int(self._sums[label]), self.shown(album, rows))
            for label, answer, count, rows in self._pairs
        )


def _answered(
    album: Album, split: str, answers: Answers, row: int, classes: tuple[str, ...], index: Mapping[str, int]
) -> Shown:
    """Return an image with its label, its answer and the probability."""
    name, answer, label = answers.names[row], int(answers.answers[row]), int(answers.labels[row])
    jpeg, size = album.jpeg((split, index[name])) if name in index else (None, (0, 0))
    called = f"{classes[answer]} {answers.probabilities[row, answer]:.1%}"
    lines = [f"labelled {classes[label]}", f"called {called}"] if answer != label else [f"{called}, right"]
    if answer == label and len(classes) > 1:
        # Of two classes as likely as each other, the first is the answer, and the other comes second.
        second = int(np.argsort(-answers.probabilities[row], kind="stable")[1])
        lines.append(f"then {classes[second]} {answers.probabilities[row, second]:.1%}")
    return Shown(name, tuple(lines), jpeg, size)


def finding_of(row: Mapping[str, Any]) -> Finding:
    paths = row.get("paths") or ()
    return Finding(str(row.get("kind")), str(row.get("severity")), str(row.get("message")), len(paths))


def _some_of(row: Mapping[str, Any]) -> list[str]:
    """Return the images shown for a finding; the first two of each group if it has groups."""
    groups = row.get("groups")
    names = [name for group in groups[:OF_FINDING] for name in group[:2]] if groups else list(row.get("paths") or ())
    return list(dict.fromkeys(names))[:OF_FINDING]


def finding_places(material: Material, album: Album) -> list[tuple[str, int]]:
    names = [name for row in material.audit.get("findings", ())[:FINDINGS] for name in _some_of(row)]
    return [place for name in names if (place := album.place_of(name)) is not None]


def with_images(findings: list[Finding], material: Material, album: Album) -> list[Finding]:
    shown: list[Finding] = []
    for finding, row in zip(findings, material.audit.get("findings", ()), strict=True):
        images = []
        for name in _some_of(row) if len(shown) < FINDINGS else ():
            place = album.place_of(name)
            jpeg, size = album.jpeg(place) if place is not None else (None, (0, 0))
            if jpeg is not None:
                images.append(Shown(name, (_stands(material, place),) if place else (), jpeg, size))
        shown.append(replace(finding, images=tuple(images)))
    return shown


def _stands(material: Material, place: tuple[str, int]) -> str:
    assert material.dataset is not None
    item = material.dataset.item(*place)
    return f"{place[0]}: {item.label or 'no label'}"
