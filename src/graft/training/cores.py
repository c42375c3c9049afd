"""The cores of this process: pieces of a batch that are computed at once, each by one thread.

When several threads share an operation, like the sum over images in the gradient of a kernel, its rounding depends on
their number. With one thread per piece, nothing depends on the cores of a machine or of a process.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

from graft.data.loading import available_cores
from graft.training.processes import Processes

# Threads, started only when needed: as many as pieces of a batch may be in progress at once.
MOST = 64

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Cores:
    """A number of threads, each of which computes one thing at a time; a count of one means the caller's thread."""

    def __init__(self, count: int, pool: ThreadPoolExecutor) -> None:
        self.count = count
        self._pool = pool

    def in_order(
        self, work: Callable[[Item], Outcome], items: Iterable[Item], at_once: int | None = None
    ) -> Iterator[Outcome]:
        """Yield the result of `work` for each item, in order; `at_once` run at a time, one per core by default."""
        at_once = at_once or self.count
        if at_once == 1:
            yield from map(work, items)
            return
        begun: deque[Future[Outcome]] = deque()
        try:
            for item in items:
                begun.append(self._pool.submit(work, item))
                if len(begun) == at_once:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for each in begun:
                each.cancel()


@contextmanager
def own_cores(processes: Processes, device: str) -> Iterator[Cores]:
    """Yield this process's share of its machine's cores, or as many as OMP_NUM_THREADS says.

    Within the block torch computes on one core in each thread. With a GPU, it computes on all of them in one thread.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", processes.count))
    count = max(1, int(given) if given.isdecimal() else available_cores() // here)
    before = torch.get_num_threads()
    of_thread = 1 if device == "cpu" else count
    torch.set_num_threads(of_thread)
    pool = ThreadPoolExecutor(MOST, "piece", lambda: torch.set_num_threads(of_thread))
    try:
        yield Cores(count if device == "cpu" else 1, pool)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
