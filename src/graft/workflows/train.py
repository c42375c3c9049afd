"""Train from labelled images to a finished run folder, step by step."""

import json
import math
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from graft.data.dataset import Dataset
from graft.data.handed_over import Given
from graft.data.split_file import write_split
from graft.data.table_options import checked_table
from graft.errors import GraftError, InputError, Interrupted
from graft.features.determinism import repeatable
from graft.files import write_json, write_table_aside
from graft.given import path, seconds, truth, with_hints
from graft.images.preprocessing import ResizeMode, Scaling
from graft.progress import Reporter, reporting
from graft.seeding import seeded
from graft.torch_modes import in_own_modes
from graft.training.fitting import fit_level, measure_each
from graft.training.joining import joined
from graft.training.processes import Processes
from graft.training.recipe import Recipe, check_recipe
from graft.training.recipe_file import read_recipe
from graft.training.time_budget import work_began
from graft.weights.packaged import DEFAULT_BASE
from graft.words import program
from graft.workflows.arguments import (
    MOVABLE,
    Arguments,
    absolute,
    absolute_apart,
    absolute_table,
    merged_arguments,
    read_arguments,
    write_arguments,
)
from graft.workflows.contact_sheet import check_png
from graft.workflows.deciding import Beginning, Decided, checked, choice_of, decide
from graft.workflows.finishing import finish
from graft.workflows.loggers.logger import Logger, Logging
from graft.workflows.measured import write_measured
from graft.workflows.prepare import (
    DATA_KINDS,
    Data,
    DataOptions,
    called,
    checked_data,
    handed_over,
    with_several_labels,
)
from graft.workflows.run import PLAN_FILE, RESULT_FILE, SPLIT_FILE, Run, fault_of_model, finished, near
from graft.workflows.run_folder import (
    JOB_FILE,
    check_free,
    clear_away,
    folder_of_job,
    folder_to_resume,
    holds_work,
    locked,
    new_folder,
)
from graft.workflows.together import follow, share, tell_run


@with_hints(Recipe, *DATA_KINDS)
@in_own_modes
def train(
    data: Data,
    base: str | Path = DEFAULT_BASE,
    level: str = "auto",
    *,
    out: str | Path | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    recipe: Recipe | str | Path | None = None,
    image_size: int | None = None,
    resize: ResizeMode | None = None,
    engine: str = "auto",
    precision: str = "auto",
    deterministic: bool = False,
    threads: int | None = None,
    arch: str | None = None,
    classes_file: str | Path | None = None,
    mean: Scaling | None = None,
    std: Scaling | None = None,
    class_map: str | Path | None = None,
    audit: bool = True,
    refit: bool = True,
    seed: int = 0,
    strict: bool = False,
    resume: bool = False,
    time_limit: float | str | None = None,
    find_learning_rate: bool = False,
    contact_sheet: str | Path | None = None,
    checkpoint_every: float | str | None = None,
    logger: str | Logger | None = None,
    val: Given | None = None,
    test: Given | None = None,
    multi_label: bool = False,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Run:
    """Train an image classifier into a run folder, keeping as much of `base` as `level` says.

    Under torchrun, call it with the same arguments in every process: they train stages together, and each call returns
    the same run.

    Args:
        data: The labelled images: a folder per class (optionally below `train/ val/ test/`), a manifest (CSV, TSV, JSON
            lines, Parquet), an archive, tar shards, IDX files or `hf:owner/name`; a `graft.Dataset`, `(images, labels)`
            as `Dataset.from_arrays` takes them, or a data frame with columns `path` and `label` and optionally `split`,
            `group` and `weight`; or `graft.DataOptions` for further options. Only ever read. With `resume`, also a run
            folder.
        base: The network to start from: an architecture with published weights, a file of weights, a run,
            `hf:owner/name`, `timm:NAME` or `latin_letters`. The weights of the default base ship with graft.
        level: How much of the base to keep: `as-is`, `head`, `head:stages`, `stages:K`, `frozen:F`, `all`, `scratch`,
            or `auto`, which measures (see `graft.advise`).
        out: The run folder, new or empty. Defaults to `runs/<name of the data>`, with a number appended if that is
            taken.
        epochs: Passes over the training images; overrides the recipe. The default depends on the number of images.
        batch_size: Images per batch; overrides the recipe's 32.
        learning_rate: Peak learning rate of the head; overrides the recipe. The default depends on the optimizer and
            the size of the network.
        recipe: How stages are trained: a `graft.Recipe`, or a YAML file like the one `graft.tune` writes. A head alone
            is solved and needs none. A base or level named in the file replaces the default `base` or `level`; an
            explicit `level="auto"` cannot be told from the default, so remove the level from the file to have it
            measured. On the command line, an explicit option always overrides the file.
        image_size: Side of the network's input in pixels. Defaults to that of the weights.
        resize: How an image becomes square: `crop`, `letterbox` or `squash`. Defaults to that of the weights.
        engine: What runs frozen layers: `auto`, `torch` or `openvino`.
        precision: Number format of the engine: `auto`, `float32` or `bfloat16`.
        deterministic: Whether the same call must give a bit-identical model on another day, whatever else the machine
            is doing. Slower on an accelerator.
        threads: Number of compute threads, with `deterministic`. The number changes the order in which sums are taken.
        arch: The architecture of a file of weights that does not name its own.
        classes_file: A JSON list with the class names of weights that name none.
        mean, std: What the images of the weights were scaled with, of pixels in [0, 1]: a number per channel or one for
            all, or a text such as `0.5,0.5,0.5`. Default to what the weights state, or to what is usual for them.
        class_map: For `as-is`, a JSON object that maps the classes of `data` to those of the base.
        audit: Whether to look over every image first: problems are reported, and copies stay on one side of a split.
        refit: Whether to train the final classifier on all images when the data have no val of their own. The reported
            figures are then those of a part that is set aside and measured first. Has no effect above 5,000 training
            images.
        seed: Determines everything random.
        strict: Whether an image that cannot be decoded is an error. By default it is skipped and reported.
        resume: Whether to continue an interrupted run, or return the result of a finished one. Arguments need not be
            repeated; those given must match the run's, and one equal to its default counts as not given.
        time_limit: Time limit for the whole call: seconds, or a string like 90s, 10m or 2h. The schedule is fitted to
            it, so that it still runs to its end.
        find_learning_rate: Whether to train stages at the rate that a range test suggests.
        contact_sheet: A PNG file to write before training; it shows images as the recipe augments them.
        checkpoint_every: Seconds, or a string like 10m, between checkpoints within an epoch. The training state is
            saved after every epoch in any case.
        logger: Experiment tracker: `tensorboard`, `mlflow` or `wandb`, each an extra, or an object with the methods of
            `graft.workflows.loggers.logger.Logger`. It receives parameters, metrics by epoch, the report and the model.
            A tracker that cannot be reached is reported once and does not hold up training.
        val: The images of val, where `data` does not hold them: any kind that `data` may be, as a path if `data` is a
            path and in memory if it is in memory. Classes are matched by name.
        test: The images of test, likewise.
        multi_label: Whether an image may have several labels, or none. A table gives them in one cell, in columns of 0
            and 1, or in one row per label; arrays give lists of labels or a 0/1 matrix. A `Dataset` states this itself.
        reporter: The `graft.Reporter` that receives progress, notes, tables and epochs. By default they go to stderr.
        quiet: Whether to write nothing to stderr.

    Returns:
        The run: its folder, accuracies with intervals, skipped images and notes.

    Raises:
        InputError: The call, the data or the base cannot be used; subclasses are DataError, WeightsError and CutError.
        FetchError: The weights are not on this machine and cannot be fetched.
        GraftError: The work failed, for the reason stated.
    """
    started = work_began()
    given: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    given |= {"find_learning_rate": truth(find_learning_rate, "--find-lr") or None}
    if isinstance(recipe, str | PathLike):
        file = read_recipe(recipe)
        recipe = file.recipe
        # What is given as an argument precedes what the file says.
        if level == "auto":
            level = file.level or level
        if base == DEFAULT_BASE:
            base = file.base or base
    recipe = check_recipe(recipe if recipe is not None else Recipe())
    recipe = replace(recipe, **{name: value for name, value in given.items() if value is not None})
    asked = data if isinstance(data, DataOptions) else DataOptions(data)
    asked = replace(asked, val=asked.val if val is None else val, test=asked.test if test is None else test)
    options = checked_data(with_several_labels(asked) if truth(multi_label, "--multi-label") else asked)
    images = handed_over(options)
    # Images in memory have no location: their name serves only to name the run.
    source = (
        Path(called(options)).expanduser() if images is None else Path(f"{called(options).replace('/', '-')}.memory")
    )
    place = None if out is None else Path(path(out, "--out")).expanduser().absolute()
    arguments = Arguments(
        data=absolute(source, "the images") if images is None else called(options),
        base=absolute(base, "--base"),
        level=level,
        image_size=image_size,
        resize=resize,
        engine=engine,
        precision=precision,
        deterministic=deterministic,
        threads=threads,
        arch=arch,
        classes_file=None if classes_file is None else absolute(classes_file, "--classes"),
        mean=mean,
        std=std,
        class_map=None if class_map is None else absolute(class_map, "--class-map"),
        group=options.group,
        split_file=None if options.split_file is None else absolute(options.split_file, "--split-file"),
        audit=audit,
        refit=refit,
        strict=strict,
        seed=seed,
        time_limit=None if time_limit is None else seconds(time_limit, "--time"),
        in_memory=images is not None,
        recipe=recipe,
        table=absolute_table(checked_table(options.table)),
        val=absolute_apart(options.val, "--val"),
        test=absolute_apart(options.test, "--test"),
    )
    sheet = None if contact_sheet is None else Path(path(contact_sheet, "--contact-sheet")).expanduser()
    if sheet is not None:
        check_png(sheet, (source, arguments.val, arguments.test), "--contact-sheet")
    arguments, choice = checked(arguments), choice_of(arguments)
    every = math.inf if checkpoint_every is None else seconds(checkpoint_every, "--checkpoint-every")
    with reporting(reporter, quiet) as told, seeded(arguments.seed), joined() as processes:
        if processes.job is not None:
            arguments = replace(arguments, processes=processes.count)
        if not processes.first:
            return follow(processes, images, started)
        logging, run = Logging(logger, told), None
        execution = Execution(processes, every, logging, started)
        try:
            before = folder_of_job(processes.job, place, source) if processes.job is not None else None
            if before is not None:
                run = _resume(before, arguments, images, execution)
            elif truth(resume, "--resume"):
                run = _resume(folder_to_resume(place, source), arguments, images, execution)
            else:
                with repeatable(choice):
                    run = _begin(place, source, arguments, images, sheet, execution)
            tell_run(processes, run)
            return run
        finally:
            logging.end(run)


@dataclass(frozen=True)
class Execution:
    """How a training run is carried out, whatever its result: by which processes, and who is told."""

    processes: Processes
    checkpoint_every: float
    logging: Logging
    started: float


def _begin(
    place: Path | None,
    source: Path,
    arguments: Arguments,
    images: Dataset | None,
    sheet: Path | None,
    execution: Execution,
) -> Run:
    """Train into a new folder, which is removed again if it holds nothing that can be resumed."""
    try:
        check_free(place, source)
        decided = decide(arguments, images, sheet, execution.logging.reporter, execution.started, place=place)
        with new_folder(place, source) as folder:
            try:
                if execution.processes.job is not None:
                    (folder / JOB_FILE).write_text(execution.processes.job, encoding="utf-8")
                _write_beginning(folder, arguments, decided)
            except OSError as error:
                raise _unwritable(folder, error, "and train again") from error
            with _resumable(folder, execution.logging.reporter):
                execution.logging.begin(folder, arguments)
                return _carry_out(decided, folder, arguments, execution)
    except KeyboardInterrupt as interruption:
        if isinstance(interruption, Interrupted):
            raise
        raise Interrupted(None) from interruption


def _resume(folder: Path, given: Arguments, images: Dataset | None, execution: Execution) -> Run:
    """Continue the interrupted run in a folder, or return its result if it is finished."""
    with locked(folder):
        begun_with = read_arguments(folder)
        arguments = merged_arguments(begun_with, given, folder)
        clear_away(folder)
        run = finished(folder)
        fault = None if run is None else fault_of_model(run)
        if run is not None and fault is None:
            # Whether moved images or another base are really the same is not checked: nothing is done with them.
            names = [name for name in MOVABLE if getattr(arguments, name) != getattr(begun_with, name)]
            of = "".join(f", of the {name} {getattr(begun_with, name)}" for name in names)
            execution.logging.reporter.note(f"{near(folder)} is finished already; this is its result{of}")
            return run
        if fault is not None:
            execution.logging.reporter.note(f"the model in {near(folder)} cannot be used, so it is made again: {fault}")
        elif (folder / RESULT_FILE).exists():
            execution.logging.reporter.note(
                f"the result or the model in {near(folder)} is gone or damaged, so the run is finished again"
            )
        (folder / RESULT_FILE).unlink(missing_ok=True)
        with repeatable(choice_of(arguments)), _resumable(folder, execution.logging.reporter):
            decided = decide(
                arguments, images, None, execution.logging.reporter, execution.started, _read_beginning(folder)
            )
            execution.logging.begin(folder, arguments)
            return _carry_out(decided, folder, arguments, execution)


@contextmanager
def _resumable(folder: Path, reporter: Reporter) -> Iterator[None]:
    """On an interruption or a full disk within the block, say how to resume the run in `folder`.

    The same is noted of anything else that ends the block after something has been computed.
    """
    go_on = f"{program()} train --resume {shlex.quote(near(folder))}"
    try:
        yield
    except KeyboardInterrupt as interruption:
        raise Interrupted(go_on) from interruption
    except (OSError, GraftError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(error, InputError) or not isinstance(cause, OSError):
            if holds_work(folder):
                reporter.note(f"what has been computed is kept: `{go_on}` continues from there")
            raise
        raise _unwritable(folder, cause, f"then `{go_on}` continues it") from error


def _unwritable(folder: Path, error: OSError, then: str) -> GraftError:
    name = "" if error.filename is None else f" for {Path(error.filename).name}"
    return GraftError(
        f"expected to write the run to {near(folder)}, got {error.strerror or error}{name}: free space there or make "
        f"it writable, {then}"
    )


def _write_beginning(folder: Path, arguments: Arguments, decided: Decided) -> None:
    """Write what resuming needs. The arguments come last, because they mark the run as resumable."""
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
            f"expected {PLAN_FILE} and {SPLIT_FILE} as this version of graft writes them in {near(folder)}, got "
            "something else: train again into another folder"
        ) from None


def _carry_out(decided: Decided, folder: Path, arguments: Arguments, execution: Execution) -> Run:
    decided = replace(decided, task=replace(decided.task, checkpoint_every=execution.checkpoint_every))
    decided = share(execution.processes, folder, arguments, decided)
    task, chosen, measured = decided.task, decided.plan, decided.measured
    if task.refit:
        measured = measured or measure_each([task], chosen, folder, ahead=True)[0]
        # From here on, the level is not measured again, however often the rest is interrupted.
        write_measured(folder, measured)
    trained = fit_level(task, chosen, folder, measured)
    run = finish(decided, trained, folder, execution.started)
    (folder / JOB_FILE).unlink(missing_ok=True)
    return run
