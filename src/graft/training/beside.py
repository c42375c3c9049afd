"""Fits that do not wait for each other, side by side, each on its part of the cores.

A step of a crown on few images has much that a second core cannot take part in. Two fits beside each other, a core
each, over the same one after the other on both: MobileNet 0.25 at 96 and 128 px 1.4 to 1.8 times as fast, MobileNetV2
at 128 px 1.2 to 1.5 (400 steps from 40 % of the layers on, medians of several turns on two cores).
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
# What a race does cannot be resumed, so that the refit of more images waits until there is a run to keep its state.
MOST_AHEAD_IN_A_RACE = 1000
# Where fewer images are set aside than tell levels apart, this is done several times.
ENOUGH_TO_COMPARE, MOST_REPEATS = 40, 4
# Whose layers are known to draw random numbers by dropout alone.
KNOWN = ("torch.nn.", "graft.")

Outcome = TypeVar("Outcome")


class _StoppedError(Exception):
    """The fit beside has failed or was interrupted."""


def repeats(task: Task) -> int:
    """How often images are set aside in the race: so that levels are compared on about `ENOUGH_TO_COMPARE`, where time
    is given."""
    if task.deadline is not None or not task.refit:
        return 1
    return min(MOST_REPEATS, -(-ENOUGH_TO_COMPARE // len(task.dataset.splits[VAL])))


def lanes(task: Task, crown: nn.Module) -> int:
    """How many fits of `crown` run at once: one on a GPU, in limited time, which they would have to share, with
    others that take part, and where layers may draw from the generator of the process."""
    known = all(type(module).__module__.startswith(KNOWN) for module in crown.modules())
    device = task.choice.device
    alone = device == "cpu" and task.deadline is None and not task.processes.in_pieces(device)
    return LANES if known and alone and torch.get_num_threads() >= LANES else 1


def refits_ahead(task: Task, crown: nn.Module) -> bool:
    """Whether the fit on all images does not wait for what is measured, but takes the lane that this leaves free.

    In a race it is done for nothing where another level is chosen.
    """
    if not task.refit or lanes(task, crown) == 1:
        return False
    few = sum(len(task.dataset.splits[name]) for name in task.to_train_on) <= MOST_AHEAD_IN_A_RACE
    return not task.raced or (few and repeats(task) % LANES == 1)


def fits_at_once(task: Task, crown: nn.Module) -> int:
    """How many fits of `crown` run at once in all that the training comes to."""
    return lanes(task, crown) if refits_ahead(task, crown) or (task.raced and repeats(task) > 1) else 1


def in_a_lane(work: Callable[[], Outcome]) -> Outcome:
    """What `work` comes to, to the bit, where fits run side by side."""
    return side_by_side([lambda _: work()], Reporter())[0]


def side_by_side(
    jobs: Sequence[Callable[[Reporter], Outcome]], reporter: Reporter, at_once: int = LANES
) -> list[Outcome]:
    """What each of `jobs` comes to, in order; those of the first lane tell `reporter` how far they are.

    Each has as many of the cores as a lane has, however many run `at_once`, so that what it computes does not depend on
    them; nor does what it draws. Raises what a job raises, once the others have stopped, at their next step.
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
