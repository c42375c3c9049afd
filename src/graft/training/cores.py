"""The cores of this process: pieces of a batch that are computed at once, each by one thread.

Where several threads share an operation, as the sum over images in the gradient of a kernel, its rounding depends on
how many they are. One for each piece leaves nothing to depend on the cores of a machine, or of a process.
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

# Threads, none of which is started before it is needed: as many as pieces of a batch may be under way at once.
MOST = 64

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Cores:
    """So many threads, each of which computes one thing at a time; a single one is that of the caller."""

    def __init__(self, count: int, pool: ThreadPoolExecutor) -> None:
        self.count = count
        self._pool = pool

    def in_order(
        self, work: Callable[[Item], Outcome], items: Iterable[Item], at_once: int | None = None
    ) -> Iterator[Outcome]:
        """What `work` makes of each item, in order; so many are begun `at_once`, as a rule one for each core."""
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
    """The part of the cores of its machine that this process has, or what OMP_NUM_THREADS says.

    Within the block torch computes on one core in each thread. With a GPU, it is all of them in one thread.
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
