"""Worker processes that answer queued images; a worker that dies is restarted and its images are tried again.

When a worker dies on a batch, the images of the batch are retried one at a time, so that an image which kills workers
takes no other down with it. An image that kills a second worker while alone is answered with an error.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from graft.data.loading import available_cores
from graft.errors import GraftError, InputError
from graft.serving import framing
from graft.serving.batching import Job, Queue
from graft.serving.refusal import Refusal
from graft.serving.settings import KEY_VARIABLE, Serving
from graft.serving.worker import under_way

log = logging.getLogger("graft.serving")

# How many workers an image may kill while alone in them before it is given up.
MOST_DEATHS = 2
# Seconds: to let a worker end by itself, to load a model, and at most between restarts of one that keeps dying.
TO_END, TO_LOAD, LONGEST_PAUSE = 5.0, 600.0, 30.0
# A worker that lived longer than this many seconds is restarted at once.
LONG_LIFE = 10.0
# `-P`, so that nothing is imported from the working directory.
COMMAND = (sys.executable, "-P", "-W", "ignore", "-m", "graft.serving.worker")
# The longest line of a worker's stderr that is logged, in characters.
LINE = 500


class WorkerEnded(Exception):
    """A worker ended before it answered."""


@dataclass(frozen=True)
class Model:
    """What workers report about the model that they loaded."""

    classes: tuple[str, ...]
    version: str
    engine: str
    input_size: int
    made_from: dict[str, str]
    # How many single images a worker computes side by side; 0 when images gain from being batched.
    lanes: int = 0
    # Error budgets in ascending order, each with the confidence threshold that keeps it, or None where no threshold is
    # known to.
    budgets: tuple[tuple[float, float | None], ...] = ()
    # Of all that decides the answers besides the engine. `version` is of the weights alone, which the same network
    # saved with another preprocessing or temperature shares.
    digest: str = ""

    def threshold(self, budget: float) -> float:
        """Return the confidence threshold that keeps a budget, or the next stricter budget. Raises Refusal."""
        stricter = [threshold for row, threshold in self.budgets if row <= budget + 1e-12]
        if not stricter or stricter[-1] is None:
            least = next((row for row, threshold in self.budgets if threshold is not None), None)
            instead = (
                "leave it out, as no budget is reachable: that takes a model with more images, or with fewer "
                "wrong answers"
            )
            if least is not None:
                instead = f"{least:.3g} is the least that is reachable, so ask for that or leave it out"
            raise Refusal(
                400,
                f"expected an 'error_budget' that the model's held-out images can guarantee, got {budget:.3g}, which "
                f"is not reachable: {instead}",
            )
        return stricter[-1]


class Worker:
    """A process that has the model loaded."""

    def __init__(self, process: Process, model: Model) -> None:
        self.process, self.model = process, model
        self.ended = asyncio.Event()
        self.started = time.monotonic()
        # Held while a batch is sent; an image that goes alone holds it until it is answered.
        self._turn = asyncio.Lock()
        self._idle = asyncio.Event()
        self._idle.set()
        self._under_way: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, serving: Serving, number: int) -> Worker:
        """Start a process and wait until its model is loaded. Raises the error with which the process refuses."""
        command = [*COMMAND, _options(serving, number)]
        # A process that decodes bytes from strangers must not know the key.
        environment = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
        process = await asyncio.create_subprocess_exec(
            *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, limit=2**20, env=environment
        )
        telling = asyncio.create_task(_tell_stderr(process))
        process_out = process.stdout
        assert process_out is not None
        try:
            async with asyncio.timeout(TO_LOAD):
                header, _ = await framing.receive(process_out)
        except (asyncio.IncompleteReadError, TimeoutError):
            _kill(process)
            code = await process.wait()
            await telling
            raise GraftError(
                f"expected a worker to load the model, got one that ended with code {code}: see the log for its reason"
            ) from None
        except BaseException:
            _kill(process)
            raise
        if "refused" in header:
            await process.wait()
            raise (InputError if header["exit_code"] == 2 else GraftError)(header["refused"])
        about = header["ready"]
        budgets = tuple(map(tuple, about.pop("budgets", ())))
        return cls(process, Model(tuple(about.pop("classes")), budgets=budgets, **about))

    async def ask(self, jobs: list[Job], seconds: float) -> list[dict[str, Any]]:
        """Return one answer per image. Raises WorkerEnded, and GraftError for a batch that the worker failed on.

        A worker that takes longer than `seconds` is killed.
        """
        async with self._turn:
            if jobs[0].alone:
                await self._idle.wait()
                return await self._answers(self._send(jobs), seconds)
            reply = self._send(jobs)
        return await self._answers(reply, seconds)

    async def _answers(self, reply: asyncio.Future[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
        try:
            async with asyncio.timeout(seconds):
                header = await reply
        except TimeoutError:
            log.error("a batch took more than %.0f s: its worker is stopped", seconds)
            _kill(self.process)
            raise WorkerEnded from None
        if "failed" in header:
            raise GraftError(header["failed"])
        return list(header["answers"])

    def _send(self, jobs: list[Job]) -> asyncio.Future[dict[str, Any]]:
        if self.ended.is_set() or self.process.stdin is None:
            raise WorkerEnded
        self._count += 1
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._under_way[self._count] = reply
        self._idle.clear()
        for job in jobs:
            job.sent = True
        images = [{"shape": job.image.shape, "top": job.top, "explain": job.image.explain} for job in jobs]
        message = framing.pack({"batch": self._count, "images": images}, [job.image.data for job in jobs])
        with suppress(OSError):  # the process has ended, which `_listen` is about to report
            self.process.stdin.writelines(message)
        return reply

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        try:
            while True:
                header, _ = await framing.receive(self.process.stdout)
                reply = self._under_way.pop(header.pop("batch"), None)
                if reply is not None and not reply.done():
                    reply.set_result(header)
                if not self._under_way:
                    self._idle.set()
        except (asyncio.IncompleteReadError, ValueError, OSError):
            _kill(self.process)
        finally:
            self.ended.set()
            self._idle.set()
            for reply in self._under_way.values():
                if not reply.done():
                    reply.set_exception(WorkerEnded())
                    reply.exception()  # mark it as seen: nobody may be waiting for it any more
            self._under_way.clear()

    async def end(self) -> None:
        """Let the process finish its answers and end; kill it after `TO_END` seconds."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(TO_END):
                await self.process.wait()
        except TimeoutError:
            _kill(self.process)
            await self.process.wait()
        await self._listening


class Pool:
    """Workers that share one model, and the queue of images that they answer."""

    def __init__(self, serving: Serving, observe: Callable[[int, float], None] = lambda images, seconds: None) -> None:
        self.serving = serving
        self.queue = Queue(serving.limits.waiting)
        self.restarts = 0
        # Called with the number of images and the seconds of every answered batch.
        self._observe = observe
        self._workers: dict[int, Worker] = {}
        self._keeping: list[asyncio.Task[None]] = []
        # How many images the workers hold.
        self._under_way = 0
        self._model: Model | None = None

    @property
    def model(self) -> Model:
        assert self._model is not None, "a pool has a model only after it was started"
        return self._model

    @property
    def alive(self) -> int:
        """How many workers have their model loaded."""
        return sum(not worker.ended.is_set() for worker in self._workers.values())

    @property
    def processes(self) -> list[int]:
        """The process ids of the workers that are alive."""
        return [worker.process.pid for worker in self._workers.values() if not worker.ended.is_set()]

    async def start(self) -> None:
        """Start all workers and wait until they can answer. Raises GraftError if one cannot."""
        starts = [Worker.start(self.serving, number) for number in range(self.serving.workers)]
        found = await asyncio.gather(*starts, return_exceptions=True)
        workers = [worker for worker in found if isinstance(worker, Worker)]
        for error in found:
            if isinstance(error, BaseException):
                await asyncio.gather(*(worker.end() for worker in workers))
                raise error
        if any(worker.model != workers[0].model for worker in workers):
            await asyncio.gather(*(worker.end() for worker in workers))
            raise GraftError(
                "expected workers that loaded one model, got some that loaded another, as its files changed meanwhile: "
                "load it again once they are all written"
            )
        self._workers = dict(enumerate(workers))
        self._model = workers[0].model
        self._keeping = [asyncio.create_task(self._keep(number)) for number in self._workers]

    async def close(self) -> None:
        """Answer what is waiting, then end the workers."""
        while (self.queue.unanswered or self._under_way) and self._keeping:
            await asyncio.sleep(0.02)
        for task in self._keeping:
            task.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        await asyncio.gather(*(worker.end() for worker in self._workers.values()))

    async def _keep(self, number: int) -> None:
        """Feed a worker, and start a replacement whenever it ends."""
        pause = 0.0
        while True:
            worker = self._workers[number]
            await self._feed(worker)
            lived = time.monotonic() - worker.started
            await worker.end()
            log.error("a worker ended", extra={"code": worker.process.returncode, "seconds": round(lived, 1)})
            pause = 0.0 if lived > LONG_LIFE else min(LONGEST_PAUSE, max(0.25, 2 * pause))
            self._workers[number] = await self._started_again(number, pause)

    async def _started_again(self, number: int, pause: float) -> Worker:
        while True:
            await asyncio.sleep(pause)
            try:
                worker = await Worker.start(self.serving, number)
            except GraftError as error:
                log.error("a worker could not be started again: %s", error)
                pause = min(LONGEST_PAUSE, max(1.0, 2 * pause))
                continue
            if worker.model == self._model:
                self.restarts += 1
                return worker
            # Answers of two models must not mix: a new model has to wait until all workers are told to load it.
            await worker.end()
            log.error("the files of the model have changed: reload it, or put back those that were served")
            pause = LONGEST_PAUSE

    async def _feed(self, worker: Worker) -> None:
        """Hand batches to a worker until it ends."""
        feeders = [asyncio.create_task(self._hand_over(worker)) for _ in range(under_way(worker.model.lanes))]
        ended = asyncio.create_task(worker.ended.wait())
        try:
            await asyncio.wait({*feeders, ended}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*feeders, ended):
                task.cancel()
            for result in await asyncio.gather(*feeders, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(result, WorkerEnded):
                    log.error("unexpected %s while a batch was handed over", type(result).__name__, exc_info=result)
                    _kill(worker.process)

    async def _hand_over(self, worker: Worker) -> None:
        serving = self.serving
        while not worker.ended.is_set():
            jobs = await self.queue.take(serving.max_batch, serving.max_wait, singly=worker.model.lanes > 0)
            async with self._tried_again_unless_answered(jobs):
                began = time.monotonic()
                try:
                    answers = await worker.ask(jobs, serving.limits.batch_seconds)
                except GraftError as error:
                    self._failed(jobs, error)
                    continue
                seconds = time.monotonic() - began
                self.queue.took(len(jobs), seconds, self._under_way)
                self._observe(len(jobs), seconds)
                for job, answer in zip(jobs, answers, strict=True):
                    if not job.answer.done():
                        job.answer.set_result(answer)

    @asynccontextmanager
    async def _tried_again_unless_answered(self, jobs: list[Job]) -> Any:
        """On leaving the block, by whatever exception, queue the images that have no answer again."""
        self._under_way += len(jobs)
        try:
            yield
        finally:
            self._under_way -= len(jobs)
            again = []
            for job in jobs:
                if job.answer.done():
                    continue
                job.deaths += job.alone and job.sent
                if job.deaths < MOST_DEATHS:
                    again.append(job)
                else:
                    job.answer.set_exception(
                        GraftError("expected an image that can be computed, got one that ended two workers: report it")
                    )
            self.queue.put_back(again)

    def _failed(self, jobs: list[Job], error: GraftError) -> None:
        log.error("a batch failed: %s", error, extra={"images": len(jobs)})
        if jobs[0].alone:
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)


def _options(serving: Serving, number: int) -> str:
    """Return the argument of a worker.

    Several workers divide the cores between them; otherwise each would start threads for all cores.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    share = available_cores() // serving.workers
    own = cores[number * share : (number + 1) * share] if serving.workers > 1 and share else []
    asked = {"run": serving.run, "engine": serving.engine, "precision": serving.precision}
    return json.dumps({**asked, "pixels": serving.limits.pixels, "cores": own})


async def _tell_stderr(process: Process) -> None:
    """Log what a worker writes to stderr, be it a traceback or a library's message."""
    assert process.stderr is not None
    while True:
        try:
            line = await process.stderr.readline()
        except ValueError:
            # A line too long to keep. Unless reading goes on, the worker soon stops at a full pipe.
            log.warning("a worker says: more than fits on a line")
            continue
        if not line:
            return
        if text := line.decode(errors="replace").rstrip():
            log.warning("a worker says: %s", text[:LINE])


def _kill(process: Process) -> None:
    # Not `process.kill()`: it polls the process, and may reap the exit status that asyncio waits for.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
