"""Independent fits side by side, each on its share of the cores.

On few images, a second core can take no part in much of a crown's step. Speed of two fits side by side on one core
each, relative to one after the other on both: MobileNet 0.25 at 96 and 128 px 1.4 to 1.8 times, MobileNetV2 at 128 px
1.2 to 1.5 times (400 steps from 40 % of the layers on, medians of several turns on two cores).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from threading import Event
from typing import TypeVar

import torch
from torch import nn

from graft.data.dataset import VAL
from graft.progress import Reporter
from graft.seeding import drawing_apart
from graft.training.shared_layers import OwnDropout
from graft.training.task import Task

LANES = 2
# A race cannot be resumed, so the refit of more images than this waits until there is a run to keep its state.
MOST_AHEAD_IN_A_RACE = 1000
# If fewer images are set aside than it takes to distinguish levels, the setting aside is repeated.
ENOUGH_TO_COMPARE, MOST_REPEATS = 40, 4
# Packages whose layers are known to draw random numbers by dropout alone.
KNOWN = ("torch.nn.", "graft.")

Outcome = TypeVar("Outcome")


class _StoppedError(Exception):
    """The fit beside this one has failed or was interrupted."""


def repeats(task: Task) -> int:
    """Return how often the race sets images aside, so that levels are compared on about `ENOUGH_TO_COMPARE` of them.

    It is once if there is no refit, and less often than this if time runs out.
    """
    if not task.refit:
        return 1
    return min(MOST_REPEATS, -(-ENOUGH_TO_COMPARE // len(task.dataset.splits[VAL])))


def lanes(task: Task, crown: nn.Module) -> int:
    """Return how many fits of `crown` run at once.

    It is one on a GPU, with several processes, and where layers may draw from the generator of the process.
    """
    known = all(type(module).__module__.startswith(KNOWN) for module in crown.modules())
    device = task.choice.device
    alone = device == "cpu" and not task.processes.in_pieces(device)
    return LANES if known and alone and torch.get_num_threads() >= LANES else 1


def refits_ahead(task: Task, crown: nn.Module) -> bool:
    """Return whether the fit on all images runs in the lane left free by the measured fits instead of waiting for them.

    In a race, that work is wasted when another level is chosen. In limited time, a single measured fit comes first, as
    there may be no time for others, so it leaves a lane free.
    """
    if not task.refit or lanes(task, crown) == 1:
        return False
    few = sum(len(task.dataset.splits[name]) for name in task.to_train_on) <= MOST_AHEAD_IN_A_RACE
    leaves_a_lane = task.deadline is not None or repeats(task) % LANES == 1
    return not task.raced or (few and leaves_a_lane)


def fits_at_once(task: Task, crown: nn.Module) -> int:
    """Return how many fits of `crown` run at once over the whole training."""
    return lanes(task, crown) if refits_ahead(task, crown) or (task.raced and repeats(task) > 1) else 1


def in_a_lane(work: Callable[[], Outcome]) -> Outcome:
    """Return the result of `work`, to the bit, as if it ran side by side with other fits."""
    return side_by_side([lambda _: work()], Reporter())[0]


def side_by_side(
    jobs: Sequence[Callable[[Reporter], Outcome]], reporter: Reporter, at_once: int = LANES
) -> list[Outcome]:
    """Return the results of `jobs` in order; jobs of the first lane report progress to `reporter`.

    Each job has one lane's share of the cores, however many run `at_once`, so neither its results nor its random draws
    depend on the others. Raises what a job raises, once the others have stopped at their next step.
    """
    stop, before = Event(), torch.get_num_threads()
    of_lane = max(1, before // LANES)

    def work(lane: int) -> list[Outcome]:
        def step(name: str, done: int, total: int, text: str = "") -> None:
            if stop.is_set():
                raise _StoppedError
            if lane == 0:
                reporter.step(name, done, total, text)

        told = replace(reporter, step=step)
        torch.set_num_threads(of_lane)
        try:
            with drawing_apart() as generator, OwnDropout(generator):
                return [job(told) for job in jobs[lane::at_once]]
        except BaseException:
            stop.set()
            raise

    pool, others = ThreadPoolExecutor(LANES, "lane"), []
    try:
        others += [pool.submit(copy_context().run, work, lane) for lane in range(1, min(at_once, len(jobs)))]
        done = [work(0)]
        done += [other.result() for other in others]
    except _StoppedError:
        pool.shutdown()
        failed = (error for other in others if not isinstance(error := other.exception(), _StoppedError | None))
        raise next(failed) from None
    finally:
        stop.set()
        pool.shutdown()
        torch.set_num_threads(before)
    return [done[number % at_once][number // at_once] for number in range(len(jobs))]
