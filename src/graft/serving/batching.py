"""Images that wait to be classified, and how they are taken in batches."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

# Seconds after which a client that was turned away may ask again, at most.
LONGEST_RETRY = 60
# How much the latest batch counts in the average rate.
SHARE_OF_LATEST = 0.2
# Where images go singly, so many that wait go together after all: as many as an engine on OpenVINO computes at once,
# which takes no longer than six alone (`graft.features.openvino_requests`).
TOGETHER = 8


@dataclass(frozen=True)
class Given:
    """An image as a client sent it: an encoded file, or with a `shape` (H, W, 3) or (H, W, 1) its pixels, uint8.

    With `explain` its answer comes with a map of where the evidence for its class lies.
    """

    name: str
    data: bytes
    shape: tuple[int, ...] | None = None
    explain: bool = False


@dataclass(eq=False)
class Job:
    """An image and its answer to come, of which `top` classes are wanted."""

    image: Given
    top: int
    answer: asyncio.Future[dict[str, Any]]
    since: float = field(default_factory=time.monotonic)
    # Whether it is computed with no other beside it: its batch ended a worker or failed, and one image is to blame.
    alone: bool = False
    # Whether a worker has it, and how many workers ended while they computed it alone.
    sent: bool = False
    deaths: int = 0


class Full(Exception):
    """No more images may wait; `seconds` from now there will be room."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Queue:
    """Images that wait, at most `most`, in the order in which they came; for the tasks of one event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._jobs: deque[Job] = deque()
        self._arrived = asyncio.Event()
        # One taker gathers at a time: two would split between them what could be one batch.
        self._gathering = asyncio.Lock()
        # Of the latest batches, summed over their images: how long each took, and how many were under way with it.
        self._image_seconds, self._images_beside = 0.0, 0.0

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def unanswered(self) -> int:
        """How many wait whose clients wait too."""
        return sum(not job.answer.done() for job in self._jobs)

    def put(self, jobs: list[Job]) -> None:
        """Let the images of a request wait, all or none. Raises Full."""
        if len(self._jobs) + len(jobs) > self.most:
            # Those whose clients are gone keep nobody out.
            self._jobs = deque(job for job in self._jobs if not job.answer.done())
            if len(self._jobs) + len(jobs) > self.most:
                raise Full(self.seconds_to_clear())
        self._jobs.extend(jobs)
        self._arrived.set()

    def put_back(self, jobs: Iterable[Job]) -> None:
        """Let images whose batch was not answered wait again, each alone, before all others."""
        for job in reversed(list(jobs)):
            job.alone, job.sent = True, False
            self._jobs.appendleft(job)
        self._arrived.set()

    async def take(self, most: int, wait: float, singly: bool = False) -> list[Job]:
        """The next batch: up to `most` images, as soon as there are so many or the first has waited `wait` seconds.

        With `singly` images go at once, each alone while fewer than `TOGETHER` wait: an answer then waits for no other,
        and no lane stands idle beside a batch. An image that goes alone is a batch of its own. Those whose clients are
        gone are left out.
        """
        async with self._gathering:
            while True:
                while not self._jobs:
                    self._arrived.clear()
                    await self._arrived.wait()
                full, until = most, wait
                if singly:
                    full, until = 1 if len(self._jobs) < TOGETHER else min(most, TOGETHER), 0.0
                due = self._jobs[0].since + until
                while len(self._jobs) < full and (left := due - time.monotonic()) > 0:
                    self._arrived.clear()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(left):
                            await self._arrived.wait()
                if batch := self._next(full):
                    return batch

    def _next(self, most: int) -> list[Job]:
        batch: list[Job] = []
        while self._jobs and len(batch) < most:
            if batch and (self._jobs[0].alone or batch[0].alone):
                break
            job = self._jobs.popleft()
            if not job.answer.done():
                batch.append(job)
        return batch

    def took(self, images: int, seconds: float, under_way: int) -> None:
        """Learn how long a batch took, and how many images were under way with it, its own among them.

        In the time that an image takes, so many are answered as are under way with it, on average over images (Little
        1961, "A Proof for the Queuing Formula: L = λW"). So a batch counts by its images, in both averages.
        """
        before = 1 - SHARE_OF_LATEST
        self._image_seconds = before * self._image_seconds + images * seconds
        self._images_beside = before * self._images_beside + images * under_way

    def seconds_to_clear(self) -> int:
        """About how long it takes until those that wait now are answered, whole seconds, at least one."""
        seconds_per_image = self._image_seconds / max(1, self._images_beside)
        return max(1, min(LONGEST_RETRY, math.ceil(len(self._jobs) * seconds_per_image)))
