"""Turn the arguments of a training run into a task in which everything is decided: data, base, level, recipe."""

import time
from dataclasses import dataclass, fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

from graft.audit.findings import Finding
from graft.audit.looking import Looks
from graft.data.content import stamps_digest
from graft.data.dataset import TRAIN, VAL, Dataset
from graft.data.split_file import write_split
from graft.data.splitting import with_validation
from graft.data.table_options import checked_table
from graft.errors import DataError, InputError, WeightsError
from graft.features.cache import section_digest
from graft.features.engine import Choice, choose
from graft.given import text, truth
from graft.images.preprocessing import check_image_size, check_resize, check_scaling
from graft.names import plain
from graft.progress import Reporter
from graft.seeding import check_seed
from graft.training.fitting import Measured
from graft.training.label_race import check_several_labels, race_by_labels
from graft.training.mirroring import with_flips_tried
from graft.training.outlook import outlook
from graft.training.reach import with_reach_tried
from graft.training.recipe import Recipe, check_recipe
from graft.training.task import REFIT_UP_TO, Task
from graft.transfer.class_names.matching import find_outputs
from graft.transfer.levels import Plan, check_level, plan_level
from graft.weights.base import Base, with_usual_head
from graft.words import counted
from graft.workflows.advise import decide_on
from graft.workflows.arguments import Arguments, base_of, images_of
from graft.workflows.contact_sheet import write_contact_sheet
from graft.workflows.measured import read_measured
from graft.workflows.prepare import Prepared, prepare
from graft.workflows.run import PLAN_FILE, SPLIT_FILE, near
from graft.workflows.run_folder import check_outside_images
from graft.workflows.unseen import leakage


def choice_of(arguments: Arguments) -> Choice:
    """Return the engine that was asked for. Raises InputError if it is not available."""
    return choose(
        arguments.engine, arguments.precision, deterministic=arguments.deterministic, threads=arguments.threads
    )


@dataclass(frozen=True)
class Beginning:
    """What a run began with: its `plan.json` and `split.csv`."""

    folder: Path
    plan: dict[str, Any]
    split: str


@dataclass(frozen=True)
class Decided:
    """A task, the decisions about it, and everything found on the way; `said` is the content of `plan.json`.

    `measured` is the level's result, if it was tried before it was chosen; `looks` is what was seen of the images.
    """

    task: Task
    plan: Plan
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    said: dict[str, Any]
    measured: Measured | None = None
    looks: Looks | None = None
    # How long levels were measured and tried before one was chosen; None if the level was given.
    seconds_of_choice: float | None = None


def checked(arguments: Arguments) -> Arguments:
    """Return the arguments in plain Python values. Raises InputError for those that are invalid in themselves."""
    level = check_level(arguments.level)
    if arguments.class_map is not None and level != "as-is":
        raise InputError(f"expected --class-map with --level as-is alone, got --level {level}: leave it out")
    own: dict[str, Any] = {name: truth(getattr(arguments, name), f"--{name}") for name in ("audit", "refit", "strict")}
    for name in ("engine", "precision", "arch", "group"):
        value = getattr(arguments, name)
        own[name] = None if value is None else text(value, f"--{name}")
    choice = choice_of(arguments)
    mean, std = check_scaling(arguments.mean, arguments.std)
    return replace(
        arguments,
        level=level,
        mean=mean,
        std=std,
        image_size=check_image_size(arguments.image_size),
        resize=check_resize(arguments.resize),
        deterministic=choice.deterministic,
        threads=None if arguments.threads is None else choice.threads,
        seed=check_seed(arguments.seed),
        recipe=check_recipe(arguments.recipe),
        table=checked_table(arguments.table),
        **own,
    )


def decide(
    arguments: Arguments,
    images: Dataset | None,
    sheet: Path | None,
    reporter: Reporter,
    started: float,
    before: Beginning | None = None,
    place: Path | None = None,
    writes: bool = True,
) -> Decided:
    """Turn arguments into a task in which everything is decided: data, base, level, recipe.

    `images` are the data if they were given in memory and have no path. A resumed run keeps what was decided `before`;
    a new one goes to `place`. Raises InputError if the data or the base have changed since.
    """
    prepared = prepare(
        images_of(arguments, arguments.split_file, images),
        base_of(arguments, arguments.image_size),
        choice_of(arguments),
        audit=arguments.audit,
        scratch=arguments.level == "scratch",
        as_is=arguments.level == "as-is",
        multi_label=True,
        seed=arguments.seed,
        reporter=reporter,
    )
    if before is None and writes:
        apart = [Path(each) for each in (arguments.val, arguments.test) if each is not None]
        check_outside_images(place, Path(arguments.data), prepared.dataset, apart)
    start = prepared.start
    given = plan_level(arguments.level, start.network, start.pretrained)
    if prepared.dataset.label_sets is not None:
        check_several_labels(arguments.level, arguments.recipe)
    if arguments.strict:
        _refuse_unreadable(prepared.findings)
    dataset = with_validation(prepared.dataset, arguments.seed)
    digest = section_digest(start.network, start.preprocessing, "", "")
    # For images that were looked over, the split file has digests of their content.
    unread = [images for images in dataset.splits.values() if images.digests is None]
    stamps = stamps_digest(unread) if unread else None
    if before is not None:
        _check_unchanged(before, dataset, digest, stamps, arguments)
    own_val = not len(prepared.dataset.splits.get(VAL, ()))
    task = _task_of(arguments, replace(prepared, dataset=dataset), own_val, started, reporter)
    start = task.base
    if before is not None:
        # The decisions a run began with stand, and need not be tried again.
        recipe = replace(task.recipe, flip=before.plan.get("flip", True))
        task = replace(task, recipe=recipe, refit=before.plan.get("refit", False))
    elif given.cut not in start.network.cuts[-2:] or arguments.level == "auto":
        task = with_flips_tried(task)
    if sheet is not None:
        reporter.note(write_contact_sheet(sheet, dataset.splits[TRAIN], task.preprocessing, task.recipe, task.seed))
    if before is not None:
        level = _Level(_planned_before(before, start), before.plan, read_measured(before.folder))
    elif task.raced:
        # The number of processes may change before the end, so with several the fit on all images is left to all.
        level = _raced(task, own_val, ahead=arguments.processes is None)
    else:
        level = _Level(with_reach_tried(task, given), {})
    warning = level.said.get("warning")
    notes = [*dataset.notes, *start.notes, *leakage(dataset), *([warning] if warning else [])]
    if level.plan.cut in start.network.cuts[-2:]:
        notes += _ignored(arguments.recipe, level.plan.level)
    said = {**level.plan.to_dict(), **level.said, "base": digest, "flip": task.recipe.flip, "refit": task.refit}
    said |= {"stamps": stamps}
    decided = Decided(
        task, level.plan, prepared.findings, tuple(notes), said, level.measured, prepared.looks, level.seconds
    )
    return _announced(decided, writes)


@dataclass(frozen=True)
class _Level:
    """The plan of a level; `said`, `measured` and `seconds` are fields of `Decided`."""

    plan: Plan
    said: dict[str, Any]
    measured: Measured | None = None
    seconds: float | None = None


def _raced(task: Task, own_val: bool, ahead: bool) -> _Level:
    """Choose the level by measuring; `own_val` says that graft set val aside itself, `ahead` is as for `decide_on`."""
    began = time.perf_counter()
    if task.dataset.label_sets is not None:
        plan, measured = race_by_labels(task, own_val, ahead)
        return _Level(plan, {}, measured, time.perf_counter() - began)
    advice, measured = decide_on(task, own_val=own_val, ahead=ahead)
    return _Level(advice.plan, advice.to_dict(), measured, time.perf_counter() - began)


def _task_of(arguments: Arguments, prepared: Prepared, own_val: bool, started: float, reporter: Reporter) -> Task:
    """Return the task before levels and flips are decided; `own_val` says that graft set val aside itself."""
    dataset, start = prepared.dataset, prepared.start
    if arguments.level == "as-is":
        start = _read_in_classes(start, dataset.classes, arguments.class_map)
    else:
        start = with_usual_head(start)
    few = len(dataset.splits[TRAIN]) <= REFIT_UP_TO
    return Task.of(
        dataset,
        start,
        prepared.choice,
        arguments.recipe,
        seed=arguments.seed,
        reporter=reporter,
        deadline=None if arguments.time_limit is None else started + arguments.time_limit,
        refit=arguments.refit and own_val and few and arguments.level != "as-is",
        raced=arguments.level == "auto" and start.pretrained,
        strict=arguments.strict,
    )


def _ignored(recipe: Recipe, level: str) -> list[str]:
    """Return a note that names the recipe options without effect at a level that trains no stage."""
    used = () if level == "as-is" else ("class_weights",)
    names = [
        each.name
        for each in fields(recipe)
        if each.name not in used and getattr(recipe, each.name) != getattr(Recipe(), each.name)
    ]
    if not names:
        return []
    balancing = "; --class-weights balanced also works for a head" if used and recipe.sampling == "balanced" else ""
    return [
        f"recipe options are ignored at --level {level}: no stage is trained in steps ({', '.join(names)}){balancing}"
    ]


def _announced(decided: Decided, writes: bool) -> Decided:
    """Report what is about to be done, stage by stage if a run is written, and whatever should be read beforehand."""
    task, chosen, said = decided.task, decided.plan, decided.said
    if writes:
        classes, images = len(task.dataset.classes), len(task.dataset.splits[TRAIN])
        expected = outlook(task.base.network, chosen, task.recipe, classes, images, task.input_shape)
        task.reporter.table(expected.table())
        said = {**said, "outlook": expected.to_dict()}
    for sentence in (
        *decided.notes,
        *(f"{each.kind.replace('_', ' ')}: {each.message}" for each in decided.findings if each.severity != "info"),
        f"level {chosen.level}, cut {chosen.cut}, because",
        *(f"- {reason}" for reason in chosen.reasons),
        f"engine {task.choice}",
    ):
        task.reporter.note(sentence)
    return replace(decided, said=said)


def _planned_before(before: Beginning, start: Base) -> Plan:
    """Return the plan a run began with. Raises InputError if its file does not fit the network."""
    said, network = before.plan, start.network
    try:
        usual = plan_level(said["level"], network, start.pretrained)
        # An earlier version did not record what the head sees: the level determines it.
        plan = replace(usual, cut=said["cut"], head=said.get("head", usual.head), reasons=tuple(said["reasons"]))
        network.gathered(plan.head)
        network.split(plan.cut)
    except (InputError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"expected {PLAN_FILE} in {near(before.folder)} as graft wrote it, got one that does not fit the network "
            f"({plain(str(error))[:200]}): restore it, or train again into another folder"
        ) from None
    return plan


def _check_unchanged(
    before: Beginning, dataset: Dataset, digest: str, stamps: str | None, arguments: Arguments
) -> None:
    """Refuse to resume with other images, labels, splits or weights than the run began with. Raises InputError."""
    if before.plan.get("base") != digest:
        raise WeightsError(
            f"expected the weights that {near(before.folder)} was begun with, got different ones in {arguments.base}: "
            "restore them, name the file that has them with --base, or train again into another folder"
        )
    now = StringIO(newline="")
    write_split(dataset, now)
    rows, earlier = now.getvalue().splitlines(), before.split.splitlines()
    if rows == earlier:
        if before.plan.get("stamps") in (None, stamps):
            return
        raise DataError(
            f"expected the images, labels and splits that {near(before.folder)} was begun with, got files with "
            f"different sizes or times in {arguments.data}: restore the data, or train again into another folder"
        )
    missing, new = sorted(set(earlier) - set(rows)), sorted(set(rows) - set(earlier))
    example = (missing or new or rows)[0].split(",")[0]
    raise DataError(
        f"expected the images, labels and splits that {near(before.folder)} was begun with, got {arguments.data} with "
        f"{counted(len(new), 'other row')} and without {counted(len(missing), 'row')} of its {SPLIT_FILE}, such as "
        f"{example}: restore the data, or train again into another folder"
    )


def _read_in_classes(base: Base, classes: tuple[str, ...], class_map: str | Path | None) -> Base:
    """Return the base with `classes` in place of its own, each read from the output that its name, or `class_map`,
    stands for.
    """
    if not base.has_head or base.classes is None:
        advice = "give the names with --classes, or use --level head" if base.has_head else "use --level head"
        raise InputError(
            f"expected a base with a classifier and class names for --level as-is, got {base.name} with "
            f"{base.without_classifier}: {advice}"
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
