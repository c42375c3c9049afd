"""How much time training has, and how much of it has passed."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from graft.errors import InputError

# Steps after which it is known whether an epoch fits into the time that is left.
STEPS_TO_JUDGE_BY = 5

_BEGAN: ContextVar[float | None] = ContextVar("when the work began that a limited time is for", default=None)


@contextmanager
def counted_from(moment: float) -> Iterator[None]:
    """While the block runs, the time of what is started in it counts from a moment, on the clock of perf_counter.

    Of a command that is its own start, seconds before anything that takes long is imported.
    """
    before = _BEGAN.set(moment)
    try:
        yield
    finally:
        _BEGAN.reset(before)


def work_began() -> float:
    """The moment from which the time of work that starts now counts: now, unless `counted_from` says otherwise."""
    moment = _BEGAN.get()
    return time.perf_counter() if moment is None else moment


@dataclass(frozen=True)
class Budget:
    """Seconds that training may take, of which enough are set aside to score the validation images `scorings` times."""

    seconds: float
    scorings: float = 1.5


@dataclass(frozen=True)
class Clock:
    """When training began, on the clock of `time.perf_counter`, and by how many seconds later its steps must end."""

    began: float
    limit: float = math.inf

    @classmethod
    def start(cls, before: float = 0.0, limit: float = math.inf) -> "Clock":
        """A clock that starts now, with so many seconds behind it from before an interruption."""
        return cls(time.perf_counter() - before, limit)

    def within(self, budget: Budget | None, scoring: float) -> "Clock":
        """The same clock with the limit that `budget` sets, where scoring the validation images takes so long."""
        if budget is None:
            return self
        return replace(self, limit=max(budget.seconds - budget.scorings * scoring, 1e-3))

    def elapsed(self) -> float:
        """Seconds since training began."""
        return time.perf_counter() - self.began

    def share(self) -> float:
        """How much of the time has passed: 1 and more when it is exhausted, 0 where there is no limit."""
        return self.elapsed() / self.limit

    def check_epoch_fits(self, began: float, share: float) -> None:
        """Raise InputError unless an epoch fits that began at `began` seconds and of which `share` is done by now."""
        needed, left = (self.elapsed() - began) / share, self.limit - began
        if needed > left:
            raise too_short(left, f"about {needed:.0f} s for one epoch")


def too_short(left: float, needed: str = "time for one epoch") -> InputError:
    return InputError(
        f"expected a --time that leaves {needed}, got one that leaves {max(left, 0):.0f} s: raise it, or choose a "
        "level that keeps more of the base"
    )
