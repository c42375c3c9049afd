"""From what a run left in its folder to the values of its page."""

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graft import __version__
from graft.data.dataset import TEST, TRAIN, VAL, Dataset
from graft.data.split_file import read_labels
from graft.evaluation.answers import Answers, most_doubtful, worst_mistakes, worst_pairs
from graft.evaluation.calibration import softmax
from graft.evaluation.conformal import in_set, set_threshold
from graft.evaluation.error_budget import find_threshold, risk_coverage
from graft.evaluation.report.values import Alarm, Finding, Pair, Report, Shown, Slice, Split, Trust, Verdict
from graft.evaluation.report.verdict import (
    audit_alarms,
    contradictions,
    decide,
    is_miscalibrated,
    slice_alarms,
    split_alarms,
    trust_alarms,
)
from graft.evaluation.stratified import ends_of, slices
from graft.images.levels import Levels
from graft.weights.saved import ARGUMENTS_FILE, CALIBRATION_FILE
from graft.words import counted
from graft.workflows.arguments import OPTIONS, Arguments, read_arguments
from graft.workflows.kept_answers import KeptAnswers
from graft.workflows.run import PLAN_FILE, SPLIT_FILE, Run, near
from graft.workflows.thumbnails import Album
from graft.workflows.unseen import Measured, measure

# Images on the page: of a finding, an alarm, a pair of classes; pairs; worst mistakes; most doubtful.
OF_FINDING, OF_ALARM, OF_PAIR, PAIRS, MISTAKES, DOUBTFUL = 6, 4, 4, 5, 12, 12
# Findings whose images are shown.
FINDINGS = 12
BUDGETS, COVERAGES = (0.01, 0.02, 0.05, 0.1), (0.9, 0.95)
# What a promise of an error budget keeps of the images that it rests on.
RESTS_ON = ("n", "answered", "wrong")
# What images at the low and the high end of a measure are called.
ENDS = {
    "luminance": ("darkest", "lightest"),
    "sharpness": ("most blurred", "sharpest"),
    "side": ("smallest", "largest"),
    "saturation": ("least coloured", "most coloured"),
}


@dataclass(frozen=True)
class Material:
    """What a run left: its result, what was decided and found, the epochs, its images by split with their labels, its
    answers, and the images themselves where they are still there."""

    folder: Path
    run: Run
    plan: dict[str, Any]
    audit: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    labels: dict[str, list[tuple[str, str]]]
    kept: KeptAnswers
    dataset: Dataset | None
    levels: Levels = ()
    command: str = ""


def read_material(folder: Path, run: Run, kept: KeptAnswers, dataset: Dataset | None, levels: Levels) -> Material:
    """What the files of the run in `folder` say. Raises DataError for a split file of another kind."""
    lines = _text(folder / "metrics.jsonl").splitlines()
    return Material(
        folder,
        run,
        _json(_text(folder / PLAN_FILE)),
        _json(_text(folder / "audit.json")),
        tuple(row for line in lines if (row := _json(line))),
        read_labels(folder / SPLIT_FILE),
        kept,
        dataset,
        levels,
    )


def gather(material: Material, measured: Mapping[str, Measured] | None = None) -> Report:
    """The values of the page; by split, what was `measured` already is not measured again."""
    run, kept, data = material.run, material.kept, _data_name(material)
    answers = {
        name: split.answers(kept.temperature, {row: key for row, (key, _) in enumerate(material.labels.get(name, ()))})
        for name, split in kept.splits.items()
    }
    splits, judged, judged_on = _splits(answers, kept, measured or {})
    main = None if judged is None else splits[judged]
    album = Album(material.dataset, material.levels)
    chosen = _Chosen(material, judged_on)
    findings = [_finding(row) for row in material.audit.get("findings", ())]
    album.make([*chosen.places(), *_finding_places(material, album)])
    findings = _with_images(findings, material, album)
    trust = None if judged_on is None else _trust(judged_on, material.folder)
    sliced = () if judged_on is None else _slices(material, answers, main, judged_on)
    report = Report(
        title=f"{data}: level {run.level} of {run.base}",
        data=data,
        base=run.base,
        level=run.level,
        classes=kept.classes,
        counts=_counts(material),
        splits=splits,
        judged=judged,
        majority_class="" if main is None else kept.classes[int(main.scores.confusion.sum(1).argmax())],
        verdict=Verdict((), False),
        plan=material.plan,
        frozen_head=_frozen_head(material),
        findings=tuple(findings),
        skipped=run.skipped,
        notes=run.notes,
        history=material.history,
        pairs=chosen.pairs(album),
        mistakes=chosen.shown(album, chosen.mistakes),
        doubtful=chosen.shown(album, chosen.doubtful),
        trust=trust,
        slices=sliced,
        facts=_facts(material),
        without_images=None
        if material.dataset is not None
        else "There are no thumbnails: the images of the run are not where they were.",
    )
    alarms = [
        *audit_alarms(report.findings, sum(map(len, material.labels.values()))),
        *_unreadable_splits(material),
        *split_alarms(*_unlike(splits)),
        *_label_alarms(material, answers, album),
        *trust_alarms(trust),
        *slice_alarms(sliced, 0.0 if main is None else main.scores.top1),
    ]
    return replace(report, verdict=decide(report, alarms))


def _splits(
    answers: Mapping[str, Answers], kept: KeptAnswers, measured: Mapping[str, Measured]
) -> tuple[tuple[Split, ...], int | None, tuple[str, Answers] | None]:
    """Scores of all splits, the number of the one to go by, and the answers that it is of."""
    found: list[Split] = []
    judged: int | None = None
    judged_on: tuple[str, Answers] | None = None
    for name in sorted(answers, key=lambda name: (name != TEST, name)):
        whole, groups = answers[name], kept.splits[name].groups
        scores = measured.get(name) or measure(whole.probabilities, whole.labels, kept.classes, groups, whole.unseen)
        if scores.unseen is not None:
            found.append(Split(name, scores.unseen))
            if judged is None:
                judged, judged_on = len(found) - 1, (name, whole.take(whole.unseen))
        if scores.unseen is not scores.whole:
            found.append(Split(name, scores.whole, optimistic=True))
    return tuple(found), judged, judged_on


class _Chosen:
    """Which images of the split that is judged by the page shows."""

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

    def shown(self, album: Album, rows: list[int]) -> tuple[Shown, ...]:
        found = self.answers
        if found is None:
            return ()
        return tuple(_answered(album, self.name, found, row, self._classes, self._index) for row in rows)

    def pairs(self, album: Album) -> tuple[Pair, ...]:
        return tuple(
            Pair(self._classes[label], self._classes[answer], count, int(self._sums[label]), self.shown(album, rows))
            for label, answer, count, rows in self._pairs
        )


def _answered(
    album: Album, split: str, answers: Answers, row: int, classes: tuple[str, ...], index: Mapping[str, int]
) -> Shown:
    """An image with what it was called and how surely."""
    name, answer, label = answers.names[row], int(answers.answers[row]), int(answers.labels[row])
    jpeg, size = album.jpeg((split, index[name])) if name in index else (None, (0, 0))
    called = f"{classes[answer]} {answers.probabilities[row, answer]:.1%}"
    lines = [f"labelled {classes[label]}", f"called {called}"] if answer != label else [f"{called}, right"]
    if answer == label and len(classes) > 1:
        second = int(np.argsort(answers.probabilities[row])[-2])
        lines.append(f"then {classes[second]} {answers.probabilities[row, second]:.1%}")
    return Shown(name, tuple(lines), jpeg, size)


def _finding(row: Mapping[str, Any]) -> Finding:
    paths = row.get("paths") or ()
    return Finding(str(row.get("kind")), str(row.get("severity")), str(row.get("message")), len(paths))


def _some_of(row: Mapping[str, Any]) -> list[str]:
    """The images of a finding that are shown: of groups, the first two of each."""
    groups = row.get("groups")
    names = [name for group in groups[:OF_FINDING] for name in group[:2]] if groups else list(row.get("paths") or ())
    return list(dict.fromkeys(names))[:OF_FINDING]


def _finding_places(material: Material, album: Album) -> list[tuple[str, int]]:
    names = [name for row in material.audit.get("findings", ())[:FINDINGS] for name in _some_of(row)]
    return [place for name in names if (place := album.place_of(name)) is not None]


def _with_images(findings: list[Finding], material: Material, album: Album) -> list[Finding]:
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


def _counts(material: Material) -> dict[str, dict[str, int]]:
    found = {}
    for split, rows in material.labels.items():
        of = dict.fromkeys(material.kept.classes, 0)
        for _, label in rows:
            of[label] = of.get(label, 0) + 1
        found[split] = of
    return found


def _unreadable_splits(material: Material) -> list[Alarm]:
    """A split of which many images cannot be read, though others can."""
    if not material.run.skipped:
        return []
    alarms = []
    skipped = set(material.run.skipped)
    for split, rows in material.labels.items():
        kept = material.kept.splits.get(split)
        gone = len(rows) - len(kept.rows) if kept is not None else 0
        if kept is None and material.dataset is not None and split in material.dataset.splits:
            images = material.dataset.splits[split]
            gone = sum(images.name(index) in skipped for index in range(len(images)))
        if gone > max(2, 0.05 * len(rows)):
            alarms.append(
                Alarm(
                    "damaged_split",
                    "error",
                    f"{split} is damaged",
                    f"{gone:,} of {counted(len(rows), 'image')} in {split} cannot be read: restore the files.",
                )
            )
    return alarms


def _unlike(splits: tuple[Split, ...]) -> tuple[Split | None, Split | None]:
    """Test and val, where both were measured on images without copies."""
    by_name = {each.name: each for each in splits if not each.optimistic}
    return by_name.get(TEST), by_name.get(VAL)


def _label_alarms(material: Material, answers: Mapping[str, Answers], album: Album) -> list[Alarm]:
    """Labels of one class that contradict the surest answers for another, in all images that no weights saw."""
    classes, folds = material.kept.classes, material.kept.folds
    parts = [(name, each.take(each.unseen)) for name, each in answers.items()]
    if folds is not None and len(folds[0]):
        keys, labels, logits = folds
        known = Answers(keys, labels, softmax(logits), np.ones(len(labels), bool))
        # Val is among the folds where it was trained on in the end.
        parts = [part for part in parts if part[0] != VAL or not material.plan.get("refit")] + [(TRAIN, known)]
    parts = [part for part in parts if len(part[1])]
    if not parts:
        return []
    whole = Answers(
        tuple(name for _, each in parts for name in each.names),
        np.concatenate([each.labels for _, each in parts]),
        np.concatenate([each.probabilities for _, each in parts]),
        np.concatenate([each.unseen for _, each in parts]),
    )
    alarms = []
    index: dict[str, tuple[str, int]] = {}
    for found in contradictions(whole):
        if not index and material.dataset is not None:
            index = {
                images.key(at): (split, at)
                for split, images in material.dataset.splits.items()
                for at in range(len(images))
            }
        rows = list(found.rows[:OF_ALARM])
        album.make(index[whole.names[row]] for row in rows if whole.names[row] in index)
        images = []
        for row in rows:
            place = index.get(whole.names[row])
            jpeg, size = album.jpeg(place) if place is not None else (None, (0, 0))
            lines = (f"labelled {classes[found.label]}", f"called {classes[found.answer]}")
            images.append(Shown(whole.names[row], lines, jpeg, size))
        label, answer = classes[found.label], classes[found.answer]
        alarms.append(
            Alarm(
                "swapped_labels",
                "error",
                f"labels mixed up: {answer} labelled {label}",
                f"{len(found.rows):,} of the {found.n:,} images most surely called {answer} are labelled {label}, and "
                "hardly any would be if the labels were right: look at them and fix the labels.",
                tuple(images),
            )
        )
    return alarms


def _trust(judged_on: tuple[str, Answers], folder: Path) -> Trust:
    """How far probabilities can be relied on; thresholds are those that the model promises, as far as it does."""
    _, answers = judged_on
    confidences, right = answers.confidences, answers.right
    promised = _json(_text(folder / "model" / CALIBRATION_FILE))
    known = {row.get("budget"): row for row in promised.get("error_budgets", ()) if isinstance(row, dict)}
    budgets = []
    for budget in BUDGETS:
        found = find_threshold(confidences, right, budget)
        if budget in known:
            # By the images that the promise rests on, which are others than those scored here.
            row = known[budget]
            found = replace(found, at=row.get("threshold"), **{name: row[name] for name in RESTS_ON})
        budgets.append(found)
    thresholds = {
        row.get("coverage"): row.get("threshold") for row in promised.get("sets", ()) if isinstance(row, dict)
    }
    sets = []
    for coverage in COVERAGES if answers.probabilities.shape[1] > 1 else ():
        threshold = thresholds.get(coverage, set_threshold(answers.of_label, coverage))
        if threshold:
            sizes = in_set(answers.probabilities, threshold).sum(1)
            sets.append((coverage, float(threshold), float(sizes.mean()), int(sizes.max())))
    return Trust(
        float(confidences.mean()),
        float(right.mean()),
        is_miscalibrated(confidences, right),
        tuple(risk_coverage(confidences, right)),
        tuple(budgets),
        tuple(sets),
    )


def _slices(
    material: Material, answers: Mapping[str, Answers], main: Split | None, judged_on: tuple[str, Answers]
) -> tuple[Slice, ...]:
    name, judged = judged_on
    measures = material.kept.measures.get(name)
    if not measures or main is None:
        return ()
    unseen = answers[name].unseen
    values = {key: (*ENDS[key], each[unseen]) for key, each in measures.items() if key in ENDS}
    found = slices(judged.right, judged.labels, ends_of(values))
    return tuple(Slice(each.name, each.n, each.top1, each.ci95, each.flagged) for each in found)


def _frozen_head(material: Material) -> float | None:
    """What the head on frozen features got on val: where a crown is trained, that is its start."""
    first = material.history[0] if material.history else {}
    if material.run.level in ("scratch", "as-is") or first.get("epoch") != 0:
        return None
    return first.get("val_top1")


def _data_name(material: Material) -> str:
    if material.dataset is not None:
        return material.dataset.name
    try:
        return Path(read_arguments(material.folder).data).name
    except Exception:
        return material.folder.name


def _facts(material: Material) -> dict[str, Any]:
    """What the run was made with."""
    run = material.run
    facts: dict[str, Any] = {"folder": near(run.folder)}
    if (material.folder / ARGUMENTS_FILE).is_file():
        arguments = read_arguments(material.folder)
        facts |= {"command": command_of(arguments), "seed": arguments.seed}
    facts |= {
        "images": run.images,
        "engine": run.engine,
        "level": run.level,
        "cut": run.cut,
        "base weights (digest)": material.plan.get("base"),
        "seconds": run.seconds,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    facts |= {"graft": __version__, "torch": str(torch.__version__), "numpy": np.__version__}
    if "openvino" in run.engine:
        with suppress(PackageNotFoundError):
            facts["openvino"] = version("openvino")
    return facts


def command_of(arguments: Arguments) -> str:
    """The command that asks for the same; names of files without the folders above them."""
    usual = Arguments(arguments.data).to_dict()
    words = ["graft", "train", Path(arguments.data).name]
    for name, value in arguments.to_dict().items():
        if name == "data" or value == usual.get(name) or value is None:
            continue
        flag = OPTIONS.get(name, name).replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            shown = Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
            words += [f"--{flag}", str(shown)]
    return " ".join(words)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
