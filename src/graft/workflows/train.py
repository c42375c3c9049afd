"""From labelled images to a run folder, step by step."""

import json
import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from graft.audit.findings import Finding
from graft.data.dataset import TEST, TRAIN, VAL, Dataset, counts
from graft.data.split_file import write_split
from graft.data.splitting import with_validation
from graft.errors import DataError, InputError, Interrupted, WeightsError
from graft.evaluation.report import html_report
from graft.features.cache import section_digest
from graft.features.determinism import repeatable
from graft.features.engine import Choice, choose
from graft.files import write_aside, write_json, write_table_aside
from graft.images.preprocessing import ResizeMode
from graft.progress import Reporter, reporting
from graft.seeding import check_seed, seeded
from graft.training.fitting import Task, Trained, fit_level
from graft.training.outlook import outlook
from graft.training.recipe import Recipe, check_recipe
from graft.transfer.class_names.matching import find_outputs
from graft.transfer.levels import Plan, check_level, plan_level
from graft.weights.base import Base
from graft.weights.packaged import DEFAULT_BASE
from graft.weights.saved import SavedModel, save_model
from graft.words import counted
from graft.workflows.advise import advise_on
from graft.workflows.contact_sheet import check_png, write_contact_sheet
from graft.workflows.prepare import BaseOptions, DataOptions, prepare
from graft.workflows.run import (
    PLAN_FILE,
    RESULT_FILE,
    SPLIT_FILE,
    Arguments,
    Run,
    absolute,
    begun,
    claim,
    gone_on_with,
    locked,
    read_arguments,
    read_run,
    short,
    write_arguments,
)
from graft.workflows.unseen import leakage, measure_split


def train(
    data: str | Path,
    base: str | Path = DEFAULT_BASE,
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
    deterministic: bool = False,
    threads: int | None = None,
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
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Run:
    """Turn labelled images into a classifier in a run folder, keeping as much of `base` as `level` says.

    Args:
        data: A folder per class (below `train/ val/ test/` or not), a manifest (CSV, TSV, JSON lines, Parquet), an
            archive, tar shards, IDX files or `hf:owner/name`. It is only read. With `resume`, a run folder will do.
        base: The network to start from: an architecture with published weights, a file of weights, a run,
            `hf:owner/name`, `timm:NAME` or `latin_letters`. The default's weights come with graft.
        level: How much of it is kept: `as-is`, `head`, `stages:K`, `frozen:F`, `all`, `scratch`, or `auto`, which
            measures (see `graft.advise`).
        out: The run folder, new or empty. By default `runs/<name of the data>`, numbered when taken.
        epochs: Passes over the training images, in place of the recipe's. By default what suits their number.
        batch_size: Images per batch, in place of the recipe's 32.
        learning_rate: Peak learning rate of the head, in place of the recipe's. By default what suits the optimizer and
            the size of the network.
        recipe: How stages are trained, `graft.Recipe`. A head alone is solved and needs none.
        image_size: Side of the network's input in pixels. By default that of the weights.
        resize: How an image becomes square: `crop`, `letterbox` or `squash`. By default that of the weights.
        engine: What runs frozen layers: `auto`, `torch` or `openvino`.
        precision: Its numbers: `auto`, `float32` or `bfloat16`.
        deterministic: Whether the same call makes the same model to the bit on another day, whatever else the machine
            does; slower on an accelerator.
        threads: How many threads compute, with `deterministic`. Sums are taken in another order with more.
        arch: The architecture of a file of weights that does not say it.
        classes_file: A JSON list with the class names of weights that name none.
        class_map: For `as-is`, a JSON object from the classes of `data` to those of the base.
        group: What no split may divide: a manifest's column, `folder`, or a regular expression on paths.
        split_file: A `split.csv` that says which image is in which split.
        audit: Whether every image is looked at first: what is wrong is named, copies stay on one side of a split.
        seed: Decides everything random.
        strict: Whether an image that cannot be decoded is an error. By default it is skipped and named.
        resume: Go on with a run that was interrupted. Nothing needs to be repeated; what is given must not differ.
        time_limit: Seconds that the whole may take; the schedule runs through in the time there is.
        find_learning_rate: Whether stages are trained at the rate that a range test suggests.
        contact_sheet: A PNG to show images in as the recipe augments them, written before training.
        reporter: Who is told of progress, notes and tables. By default they are written to stderr.
        quiet: Whether nothing is written to stderr.

    Returns:
        The run: its folder, accuracies with intervals, what was skipped, the notes.

    Raises:
        InputError: The call, the data or the base cannot be used; its kinds are DataError, WeightsError and CutError.
        FetchError: The weights are not on this machine and cannot be fetched.
        GraftError: The work failed, for the reason that it states.
    """
    started = time.perf_counter()
    given: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    given |= {"find_learning_rate": find_learning_rate or None}
    recipe = replace(recipe or Recipe(), **{name: value for name, value in given.items() if value is not None})
    data, place = Path(data).expanduser(), Path(out) if out is not None else None
    arguments = Arguments(
        data=absolute(data),
        base=absolute(base),
        level=level,
        image_size=image_size,
        resize=resize,
        engine=engine,
        precision=precision,
        deterministic=deterministic,
        threads=threads,
        arch=arch,
        classes_file=None if classes_file is None else absolute(classes_file),
        class_map=None if class_map is None else absolute(class_map),
        group=group,
        split_file=None if split_file is None else absolute(split_file),
        audit=audit,
        strict=strict,
        seed=seed,
        time_limit=time_limit,
        recipe=recipe,
    )
    sheet = None if contact_sheet is None else Path(contact_sheet).expanduser()
    if sheet is not None:
        check_png(sheet, data, "--contact-sheet")
    _check(arguments)
    with reporting(reporter, quiet) as told, seeded(seed):
        if resume:
            return _go_on(begun(place, data), arguments, told, started)
        with repeatable(_choice(arguments)):
            decided = _decide(arguments, sheet, told, started)
            folder = claim(place, Path(arguments.data))
            with locked(folder):
                _write_beginning(folder, arguments, decided)
                try:
                    with _resumable(folder):
                        return _carry_out(decided, folder, arguments.strict, started)
                except InputError:
                    # Nothing came of it and nothing can be resumed: the name is free again.
                    shutil.rmtree(folder, ignore_errors=True)
                    raise


def _go_on(folder: Path, given: Arguments, reporter: Reporter, started: float) -> Run:
    """Train on in the folder of a run that was interrupted, or tell its result where it is finished."""
    with locked(folder):
        arguments = gone_on_with(read_arguments(folder), given, folder)
        if (folder / RESULT_FILE).exists():
            reporter.note(f"{folder} is finished already; this is its result")
            return read_run(folder)
        with repeatable(_choice(arguments)), _resumable(folder):
            decided = _decide(arguments, None, reporter, started, _read_beginning(folder))
            return _carry_out(decided, folder, arguments.strict, started)


def _choice(arguments: Arguments) -> Choice:
    return choose(
        arguments.engine, arguments.precision, deterministic=arguments.deterministic, threads=arguments.threads
    )


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Say of an interruption within the block how to go on with the run in `folder`."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        raise Interrupted(f"graft train --resume {shlex.quote(str(folder))}") from interruption


@dataclass(frozen=True)
class Beginning:
    """What a run was begun on: `plan.json` and `split.csv`."""

    folder: Path
    plan: dict[str, Any]
    split: str


@dataclass(frozen=True)
class Decided:
    """A task and what was decided about it, with all that was found on the way; `said` is what `plan.json` says."""

    task: Task
    plan: Plan
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    said: dict[str, Any]


def _check(arguments: Arguments) -> None:
    """Refuse what is wrong in itself, before anything is opened."""
    check_level(arguments.level)
    if arguments.class_map is not None and arguments.level != "as-is":
        raise InputError(f"expected --class-map with --level as-is alone, got --level {arguments.level}: leave it out")
    check_recipe(arguments.recipe)
    check_seed(arguments.seed)


def _decide(
    arguments: Arguments, sheet: Path | None, reporter: Reporter, started: float, before: Beginning | None = None
) -> Decided:
    """From arguments to a training in which everything is decided: data, base, level, recipe.

    Of a run that is resumed, what was decided `before` stands. Raises InputError where data or base are others now.
    """
    seed, recipe = arguments.seed, arguments.recipe
    prepared = prepare(
        DataOptions(arguments.data, arguments.group, arguments.split_file),
        BaseOptions(arguments.base, arguments.arch, arguments.classes_file, arguments.image_size, arguments.resize),
        _choice(arguments),
        audit=arguments.audit,
        scratch=arguments.level == "scratch",
        seed=seed,
        reporter=reporter,
    )
    start, findings = prepared.start, prepared.findings
    chosen = plan_level(arguments.level, start.network, start.pretrained)
    if arguments.strict:
        _refuse_unreadable(findings)
    dataset = with_validation(prepared.dataset, seed)
    digest = section_digest(start.network, start.preprocessing, "", "")
    if before is not None:
        _check_unchanged(before, dataset, digest, arguments)
    if arguments.level == "as-is":
        start = _read_in_classes(start, dataset.classes, arguments.class_map)
    if sheet is not None:
        reporter.note(write_contact_sheet(sheet, dataset.splits[TRAIN], start.preprocessing, recipe, seed))
    deadline = None if arguments.time_limit is None else started + arguments.time_limit
    task = Task.of(dataset, start, prepared.choice, recipe, seed=seed, reporter=reporter, deadline=deadline)
    said: dict[str, Any] = {}
    if before is not None:
        said = before.plan
        chosen = Plan(said["level"], said["cut"], tuple(said["reasons"]))
    elif arguments.level == "auto" and start.pretrained:
        advice = advise_on(task)
        said, chosen = advice.to_dict(), advice.plan
    notes = [*dataset.notes, *start.notes, *leakage(dataset), *([said["warning"]] if said.get("warning") else [])]
    if chosen.cut in start.network.cuts[-2:] and recipe != Recipe():
        notes.append(f"recipe options are ignored at --level {chosen.level}: no stage is trained in steps")
    said = {**chosen.to_dict(), **said, "base": digest}
    return _announced(Decided(task, chosen, findings, tuple(notes), said))


def _announced(decided: Decided) -> Decided:
    """Say what is going to be done, by stage, and whatever should be read before it is."""
    task, chosen = decided.task, decided.plan
    classes, images = len(task.dataset.classes), len(task.dataset.splits[TRAIN])
    expected = outlook(task.base.network, chosen, task.recipe, classes, images, task.input_shape)
    task.reporter.table(expected.table())
    for sentence in (
        *decided.notes,
        *(f"{each.kind.replace('_', ' ')}: {each.message}" for each in decided.findings if each.severity != "info"),
        f"level {chosen.level}, cut {chosen.cut}, because",
        *(f"- {reason}" for reason in chosen.reasons),
        f"engine {task.choice}",
    ):
        task.reporter.note(sentence)
    return replace(decided, said={**decided.said, "outlook": expected.to_dict()})


def _write_beginning(folder: Path, arguments: Arguments, decided: Decided) -> None:
    """What going on with the training takes; the arguments last, as they say that it can be resumed."""
    write_table_aside(folder / SPLIT_FILE, lambda file: write_split(decided.task.dataset, file))
    write_json(folder / PLAN_FILE, decided.said)
    write_arguments(folder, arguments)


def _read_beginning(folder: Path) -> Beginning:
    try:
        said = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        split = (folder / SPLIT_FILE).read_text(encoding="utf-8", errors="surrogateescape")
        return Beginning(folder, {**said, "level": said["level"], "cut": said["cut"]}, split)
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f"expected {PLAN_FILE} and {SPLIT_FILE} of a run of this version of graft in {folder}, got something "
            "else: train again into another folder"
        ) from None


def _check_unchanged(before: Beginning, dataset: Dataset, digest: str, arguments: Arguments) -> None:
    """Refuse to go on with other images, labels, splits or weights than a run was begun with. Raises InputError."""
    if before.plan.get("base") != digest:
        raise WeightsError(
            f"expected the weights that {before.folder} was begun with, got others in {arguments.base}: restore them, "
            "name the file that has them with --base, or train again into another folder"
        )
    now = StringIO(newline="")
    write_split(dataset, now)
    rows, earlier = now.getvalue().splitlines(), before.split.splitlines()
    if rows == earlier:
        return
    missing, new = sorted(set(earlier) - set(rows)), sorted(set(rows) - set(earlier))
    example = (missing or new or rows)[0].split(",")[0]
    raise DataError(
        f"expected the images, labels and splits that {before.folder} was begun with, got {arguments.data} with "
        f"{counted(len(new), 'other row')} and without {counted(len(missing), 'row')} of its {SPLIT_FILE}, such as "
        f"{example}: restore the data, or train again into another folder"
    )


def _carry_out(decided: Decided, folder: Path, strict: bool, started: float) -> Run:
    trained = fit_level(decided.task, decided.plan, folder)
    if trained.skipped and strict:
        name, reason = next(iter(trained.skipped.items()))
        raise DataError(f"expected every image to be readable with --strict, got {name}: {reason}")
    return _finish(decided, trained, folder, started)


def _finish(decided: Decided, trained: Trained, folder: Path, started: float) -> Run:
    """Scores, then everything into the run folder, the result last: a folder with a result is complete."""
    task, chosen, classes = decided.task, decided.plan, decided.task.dataset.classes
    measured = {name: measure_split(task, trained, name) for name in trained.logits}
    network = task.base.network.cpu().eval()
    accuracies = {name: each.accuracy() for name, each in measured.items()}
    base = short(task.base.name)
    facts = {
        "base": base,
        "level": chosen.level,
        "cut": chosen.cut,
        "data": task.dataset.name,
        **{name: accuracy.to_dict() for name, accuracy in accuracies.items()},
    }
    saved = SavedModel(network, task.preprocessing, classes, trained.temperature, facts, trained.outputs)
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
        },
        images=len(task.dataset) - len(trained.skipped),
        engine=str(task.choice),
        skipped=trained.skipped,
        notes=(*decided.notes, *trained.notes),
    )
    shown = {title: found for name, each in measured.items() for title, found in each.by_title(name).items()}
    page = html_report(f"{task.dataset.name}: {chosen.level} of {base}", run.to_dict(), shown)
    write_aside(folder / "report.html", lambda file: file.write(page.encode()))
    write_json(folder / RESULT_FILE, run.to_dict())
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
