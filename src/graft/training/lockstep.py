"""Pieces of a batch that wait for each other within a pass, as batch norm with batch statistics requires."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Barrier, BrokenBarrierError, Semaphore

from torch import Tensor

from graft.training.processes import Processes


class Lockstep:
    """The pieces of one batch: `counts` says how many each process has, and each computes `at_once` of them at a time.

    A process without a piece takes part with an empty one, which counts for nothing.
    """

    def __init__(self, processes: Processes, counts: Sequence[int], at_once: int) -> None:
        self._processes, self._counts = processes, counts
        self._count = counts[processes.rank]
        self._rows: dict[int, Tensor] = {}
        self._turns = Semaphore(at_once)
        self._barrier = Barrier(max(1, self._count), action=self._add_up)
        self._failure: BaseException | None = None

    @contextmanager
    def piece(self, place: int) -> Iterator[None]:
        """Compute piece `place` of this process in the block when its turn comes; all must begin, each in a thread."""
        token = PLACE.set(Place(self, place))
        try:
            with self._turns:
                yield
        except BrokenBarrierError:
            # Another piece has failed.
            raise self._failure or RuntimeError("the pieces of a batch were stopped") from None
        except BaseException as error:
            self.stop(error)
            raise
        finally:
            PLACE.reset(token)

    def stop(self, error: BaseException) -> None:
        """Stop all pieces from waiting for each other."""
        self._failure = self._failure or error
        self._barrier.abort()

    def sum(self, place: int, row: Tensor) -> Tensor:
        """Return the sum of the rows (n,) of all pieces of all processes, added in order."""
        self._rows[place] = row
        self._turns.release()
        try:
            self._barrier.wait()
        finally:
            self._turns.acquire()
        return self._whole.clone()

    def _add_up(self) -> None:
        rows = [self._rows[place] for place in range(self._count)]
        try:
            self._whole = self._processes.sum_in_order(rows, self._counts, self._rows[0])
        except BaseException as error:
            self._failure = error
            raise


@dataclass(frozen=True)
class Place:
    """The piece of this process that a thread computes."""

    lockstep: Lockstep
    number: int

    def sum(self, row: Tensor) -> Tensor:
        return self.lockstep.sum(self.number, row)


# The piece that this thread computes.
PLACE: ContextVar[Place | None] = ContextVar("PLACE", default=None)
