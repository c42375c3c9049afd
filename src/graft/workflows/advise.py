"""Decide what to keep of a base for the given images: measure, race, and state the cost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from graft.data.dataset import TRAIN, VAL, Images, counts
from graft.data.loading import batches
from graft.data.splitting import with_validation
from graft.errors import DataError, InputError
from graft.evaluation.intervals import effective_count
from graft.features.engine import choose
from graft.features.extraction import activation_bytes, output_shape
from graft.given import truth, with_hints
from graft.images.preprocessing import normalise
from graft.models.cuts import ALL_STAGES, INPUT
from graft.models.network import freeze
from graft.progress import Reporter, reporting
from graft.torch_modes import in_own_modes
from graft.training.beside import fits_at_once
from graft.training.examples import frozen_features
from graft.training.fitting import Measured
from graft.training.memory import step_memory
from graft.training.mirroring import with_flips_tried
from graft.training.racing import contestants, for_the_race, has_time, planned, race
from graft.training.recipe import Recipe, check_recipe
from graft.training.task import ENOUGH_TO_TELL, REFIT_UP_TO, Task, sample
from graft.transfer.advisor import Advice, TrainingCost, apply_textbook, decide
from graft.transfer.evidence import Evidence, gather_evidence, means_by_stage
from graft.transfer.levels import Plan
from graft.transfer.race import Standing
from graft.transfer.shift import domain_shift
from graft.weights.base import with_usual_head
from graft.weights.packaged import DEFAULT_BASE
from graft.workflows.prepare import DATA_KINDS, BaseOptions, Data, prepare

# Images on which the shift is measured, in PyTorch: enough to order domains.
ENOUGH_FOR_SHIFT = 64
BATCH = 32


@dataclass(frozen=True)
class BaseAdvice:
    """The advice for one of several bases."""

    base: str
    advice: Advice

    def to_dict(self) -> dict[str, Any]:
        return {"base": self.base, **self.advice.to_dict()}


@with_hints(Recipe, *DATA_KINDS, BaseOptions)
@in_own_modes
def advise(
    data: Data,
    base: str | BaseOptions = DEFAULT_BASE,
    *,
    recipe: Recipe | None = None,
    with_race: bool = True,
    engine: str = "auto",
    precision: str = "auto",
    audit: bool = True,
    seed: int = 0,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Advice:
    """Measure a sample of the training images of `data` on `base`, race the plausible levels, and recommend one.

    `data` and `base` are names, or options objects for further settings. Nothing is stored except cached activations.
    Without the race, the textbook's rule decides on the measurements alone. With `audit`, copies of an image are first
    grouped so that they stay together. Progress goes to `reporter`, by default to stderr unless `quiet`. Raises
    InputError and its subclasses for unusable input, FetchError for weights that are not on this machine and cannot be
    fetched.
    """
    recipe, with_race = check_recipe(Recipe() if recipe is None else recipe), truth(with_race, "--race")
    with reporting(reporter, quiet) as told:
        prepared = prepare(data, base, choose(engine, precision), audit=audit, seed=seed, reporter=told)
        own_val = not len(prepared.dataset.splits.get(VAL, ()))
        dataset = with_validation(prepared.dataset, seed)
        for sentence in (*dataset.notes, *prepared.start.notes):
            told.note(sentence)
        start = with_usual_head(prepared.start)
        task = Task.of(dataset, start, prepared.choice, recipe, seed=seed, reporter=told)
        few = len(dataset.splits[TRAIN]) <= REFIT_UP_TO
        task = replace(task, refit=own_val and few, raced=with_race)
        return advise_on(with_flips_tried(task), with_race, own_val)


def advise_bases(data: Data, bases: Sequence[str | BaseOptions], **options: Any) -> list[BaseAdvice]:
    """Return the advice for every base, highest expected accuracy first.

    The options are those of `advise`. All bases see the same images in the same folds.
    """
    names = [base.name if isinstance(base, BaseOptions) else base for base in bases]
    if len(set(names)) < len(names):
        raise InputError(f"expected each base only once, got {', '.join(names)}: name each once")
    found = [BaseAdvice(name, advise(data, base, **options)) for name, base in zip(names, bases, strict=True)]
    return sorted(found, key=lambda each: -(each.advice.accuracy or 0.0))


def advise_on(task: Task, with_race: bool = True, own_val: bool = True) -> Advice:
    """Return the advice for the training images of `task` on its base; without `own_val`, val is not used."""
    return decide_on(task, with_race, own_val)[0]


def decide_on(
    task: Task, with_race: bool = True, own_val: bool = True, ahead: bool = False
) -> tuple[Advice, Measured | None]:
    """Return the advice, and the chosen level's measured result if it was measured as the task requires.

    Pass `ahead` if that level is going to be trained.
    """
    evidence, by_class = _measured(task), counts(task.dataset.splits[TRAIN], task.dataset.classes)
    network = task.base.network
    solvable = any(True for _ in network.head.parameters())
    if not (with_race and evidence.probe and solvable):
        advice = decide(network, evidence, by_class)
        return replace(advice, cost=_cost(task, advice.plan, ())), None
    tried_on = for_the_race(task, own_val)
    plans = planned(tried_on)
    field = contestants(tried_on, plans, apply_textbook(evidence, by_class))
    standings, measured = race(tried_on, plans, field, ahead)
    too_long = [level for level, found in measured.items() if not has_time(task, plans[level], found)]
    worth = _worth(standings[0], measured[standings[0].level])
    advice = decide(network, evidence, by_class, standings, too_long=too_long, worth=worth)
    chosen = plans[advice.plan.level]
    chosen = replace(chosen, reasons=(*advice.plan.reasons, *chosen.reasons[1:]))
    groups = measured[standings[0].level].trained.fold_groups
    number = None if groups is None or not len(groups) else len(np.unique(groups))
    advice = replace(advice, plan=chosen, cost=_cost(task, chosen, standings), accuracy_groups=number)
    return advice, measured[advice.plan.level] if tried_on is task else None


def _worth(head: Standing, measured: Measured) -> float:
    """Return how many independent images the head's accuracy is worth, judged by what it gets right in folds."""
    known, groups = measured.trained.cross_validated, measured.trained.fold_groups
    if known is None or groups is None or not len(known):
        return float(head.n)
    return head.n * effective_count(known, groups) / len(known)


def _measured(task: Task) -> Evidence:
    images = sample(task.dataset.splits[TRAIN], task.seed, ENOUGH_TO_TELL)
    vectors, shown = frozen_features(task, images, ALL_STAGES)
    if not len(shown):
        raise DataError("expected readable images to measure, got none: replace the files")
    network = task.base.network
    shift = domain_shift(network, _normalised(task, sample(shown, task.seed, ENOUGH_FOR_SHIFT)))
    return gather_evidence(shift, means_by_stage(network, vectors[0]), shown.labels, shown.groups, task.seed)


def _normalised(task: Task, images: Images) -> Iterator[Tensor]:
    done = 0
    for batch in batches(images, task.preprocessing, BATCH):
        done += len(batch.indices) + len(batch.failures)
        if len(batch.indices):
            yield normalise(batch.pixels, task.preprocessing)
        task.reporter.step("measuring", done, len(images))


def _cost(task: Task, chosen: Plan, standings: Sequence[Standing]) -> TrainingCost:
    """Estimate what training the chosen level takes; memory counts as many fits as run at once.

    The seconds are those of its trials, None without any.
    """
    network, shape = task.base.network, task.preprocessing
    trunk, crown = network.split(chosen.cut)
    freeze(trunk)
    crown.requires_grad_(True)
    memory = step_memory(trunk, crown, task.input_shape, task.recipe.batch_size)
    images = sum(len(split) for split in task.dataset.splits.values())
    kept = network.before_head(chosen.head) if chosen.cut == network.cuts[-2] else trunk
    row = (0,) if chosen.cut == INPUT else output_shape(kept, shape)
    seconds = next((each.seconds for each in standings if each.level == chosen.level), None)
    peak = memory.peak("adamw" if task.recipe.optimizer == "adamw" else "momentum")
    if chosen.cut not in network.cuts[-2:]:
        peak *= fits_at_once(task, crown)
    return TrainingCost(seconds, peak, activation_bytes(images, row, task.choice.precision))
