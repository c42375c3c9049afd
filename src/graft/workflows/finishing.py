"""Finish a training run: write its scores, its model folder, its answers and its page."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from graft.audit.findings import Finding
from graft.data.dataset import TEST, TRAIN, VAL, Dataset, counts
from graft.evaluation.accuracy import Expected
from graft.evaluation.intervals import accuracy_interval
from graft.explanation.evidence import Classifier, macs_of
from graft.files import write_json
from graft.training.task import Trained
from graft.weights.saved import SavedModel, save_model
from graft.words import counted
from graft.workflows.calibrating import calibrate
from graft.workflows.deciding import Decided
from graft.workflows.kept_answers import write_answers
from graft.workflows.report import write_report
from graft.workflows.run import RESULT_FILE, Run, short
from graft.workflows.unseen import kept_answers, measure_split


def finish(decided: Decided, trained: Trained, folder: Path, started: float) -> Run:
    """Score the run and write everything to its folder, the result last: a folder with a result is complete."""
    task, chosen, classes = decided.task, decided.plan, decided.task.dataset.classes
    measured = {name: measure_split(task, trained, name) for name in trained.logits}
    network = task.base.network.cpu().eval()
    accuracies = {name: each.accuracy() for name, each in measured.items()}
    base = short(task.base.name)
    facts = {
        "base": base,
        "level": chosen.level,
        "cut": chosen.cut,
        # The name of the data is left out: the same images make the same model, however they were given.
        "images": len(task.dataset) - len(trained.skipped),
        **{name: accuracy.to_dict() for name, accuracy in accuracies.items()},
    }
    judged = measured.get(TEST, measured[VAL])
    by_class = tuple((row.name, row.n, row.recall, row.precision) for row in (judged.unseen or judged.whole).classes)
    calibration = calibrate(task, trained)
    saved = SavedModel(
        network,
        task.preprocessing,
        classes,
        trained.temperature,
        facts,
        trained.outputs,
        calibration,
        by_class,
        None if trained.thresholds is None else tuple(trained.thresholds.tolist()),
    )
    save_model(folder / "model", saved)
    write_json(folder / "audit.json", _audit(task.dataset, decided.findings, trained.skipped))
    run = Run(
        folder=folder,
        base=base,
        level=chosen.level,
        cut=chosen.cut,
        classes=classes,
        val=accuracies[VAL],
        test=accuracies.get(TEST),
        majority=measured[VAL].whole.majority,
        seconds={
            "total": time.perf_counter() - started,
            "features": trained.feature_seconds,
            "training": trained.training_seconds,
            **({} if decided.seconds_of_choice is None else {"levels": decided.seconds_of_choice}),
        },
        images=len(task.dataset) - len(trained.skipped),
        engine=str(task.choice),
        skipped=trained.skipped,
        notes=(*decided.notes, *trained.notes),
        expected=_expected(decided, trained),
    )
    kept = kept_answers(task, trained, decided.looks)
    write_answers(folder, kept)
    classifier = Classifier(saved, task.choice, task.refit, macs_of(decided.said), until=task.deadline)
    write_report(run, kept, task.dataset, task.preprocessing.levels, measured, classifier=classifier)
    write_json(folder / RESULT_FILE, run.to_dict())
    return run


def _expected(decided: Decided, trained: Trained) -> Expected | None:
    """Return the accuracy expected on unseen images if graft itself set val aside; None otherwise.

    For a head it comes from the folds of all its images, for stages from the race between levels.
    """
    if not decided.task.refit:
        return None
    right = trained.cross_validated
    if right is not None and len(right):
        groups = trained.fold_groups
        number = None if groups is None else len(np.unique(groups))
        return Expected(float(right.mean()), accuracy_interval(right, groups), len(right), number)
    race, interval = decided.said.get("evidence", {}).get("race", ()), decided.said.get("accuracy_ci95")
    if not race or interval is None:
        return None
    return Expected(
        decided.said["accuracy"], (interval[0], interval[1]), race[0]["n"], decided.said.get("accuracy_groups")
    )


def _audit(dataset: Dataset, findings: tuple[Finding, ...], skipped: dict[str, str]) -> dict[str, Any]:
    """Return the audit in the form of `graft audit --json`; the undecodable images are those that training skipped."""
    found = [finding.to_dict() for finding in findings if finding.kind != "unreadable"]
    if skipped:
        were = "was" if len(skipped) == 1 else "were"
        message = f"{counted(len(skipped), 'image')} could not be decoded and {were} left out"
        found.insert(0, {"kind": "unreadable", "severity": "error", "paths": list(skipped), "message": message})
    sizes = counts(dataset.splits[TRAIN], dataset.classes, dataset.label_sets)
    return {"items": len(dataset), "classes": sizes, "findings": found}
