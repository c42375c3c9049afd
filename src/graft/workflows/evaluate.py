"""A trained classifier, or a base with its own classes, against labelled images."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from graft.data.dataset import TEST, VAL, WHOLE, counts, relabel
from graft.data.opening import open_dataset
from graft.errors import DataError, InputError, did_you_mean
from graft.evaluation.calibration import softmax
from graft.evaluation.scores import Scores, score
from graft.features.engine import choose
from graft.features.extraction import Progress, extract
from graft.transfer.class_names.matching import find_outputs, note_on_others
from graft.weights.base import load_base
from graft.weights.saved import SavedModel, class_logits, load_model, model_folder


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on one split of labelled images; `skipped` maps undecodable ones to the reason."""

    model: str
    data: str
    split: str
    scores: Scores
    skipped: dict[str, str]
    engine: str
    seconds: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """As `graft evaluate --json` prints it."""
        return {
            "run": self.model,
            "data": self.data,
            "split": self.split,
            **self.scores.to_dict(),
            "baseline": {"majority": self.scores.majority},
            "skipped": self.skipped,
            "engine": self.engine,
            "seconds": {"total": self.seconds},
            "notes": list(self.notes),
        }


def evaluate(
    run: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    engine: str = "auto",
    precision: str = "auto",
    classes_file: str | Path | None = None,
    class_map: str | Path | None = None,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """How well the classifier in `run` does on the labelled images at `data`.

    `run` is a run folder, its `model/`, or a file of weights that has a classifier. Of several splits `test` is taken,
    else `val`, else the only one; `split` names another. Classes are matched by name; an image whose class the
    classifier does not know is an error, not a miss. Where weights without a run name their classes otherwise than the
    images do, or a JSON file `class_map` is given, they are read in the images' classes as at level `as-is`, and
    other classes have no part in the scores. Raises InputError and its kinds.
    """
    started = time.perf_counter()
    saved, notes = _classifier(str(run), Path(classes_file) if classes_file else None)
    dataset = open_dataset(data)
    name = _choose_split(split, tuple(name for name, images in dataset.splits.items() if len(images)))
    present = {
        label for each in dataset.splits.values() for label, count in counts(each, dataset.classes).items() if count
    }
    own_names = Path(run).expanduser().is_dir() or present <= set(saved.classes)
    if class_map is not None or not own_names:
        outputs, how_read = find_outputs(dataset.classes, saved.classes, saved.outputs, class_map)
        saved, notes = replace(saved, classes=dataset.classes, outputs=outputs), (*notes, *how_read)
    dataset = relabel(dataset, saved.classes)
    images = dataset.splits[name]
    choice = choose(engine, precision)
    whole, _ = saved.network.split(saved.network.cuts[-1])
    found = extract(whole, {name: images}, saved.preprocessing, choice, progress=progress)[name]
    if not len(found.indices):
        raise DataError(f"expected readable images in {data}, got none: replace the files that cannot be decoded")
    logits = found.values.float()
    if saved.outputs is not None:
        notes = (*notes, note_on_others(name, logits, saved.outputs))
    probabilities = softmax(class_logits(logits, saved.outputs).numpy(), saved.temperature)
    return Evaluation(
        model=str(run),
        data=str(data),
        split=name,
        scores=score(probabilities, images.labels[found.indices], saved.classes),
        skipped={images.name(index): reason for index, reason in found.failures.items()},
        engine=str(choice),
        seconds=time.perf_counter() - started,
        notes=(*dataset.notes, *notes),
    )


def _classifier(run: str, classes_file: Path | None) -> tuple[SavedModel, tuple[str, ...]]:
    if Path(run).expanduser().is_dir():
        return load_model(model_folder(Path(run).expanduser())), ()
    base = load_base(run, classes_file=classes_file)
    if not base.has_head or base.classes is None:
        what = "no names for its classes" if base.has_head else "no classifier"
        raise InputError(
            f"expected a run folder or weights with a classifier and class names, got {run} with {what}: give the "
            "names with --classes, or train a head first"
        )
    return SavedModel(base.network, base.preprocessing, base.classes, outputs=base.outputs), base.notes


def _choose_split(asked: str | None, present: tuple[str, ...]) -> str:
    if asked is not None:
        if asked not in present:
            raise InputError(
                f"expected one of the splits {', '.join(present)} for --split, got {asked!r}"
                f"{did_you_mean(asked, present)}: choose one of them"
            )
        return asked
    return next((name for name in (TEST, VAL, WHOLE) if name in present), present[0])
