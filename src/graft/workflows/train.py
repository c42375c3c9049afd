"""From labelled images to a run folder, step by step."""

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from graft.audit.auditing import look_over
from graft.audit.findings import Finding, left_out
from graft.data.dataset import TEST, TRAIN, VAL, Dataset, counts
from graft.data.opening import open_dataset
from graft.data.split_file import write_split
from graft.data.splitting import with_validation
from graft.errors import DataError, InputError
from graft.evaluation.calibration import softmax
from graft.evaluation.report import html_report
from graft.evaluation.scores import score
from graft.features.engine import choose
from graft.features.extraction import check_input_size
from graft.files import write_aside, write_json, write_table_aside
from graft.images.preprocessing import ResizeMode, with_choices
from graft.models.network import body_parameter_count
from graft.progress import NOBODY, Reporter
from graft.training.fitting import Trained, Work, fit_level
from graft.training.outlook import outlook
from graft.training.recipe import Recipe, check_recipe
from graft.transfer.class_names.matching import find_outputs
from graft.transfer.levels import Plan, check_level, plan_level
from graft.weights.base import Base, load_base, untrained_base
from graft.weights.saved import SavedModel, save_model
from graft.workflows.advise import advise_on
from graft.workflows.contact_sheet import check_png, write_contact_sheet
from graft.workflows.run import (
    PLAN_FILE,
    RESULT_FILE,
    Accuracy,
    Run,
    check_arguments,
    claim,
    read_run,
    write_arguments,
)


def train(
    data: str | Path,
    base: str = "mobilenet_v2",
    level: str = "auto",
    *,
    out: str | Path | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    recipe: Recipe | None = None,
    image_size: int | None = None,
    resize: ResizeMode | None = None,
    engine: str = "auto",
    precision: str = "auto",
    arch: str | None = None,
    classes_file: str | Path | None = None,
    class_map: str | Path | None = None,
    group: str | None = None,
    split_file: str | Path | None = None,
    audit: bool = True,
    seed: int = 0,
    strict: bool = False,
    resume: bool = False,
    time_limit: float | None = None,
    find_learning_rate: bool = False,
    contact_sheet: str | Path | None = None,
    progress: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """Turn labelled images into a classifier in a run folder, keeping as much of `base` as `level` says.

    `data` is any source that `graft.data.opening` knows, such as a folder per class (under `train/ val/ test/` or not)
    or a manifest; it is only read. `group` says which images belong together: `folder`, a column of the manifest, or a
    regular expression on paths; `split_file` which image stands in which split. With `audit` every image is looked at
    first: what is wrong is named, and copies of an image stay on one side of a split. `level` is `as-is`, `head`,
    `stages:K`, `frozen:F`, `all`, `scratch` or `auto`. `recipe` is how stages are trained; `epochs`, `batch_size` and
    `learning_rate`, where given, take the place of those in it. At `as-is` the base's classes count for those of the
    images by name, or as the JSON file `class_map` says; the probability of a class is the sum over those that count
    for it, divided by the sum over all that count. Images that cannot be decoded are skipped and named in the result,
    or refused with `strict`. With `time_limit`, seconds, a training that would take longer runs its schedule through in
    the time there is. With `find_learning_rate`, stages are trained at the rate that a range test suggests. A PNG at
    `contact_sheet` shows, before training, images as the recipe changes them. `progress` shows a bar while weights are
    fetched; `reporter` is told of everything else. Raises InputError and its kinds for what cannot be used, FetchError
    for weights that are not here.
    """
    started, reporter = time.perf_counter(), reporter or NOBODY
    check_level(level)
    if class_map is not None and level != "as-is":
        raise InputError(f"expected --class-map with --level as-is alone, got --level {level}: leave it out")
    given: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    recipe = replace(recipe or Recipe(), **{name: value for name, value in given.items() if value is not None})
    check_recipe(recipe)
    if find_learning_rate and recipe.learning_rate is not None:
        raise InputError(f"expected --lr or --find-lr, got both (--lr {recipe.learning_rate:g}): leave one of them out")
    deadline = None if time_limit is None else started + time_limit
    choice = choose(engine, precision)
    data = Path(data).expanduser()
    sheet = None if contact_sheet is None else Path(contact_sheet).expanduser()
    if sheet is not None:
        check_png(sheet, data, "--contact-sheet")
    unfinished = claim(Path(out) if out else None, data, resume=True) if resume else None
    opened = open_dataset(data, group, split_file)
    # What cannot be split is refused before weights are loaded and images looked at.
    with_validation(opened, seed)
    torch.manual_seed(seed)
    if level == "scratch":
        start = untrained_base(base, architecture=arch, seed=seed)
    else:
        names = Path(classes_file) if classes_file else None
        start = load_base(base, architecture=arch, classes_file=names, reporter=reporter)
    preprocessing = with_choices(start.preprocessing, image_size, resize)
    check_input_size(start.network, preprocessing)
    chosen = plan_level(level, start.network, start.pretrained)
    arguments = {
        "data": str(data.resolve()), "base": base, "level": level, "image_size": image_size, "resize": resize,
        "engine": engine, "precision": precision, "arch": arch,
        "class_map": None if class_map is None else str(class_map), "group": group,
        "split_file": None if split_file is None else str(split_file), "audit": audit, "seed": seed, **asdict(recipe),
        "find_learning_rate": find_learning_rate,
    }  # fmt: skip
    if unfinished is not None:
        check_arguments(unfinished, arguments)
        if (unfinished / RESULT_FILE).exists():
            reporter.note(f"{unfinished} is finished already; this is its result")
            return read_run(unfinished)
    findings = tuple(left_out(opened))
    if audit:
        looked = look_over(opened, preprocessing, reporter)
        opened, findings = looked.dataset, looked.findings
    if strict:
        _refuse_unreadable(findings)
    dataset = with_validation(opened, seed)
    if level == "as-is":
        start = _read_in_classes(start, dataset.classes, class_map)
    if sheet is not None:
        reporter.note(write_contact_sheet(sheet, dataset.splits[TRAIN], preprocessing, recipe, seed))
    work = Work(
        dataset,
        start,
        preprocessing,
        chosen,
        choice,
        recipe,
        seed,
        reporter,
        deadline=deadline,
        find_learning_rate=find_learning_rate,
    )
    reasons: dict[str, Any] = {}
    if level == "auto" and start.pretrained:
        chosen, reasons = _advised(work, unfinished)
    folder = unfinished or claim(Path(out) if out else None, data, resume=False)
    write_arguments(folder, arguments)
    images = len(dataset.splits[TRAIN])
    resolved = recipe.resolved(start.pretrained, parameters=body_parameter_count(start.network), images=images)
    shape = (preprocessing.channels, preprocessing.size, preprocessing.size)
    expected = outlook(start.network, chosen, resolved, len(dataset.classes), images, shape)
    write_json(folder / PLAN_FILE, {**chosen.to_dict(), **reasons, "outlook": expected.to_dict()})
    reporter.table(expected.table())
    warning = reasons.get("warning")
    notes = (*dataset.notes, *start.notes, *([warning] if warning else []))
    for sentence in (
        *notes,
        *(f"{each.kind.replace('_', ' ')}: {each.message}" for each in findings if each.severity != "info"),
        f"level {chosen.level}, cut {chosen.cut}, because",
        *(f"- {reason}" for reason in chosen.reasons),
        f"engine {choice}",
    ):
        reporter.note(sentence)
    if chosen.cut == start.network.cuts[-2] and recipe != Recipe():
        reporter.note("the recipe has no part in this level: a head alone is solved to its optimum")
    if find_learning_rate and chosen.cut in start.network.cuts[-2:]:
        reporter.note("--find-lr has no part in this level: no stage is trained in steps")
    work = replace(work, plan=chosen, folder=folder)
    try:
        trained = fit_level(work)
        if trained.skipped and strict:
            name, reason = next(iter(trained.skipped.items()))
            raise DataError(f"expected every image to be readable with --strict, got {name}: {reason}")
    except InputError:
        # Nothing came of it and nothing can be resumed: the name is free again.
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return _finish(work, trained, findings, notes, started)


def _advised(work: Work, unfinished: Path | None) -> tuple[Plan, dict[str, Any]]:
    """What the advisor chose, and all that it says; of a run that is resumed, what it was begun with."""
    if unfinished is not None and (unfinished / PLAN_FILE).is_file():
        said = json.loads((unfinished / PLAN_FILE).read_text(encoding="utf-8"))
        return Plan(said["level"], said["cut"], tuple(said["reasons"])), said
    advice = advise_on(work)
    return advice.plan, advice.to_dict()


def _finish(work: Work, trained: Trained, findings: tuple[Finding, ...], notes: tuple[str, ...], started: float) -> Run:
    """Scores, then everything into the run folder, the result last: a folder with a result is complete."""
    assert work.folder is not None
    classes = work.dataset.classes
    found = {name: score(softmax(logits, trained.temperature), trained.labels[name], classes)
             for name, logits in trained.logits.items()}  # fmt: skip
    network = work.base.network.cpu().eval()
    accuracies = {name: Accuracy(split.top1, split.top1_ci95, split.n) for name, split in found.items()}
    facts = {
        "base": work.base.name,
        "level": work.plan.level,
        "cut": work.plan.cut,
        "data": work.dataset.name,
        **{name: asdict(accuracy) for name, accuracy in accuracies.items()},
    }
    saved = SavedModel(network, work.preprocessing, classes, trained.temperature, facts, trained.outputs)
    save_model(work.folder / "model", saved)
    write_json(work.folder / "audit.json", _audit(work.dataset, findings, trained.skipped))
    write_table_aside(work.folder / "split.csv", lambda file: write_split(work.dataset, file))
    run = Run(
        folder=work.folder,
        base=work.base.name,
        level=work.plan.level,
        cut=work.plan.cut,
        classes=classes,
        val=accuracies[VAL],
        test=accuracies.get(TEST),
        majority=found[VAL].majority,
        seconds={
            "total": time.perf_counter() - started,
            "features": trained.feature_seconds,
            "training": trained.training_seconds,
        },
        images=len(work.dataset) - len(trained.skipped),
        engine=str(work.choice),
        skipped=trained.skipped,
        notes=(*notes, *trained.notes),
    )
    page = html_report(f"{work.dataset.name}: {work.plan.level} of {work.base.name}", run.to_dict(), found)
    write_aside(work.folder / "report.html", lambda file: file.write(page.encode()))
    write_json(work.folder / RESULT_FILE, run.to_dict())
    return run


def _read_in_classes(base: Base, classes: tuple[str, ...], class_map: str | Path | None) -> Base:
    """The base with `classes` in place of its own, each of which counts for the one that its name says."""
    if not base.has_head or base.classes is None:
        what = "no names for its classes" if base.has_head else "no classifier"
        raise InputError(
            f"expected a base with a classifier and class names for --level as-is, got {base.name} with {what}: "
            "give the names with --classes, or use --level head"
        )
    if classes == base.classes and class_map is None:
        return base
    outputs, notes = find_outputs(classes, base.classes, base.outputs, class_map)
    return replace(base, classes=classes, outputs=outputs, notes=(*base.notes, *notes))


def _refuse_unreadable(findings: tuple[Finding, ...]) -> None:
    for finding in findings:
        if finding.kind == "unreadable":
            raise DataError(
                f"expected every image to be readable with --strict, got {len(finding.paths):,} that are not, the "
                f"first of them {finding.paths[0]}: {finding.remarks[0]}"
            )


def _audit(dataset: Dataset, findings: tuple[Finding, ...], skipped: dict[str, str]) -> dict[str, Any]:
    """As `graft audit --json` says it; what could not be decoded is what training skipped."""
    found = [finding.to_dict() for finding in findings if finding.kind != "unreadable"]
    if skipped:
        message = f"{len(skipped)} image(s) could not be decoded and were left out"
        found.insert(0, {"kind": "unreadable", "severity": "error", "paths": list(skipped), "message": message})
    return {"items": len(dataset), "classes": counts(dataset.splits[TRAIN], dataset.classes), "findings": found}
