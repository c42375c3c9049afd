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

# The most seconds after which a client that was turned away is told to ask again.
LONGEST_RETRY = 60
# The weight of the latest batch in the running averages.
SHARE_OF_LATEST = 0.2
# When images go singly, this many waiting images go together after all: an engine on OpenVINO computes as many at once
# in no longer than six alone (`graft.features.openvino_requests`).
TOGETHER = 8


@dataclass(frozen=True)
class Given:
    """An image as a client sent it: an encoded file or, with a `shape` (H, W, 3) or (H, W, 1), its pixels, uint8.

    With `explain`, its answer includes a map of where the evidence for its class lies.
    """

    name: str
    data: bytes
    shape: tuple[int, ...] | None = None
    explain: bool = False


@dataclass(eq=False)
class Job:
    """An image, its pending answer, and how many `top` classes the answer should hold."""

    image: Given
    top: int
    answer: asyncio.Future[dict[str, Any]]
    since: float = field(default_factory=time.monotonic)
    # Whether it is computed with no other beside it, because its batch killed a worker or failed and one image is to
    # blame.
    alone: bool = False
    # Whether a worker has it, and how many workers died while they computed it alone.
    sent: bool = False
    deaths: int = 0


class Full(Exception):
    """No more images may wait; there will be room in `seconds`."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Queue:
    """At most `most` waiting images, in order of arrival, for the tasks of one event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._jobs: deque[Job] = deque()
        self._arrived = asyncio.Event()
        # Only one taker gathers at a time: two would split what could be one batch.
        self._gathering = asyncio.Lock()
        # Running averages over the images of the latest batches: how long the batch took, and how many images were in
        # flight with it.
        self._image_seconds, self._images_beside = 0.0, 0.0

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def unanswered(self) -> int:
        """How many images wait whose clients still wait too."""
        return sum(not job.answer.done() for job in self._jobs)

    def put(self, jobs: list[Job]) -> None:
        """Queue the images of a request, all or none. Raises Full."""
        if len(self._jobs) + len(jobs) > self.most:
            # Images whose clients are gone keep nobody out.
            self._jobs = deque(job for job in self._jobs if not job.answer.done())
            if len(self._jobs) + len(jobs) > self.most:
                raise Full(self.seconds_to_clear())
        self._jobs.extend(jobs)
        self._arrived.set()

    def put_back(self, jobs: Iterable[Job]) -> None:
        """Put images whose batch was not answered back at the front of the queue, each to go alone."""
        for job in reversed(list(jobs)):
            job.alone, job.sent = True, False
            self._jobs.appendleft(job)
        self._arrived.set()

    async def take(self, most: int, wait: float, singly: bool = False) -> list[Job]:
        """Return the next batch: up to `most` images, as soon as `most` wait or the first has waited `wait` seconds.

        With `singly`, images go at once, one at a time while fewer than `TOGETHER` wait, so that no answer waits for
        another and no lane stands idle beside a batch. An image that goes alone is a batch of its own. Images whose
        clients are gone are skipped.
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
        """Record how long a batch took, and how many images were in flight with it, its own included.

        In the time one image takes, as many are answered as are in flight with it, on average over images (Little 1961,
        "A Proof for the Queuing Formula: L = λW"). Both averages therefore weight a batch by its images.
        """
        before = 1 - SHARE_OF_LATEST
        self._image_seconds = before * self._image_seconds + images * seconds
        self._images_beside = before * self._images_beside + images * under_way

    def seconds_to_clear(self) -> int:
        """Return about how many whole seconds it takes to answer the images that wait now, at least one."""
        seconds_per_image = self._image_seconds / max(1, self._images_beside)
        return max(1, min(LONGEST_RETRY, math.ceil(len(self._jobs) * seconds_per_image)))
