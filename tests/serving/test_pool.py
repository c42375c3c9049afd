"""Workers end, hang and refuse; every image is answered once, with its own answer."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from graft.errors import GraftError, InputError
from graft.serving import pool as pools
from graft.serving.batching import Given, Job
from graft.serving.pool import Model, Pool
from graft.serving.refusal import Refusal
from graft.serving.service import Service
from graft.serving.settings import Limits, Serving
from graft.serving.worker import load
from graft.weights.saved import load_model, save_model

STAND_IN = Path(__file__).with_name("stand_in.py")


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Workers without a model; the file decides which version they pretend to load."""
    version = tmp_path / "version"
    version.write_text("one")
    monkeypatch.setenv("STAND_IN_VERSION", str(version))
    monkeypatch.setattr(pools, "COMMAND", (sys.executable, str(STAND_IN)))
    return version


def with_pool(scenario: Callable[[Pool], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def run() -> None:
        pool = Pool(Serving("none", "none", **{"max_wait": 0.001, **options}))
        await pool.start()
        try:
            async with asyncio.timeout(30):
                await scenario(pool)
        finally:
            await pool.close()

    asyncio.run(run())


def put(pool: Pool, *texts: str) -> list[Job]:
    jobs = [Job(Given(text, text.encode()), 1, asyncio.get_running_loop().create_future()) for text in texts]
    pool.queue.put(jobs)
    return jobs


async def answered(jobs: list[Job]) -> list[str]:
    return [(await job.answer)["error"].partition(" of ")[0] for job in jobs]


def test_answers_of_batches_of_two_workers_do_not_mix() -> None:
    async def scenario(pool: Pool) -> None:
        requests = []
        for number in range(60):
            kind = "slow" if number % 7 == 0 else "echo"
            requests.append((texts := [f"{kind} {number} {part}" for part in range(1 + number % 4)], put(pool, *texts)))
            await asyncio.sleep(0.001)
        for texts, jobs in requests:
            assert await answered(jobs) == texts
        assert pool.restarts == 0

    with_pool(scenario, workers=2, max_batch=8)


def test_an_image_that_ends_workers_takes_no_other_with_it() -> None:
    async def scenario(pool: Pool) -> None:
        before, fatal, after = (
            put(pool, "slow a", "echo b"),
            put(pool, "die"),
            put(pool, *(f"echo {i}" for i in range(9))),
        )
        with pytest.raises(GraftError, match="ended two workers"):
            await fatal[0].answer
        assert await answered(before + after) == ["slow a", "echo b", *(f"echo {i}" for i in range(9))]
        assert pool.restarts in (2, 3)

    with_pool(scenario, max_batch=4)


@pytest.mark.parametrize("options", [{}, {"workers": 2}, {"workers": 2, "max_batch": 8}])
def test_how_long_those_that_wait_take_is_told_by_what_all_workers_answer_together(options: dict[str, Any]) -> None:
    async def scenario(pool: Pool) -> None:
        jobs = put(pool, *(f"slow {i}" for i in range(900)))
        await asyncio.sleep(0.25)
        began, before = time.monotonic(), len(pool.queue)
        await asyncio.sleep(0.6)
        seconds_for_one = (time.monotonic() - began) / (before - len(pool.queue))
        told, due = pool.queue.seconds_to_clear(), len(pool.queue) * seconds_for_one
        for job in jobs:
            job.answer.cancel()
        assert due / 2 < told < 2 * due

    with_pool(scenario, **{"max_batch": 2, "limits": Limits(waiting=1000), **options})


def test_a_killed_worker_is_seen_within_a_second_and_started_again() -> None:
    async def scenario(pool: Pool) -> None:
        jobs = put(pool, *(f"slow {i}" for i in range(6)))
        await asyncio.sleep(0.05)
        os.kill(pool.processes[0], signal.SIGKILL)
        began = time.monotonic()
        while pool.alive:
            await asyncio.sleep(0.005)
        assert time.monotonic() - began < 1
        assert await answered(jobs) == [f"slow {i}" for i in range(6)]
        assert pool.alive == 1 and pool.restarts == 1

    with_pool(scenario, max_batch=2)


def test_a_worker_that_hangs_is_ended() -> None:
    async def scenario(pool: Pool) -> None:
        os.kill(pool.processes[0], signal.SIGSTOP)
        assert await answered(put(pool, "echo a")) == ["echo a"]
        assert pool.restarts == 1

    with_pool(scenario, limits=Limits(batch_seconds=0.3))


def test_a_batch_that_fails_is_tried_image_by_image() -> None:
    async def scenario(pool: Pool) -> None:
        jobs = put(pool, "echo a", "fail", "echo b")
        assert await answered([jobs[0], jobs[2]]) == ["echo a", "echo b"]
        with pytest.raises(GraftError, match="ValueError: no"):
            await jobs[1].answer
        assert pool.restarts == 0

    with_pool(scenario)


def test_a_model_that_cannot_be_loaded_is_told_in_the_workers_words(stand_in: Path) -> None:
    stand_in.write_text("broken")
    with pytest.raises(InputError, match="expected a model, got none: save it"):
        asyncio.run(Pool(Serving("none", "none", workers=2)).start())


@pytest.mark.parametrize("other", ["two", "one edited"])
def test_workers_that_loaded_two_models_do_not_answer_together(
    other: str, stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        start, first = pools.Worker.start, asyncio.Event()

        async def between(serving: Serving, number: int) -> pools.Worker:
            if number:
                await first.wait()
                stand_in.write_text(other)
            try:
                return await start(serving, number)
            finally:
                first.set()

        monkeypatch.setattr(pools.Worker, "start", between)
        pool = Pool(Serving("none", "none", workers=2))
        try:
            with pytest.raises(GraftError, match="expected workers that loaded one model"):
                await pool.start()
            assert pool.processes == []
        finally:
            await pool.close()

    asyncio.run(scenario())


def test_a_worker_is_not_started_again_with_the_same_weights_used_otherwise(stand_in: Path) -> None:
    async def scenario(pool: Pool) -> None:
        stand_in.write_text("one edited")
        os.kill(pool.processes[0], signal.SIGKILL)
        await asyncio.sleep(2)
        assert pool.alive == 1 and pool.restarts == 0
        assert await answered(put(pool, "echo a")) == ["echo a"]

    with_pool(scenario, workers=2)


def test_what_a_worker_says_of_its_model_changes_with_all_that_decides_its_answers(
    letters_run: Path, tmp_path: Path
) -> None:
    def said(run: Path) -> dict[str, Any]:
        return load({"run": str(run), "engine": "torch", "precision": "float32"})[1]

    before = said(letters_run)
    assert said(letters_run) == before
    saved = load_model(letters_run / "model")
    turned = (saved.classes[1], saved.classes[0], *saved.classes[2:])
    swapped = ((1,), (0,), *((number,) for number in range(2, len(turned))))
    others = (
        replace(saved, preprocessing=replace(saved.preprocessing, resize_mode="letterbox")),
        replace(saved, temperature=2.5),
        replace(saved, classes=turned),
        replace(saved, outputs=swapped),
    )
    for number, other in enumerate(others):
        save_model(tmp_path / str(number) / "model", other)
        after = said(tmp_path / str(number))
        assert after["version"] == before["version"] and after["digest"] != before["digest"]


def test_a_worker_that_says_more_than_fits_on_a_line_goes_on_answering() -> None:
    async def scenario(pool: Pool) -> None:
        assert await answered(put(pool, "shout")) == ["shout"]
        assert await answered(put(pool, "shout")) == ["shout"]
        assert pool.restarts == 0

    with_pool(scenario, limits=Limits(batch_seconds=5))


def test_a_reload_loses_no_request_and_no_request_has_answers_of_two_models(stand_in: Path) -> None:
    async def scenario() -> None:
        service = Service(Serving("none", "none", max_batch=4, max_wait=0.001))
        await service.start()
        ending, versions = False, []

        async def ask(client: int) -> None:
            while not ending:
                found = await service.answer([Given("", f"slow {client} {part}".encode()) for part in range(3)])
                texts = [answer["error"] for answer in found.of_images]
                by = {text.rpartition(" ")[2] for text in texts}
                assert by == {found.model.version}
                assert [text.split(" of ")[0] for text in texts] == [f"slow {client} {part}" for part in range(3)]
                versions.append(found.model.version)

        clients = [asyncio.create_task(ask(client)) for client in range(6)]
        await asyncio.sleep(0.3)
        stand_in.write_text("two")
        assert (await service.reload()).version == "two"
        await asyncio.sleep(0.4)
        stand_in.write_text("broken")
        with pytest.raises(InputError):
            await service.reload()
        ending = True
        await asyncio.gather(*clients)
        assert set(versions) == {"one", "two"} and versions[-1] == "two"
        await service.close()

    asyncio.run(scenario())


def test_a_request_that_is_given_up_or_not_answered_in_time_leaves_nothing_waiting() -> None:
    async def scenario() -> None:
        service = Service(Serving("none", "none", max_batch=1, limits=Limits(seconds=0.15)))
        await service.start()
        slow = [Given("", b"slow") for _ in range(20)]
        with pytest.raises(Refusal, match="expected an answer within") as refused:
            await service.answer(slow)
        assert refused.value.status == 503 and refused.value.retry_after
        asking = asyncio.create_task(service.answer(slow))
        await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        # What is left waits no longer.
        assert "echo" in (await service.answer([Given("", b"echo")])).of_images[0]["error"]
        await service.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        (((0.01, None), (0.05, 0.9)), "0.05 is the least that is reachable, so ask for that or leave it out"),
        (((0.01, None), (0.05, None)), "leave it out, as no budget is reachable: that takes a model with more images"),
    ],
)
def test_a_budget_that_is_not_reachable_is_refused_with_the_one_that_is(
    budgets: tuple[tuple[float, float | None], ...], said: str
) -> None:
    with pytest.raises(Refusal, match=f"got 0.02, which is not reachable: {said}"):
        Model(("a",), "1", "torch", 32, {}, budgets=budgets).threshold(0.02)
