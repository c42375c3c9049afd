"""Search for the level and recipe that suit the given images: trials are judged on val, the verdict on test."""

import hashlib
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from graft.data.dataset import TEST, VAL
from graft.data.split_file import write_split
from graft.errors import GraftError, InputError
from graft.evaluation.calibration import softmax
from graft.evaluation.paired import Estimate, paired_difference
from graft.features.determinism import repeatable
from graft.given import path, seconds, whole_number, with_hints
from graft.names import plain
from graft.progress import Reporter, reporting
from graft.seeding import seeded
from graft.torch_modes import in_own_modes
from graft.training.comparison import SCRATCH
from graft.training.fitting import fit_level, measure
from graft.training.reach import with_reach_tried
from graft.training.recipe import Recipe
from graft.training.recipe_file import RecipeFile, with_settings, write_recipe
from graft.training.task import Task, Trained, groups_of_split
from graft.training.tuning import (
    BEST_FILE,
    DEFAULT_LEVELS,
    TRIALS_FILE,
    Range,
    Trial,
    Tuning,
    best_of,
    check_search,
    propose,
    read_trials,
    searched_around,
    write_trials,
)
from graft.transfer.levels import Plan, check_level, plan_level
from graft.weights.packaged import DEFAULT_BASE
from graft.words import counted, program
from graft.workflows.arguments import Arguments, absolute, absolute_apart, absolute_table
from graft.workflows.deciding import Decided, checked, choice_of, decide
from graft.workflows.prepare import DATA_KINDS, Data, called, checked_data, handed_over
from graft.workflows.provenance import words_of
from graft.workflows.run import near
from graft.workflows.run_folder import check_makeable, clear_away, locked
from graft.workflows.starts import Starts

MOST_TRIALS = 100_000


@with_hints(*DATA_KINDS)
@in_own_modes
def tune(
    data: Data,
    base: str | Path = DEFAULT_BASE,
    *,
    trials: int = 20,
    time_limit: float | str | None = None,
    levels: str | Sequence[str] = DEFAULT_LEVELS,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    engine: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Tuning:
    """Search levels and recipes for these images. Needs the extra `tune`.

    Args:
        data: Labelled images, as for `graft.train`. Trials are judged on val. If there is a test split, no trial sees
            it, and it decides in the end whether the search was worth it.
        base: The network to start from, as for `graft.train`.
        trials: Total number of trials. The first is what `graft.train` does by itself. If that is none of `levels`, it
            is only compared with, and at least one of them is tried.
        time_limit: Seconds, or a string like 30m, after which no further trial begins.
        levels: The levels to search: a list, or a comma-separated string.
        settings: Recipe fields that are fixed for every trial instead of searched.
        out: The folder of the search, by default `runs/<name of the data>-tune`. Repeating the call of a stopped search
            continues it with the same trials.
        engine: What runs frozen layers: `auto`, `torch` or `openvino`.
        precision: Number format of the engine: `auto`, `float32` or `bfloat16`.
        seed: Determines everything random.
        reporter: Receives progress. By default it is written to stderr.
        quiet: Whether to write nothing to stderr.

    Returns:
        The trials, the best of them, and the file of its recipe, which `graft train --recipe FILE` takes.

    Raises:
        InputError: The call, the data or the base cannot be used, or the extra is not installed.
    """
    started = time.perf_counter()
    if find_spec("optuna") is None:
        raise InputError("expected Optuna for a search, got none installed: install graft-vision[tune]")
    trials = whole_number(trials, "--trials", 1, MOST_TRIALS, "20 to 100 is usual")
    limit = None if time_limit is None else seconds(time_limit, "--time")
    among = _levels(levels)
    recipe = with_settings(Recipe(), {} if settings is None else settings, "settings")
    # Taken from the recipe, these are plain Python numbers, which can be written out and compared in a later session.
    settings = {name: getattr(recipe, name) for name in settings or ()}
    options = checked_data(data)
    images = handed_over(options)
    arguments = checked(
        Arguments(
            data=absolute(Path(str(options.path)).expanduser(), "the images") if images is None else called(options),
            base=absolute(base, "--base"),
            level=SCRATCH if among == (SCRATCH,) else "auto",
            engine=engine,
            precision=precision,
            group=options.group,
            split_file=None if options.split_file is None else absolute(options.split_file, "--split-file"),
            seed=seed,
            in_memory=images is not None,
            recipe=recipe,
            table=absolute_table(options.table),
            val=absolute_apart(options.val, "--val"),
            test=absolute_apart(options.test, "--test"),
        )
    )
    if options.table.multi_label or (images is not None and images.label_sets is not None):
        raise InputError("expected images with one label each for a search, got several: give --level to graft train")
    name = Path(arguments.data).name if images is None else arguments.data.replace("/", "-")
    place = (Path("runs") / f"{name}-tune" if out is None else Path(path(out, "--out"))).expanduser().absolute()
    check_search(place)
    check_makeable(place)
    choice = choice_of(arguments)
    with reporting(reporter, quiet) as told, seeded(arguments.seed), repeatable(choice), _kept_at(place):
        decided = decide(arguments, images, None, told, started, place=place)
        search = _Search(decided, arguments, among, settings, place, told)
        read_trials(place, search.question)
        place.mkdir(parents=True, exist_ok=True)
        with locked(place):
            clear_away(place)
            done = search.run(trials, None if limit is None else started + limit)
            return search.result(done, started)


@contextmanager
def _kept_at(place: Path) -> Iterator[None]:
    """On an interruption within the block, say what is kept of the search."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        with suppress(OSError):
            if count := len((place / TRIALS_FILE).read_bytes().splitlines()):
                raise KeyboardInterrupt(
                    f"stopped; {counted(count, 'trial is', 'trials are')} kept in {near(place)}, and the same call "
                    "continues from them"
                ) from interruption
        raise KeyboardInterrupt("stopped before the first trial was done: the same call starts over") from interruption


class _Search:
    """A search in progress: what was decided about the data, and where trials are kept."""

    def __init__(
        self,
        decided: Decided,
        arguments: Arguments,
        levels: tuple[str, ...],
        settings: Mapping[str, Any],
        folder: Path,
        reporter: Reporter,
    ) -> None:
        self.decided, self.base, self.folder, self.reporter = decided, arguments.base, folder, reporter
        self.notes = list(decided.notes)
        task, start = decided.task, decided.task.base
        self.starts = Starts(self.base, start if start.pretrained else None, start.preprocessing.levels)
        # What was found about mirror images holds for every trial, so that trials share cached activations.
        self.task = replace(task, asked=replace(task.asked, flip=task.recipe.flip))
        self.arguments = arguments
        self.levels = self._that_differ(levels)
        # The usual level under the name that it was asked for by.
        usual = self._comes_to(decided.plan.level)
        self.usual = next((each for each in self.levels if self._comes_to(each) == usual), decided.plan.level)
        if self.usual not in self.levels:
            self._note(f"the first trial, {self.usual}, is what graft train does anyway: it is only a baseline")
        self.searched = {level: self._searched(level, settings) for level in self.levels}
        self.question = _question(arguments, decided, levels, settings, self.searched)

    def _note(self, sentence: str) -> None:
        self.notes.append(sentence)
        self.reporter.note(sentence)

    def _that_differ(self, levels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the levels without those that come to the same as an earlier one in this network."""
        found: dict[tuple[str, str, bool], str] = {}
        for level in levels:
            first = found.setdefault(self._comes_to(level), level)
            if first != level:
                self._note(f"level {level} is not tried: in {self.task.base.name} it is the same as {first}")
        return tuple(found.values())

    def _comes_to(self, level: str) -> tuple[str, str, bool]:
        plan = self._plan(level)
        return plan.cut, plan.head, level == SCRATCH

    def _asked_for(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials whose level was asked for: all but, perhaps, the first."""
        return [each for each in trials if each.level in self.levels]

    def _searched(self, level: str, settings: Mapping[str, Any]) -> dict[str, Range]:
        """Return what is searched of a level's recipe; nothing for a head that is solved."""
        if self._solved(level):
            return {}
        # The usual recipe of a random start differs from that of a pretrained one.
        usual = self._task(level, {}, False) if level == SCRATCH else self.task
        return searched_around(usual.recipe, settings)

    def _solved(self, level: str) -> bool:
        return self._plan(level).cut == self.task.base.network.cuts[-2]

    def run(self, trials: int, deadline: float | None) -> list[Trial]:
        """Return all trials, including earlier ones; each finished trial is saved before the next begins."""
        done = read_trials(self.folder, self.question)
        write_trials(self.folder, self.question, done)
        while not self._asked_for(done) or (
            len(done) < trials and (deadline is None or time.perf_counter() < deadline)
        ):
            self.reporter.step("trials", len(done), max(trials, len(done) + 1))
            proposed = self._next(done)
            if proposed is None:
                self._note("nothing is left to try: levels whose head is solved take no recipe")
                break
            done = [*done, self._trial(len(done), *proposed)]
            write_trials(self.folder, self.question, done)
            latest = done[-1]
            came_to = latest.error if latest.top1 is None else f"val {latest.top1:.1%}"
            self.reporter.note(f"trial {latest.number}, {latest.level}: {came_to}, {latest.seconds:.1f} s")
        self.reporter.step("trials", len(done), max(trials, len(done)))
        return done

    def _next(self, done: Sequence[Trial]) -> tuple[str, dict[str, float]] | None:
        if not done:
            return self.usual, {}
        return propose(done, self.levels, self.searched, self.task.seed)

    def _trial(self, number: int, level: str, settings: dict[str, float]) -> Trial:
        started = time.perf_counter()
        try:
            measured = self.decided.measured if number == 0 else None
            task = self._task(level, settings, False)
            trained = (measured or measure(task, with_reach_tried(task, self._plan(level)))).trained
            logits, labels = trained.logits[VAL], trained.labels[VAL]
            top1 = float((logits.argmax(1) == labels).mean())
            right = softmax(logits, trained.temperature)[np.arange(len(labels)), labels]
            loss = float(-np.log(np.maximum(right, 1e-12)).mean())
        except GraftError as error:
            # The first trial is what graft does by itself: if these images or this machine rule it out, say so. The
            # failure of a later trial is only recorded, because others may succeed.
            if number == 0 and isinstance(error, InputError):
                raise
            return Trial(number, level, settings, None, None, time.perf_counter() - started, str(error))
        return Trial(number, level, settings, top1, loss, time.perf_counter() - started)

    def _plan(self, level: str) -> Plan:
        return plan_level(level, self.task.base.network, self.task.base.pretrained)

    def recipe(self, settings: Mapping[str, float]) -> Recipe:
        """Return the recipe of a trial: the common settings, with those that it tries."""
        values: dict[str, Any] = {**settings}
        return replace(self.task.asked, **values)

    def _task(self, level: str, settings: Mapping[str, float], with_test: bool) -> Task:
        task = self.task
        splits = {name: images for name, images in task.dataset.splits.items() if with_test or name != TEST}
        return replace(
            Task.of(
                replace(task.dataset, splits=splits),
                self.starts.of(level, task.seed),
                task.choice,
                self.recipe(settings),
                seed=task.seed,
                # Reporting the steps of every trial would mean hundreds of progress bars.
                reporter=Reporter(note=lambda sentence: None),
            ),
            refit=task.refit,
        )

    def result(self, done: list[Trial], started: float) -> Tuning:
        """Write the recipe of the best trial, and compare it on test with what happens without a search."""
        cuts = self.task.base.network.cuts
        stages = {each.level: len(cuts) - cuts.index(self._plan(each.level).cut) for each in done}
        among = self._asked_for(done)
        best, usual = best_of(among, stages), done[0]
        if best.top1 is None:
            raise GraftError(
                f"expected at least one trial to succeed, got {counted(len(among), 'that fails', 'that fail')}, the "
                f"last with: {among[-1].error}"
            )
        difference, test, n = self._on_test(best, usual)
        file = self.folder / BEST_FILE
        tuning = Tuning(
            folder=self.folder,
            recipe=file,
            trials=tuple(done),
            best=best,
            usual=usual,
            difference=difference,
            test=test,
            n=n,
            seconds=time.perf_counter() - started,
            notes=tuple(self.notes),
            command=_command(self.arguments, file),
        )
        # Of a recipe, a solved head takes the weights of the classes alone.
        solved = Recipe(class_weights=self.task.asked.class_weights)
        recipe = solved if self._solved(best.level) else self.recipe(best.settings)
        heading = (
            f"The best of {counted(len(among), 'trial')} of graft tune on {plain(self.task.dataset.name)}, by "
            f"{best.top1:.1%} of val.",
            f"{tuning.verdict[0].upper()}{tuning.verdict[1:]}.",
        )
        write_recipe(file, RecipeFile(recipe, best.level, self.base), heading)
        self.reporter.note(f"{near(file)}: {tuning.command}")
        return tuning

    def _on_test(self, best: Trial, usual: Trial) -> tuple[Estimate | None, tuple[float, float] | None, int]:
        if TEST not in self.task.dataset.splits or best.number == usual.number or usual.top1 is None:
            return None, None, 0
        right, groups = [], None
        for each in (best, usual):
            task = self._task(each.level, each.settings, True)
            trained = fit_level(task, with_reach_tried(task, self._plan(each.level)))
            right.append(self._right(trained))
            groups = groups_of_split(task.dataset, trained, TEST)
        images, n = np.arange(len(right[0])), len(right[0])
        difference = paired_difference(right[0], right[1], images, np.zeros(n, np.int64), groups)
        return difference, (float(right[0].mean()), float(right[1].mean())), n

    @staticmethod
    def _right(trained: Trained) -> np.ndarray:
        right: np.ndarray = trained.logits[TEST].argmax(1) == trained.labels[TEST]
        return right


def _command(arguments: Arguments, recipe: Path) -> str:
    """Return what trains by `recipe` on the images and splits of the search."""
    if arguments.in_memory:
        return f"graft.train(images, recipe={near(recipe)!r})"
    # The recipe states base and level.
    asked = replace(arguments, base=DEFAULT_BASE, level="auto", recipe=Recipe())
    command, data, *options = words_of(asked, lambda named: near(Path(named)))
    return f"{program()} {shlex.join([command, data, '--recipe', near(recipe), *options])}"


def _levels(levels: str | Sequence[str]) -> tuple[str, ...]:
    names = levels.split(",") if isinstance(levels, str) else levels
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"expected a list of levels, or a string with commas between them, for --levels, got {levels!r}: write it "
            "like that"
        )
    found = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    for level in found:
        check_level(level)
    if not found or {"auto", "as-is"} & set(found):
        raise InputError(
            f"expected levels that are trained for --levels, got {', '.join(found) or 'none'}: "
            f"{','.join(DEFAULT_LEVELS)} is usual"
        )
    return found


def _question(
    arguments: Arguments,
    decided: Decided,
    levels: tuple[str, ...],
    settings: Mapping[str, Any],
    searched: Mapping[str, Mapping[str, Range]],
) -> dict[str, Any]:
    """Return what identifies a search: a search continues only when this is unchanged."""
    rows = StringIO(newline="")
    write_split(decided.task.dataset, rows)
    return {
        "data": plain(arguments.data),
        "images": hashlib.blake2b(rows.getvalue().encode("utf-8", "surrogateescape"), digest_size=16).hexdigest(),
        "base": plain(arguments.base),
        "weights": decided.said["base"],
        "levels": list(levels),
        "settings": {name: value for name, value in settings.items()},
        "searched": {
            level: {name: [each.low, each.high] for name, each in ranges.items()} for level, ranges in searched.items()
        },
        "engine": str(choice_of(arguments)),
        "seed": arguments.seed,
    }
