"""Images that a request names by URL, or sends as base64: within the time and the room of the request."""

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from graft.serving.batching import Given
from graft.serving.fetching import Fetcher
from graft.serving.intake import Body, Room, read_images
from graft.serving.refusal import Refusal
from graft.serving.settings import Limits

SIZE = 500_000


class Images(BaseHTTPRequestHandler):
    """A host that answers at once, after 0.15 s, or a little at a time without an end."""

    def do_GET(self) -> None:
        time.sleep(0.15 if self.path == "/late" else 0)
        self.send_response(200)
        self.end_headers()
        try:
            while self.path == "/slowly":
                self.wfile.write(b"x" * 100)
                time.sleep(0.05)
            self.wfile.write(b"x" * SIZE)
        except OSError:
            pass

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Images) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def asked(images: list[dict[str, str]], room: Room, limits: Limits, host: str) -> list[Given]:
    """The images of a JSON body, read as the service does."""

    async def read() -> list[Given]:
        body = Body(room, limits.seconds)
        try:
            body.data = json.dumps({"images": images}).encode()
            body.take(len(body.data))
            fetch = Fetcher((host,), limits).fetch
            found, _ = await read_images("application/json", body, [], limits, fetch)
            assert room.held == body.taken == len(body.data) + sum(len(each.data) for each in found)
            return list(found)
        finally:
            body.close()

    return asyncio.run(read())


def test_what_is_fetched_or_decoded_takes_room_until_the_request_is_answered(host: str) -> None:
    room = Room(3 * SIZE)
    sent = b64encode(b"y" * 999).decode()
    found = asked([{"url": f"http://{host}/"}, {"base64": sent}], room, Limits(), host)
    assert [len(each.data) for each in found] == [SIZE, 999] and room.held == 0


@pytest.mark.parametrize("image", ["url", "base64"])
def test_images_beyond_the_room_of_all_requests_are_turned_away(host: str, image: str) -> None:
    room = Room(20_000)
    content = f"http://{host}/" if image == "url" else b64encode(b"y" * 9_000).decode()
    with pytest.raises(Refusal, match=r"at most 20,000 bytes in all at once") as refused:
        asked([{image: content}], room, Limits(), host)
    assert refused.value.status == 429 and room.held == 0


def test_no_more_is_fetched_than_a_request_may_have_in_all(host: str) -> None:
    room = Room(10 * SIZE)
    with pytest.raises(Refusal, match=r"at most 700,000 bytes in all, got more from 127\.0\.0\.1") as refused:
        asked([{"url": f"http://{host}/"}] * 10, room, Limits(bytes=700_000), host)
    assert refused.value.status == 413 and room.held == 0


def test_all_images_of_a_request_are_due_with_it(host: str) -> None:
    started = time.monotonic()
    with pytest.raises(Refusal, match=r"got not all of it within 0\.4 s of the request") as refused:
        asked([{"url": f"http://{host}/late"}] * 10, Room(10**9), Limits(seconds=0.4), host)
    # Ten images one after the other would take 1.5 s, each in time by itself.
    assert refused.value.status == 502 and time.monotonic() - started < 1.2


def test_a_fetch_that_outlasts_its_request_takes_no_more_room(host: str) -> None:
    room, limits = Room(10**9), Limits(seconds=0.3)

    async def read() -> None:
        body = Body(room, limits.seconds)
        fetch = Fetcher((host,), Limits()).fetch
        under_way = asyncio.create_task(fetch(f"http://{host}/slowly", 10**6, body))
        await asyncio.sleep(0.15)
        assert room.held > 0
        body.close()
        under_way.cancel()
        await asyncio.sleep(0.15)
        assert room.held == 0

    asyncio.run(read())
