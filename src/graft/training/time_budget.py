"""How much time training has, and how much of it has passed."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from graft.errors import InputError

# The number of steps after which it is clear whether an epoch fits into the remaining time.
STEPS_TO_JUDGE_BY = 5

_BEGAN: ContextVar[float | None] = ContextVar("when the work began that a limited time is for", default=None)


@contextmanager
def counted_from(moment: float) -> Iterator[None]:
    """Within the block, count the time of new work from `moment`, on the clock of perf_counter.

    A command counts from its own start, seconds before the slow imports.
    """
    before = _BEGAN.set(moment)
    try:
        yield
    finally:
        _BEGAN.reset(before)


def work_began() -> float:
    """Return the moment from which the time of new work counts: now, unless `counted_from` says otherwise."""
    moment = _BEGAN.get()
    return time.perf_counter() if moment is None else moment


@dataclass(frozen=True)
class Budget:
    """Seconds that training may take, including the time to score the validation images `scorings` times."""

    seconds: float
    scorings: float = 1.5


@dataclass(frozen=True)
class Clock:
    """When training began, on the clock of `time.perf_counter`, and how many seconds later its steps must end."""

    began: float
    limit: float = math.inf

    @classmethod
    def start(cls, before: float = 0.0, limit: float = math.inf) -> "Clock":
        """Return a clock that starts now, with `before` seconds already passed before an interruption."""
        return cls(time.perf_counter() - before, limit)

    def within(self, budget: Budget | None, scoring: float) -> "Clock":
        """Return the same clock with the limit of `budget`, where `scoring` is the seconds to score val once."""
        if budget is None:
            return self
        return replace(self, limit=max(budget.seconds - budget.scorings * scoring, 1e-3))

    def elapsed(self) -> float:
        """Return the seconds since training began."""
        return time.perf_counter() - self.began

    def share(self) -> float:
        """Return the fraction of the time that has passed: 1 or more when it is used up, 0 when there is no limit."""
        return self.elapsed() / self.limit

    def check_epoch_fits(self, began: float, share: float) -> None:
        """Raise InputError unless an epoch that began at `began` seconds, and of which `share` is done by now, fits."""
        needed, left = (self.elapsed() - began) / share, self.limit - began
        if needed > left:
            raise too_short(left, f"about {needed:.0f} s for one epoch")


def too_short(left: float, needed: str = "time for one epoch") -> InputError:
    return InputError(
        f"expected a --time that leaves {needed}, got one that leaves {max(left, 0):.0f} s: raise it, or choose a "
        "level that keeps more of the base"
    )
