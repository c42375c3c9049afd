"""Write the page of a run, when training ends or on request, and the page that compares two runs."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from graft.data.dataset import TEST, VAL, Dataset, relabel
from graft.data.split_file import read_labels
from graft.errors import GraftError, InputError
from graft.evaluation.label_figures import MeasuredLabels
from graft.evaluation.mcnemar import Difference, compare_answers
from graft.evaluation.report.beside import render_beside
from graft.evaluation.report.label_page import LabelReport, render_label_report
from graft.evaluation.report.page import render_report
from graft.evaluation.report.values import Beside, Report
from graft.explanation.evidence import Classifier, macs_of
from graft.features.engine import for_answers
from graft.files import write_aside, write_json
from graft.given import path, truth, with_hints
from graft.images.levels import Levels
from graft.images.preprocessing import Preprocessing
from graft.progress import Reporter, reporting
from graft.torch_modes import in_own_modes
from graft.weights.model_files import refuse_weights
from graft.weights.saved import ARGUMENTS_FILE, load_model
from graft.workflows.arguments import images_of, read_arguments
from graft.workflows.deciding import choice_of
from graft.workflows.gathering import gather
from graft.workflows.kept_answers import ANSWERS_FILE, KeptAnswers, read_answers
from graft.workflows.label_gathering import gather_labels
from graft.workflows.material import ROBUSTNESS_FILE, json_in, read_material, text_in
from graft.workflows.prepare import open_images
from graft.workflows.robustness import check_robustness
from graft.workflows.robustness import robustness as measure_robustness
from graft.workflows.run import PLAN_FILE, SPLIT_FILE, Run, finished, near, was_refitted
from graft.workflows.unseen import Measured

PAGE_FILE, VALUES_FILE = "report.html", "report.json"


@dataclass(frozen=True, repr=False)
class Written:
    """A page that was written, and the values it shows: of one run, or of two side by side."""

    page: Path
    values: Report | LabelReport | Beside

    def __repr__(self) -> str:
        return f"Written({near(self.page)!r}, {self.values!r})"

    def to_dict(self) -> dict[str, Any]:
        return {"page": near(self.page), **self.values.to_dict()}


def write_report(
    run: Run,
    kept: KeptAnswers,
    dataset: Dataset | None,
    levels: Levels = (),
    measured: Mapping[str, Measured | MeasuredLabels] | None = None,
    page: Path | None = None,
    classifier: Classifier | None = None,
) -> Report | LabelReport:
    """Write `report.html` and `report.json` to the folder of a run; without its `dataset`, there are no thumbnails."""
    report: Report | LabelReport
    if kept.thresholds is not None:
        report = gather_labels(read_material(run.folder, run, kept, dataset, levels))
        text = render_label_report(report)
        write_aside(page or run.folder / PAGE_FILE, lambda file: file.write(text.encode()))
        write_json(run.folder / VALUES_FILE, report.to_dict())
        return report
    known = {name: each for name, each in (measured or {}).items() if isinstance(each, Measured)}
    report = gather(read_material(run.folder, run, kept, dataset, levels), known, classifier)
    text = render_report(report)
    write_aside(page or run.folder / PAGE_FILE, lambda file: file.write(text.encode()))
    write_json(run.folder / VALUES_FILE, report.to_dict())
    return report


def verdict_of(folder: Path) -> tuple[str, ...]:
    """Return the verdict on a run in words, as on its page; empty for a run of an earlier version."""
    try:
        said = json.loads((folder / VALUES_FILE).read_text(encoding="utf-8"))["verdict"]["sentences"]
    except (OSError, ValueError, LookupError, TypeError):
        return ()
    return tuple(map(str, said))


@with_hints()
@in_own_modes
def report(
    run: str | PathLike[str],
    other: str | PathLike[str] | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    robustness: bool = False,
    robustness_time: float | str = 60.0,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Written:
    """Write the page of a finished run again, with thumbnails if its images are still there.

    With `other`, a page that shows the two runs side by side is written to `out`, by default in the folder of the
    first. With `robustness`, the images that the page judges by are corrupted, as many as `robustness_time` allows, and
    the figures are kept in the run for every later page. Raises InputError for anything but a finished run of this
    version of graft, for an `out` that exists unless `overwrite`, and for `robustness` with two runs, with one that
    gives an image several labels, or with one whose images are gone.
    """
    if truth(robustness, "--robustness") and other is not None:
        raise InputError("expected one run with --robustness, got two: measure each on its own, then compare them")
    folder, found, kept = _kept(run)
    if other is None:
        page = folder / PAGE_FILE if out is None else _new(out, overwrite)
        if robustness:
            limit = check_robustness(kept.thresholds is not None, robustness_time)
            with reporting(reporter, quiet) as told:
                _measure_robustness(folder, kept, limit, told)
        report = write_report(found, kept, *_images(folder), page=page, classifier=_classifier(folder))
        return Written(page, report)
    second, of_second, kept_second = _kept(other)
    if kept.thresholds is not None or kept_second.thresholds is not None:
        raise InputError(
            "expected two runs that give an image one label to compare, got one that gives several: evaluate each on "
            "the same images, `graft evaluate RUN DATA`"
        )
    page = _new(out, overwrite) if out is not None else folder / f"report-beside-{second.name}.html"
    reports = [
        gather(read_material(each.folder, each, answers, *_images(place)))
        for place, each, answers in ((folder, found, kept), (second, of_second, kept_second))
    ]
    difference, reason = _compared(folder, kept, second, kept_second)
    beside = Beside(reports[0], reports[1], difference, reason)
    text = render_beside(beside)
    write_aside(page, lambda file: file.write(text.encode()))
    return Written(page, beside)


def _new(out: str | Path, overwrite: bool) -> Path:
    wanted = Path(path(out, "--out")).expanduser().absolute()
    if wanted.suffix.lower() != ".html" or wanted.is_dir():
        raise InputError(f"expected the name of a .html file for --out, got {near(wanted)}: name one")
    if wanted.exists() and not overwrite:
        raise InputError(
            f"expected a new file for --out, got {near(wanted)}, which exists: give another name, or --overwrite"
        )
    return wanted


def _kept(run: str | PathLike[str]) -> tuple[Path, Run, KeptAnswers]:
    """Return the folder of a finished run, its result and its answers. Raises InputError."""
    folder = Path(path(run, "RUN")).expanduser().absolute()
    if not (folder / ARGUMENTS_FILE).is_file() and (folder.parent / ARGUMENTS_FILE).is_file():
        folder = folder.parent
    refuse_weights(folder, "the folder of a finished run", ", with images to measure it on")
    found, kept = finished(folder), read_answers(folder)
    if found is None or kept is None:
        what = (
            "which is not a finished run" if found is None else f"which has no {ANSWERS_FILE} of this version of graft"
        )
        raise InputError(
            f"expected the folder of a finished run, got {near(folder)}, {what}: name another, or train again"
        )
    return folder, found, kept


def _compared(one: Path, kept: KeptAnswers, other: Path, kept_other: KeptAnswers) -> tuple[Difference | None, str]:
    """Compare the answers of two runs on the split that both judge by, or say why that is not possible."""
    if set(kept.classes) != set(kept_other.classes):
        return None, "their classes differ"
    name = next((name for name in (TEST, VAL) if name in kept.splits and name in kept_other.splits), None)
    if name is None:
        return None, "they were measured on different splits"
    right = [_right_by_image(folder, each, name, kept.classes) for folder, each in ((one, kept), (other, kept_other))]
    shared = [key for key in right[0] if key in right[1]]
    if set(right[0]) != set(right[1]) or not shared:
        return None, f"their images in {name} differ ({len(shared):,} in common)"
    first, second = (np.array([each[key][0] for key in shared]) for each in right)
    # Either run may be the one that was told which images belong together; the other knows of copies alone.
    known = [
        np.array([of_run[key][1] for key in shared])
        for of_run, each in zip(right, (kept, kept_other), strict=True)
        if each.splits[name].groups is not None
    ]
    groups = min(known, key=lambda each: len(np.unique(each)), default=None)
    return compare_answers(first, second, groups), ""


def _right_by_image(
    folder: Path, kept: KeptAnswers, name: str, classes: tuple[str, ...]
) -> dict[Any, tuple[bool, int]]:
    """Return whether each image of a split was classified correctly, and its group.

    Images are identified by their key, their number among equal keys, and their label.
    """
    rows = read_labels(folder / SPLIT_FILE).get(name, [])
    split = kept.splits[name]
    right = split.logits.argmax(1) == split.labels
    seen: Counter[str] = Counter()
    numbers = []
    for key, label in rows:
        numbers.append((key, seen[key], label))
        seen[key] += 1
    groups = split.rows if split.groups is None else split.groups
    return {
        numbers[row]: (bool(answer), group)
        for row, answer, unseen, group in zip(split.rows.tolist(), right, split.unseen, groups.tolist(), strict=True)
        if unseen and row < len(numbers)
    }


def _measure_robustness(folder: Path, kept: KeptAnswers, limit: float, reporter: Reporter) -> None:
    """Corrupt images of the split that the page judges by, except copies of training images, and keep the figures."""
    (dataset, _), classifier = _images(folder), _classifier(folder)
    name = next((name for name in (TEST, VAL) if name in kept.splits and kept.splits[name].unseen.any()), None)
    if dataset is None or classifier is None or name is None or name not in dataset.splits:
        raise InputError(
            f"expected the images that {near(folder)} was measured on for --robustness, got none: put them back where "
            "they were, or give others to `graft evaluate RUN DATA --robustness`"
        )
    split = kept.splits[name]
    images = relabel(dataset, kept.classes).splits[name].take(split.rows[split.unseen])
    choice = for_answers(classifier.choice, classifier.model.network, "auto")
    found = measure_robustness(classifier.model, images, choice, limit, reporter)
    write_json(folder / ROBUSTNESS_FILE, {"split": name, **found.to_dict()})


def _classifier(folder: Path) -> Classifier | None:
    """Return the classifier of the run in `folder`; None if it cannot be read."""
    try:
        model, arguments = load_model(folder / "model"), read_arguments(folder)
        plan = json_in(text_in(folder / PLAN_FILE))
        return Classifier(model, choice_of(arguments), was_refitted(folder), macs_of(plan))
    except (GraftError, OSError):
        return None


def _images(folder: Path) -> tuple[Dataset | None, Levels]:
    """Return the run's images and the levels for deep images; None if the images are no longer as they were."""
    try:
        arguments = read_arguments(folder)
        dataset = open_images(images_of(arguments, folder / SPLIT_FILE))
        text = (folder / "model" / "preprocessing.json").read_text(encoding="utf-8")
        return dataset, Preprocessing.from_dict(json.loads(text)).levels
    except (InputError, OSError, ValueError):
        return None, ()
