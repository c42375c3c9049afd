"""Compare levels on the same images, seeds and epochs."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL, Dataset
from graft.data.splitting import with_validation
from graft.errors import CutError, InputError
from graft.evaluation.intervals import effective_count
from graft.features.engine import choose
from graft.given import whole_number, with_hints
from graft.models.cuts import HeadKind
from graft.models.network import body_parameter_count
from graft.progress import Reporter, reporting
from graft.seeding import check_seed
from graft.torch_modes import in_own_modes
from graft.training.comparison import SCRATCH, Comparison, Training, summarise
from graft.training.fitting import fit_level
from graft.training.mirroring import with_flips_tried
from graft.training.outlook import Outlook, outlook
from graft.training.reach import with_reach_tried
from graft.training.recipe import Recipe, check_recipe
from graft.training.task import Task, Trained, groups_of_split, readable_rows
from graft.transfer.levels import Plan, check_level, plan_level
from graft.weights.base import with_usual_head
from graft.weights.packaged import DEFAULT_BASE
from graft.words import counted
from graft.workflows.prepare import DATA_KINDS, BaseOptions, Data, Prepared, prepare
from graft.workflows.starts import Starts

DEFAULT_LEVELS = ("head", "stages:2", "all", SCRATCH)
MOST_SEEDS = 1_000


@with_hints(Recipe, *DATA_KINDS, BaseOptions)
@in_own_modes
def compare(
    data: Data,
    base: str | BaseOptions = DEFAULT_BASE,
    levels: str | Sequence[str] = DEFAULT_LEVELS,
    seeds: int = 3,
    *,
    recipe: Recipe | None = None,
    engine: str = "auto",
    precision: str = "auto",
    audit: bool = True,
    seed: int = 0,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Comparison:
    """Train each of `levels`, a list or a comma-separated string, under `seeds` seeds, starting from `seed`.

    `data` and `base` are names, or options objects for further settings. A seed determines the order of images, the
    random layers and, where `data` has no val, which images are set aside for it. It does so alike for all levels, so
    that differences are paired by image and by seed. Every level that trains stages gets the same images, batch size
    and epochs, by default those that suit a pretrained start; a random start usually needs more. Unless `recipe` fixes
    the learning rate, each start gets one that suits it. Nothing is stored except cached activations.

    `audit` is as for `train`. `reporter`, by default stderr unless `quiet`, receives the overall steps, which count
    each training run's epochs plus one, and the steps of the current run. Raises InputError and its subclasses for
    unusable input, FetchError for weights that are not on this machine and cannot be fetched.
    """
    started, recipe, levels = time.perf_counter(), Recipe() if recipe is None else recipe, _checked(levels)
    seed, seeds = check_seed(seed), whole_number(seeds, "--seeds", 1, MOST_SEEDS, "3 is usual")
    recipe = _checked_budget(recipe)
    choice = choose(engine, precision)
    with reporting(reporter, quiet) as told:
        random_only = set(levels) == {SCRATCH}
        prepared = prepare(data, base, choice, audit=audit, scratch=random_only, seed=seed, reporter=told)
        starts = Starts(
            base, None if random_only else with_usual_head(prepared.start), prepared.start.preprocessing.levels
        )
        return _compare(prepared, starts, levels, range(seed, seed + seeds), recipe, told, started)


def _compare(
    prepared: Prepared,
    starts: Starts,
    levels: tuple[str, ...],
    seeds: range,
    recipe: Recipe,
    reporter: Reporter,
    started: float,
) -> Comparison:
    first, choice = prepared.start, prepared.choice
    pretrained = starts.pretrained is not None
    dataset = with_validation(prepared.dataset, seeds[0])
    plans = {level: plan_level(level, first.network, first.pretrained) for level in levels}
    _check_cuts(plans, first.network.config.architecture)
    images, classes = len(dataset.splits[TRAIN]), len(dataset.classes)
    resolved = recipe.resolve(pretrained, parameters=body_parameter_count(first.network), images=images)
    recipe = replace(recipe, epochs=resolved.epochs)
    shape = (first.preprocessing.channels, first.preprocessing.size, first.preprocessing.size)

    def expected() -> dict[str, Outlook]:
        return {level: outlook(first.network, each, resolved, classes, images, shape) for level, each in plans.items()}

    steps = {level: 1 + each.epochs for level, each in expected().items()}
    told = _Told(
        reporter, f"{counted(len(levels), 'level')} × {counted(len(seeds), 'seed')}", len(seeds) * sum(steps.values())
    )
    budget = f"{resolved.epochs} epochs for every level that trains stages"
    if SCRATCH in levels:
        budget += f"; a random start usually needs more, {Recipe().resolve().epochs} by default"
    for sentence in (*dataset.notes, *first.notes, f"engine {choice}", budget):
        told.note(sentence)

    def task_of(level: str, number: int) -> Task:
        return Task.of(dataset, starts.of(level, number), choice, recipe, seed=number, reporter=told.reporter())

    # Decided with the first seed, so that all seeds train the same network, on images that are mirrored alike.
    if pretrained and any(each.cut not in first.network.cuts[-2:] for each in plans.values()):
        level = next(each for each in levels if each != SCRATCH)
        recipe = replace(recipe, flip=with_flips_tried(task_of(level, seeds[0])).recipe.flip)
    for level in levels:
        plans[level] = with_reach_tried(task_of(level, seeds[0]), plans[level])
    outlooks = expected()
    runs: dict[str, list[Training]] = {level: [] for level in levels}
    skipped: dict[str, str] = {}
    for number in seeds:
        dataset = with_validation(prepared.dataset, number)
        for level in levels:
            trained = fit_level(task_of(level, number), plans[level])
            skipped |= trained.skipped
            runs[level].append(_training(dataset, trained))
            told.end(steps[level], f"{level}, seed {number}: val {runs[level][-1].curve[-1]:.1%} at the end")
    best, outcomes, claims = summarise(runs, plans, outlooks)
    return Comparison(
        data=prepared.source,
        base=first.name,
        split=_split(dataset),
        images=len(np.unique(np.concatenate([each.rows for each in runs[best]]))),
        seeds=tuple(seeds),
        epochs=resolved.epochs,
        batch_size=resolved.batch_size,
        best=best,
        levels=outcomes,
        claims=claims,
        engine=str(choice),
        seconds=time.perf_counter() - started,
        skipped=skipped,
        notes=tuple(told.notes),
    )


class _Told:
    """What a reporter has been told: steps done out of the total, and every sentence once."""

    def __init__(self, reporter: Reporter, name: str, total: int) -> None:
        self._reporter, self._name, self._total, self._done = reporter, name, total, 0
        self.notes: list[str] = []
        reporter.step(name, 0, total)

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
            self._reporter.note(sentence)

    def reporter(self) -> Reporter:
        """Return the reporter of the current training run."""

        def step(name: str, done: int, total: int, text: str = "") -> None:
            # All steps except epochs share one name: there may be hundreds of runs, each with several kinds of steps.
            if name == "epochs":
                self._reporter.step(self._name, self._done + done, self._total)
                self._reporter.step("epochs", done, total, text)
            else:
                self._reporter.step("this training", done, total)

        return Reporter(step=step, note=self.note)

    def end(self, steps: int, sentence: str) -> None:
        self._done += steps
        self._reporter.step(self._name, self._done, self._total)
        self._reporter.note(sentence)


def _split(dataset: Dataset) -> str:
    return TEST if TEST in dataset.splits else VAL


def _training(dataset: Dataset, trained: Trained) -> Training:
    name = _split(dataset)
    images, labels = dataset.splits[name], trained.labels
    groups, of_val = (groups_of_split(dataset, trained, each) for each in (name, VAL))
    right = {split: logits.argmax(1) == labels[split] for split, logits in trained.logits.items()}
    curve = [epoch.val_top1 for epoch in trained.history] or [right[VAL].mean()]
    return Training(
        right=right[name],
        rows=images.rows[readable_rows(images, trained.skipped)],
        curve=np.array(curve, dtype=np.float64),
        val_images=len(right[VAL]) if of_val is None else effective_count(right[VAL], of_val),
        feature_seconds=trained.feature_seconds,
        training_seconds=trained.training_seconds,
        groups=groups,
    )


def _checked(levels: str | Sequence[str]) -> tuple[str, ...]:
    """Return the levels, checked to be trainable and distinct. Raises InputError before anything is loaded."""
    names = levels.split(",") if isinstance(levels, str) else levels
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise InputError(
            f"expected a list of levels, or a string with commas between them, for --levels, got {levels!r}: write it "
            "like that"
        )
    found = tuple(name.strip() for name in names if name.strip())
    if not found:
        raise InputError(f"expected levels for --levels, got none: {','.join(DEFAULT_LEVELS)} is usual")
    for number, level in enumerate(found):
        check_level(level)
        if level == "as-is":
            raise InputError(
                "expected levels that are trained for --levels, got 'as-is': leave it out; `graft evaluate BASE "
                "DATA` scores the base itself"
            )
        if level == "auto":
            raise InputError(
                "expected explicit levels for --levels, got 'auto': leave it out; `graft advise` says which level "
                "auto would choose"
            )
        if level in found[:number]:
            raise InputError(f"expected each level only once for --levels, got {level!r} twice: name it once")
    return found


def _checked_budget(recipe: Recipe) -> Recipe:
    recipe = check_recipe(recipe)
    if recipe.epochs == 0:
        raise InputError("expected 1 or more for --epochs, got 0: a curve needs one")
    if recipe.patience is not None:
        raise InputError(
            f"expected a recipe that trains equally long at every level, got a patience of {recipe.patience}: leave "
            "it out"
        )
    return recipe


def _check_cuts(plans: Mapping[str, Plan], architecture: str) -> None:
    """Refuse two levels that amount to the same cut. Raises CutError."""
    seen: dict[tuple[str, HeadKind], str] = {}
    for level, each in plans.items():
        if level == SCRATCH:
            continue
        one = (each.cut, each.head)
        if one in seen:
            raise CutError(
                f"expected different levels for --levels, got {seen[one]!r} and {level!r}, which both cut "
                f"{architecture} at {each.cut!r}: leave one out"
            )
        seen[one] = level
