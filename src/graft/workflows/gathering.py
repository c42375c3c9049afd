"""Gather the values of a run's page from what the run left in its folder."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from graft.audit.slicing import parts_of
from graft.data.dataset import TEST, VAL
from graft.errors import InputError
from graft.evaluation.answers import Answers
from graft.evaluation.conformal import in_set, set_threshold
from graft.evaluation.error_budget import find_threshold, risk_coverage
from graft.evaluation.report.alarms import (
    audit_alarms,
    class_alarms,
    is_miscalibrated,
    slice_alarms,
    split_alarms,
    trust_alarms,
)
from graft.evaluation.report.values import Report, Split, Trust, Verdict
from graft.evaluation.report.verdict import decide
from graft.evaluation.slices import Slice, compare_slices
from graft.explanation.evidence import Classifier, evidence_of
from graft.weights.calibration import Calibration
from graft.weights.model_files import CALIBRATION_FILE
from graft.workflows.alarming import label_alarms, split_damage
from graft.workflows.arguments import read_arguments
from graft.workflows.chosen_images import Chosen, finding_of, finding_places, with_images
from graft.workflows.kept_answers import KeptAnswers
from graft.workflows.material import Material, json_in, text_in
from graft.workflows.provenance import facts_of
from graft.workflows.thumbnails import Album
from graft.workflows.unseen import Measured, measure

BUDGETS, COVERAGES = (0.01, 0.02, 0.05, 0.1), (0.9, 0.95)
# The counts, kept with the promise of an error budget, of the images that it rests on.
RESTS_ON = ("n", "answered", "wrong")


def gather(
    material: Material, measured: Mapping[str, Measured] | None = None, classifier: Classifier | None = None
) -> Report:
    """Return the values of the page; splits that were already `measured` are not measured again.

    Without the `classifier`, there are no maps and no nearest training images.
    """
    run, kept, data = material.run, material.kept, _data_name(material)
    answers = {
        name: split.answers(kept.temperature, {row: key for row, (key, _) in enumerate(material.labels.get(name, ()))})
        for name, split in kept.splits.items()
    }
    splits, judged, judged_on = _splits(answers, kept, measured or {})
    main = None if judged is None else splits[judged]
    album = Album(material.dataset, material.levels)
    chosen = Chosen(material, judged_on)
    findings = [finding_of(row) for row in material.audit.get("findings", ())]
    with ThreadPoolExecutor(1, thread_name_prefix="album") as pool:
        # Maps leave half of the cores idle.
        made = pool.submit(album.make, [*chosen.places(), *finding_places(material, album)])
        evidence = evidence_of(classifier, material.dataset, chosen.name, chosen.looked_into())
        made.result()
    album.make((each.split, each.index) for found in evidence.nearest.values() for each in found)
    findings = with_images(findings, material, album)
    trust = None if judged_on is None else _trust(judged_on, material.kept, material.folder)
    sliced = () if judged_on is None else _slices(material, answers, judged_on)
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
        expected=run.expected,
        findings=tuple(findings),
        skipped=run.skipped,
        notes=run.notes,
        history=material.history,
        pairs=chosen.pairs(album),
        mistakes=chosen.shown(album, chosen.mistakes, evidence),
        doubtful=chosen.shown(album, chosen.doubtful, evidence),
        trust=trust,
        slices=sliced,
        robustness=material.robustness,
        facts=facts_of(material),
        without_images=None
        if material.dataset is not None
        else "There are no thumbnails: the images of the run have been moved or deleted.",
        on_evidence=evidence.note,
        refitted=bool(material.plan.get("refit")) and chosen.name == VAL,
    )
    damage = split_damage(material)
    audited = audit_alarms(report.findings, sum(map(len, material.labels.values())))
    alarms = [
        # The unreadable files of a damaged split need no second alarm.
        *(each for each in audited if each.kind != "unreadable" or not damage),
        *damage,
        *split_alarms(*_unlike(splits)),
        *label_alarms(material, answers, album),
        *class_alarms(main),
        *slice_alarms(sliced),
        *trust_alarms(trust),
    ]
    return replace(report, verdict=decide(report, alarms))


def _splits(
    answers: Mapping[str, Answers], kept: KeptAnswers, measured: Mapping[str, Measured]
) -> tuple[tuple[Split, ...], int | None, tuple[str, Answers] | None]:
    """Return the scores of all splits, the index of the one to judge by, and the answers behind it."""
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


def _counts(material: Material) -> dict[str, dict[str, int]]:
    found = {}
    for split, rows in material.labels.items():
        of = dict.fromkeys(material.kept.classes, 0)
        for _, label in rows:
            of[label] = of.get(label, 0) + 1
        found[split] = of
    return found


def _unlike(splits: tuple[Split, ...]) -> tuple[Split | None, Split | None]:
    """Return test and val, where they were measured on images without copies."""
    by_name = {each.name: each for each in splits if not each.optimistic}
    return by_name.get(TEST), by_name.get(VAL)


def _trust(judged_on: tuple[str, Answers], kept: KeptAnswers, folder: Path) -> Trust:
    """Assess how far probabilities can be trusted; where the model promises thresholds, those are used."""
    name, answers = judged_on
    split = kept.splits[name]
    groups = None if split.groups is None else split.groups[split.unseen]
    confidences, right = answers.confidences, answers.right
    promised = _promised(folder, len(kept.classes))
    known = {} if promised is None else {row.budget: row for row in promised.budgets}
    budgets = []
    for budget in BUDGETS:
        found = find_threshold(confidences, right, budget, groups=groups)
        if budget in known:
            # The counts are those of the images that the promise rests on, not of the images scored here.
            row = known[budget]
            found = replace(found, at=row.threshold, **{name: getattr(row, name) for name in RESTS_ON})
        budgets.append(found)
    thresholds = {} if promised is None else {row.coverage: row.threshold for row in promised.sets}
    sets = []
    for coverage in COVERAGES if answers.probabilities.shape[1] > 1 else ():
        threshold = thresholds.get(coverage, set_threshold(answers.of_label, coverage, groups))
        if threshold:
            sizes = in_set(answers.probabilities, threshold).sum(1)
            sets.append((coverage, float(threshold), float(sizes.mean()), int(sizes.max())))
    return Trust(
        float(confidences.mean()),
        float(right.mean()),
        is_miscalibrated(confidences, right, groups),
        tuple(risk_coverage(confidences, right)),
        tuple(budgets),
        tuple(sets),
        len(right) if promised is None else promised.n,
    )


def _promised(folder: Path, classes: int) -> Calibration | None:
    """Return what the model of a run promises; None if its file is missing, damaged or from another model."""
    try:
        return Calibration.from_dict(json_in(text_in(folder / "model" / CALIBRATION_FILE)), classes)
    except ValueError:
        return None


def _slices(material: Material, answers: Mapping[str, Answers], judged_on: tuple[str, Answers]) -> tuple[Slice, ...]:
    name, judged = judged_on
    kept = material.kept.splits[name]
    unseen = answers[name].unseen
    measures = {key: each[unseen] for key, each in material.kept.measures.get(name, {}).items()}
    groups = None if kept.groups is None else kept.groups[unseen]
    parts = parts_of(measures, judged.names, judged.labels, groups, material.kept.group_names)
    return compare_slices(judged.right, judged.labels, parts, groups)


def _frozen_head(material: Material) -> float | None:
    """Return the val accuracy of the head on frozen features, which is where training a crown starts."""
    first = material.history[0] if material.history else {}
    if material.run.level in ("scratch", "as-is") or first.get("epoch") != 0:
        return None
    return first.get("val_top1")


def _data_name(material: Material) -> str:
    if material.dataset is not None:
        return material.dataset.name
    try:
        return Path(read_arguments(material.folder).data).name
    except InputError:
        return material.folder.name
