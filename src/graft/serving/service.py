"""The model being served: images in, answers out, and replacement by a new model without losing a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from graft.errors import GraftError
from graft.serving.batching import Full, Given, Job
from graft.serving.pool import Model, Pool
from graft.serving.refusal import Refusal
from graft.serving.settings import Serving

log = logging.getLogger("graft.serving")


@dataclass(frozen=True)
class Answers:
    """The answers to the images of a request, all by one model.

    Each is `{"top": [[number of the class, probability], …]}`, likeliest first, or `{"error": reason}`.
    """

    model: Model
    of_images: list[dict[str, Any]]


class Service:
    """Answers images with the pool of the most recently loaded model."""

    def __init__(self, serving: Serving, observe: Callable[[int, float], None] = lambda images, seconds: None) -> None:
        self.serving = serving
        self.reloads = 0
        self.draining = False
        self._observe = observe
        self._pool = Pool(serving, observe)
        self._reloading = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Load the model. Raises GraftError."""
        await self._pool.start()

    @property
    def model(self) -> Model:
        return self._pool.model

    @property
    def pool(self) -> Pool:
        return self._pool

    @property
    def ready(self) -> bool:
        """Whether every worker can answer and the service is not shutting down."""
        return not self.draining and self._pool.alive == self.serving.workers

    async def answer(self, images: list[Given], top: int | None = None) -> Answers:
        """Return the answers to some images, by default with all classes. Raises Refusal.

        When the caller is cancelled, images not yet computed are dropped.
        """
        pool, loop = self._pool, asyncio.get_running_loop()
        classes = len(pool.model.classes)
        jobs = [Job(image, min(top or classes, classes), loop.create_future()) for image in images]
        try:
            pool.queue.put(jobs)
        except Full as full:
            raise Refusal(
                429,
                f"expected room for {len(images)} more in the queue, got a full queue: try again later",
                full.seconds,
            ) from None
        try:
            async with asyncio.timeout(self.serving.limits.seconds):
                found = [await job.answer for job in jobs]
        except TimeoutError:
            seconds = pool.queue.seconds_to_clear()
            raise Refusal(
                503, f"expected an answer within {self.serving.limits.seconds:g} s, got none: try again later", seconds
            ) from None
        except GraftError as error:
            raise Refusal(500, str(error)) from None
        finally:
            for job in jobs:
                if not job.answer.cancel() and not job.answer.cancelled():
                    job.answer.exception()  # mark it as seen, so that asyncio does not warn about it later
        return Answers(pool.model, found)

    async def reload(self) -> Model:
        """Load the model again, and answer with the new one from then on.

        The old model answers until the new one is loaded, and still answers requests that came earlier. Raises
        GraftError for a model that cannot be loaded; the old one then stays.
        """
        async with self._reloading:
            pool = Pool(self.serving, self._observe)
            await pool.start()
            old, self._pool = self._pool, pool
            self.reloads += 1
            log.info("reloaded", extra={"version": pool.model.version, "before": old.model.version})
            closing = asyncio.create_task(old.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            return pool.model

    async def close(self) -> None:
        """End all workers once they have answered what they were given, or after `limits.seconds`."""
        for each in (asyncio.create_task(self._pool.close()), *self._closing):
            with suppress(TimeoutError):
                async with asyncio.timeout(self.serving.limits.seconds):
                    await each
