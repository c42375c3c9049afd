"""Clients that break off, bombs, slow bodies and a killed worker: every other client still gets the right answer."""

import os
import random
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from crafted import encode, png, png_of, zeros
from PIL import Image
from running import Served, client_of, served

import graft
from graft.images.letters import LATIN, dejavu_fonts, render_letters

httpx = pytest.importorskip("httpx", reason="needs httpx")
pytestmark = pytest.mark.usefixtures("extra")

CLIENTS, SECONDS, CLEAN = 8, 2.0, 200
BOMBS = (png(30_000, 30_000, 8, 2, b""), png_of(8000, 8000, 8, 2, zeros(24_001 * 8000)), b"\xff\xd8\xff\xe0 cut")


@pytest.fixture(scope="module")
def known(letters_run: Path) -> list[tuple[bytes, str, float]]:
    """Images with the label and probability that Python gives."""
    pixels, _ = render_letters(LATIN, dejavu_fonts(), 1, seed=8)
    images = [encode(Image.fromarray(image[:, :, 0]), "PNG") for image in pixels]
    found = graft.load(letters_run, precision="float32").predict(images)
    return [(data, str(each.label), float(each.probability or 0)) for data, each in zip(images, found, strict=True)]


def is_right(answer: "httpx.Response", expected: tuple[bytes, str, float]) -> bool:
    (found,) = answer.json()["predictions"]
    return found["label"] == expected[1] and abs(found["probability"] - expected[2]) < 1e-4


def head(length: int) -> bytes:
    lines = ("POST /predict HTTP/1.1", "Host: localhost", "Content-Type: image/png", f"Content-Length: {length}")
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def cut(running: Served, data: bytes) -> None:
    """Send a request and disconnect after 20 ms."""
    address = urlsplit(running.url)
    with socket.create_connection((address.hostname, address.port), 10) as connection:
        connection.sendall(head(len(data)) + data[: random.choice((len(data), len(data) // 2))])
        time.sleep(0.02)


def slow(running: Served) -> None:
    """Send an endless body until the service gives up."""
    address = urlsplit(running.url)
    with socket.create_connection((address.hostname, address.port), 10) as connection:
        connection.sendall(head(9999))
        answer = b""
        for _ in range(100):
            try:
                connection.sendall(b"x")
            except OSError:
                break
            connection.settimeout(0.1)
            try:
                answer += connection.recv(1000)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408"), answer


def test_the_service_survives_and_nobody_gets_a_wrong_answer(
    letters_run: Path, known: list[tuple[bytes, str, float]]
) -> None:
    with served(letters_run, "--timeout", "2s", "--max-pixels", "1000000") as running:
        wrong: list[str] = []
        statuses: list[int] = []

        def misbehave(seed: int) -> None:
            chance = random.Random(seed)
            with client_of(running, timeout=20) as client:
                until = time.monotonic() + SECONDS
                while time.monotonic() < until:
                    expected = chance.choice(known)
                    what = chance.random()
                    if what < 0.3:
                        cut(running, expected[0])
                    elif what < 0.33:
                        answer = client.post("/predict", files={"image": ("b.png", chance.choice(BOMBS))})
                        if answer.status_code == 200:
                            wrong.append("a bomb was answered")
                    elif what < 0.34:
                        slow(running)
                    else:
                        answer = client.post("/predict", files={"image": ("a.png", expected[0])})
                        statuses.append(answer.status_code)
                        if answer.status_code == 200 and not is_right(answer, expected):
                            wrong.append(answer.text)

        def kill() -> None:
            """Kill a worker, see the service report it (`test_pool.py` checks how soon), and see it ready again."""
            time.sleep(1)
            os.kill(running.workers()[0], signal.SIGKILL)
            began = time.monotonic()
            with client_of(running) as client:
                for status in (503, 200):
                    while client.get("/v2/health/ready").status_code != status:
                        assert time.monotonic() - began < 30
                        time.sleep(0.01)

        with ThreadPoolExecutor(CLIENTS + 1) as threads:
            killing = threads.submit(kill)
            for client in [threads.submit(misbehave, seed) for seed in range(CLIENTS)]:
                client.result()
            killing.result()
        assert not wrong
        # benchmarks/serving.py measures how many are answered in that time.
        assert 200 in statuses and set(statuses) <= {200, 429, 503}

        with client_of(running) as client, ThreadPoolExecutor(8) as threads:

            def ask(number: int) -> bool:
                expected = known[number % len(known)]
                answer = client.post("/predict", files={"image": ("a.png", expected[0])})
                return answer.status_code == 200 and is_right(answer, expected)

            assert list(threads.map(ask, range(CLEAN))) == [True] * CLEAN
        unexpected = [line for line in running.log() if line["message"].startswith("unexpected")]
        assert not unexpected
