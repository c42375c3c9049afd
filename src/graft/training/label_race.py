"""The race for images with several labels: plausible levels are fitted and compared by mean average precision."""

from dataclasses import replace

import numpy as np

from graft.data.dataset import VAL
from graft.errors import InputError
from graft.evaluation.label_scores import mean_average_precision
from graft.training.fitting import Measured, measure_each
from graft.training.racing import for_the_race, has_time
from graft.training.reach import with_reach_tried
from graft.training.recipe import Recipe
from graft.training.task import Task, groups_of_split
from graft.transfer.advisor import CONTENDERS
from graft.transfer.levels import Plan, plan_level

# When two levels differ by less than this, or by less than the standard error, the cheaper one wins.
TIE, RESAMPLES = 0.003, 200


def check_several_labels(level: str, recipe: Recipe) -> None:
    """Raise InputError for options that have no meaning where an image may have several labels."""
    if level == "as-is":
        raise InputError(
            "expected a level that is trained with --multi-label, got as-is, whose classifier gives one label: use "
            "--level head"
        )
    for name, value in (("--class-weights", recipe.class_weights), ("--sampling", recipe.sampling)):
        if value == "balanced":
            raise InputError(
                f"expected no balancing of classes with --multi-label, got {name} balanced: an image counts for "
                "several labels at once, so leave it out; thresholds are chosen for each label"
            )


def race_by_labels(task: Task, own_val: bool, ahead: bool = False) -> tuple[Plan, Measured | None]:
    """Return the level to train at, with reasons, and its measurement if it was measured on this very task.

    The user's own val has no part in the choice: a part of train stands in for it. Raises what the first level raises;
    any other level that time or memory does not allow is skipped. Stages may meanwhile be fitted on all images,
    `ahead`.
    """
    tried_on = for_the_race(task, own_val)
    plans: dict[str, Plan] = {}
    found: dict[str, Measured] = {}
    reasons = []
    # Each level in this list beats the one before it.
    leaders: list[str] = []
    for number, level in enumerate(CONTENDERS):
        task.reporter.step("levels tried", number, len(CONTENDERS))
        try:
            plans[level] = with_reach_tried(tried_on, plan_level(level, task.base.network, True))
            found[level] = measure_each([tried_on], plans[level], ahead=ahead)[0]
        except InputError as error:
            if not found:
                raise
            task.reporter.note(f"level {level} was not tried: {error}")
            continue
        figure = _figure(found[level])
        said = (
            f"{level}: mean average precision {figure:.1%} on {len(found[level].trained.logits[VAL]):,} images held out"
        )
        if leaders:
            groups = groups_of_split(tried_on.dataset, found[level].trained, VAL)
            gain, error_of_gain = _gain(found[level], found[leaders[-1]], groups)
            said += f", {100 * gain:+.1f} points over {leaders[-1]} (standard error {100 * error_of_gain:.1f})"
        if not leaders or gain > max(TIE, error_of_gain):
            leaders.append(level)
        reasons.append(said)
    task.reporter.step("levels tried", len(CONTENDERS), len(CONTENDERS))
    while leaders[1:] and not has_time(task, plans[leaders[-1]], found[leaders[-1]]):
        reasons.append(f"no time is left to train {leaders.pop()} again")
    best = leaders[-1]
    reasons.append(f"a more expensive level is chosen only if it gains more than its standard error: {best}")
    plan = plans[best]
    return replace(plan, reasons=(*reasons, *plan.reasons[1:])), found[best] if tried_on is task else None


def _figure(measured: Measured) -> float:
    return mean_average_precision(measured.trained.logits[VAL], measured.trained.labels[VAL]) or 0.0


def _gain(measured: Measured, other: Measured, groups: np.ndarray | None = None) -> tuple[float, float]:
    """Return the difference in mean average precision on the same images, and its standard error by bootstrap.

    Images of one group, int (N,), are drawn together, since they are right or wrong together.
    """
    matrix = measured.trained.labels[VAL]
    of_both = [each.trained.logits[VAL] for each in (measured, other)]
    random, drawn = np.random.default_rng(0), []
    by_group = None if groups is None else _rows_by_group(groups)
    for _ in range(RESAMPLES):
        if by_group is None:
            rows = random.integers(0, len(matrix), len(matrix))
        else:
            rows = np.concatenate([by_group[at] for at in random.integers(0, len(by_group), len(by_group)).tolist()])
        one, two = (mean_average_precision(logits[rows], matrix[rows]) for logits in of_both)
        if one is not None and two is not None:
            drawn.append(one - two)
    return _figure(measured) - _figure(other), float(np.std(drawn)) if drawn else 1.0


def _rows_by_group(groups: np.ndarray) -> list[np.ndarray]:
    _, index = np.unique(groups, return_inverse=True)
    order = np.argsort(index, kind="stable")
    return np.split(order, np.cumsum(np.bincount(index))[:-1])
