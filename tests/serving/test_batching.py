"""Images wait in order, leave in batches, and the queue never exceeds its limit."""

import asyncio
import time

import pytest

from graft.serving.batching import Full, Given, Job, Queue


def jobs(*names: str) -> list[Job]:
    return [Job(Given(name, b""), 1, asyncio.get_running_loop().create_future()) for name in names]


def names(batch: list[Job]) -> str:
    return "".join(job.image.name for job in batch)


def test_a_full_batch_goes_at_once_and_in_order() -> None:
    async def scenario() -> None:
        queue = Queue(10)
        queue.put(jobs(*"abcde"))
        began = time.monotonic()
        assert names(await queue.take(3, 5.0)) == "abc"
        assert time.monotonic() - began < 1
        assert names(await queue.take(2, 5.0)) == "de"

    asyncio.run(scenario())


def test_an_image_waits_for_others_no_longer_than_asked() -> None:
    async def scenario() -> None:
        queue = Queue(10)
        taking = asyncio.create_task(queue.take(8, 0.2))
        await asyncio.sleep(0.01)
        queue.put(jobs("a"))
        await asyncio.sleep(0.05)
        queue.put(jobs("b"))
        assert names(await taking) == "ab"
        # An image that waited while the workers were busy does not wait again.
        queue.put(jobs("c"))
        await asyncio.sleep(0.25)
        began = time.monotonic()
        assert names(await queue.take(8, 0.2)) == "c"
        assert time.monotonic() - began < 0.1

    asyncio.run(scenario())


def test_where_images_go_singly_none_waits_and_many_go_together() -> None:
    async def scenario() -> None:
        queue = Queue(40)
        queue.put(jobs(*"abc"))
        began = time.monotonic()
        assert [names(await queue.take(32, 5.0, singly=True)) for _ in range(3)] == ["a", "b", "c"]
        assert time.monotonic() - began < 1
        queue.put(jobs(*"abcdefghij"))
        taken = [names(await queue.take(32, 5.0, singly=True)) for _ in range(3)]
        assert taken == ["abcdefgh", "i", "j"]
        # A batch that its clients have left says nothing about the size of the next one.
        gone = jobs(*"ab")
        queue.put(gone)
        for job in gone:
            job.answer.cancel()
        taking = asyncio.create_task(queue.take(32, 5.0, singly=True))
        await asyncio.sleep(0.01)
        queue.put(jobs(*"abcdefgh"))
        assert names(await taking) == "abcdefgh"

    asyncio.run(scenario())


def test_two_takers_do_not_split_what_comes() -> None:
    async def scenario() -> None:
        queue = Queue(10)
        takers = [asyncio.create_task(queue.take(4, 0.05)) for _ in range(2)]
        await asyncio.sleep(0)
        for name in "abcd":
            queue.put(jobs(name))
            await asyncio.sleep(0)
        done, _ = await asyncio.wait(takers, return_when=asyncio.FIRST_COMPLETED)
        assert [names(task.result()) for task in done] == ["abcd"]
        queue.put(jobs("e"))
        assert sorted(names(batch) for batch in await asyncio.gather(*takers)) == ["abcd", "e"]

    asyncio.run(scenario())


def test_a_taker_that_is_cancelled_takes_nothing() -> None:
    async def scenario() -> None:
        queue = Queue(10)
        taking = asyncio.create_task(queue.take(4, 1.0))
        await asyncio.sleep(0)
        queue.put(jobs("a"))
        await asyncio.sleep(0)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        assert names(await queue.take(4, 0.0)) == "a"

    asyncio.run(scenario())


def test_all_images_of_a_request_wait_or_none_and_the_refusal_says_for_how_long() -> None:
    async def scenario() -> None:
        queue = Queue(4)
        queue.put(jobs(*"abc"))
        with pytest.raises(Full) as refused:
            queue.put(jobs("d", "e"))
        assert len(queue) == 3 and refused.value.seconds == 1
        queue.took(images=2, seconds=9.0, under_way=2)
        with pytest.raises(Full) as refused:
            queue.put(jobs("d", "e"))
        assert refused.value.seconds == 14
        queue.put(jobs("d"))

    asyncio.run(scenario())


def test_how_long_the_queue_takes_is_told_by_what_is_answered_side_by_side() -> None:
    async def scenario() -> None:
        queue = Queue(10)
        queue.put(jobs(*"abcdefghij"))
        assert queue.seconds_to_clear() == 1
        # Ten images at a time, one alone and nine together, take eight seconds.
        for images in (1, 9, 1, 9):
            queue.took(images, seconds=8.0, under_way=10)
        assert queue.seconds_to_clear() == 8

    asyncio.run(scenario())


def test_images_whose_clients_are_gone_are_left_out_and_keep_nobody_out() -> None:
    async def scenario() -> None:
        queue = Queue(3)
        waiting = jobs(*"abc")
        queue.put(waiting)
        waiting[0].answer.cancel()
        waiting[1].answer.cancel()
        queue.put(jobs("d", "e"))
        assert names(await queue.take(8, 0.0)) == "cde"

    asyncio.run(scenario())


def test_what_is_put_back_goes_first_and_each_alone() -> None:
    async def scenario() -> None:
        queue = Queue(8)
        queue.put(jobs(*"abcd"))
        queue.put_back(await queue.take(2, 0.0))
        assert [names(await queue.take(8, 0.0)) for _ in range(3)] == ["a", "b", "cd"]

    asyncio.run(scenario())
