"""Connections that send nothing, or little at a time, are closed and keep nobody out."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from graft.serving.settings import Limits

pytestmark = pytest.mark.usefixtures("extra")

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
Open = Callable[[], Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def hello(scope: dict, receive: Callable, send: Callable) -> None:
    if scope["path"] == "/large":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(100):
            await send({"type": "http.response.body", "body": b"x" * 10**6, "more_body": True})
    await asyncio.sleep(0.6 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


def with_server(limits: Limits, scenario: Callable[[Open], Coroutine[Any, Any, None]]) -> None:
    from graft.serving.connections import connection_class
    from graft.serving.web import uvicorn

    async def run() -> None:
        config = uvicorn.Config(
            hello, http=connection_class(limits), port=0, lifespan="off", log_config=None, timeout_keep_alive=1
        )
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        opened: list[asyncio.StreamWriter] = []

        async def open_one() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            pair = await asyncio.open_connection("127.0.0.1", port)
            opened.append(pair[1])
            return pair

        try:
            async with asyncio.timeout(20):
                await scenario(open_one)
        finally:
            for writer in opened:
                writer.close()
            server.should_exit = True
            await running

    asyncio.run(run())


async def answered(pair: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes = REQUEST) -> bool:
    reader, writer = pair
    writer.write(request)
    return (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")


async def seconds_until_closed(reader: asyncio.StreamReader) -> float:
    began = time.monotonic()
    try:
        while await reader.read(1000):
            pass
    except OSError:
        pass
    return time.monotonic() - began


def test_what_sends_no_whole_head_is_closed_in_time() -> None:
    async def scenario(open_one: Open) -> None:
        silent, (slow, writer) = await open_one(), await open_one()

        async def drip() -> None:
            for letter in REQUEST[:20]:
                writer.write(bytes([letter]))
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        assert await asyncio.gather(seconds_until_closed(silent[0]), seconds_until_closed(slow)) == pytest.approx(
            [0.4, 0.4], abs=0.3
        )
        dripping.cancel()
        # A connection that has its answer is kept for the next request, but not for half of one.
        reader, writer = await open_one()
        assert await answered((reader, writer))
        writer.write(REQUEST[:9])
        assert await seconds_until_closed(reader) == pytest.approx(0.4, abs=0.3)

    with_server(Limits(head_seconds=0.4), scenario)


def test_an_answer_may_take_longer_than_a_head() -> None:
    async def scenario(open_one: Open) -> None:
        pair = await open_one()
        assert await answered(pair, REQUEST.replace(b"/ ", b"/slow ", 1))
        assert await answered(pair)

    with_server(Limits(head_seconds=0.3), scenario)


def test_what_does_not_read_its_answer_is_closed_in_time() -> None:
    async def scenario(open_one: Open) -> None:
        reader, writer = await open_one()
        writer.transport.pause_reading()
        writer.write(REQUEST.replace(b"/ ", b"/large ", 1))
        await asyncio.sleep(1.0)
        writer.transport.resume_reading()
        read = 0
        with pytest.raises(ConnectionError):
            while part := await reader.read(10**6):
                read += len(part)
            raise ConnectionResetError if read < 10**8 else AssertionError
        assert read < 10**8

    with_server(Limits(seconds=0.4), scenario)


def test_idle_connections_keep_nobody_out() -> None:
    async def scenario(open_one: Open) -> None:
        idle = [await open_one() for _ in range(300)]
        for _ in range(5):
            assert await answered(await open_one())
        # Those that waited longest had to go.
        assert await seconds_until_closed(idle[0][0]) < 1
        await asyncio.sleep(0.05)
        assert sum(reader.at_eof() for reader, _ in idle) == 0 or not idle[-1][0].at_eof()
        assert await answered(idle[-1])

    with_server(Limits(head_seconds=10, connections=100), scenario)


def test_a_head_without_an_end_is_refused_while_it_comes() -> None:
    async def scenario(open_one: Open) -> None:
        reader, writer = await open_one()
        writer.write(REQUEST[:-2])
        sent = 0
        for number in range(100):
            writer.write(b"X-%d: " % number + b"x" * 10_000 + b"\r\n")
            sent += 10_000
            await asyncio.sleep(0.005)
            if reader.at_eof() or writer.transport.is_closing():
                break
        assert sent < 500_000
        # While a request is being answered, the next one cannot be refused with a sentence: the connection is closed.
        reader, writer = await open_one()
        writer.write(REQUEST.replace(b"/ ", b"/slow ", 1) + REQUEST[:-2])
        began = time.monotonic()
        for _ in range(20):
            writer.write(b"X: " + b"x" * 10_000 + b"\r\n")
            await asyncio.sleep(0.005)
        await seconds_until_closed(reader)
        assert time.monotonic() - began < 0.5

    with_server(Limits(), scenario)


def test_a_body_in_front_does_not_count_as_the_head_of_the_next_request() -> None:
    async def scenario(open_one: Open) -> None:
        reader, writer = await open_one()
        body = b"x" * 300_000
        writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 300000\r\n\r\n" + body + REQUEST[:9])
        assert (await reader.readuntil(b"hi")).startswith(b"HTTP/1.1 200")
        assert await answered((reader, writer), REQUEST[9:])

    with_server(Limits(), scenario)
