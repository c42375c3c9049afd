"""The advisor's race: levels fitted as they would be in the end, and compared on images they were not fitted on."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from graft.data.dataset import TRAIN, VAL, Dataset, Images, together
from graft.data.splitting import VAL_FRACTION, carve_from
from graft.errors import InputError
from graft.training.beside import lanes, repeats
from graft.training.crowns import SAVING_SECONDS
from graft.training.fitting import Measured, measure_each
from graft.training.outlook import outlook
from graft.training.reach import with_reach_tried
from graft.training.task import Task, readable_rows
from graft.transfer.advisor import TextbookRule, expected_gain, goes_beyond, plausible
from graft.transfer.levels import Plan
from graft.transfer.race import Contestant, Standing, Trial, standings_of

# More images would not change the order of the levels, but would cost more.
MOST_IMAGES = 4000
# Images whose labels are looked at together.
BLOCK = 2**16
# After its trial, a level is trained only if at least this share of the trial's training time is left.
LEAST_OF_TRIAL = 0.5
# The trials get at least this share of a limited time, however few images they use.
LEAST_FOR_TRIALS = 0.25
# The most of a limited time that repeating a trial may take: of the last level, and of others before it.
MOST_FOR_REPEATS, MOST_BEFORE_OTHERS = 0.8, 0.1


def for_the_race(task: Task, own_val: bool) -> Task:
    """Return the task to race levels in: on val if graft set it aside itself, otherwise on a part of train.

    The user's own val is for the figures and has no part in any choice. Large sets are sampled.
    """
    splits = task.dataset.splits
    if own_val and len(splits[TRAIN]) <= MOST_IMAGES:
        return task
    images = splits[TRAIN].take(rows_to_race_on(task.dataset, splits[TRAIN], task.seed, MOST_IMAGES))
    train, val = carve_from(task.dataset, images, VAL_FRACTION, task.seed)
    if not len(val):
        return task
    dataset = replace(task.dataset, splits={TRAIN: train, VAL: val})
    return replace(task, dataset=dataset, refit=False, deadline=_end_of_race(task, len(train)))


def rows_to_race_on(dataset: Dataset, images: Images, seed: int, most: int) -> np.ndarray:
    """Return at most `most` rows, drawn by `seed`, in their order, int64 (n,), or more if classes are that many.

    Two images of every class, or with every label, are among them, or the only one: a level can neither be trained nor
    tried on images that lack a class.
    """
    order = np.random.default_rng(seed).permutation(len(images))
    drawn, found = np.zeros(len(images), bool), np.zeros(len(dataset.classes), np.int64)
    if dataset.label_sets is None:
        labels, sizes = images.labels[order], np.bincount(images.labels, minlength=len(found))
        by_class = np.argsort(labels, kind="stable")
        place_in_class = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        drawn[order[by_class[place_in_class < 2]]] = True
    else:
        # A matrix of all images might not fit into memory.
        for part in np.array_split(order, -(-len(order) // BLOCK)):
            having = dataset.label_matrix(images.labels[part]) > 0
            drawn[part[(having & (found + having.cumsum(0) <= 2)).any(1)]] = True
            found += having.sum(0)
    left = order[~drawn[order]]
    drawn[left[: max(most - int(drawn.sum()), 0)]] = True
    return np.flatnonzero(drawn)


def _end_of_race(task: Task, images: int) -> float | None:
    """Return the deadline for trials on this many images when their fits cannot be reused.

    The chosen level is then trained on all images, in time that grows with their number.
    """
    if task.deadline is None:
        return None
    now, share = time.perf_counter(), images / (images + len(task.dataset.splits[TRAIN]))
    return now + max(LEAST_FOR_TRIALS, share) * (task.deadline - now)


def planned(task: Task) -> dict[str, Plan]:
    """Return the plan of every level to try, including what its head sees."""
    return {plan.level: with_reach_tried(task, plan) for plan in plausible(task.base.network)}


def contestants(task: Task, plans: Mapping[str, Plan], rule: TextbookRule) -> list[Contestant]:
    """Return every level to try, with its expected gain and the multiply-adds of training it."""
    network, images = task.base.network, len(task.dataset.splits[TRAIN])
    found = []
    for level, plan in plans.items():
        rows = outlook(network, plan, task.recipe, len(task.dataset.classes), images, task.input_shape).stages
        expected = expected_gain(plan, rule.similar, rule.per_class)
        found.append(Contestant(level, *expected, float(sum(row.total_macs for row in rows)), goes_beyond(plan)))
    return found


def race(
    task: Task, plans: Mapping[str, Plan], field: list[Contestant], ahead: bool = False
) -> tuple[tuple[Standing, ...], dict[str, Measured]]:
    """Return the standings of the levels in `field`, the head first, and the measurements of those that could be tried.

    When few images are set aside, the race is repeated with others set aside, and levels are compared on all of them,
    or on as many as a limited time allows. Stages may meanwhile be fitted on all images, `ahead` of the choice.
    """
    measured: dict[str, Measured] = {}
    trials: dict[str, Trial] = {}
    tasks = [task, *(_set_aside_anew(task, number) for number in range(1, repeats(task)))]
    done, steps = 0, len(field)
    for each in field:
        started = time.perf_counter()
        try:
            task.reporter.step("levels tried", done, steps)
            found = _measured_in_time(
                tasks, plans[each.level], ahead, MOST_BEFORE_OTHERS if each is not field[-1] else MOST_FOR_REPEATS
            )
            tasks = tasks[: len(found)]
            right = [one.trained.logits[VAL].argmax(1) == one.trained.labels[VAL] for one in found]
            measured[each.level] = found[0]
        except InputError as error:
            if each is field[0]:
                # Time and memory are enough for a head, so the fault lies with the images.
                raise
            task.reporter.note(f"level {each.level} was not tried: {error}")
            continue
        finally:
            done += 1
        folds, units = measured[each.level].trained.cross_validated, list(map(_units, tasks, found))
        once = None if folds is None else np.concatenate([right[0], folds])
        trials[each.level] = Trial(
            np.concatenate(right),
            once,
            time.perf_counter() - started,
            np.concatenate(units),
            None if folds is None else np.concatenate([units[0], _units_of_folds(found[0])]),
        )
    task.reporter.step("levels tried", steps, steps)
    return standings_of(field, trials), measured


def _measured_in_time(tasks: Sequence[Task], plan: Plan, ahead: bool, share: float) -> list[Measured]:
    """Measure a level on every task, or on the first alone if repeating it takes more than a `share` of the time."""
    task = tasks[0]
    if task.deadline is None:
        return measure_each(tasks, plan, ahead=ahead)
    (first,) = measure_each(tasks[:1], plan, ahead=ahead)
    if len(tasks) == 1:
        return [first]
    left = share * (task.deadline - time.perf_counter() - SAVING_SECONDS)
    fits: float = len(tasks) - 1
    if plan.cut not in task.base.network.cuts[-2:]:
        fits = ceil(fits / lanes(task, task.base.network.split(plan.cut)[1]))
        if first.ahead is None:
            # The fit on all images is still to come.
            fits += 1 / (1 - VAL_FRACTION)
    if fits * first.trained.training_seconds > left:
        return [first]
    return [first, *measure_each(tasks[1:], plan, before=first)]


def _units(task: Task, measured: Measured) -> np.ndarray:
    """Return the independent unit of each scored image of val, int (n,): the image itself, or its group."""
    images = task.dataset.splits[VAL]
    images = images.take(readable_rows(images, measured.trained.skipped))
    return images.rows if images.groups is None else images.groups


def _units_of_folds(measured: Measured) -> np.ndarray:
    """Return the same for the images that a head predicted in folds, each once.

    Without groups, the numbers differ from those of every image of val; with groups, no group is in both.
    """
    groups, known = measured.trained.fold_groups, measured.trained.cross_validated
    assert known is not None
    return -1 - np.arange(len(known)) if groups is None else groups


def has_time(task: Task, plan: Plan, measured: Measured) -> bool:
    """Return whether a tried level can still be trained, over fewer epochs if need be, but not by much.

    A head is solved in whatever time is left.
    """
    if task.deadline is None or plan.cut in task.base.network.cuts[-2:] or measured.ahead is not None:
        return True
    left = task.deadline - time.perf_counter() - SAVING_SECONDS
    return left >= LEAST_OF_TRIAL * measured.trained.training_seconds


def _set_aside_anew(task: Task, number: int) -> Task:
    splits = task.dataset.splits
    whole = together([splits[TRAIN], splits[VAL]])
    train, val = carve_from(task.dataset, whole, VAL_FRACTION, task.seed + number)
    return replace(task, dataset=replace(task.dataset, splits={TRAIN: train, VAL: val}))
