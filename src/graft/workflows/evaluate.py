"""A trained classifier, or a base with its own classes, against labelled images."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from graft.data.dataset import TEST, VAL, WHOLE, Dataset, counts, relabel
from graft.errors import DataError, InputError, did_you_mean
from graft.evaluation.calibration import softmax
from graft.evaluation.scores import Scores, score
from graft.features.engine import choose, for_answers
from graft.features.extraction import extract
from graft.given import path, text
from graft.html import escaped, table
from graft.progress import Reporter, reporting
from graft.transfer.class_names.matching import find_outputs, note_on_others
from graft.weights.base import Base
from graft.weights.saved import class_logits
from graft.words import counted
from graft.workflows.prepare import BaseOptions, Data, prepare
from graft.workflows.unseen import trained_on


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Scores of a model on one split of labelled images; `skipped` maps undecodable ones to the reason.

    `scores` are those of images that the model was not trained on, as far as that is known; None where there are none.
    `trained_on` names the others, whose scores, `seen`, are optimistic.
    """

    model: str
    data: str
    split: str
    scores: Scores | None
    skipped: dict[str, str]
    engine: str
    seconds: float
    notes: tuple[str, ...]
    seen: Scores | None = None
    trained_on: tuple[str, ...] = ()

    def __repr__(self) -> str:
        top1 = None if self.scores is None else round(self.scores.top1, 3)
        n = 0 if self.scores is None else self.scores.n
        return f"Evaluation({self.model!r}, {self.data!r}, split={self.split!r}, top1={top1}, n={n})"

    def _repr_html_(self) -> str:
        if self.scores is None:
            return f"<p>{escaped(self)}</p>"
        rows = [
            (row.name, f"{row.n:,}", _percent(row.recall), _percent(row.precision))
            for row in sorted(self.scores.classes, key=lambda row: row.recall or 0.0)
            if row.n
        ]
        return f"<p>{escaped(self)}</p>{table(('class, worst first', 'images', 'recall', 'precision'), rows)}"

    def to_dict(self) -> dict[str, Any]:
        """As `graft evaluate --json` prints it."""
        return {
            "run": self.model,
            "data": self.data,
            "split": self.split,
            **({"top1": None, "top1_ci95": None, "n": 0} if self.scores is None else self.scores.to_dict()),
            "baseline": {"majority": None if self.scores is None else self.scores.majority},
            **({"trained_on": self._trained_on()} if self.seen is not None else {}),
            "skipped": self.skipped,
            "engine": self.engine,
            "seconds": {"total": self.seconds},
            "notes": list(self.notes),
        }

    def _trained_on(self) -> dict[str, Any]:
        assert self.seen is not None
        return {"top1": self.seen.top1, "n": self.seen.n, "paths": list(self.trained_on)}


def evaluate(
    run: str | Path,
    data: Data,
    *,
    split: str | None = None,
    classes_file: str | Path | None = None,
    class_map: str | Path | None = None,
    engine: str = "auto",
    precision: str = "auto",
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Evaluation:
    """How well the classifier in `run` does on the labelled images at `data`.

    `run` is a run folder, its `model/`, or a file of weights that has a classifier. Of several splits `test` is taken,
    else `val`, else the only one; `split` names another. Classes are matched by name; an image whose class the
    classifier does not know is an error, not a miss. Where weights without a run name their classes otherwise than the
    images do, or a JSON file `class_map` is given, they are read in the images' classes as at level `as-is`, and
    other classes have no part in the scores. Raises InputError and its kinds.
    """
    started = time.perf_counter()
    run = path(run, "RUN")
    base = BaseOptions(run, classes_file=classes_file)
    if split is not None:
        split = text(split, "--split")
    with reporting(reporter, quiet) as told:
        prepared = prepare(
            data, base, choose(engine, precision), audit=False, splittable=False, as_is=True, reporter=told
        )
        classifier = _classifier(prepared.start)
        dataset, classifier = _in_the_same_classes(prepared.dataset, classifier, class_map)
        name = _choose_split(split, tuple(name for name, images in dataset.splits.items() if len(images)))
        images = dataset.splits[name]
        whole, _ = classifier.network.split(classifier.network.cuts[-1])
        asked = {name: images}
        choice = for_answers(prepared.choice, classifier.network, precision)
        found = extract(whole, asked, classifier.preprocessing, choice, step="images", reporter=told)[name]
    if not len(found.indices):
        raise DataError(f"expected readable images in {dataset.name}, got none: replace the files that cannot be read")
    logits, notes = found.values.float(), (*dataset.notes, *classifier.notes)
    if classifier.outputs is not None:
        notes = (*notes, note_on_others(name, logits, classifier.outputs))
    classes = classifier.classes or ()
    probabilities = softmax(class_logits(logits, classifier.outputs).numpy(), classifier.temperature)
    labels, seen = images.labels[found.indices], trained_on(Path(run).expanduser(), images.take(found.indices))
    if seen.any():
        where = "" if name == WHOLE else f" in {name}"
        what = f"{seen.sum():,} of {counted(len(seen), 'image')}{where} are among those that {run} was trained on"
        notes = (*notes, f"{what}: they are counted apart" if not seen.all() else f"{what}: nothing is measured")
    return Evaluation(
        model=run,
        data=prepared.source,
        split=name,
        scores=None if seen.all() else score(probabilities[~seen], labels[~seen], classes),
        skipped={images.name(index): reason for index, reason in found.failures.items()},
        engine=str(choice),
        seconds=time.perf_counter() - started,
        notes=notes,
        seen=score(probabilities[seen], labels[seen], classes) if seen.any() else None,
        trained_on=tuple(images.name(int(found.indices[row])) for row in np.flatnonzero(seen)),
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _classifier(base: Base) -> Base:
    """`base` if it has a head with names for its classes. Raises InputError."""
    if not base.has_head or base.classes is None:
        what = "no names for its classes" if base.has_head else "no classifier"
        raise InputError(
            f"expected a run folder or weights with a classifier and class names, got {base.name} with {what}: give "
            "the names with --classes, or train a head first"
        )
    return base


def _in_the_same_classes(dataset: Dataset, base: Base, class_map: str | Path | None) -> tuple[Dataset, Base]:
    """Data and classifier with the same classes: the classifier's own, or where it is read in the data's, those."""
    own = base.classes or ()
    present = {
        label for each in dataset.splits.values() for label, count in counts(each, dataset.classes).items() if count
    }
    if class_map is not None or not (Path(base.name).expanduser().is_dir() or present <= set(own)):
        outputs, how_read = find_outputs(dataset.classes, own, base.outputs, class_map)
        base = replace(base, classes=dataset.classes, outputs=outputs, notes=(*base.notes, *how_read))
    return relabel(dataset, base.classes or ()), base


def _choose_split(asked: str | None, present: tuple[str, ...]) -> str:
    if asked is not None:
        if asked not in present:
            raise InputError(
                f"expected one of the splits {', '.join(present)} for --split, got {asked!r}"
                f"{did_you_mean(asked, present)}: choose one of them"
            )
        return asked
    return next((name for name in (TEST, VAL, WHOLE) if name in present), present[0])
