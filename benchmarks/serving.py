"""Measures throughput and latency of `graft serve`, beside services as people usually write them.

    python benchmarks/serving.py RUN IMAGES --base FILE [--litserve PYTHON] [--seconds 10] [--rounds 3]
        [--requests 10000]

RUN is a run folder whose network is the one in FILE, a file of weights with torchvision's names; IMAGES is a folder of
images. Asks `graft serve RUN`, `peers/fastapi_torch.py` and, with a Python that has LitServe, `peers/litserve_torch.py`
in turn: first one image at a time, then with 32 clients that ask again as soon as they are answered, then at half of
the resulting rate with random arrivals. For comparison, the same images are classified in one stream, as `graft
predict` does it. At the end, `--requests` requests show how much memory the service gains.
In all services waiting threads sleep instead of spinning, which on a busy machine would slow torch down many times.
All traffic stays on this machine's loopback, and is bounded in count and time.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

CLIENTS = 32
# Number of requests before memory is first read.
WARM = 500
# Memory is read again after each of this many parts of the requests, as it grows at first and then levels off.
PARTS = 5
PEERS = Path(__file__).parent / "peers"
PEER_PORT = 18_642
ENVIRONMENT = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
OFFLINE = """
import sys, time
from pathlib import Path
import graft
run, folder, precision, seconds = sys.argv[1:]
files = [path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()]
classifier = graft.load(run, precision=precision)
classifier.predict(files[:64])
began, used, count = time.perf_counter(), time.process_time(), 0
while time.perf_counter() - began < float(seconds):
    count += len(classifier.predict(files[:512]))
print(count / (time.perf_counter() - began), (time.process_time() - used) / count)
"""


class Client:
    """A client that keeps its connection and sends one image after another."""

    def __init__(self, url: str, field: str) -> None:
        self._address, self._field = urlsplit(url), field
        self._pair: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, image: bytes) -> None:
        """Send an image and read the answer. Raises AssertionError for any status but 200."""
        # A service closes connections that are idle for some seconds.
        if self._pair is None or self._pair[0].at_eof():
            self._pair = await asyncio.open_connection(self._address.hostname, self._address.port)
        reader, writer = self._pair
        body = b"".join(
            (
                f'--b\r\nContent-Disposition: form-data; name="{self._field}"; filename="a"\r\n\r\n'.encode(),
                image,
                b"\r\n--b--\r\n",
            )
        )
        head = (
            "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        assert answer.startswith(b"HTTP/1.1 200"), answer

    def close(self) -> None:
        if self._pair is not None:
            self._pair[1].close()


async def rate(url: str, field: str, images: list[bytes], seconds: float, requests: int | None = None) -> float:
    """Images per second with CLIENTS clients, for `seconds`, or for `requests` if given."""
    began, done = time.perf_counter(), 0

    async def work(number: int) -> None:
        nonlocal done
        client, place = Client(url, field), number
        while time.perf_counter() - began < seconds if requests is None else done < requests:
            await client.ask(images[place % len(images)])
            done, place = done + 1, place + CLIENTS
        client.close()

    await asyncio.gather(*(work(number) for number in range(CLIENTS)))
    return done / (time.perf_counter() - began)


async def one_by_one(url: str, field: str, images: list[bytes], seconds: float) -> list[float]:
    """Seconds that each answer takes with a single client."""
    client, found = Client(url, field), [time.perf_counter()]
    while found[-1] - found[0] < seconds:
        await client.ask(images[len(found) % len(images)])
        found.append(time.perf_counter())
    client.close()
    return [after - before for before, after in pairwise(found)]


async def latencies(url: str, field: str, images: list[bytes], per_second: float, seconds: float) -> list[float]:
    """Seconds from the time a request is due to its answer, sorted, with `per_second` random arrivals a second."""
    chance, found, free = random.Random(0), [], [Client(url, field) for _ in range(CLIENTS)]
    tasks = []

    async def ask(due: float, image: bytes) -> None:
        client = free.pop() if free else Client(url, field)
        await client.ask(image)
        found.append(time.perf_counter() - due)
        free.append(client)

    due = began = time.perf_counter()
    while due - began < seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(ask(due, images[len(tasks) % len(images)])))
        due += chance.expovariate(per_second)
    await asyncio.gather(*tasks)
    for client in free:
        client.close()
    return sorted(found)


@contextmanager
def served(command: list[str], port: int, ready: str) -> Iterator[subprocess.Popen]:
    """Run a service during the block, which starts once it has printed a line with `ready` in it and listens."""
    # Its own session, so that processes it leaves behind can be ended too.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        while ready not in (line := process.stdout.readline()):
            assert line, f"{command} ended"
        for _ in range(100):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def processes(process: subprocess.Popen) -> list[int]:
    """The ids of a process and of all its descendants."""
    found = [process.pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def memory(process: subprocess.Popen) -> int:
    """Resident bytes of a process and its descendants."""
    pages = sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in processes(process))
    return pages * os.sysconf("SC_PAGE_SIZE")


def processor_seconds(process: subprocess.Popen) -> float:
    """Processor seconds of a process and its descendants, the measure least disturbed by other programs."""
    fields = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in processes(process)]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


def measured(process: subprocess.Popen, url: str, field: str, images: list[bytes], seconds: float) -> dict[str, float]:
    asyncio.run(rate(url, field, images, seconds / 4))
    alone = asyncio.run(one_by_one(url, field, images, seconds / 4))
    used, began = processor_seconds(process), time.perf_counter()
    full = asyncio.run(rate(url, field, images, seconds))
    processor = (processor_seconds(process) - used) / (full * (time.perf_counter() - began))
    half = asyncio.run(latencies(url, field, images, full / 2, seconds))
    p50, p99 = half[len(half) // 2], half[int(0.99 * len(half))]
    return {"rate": full, "processor": processor, "alone": statistics.median(alone), "p50": p50, "p99": p99}


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Rate and latency of graft serve, beside a service as people write it."
    )
    parser.add_argument("run")
    parser.add_argument("images")
    parser.add_argument("--base")
    parser.add_argument("--litserve", help="a Python that has litserve beside torch and torchvision")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=10_000)
    given = parser.parse_args()
    images = [path.read_bytes() for path in sorted(Path(given.images).rglob("*")) if path.is_file()]
    port = PEER_PORT + 1
    graft = [sys.executable, "-m", "graft", "serve", given.run, "--port", str(port), "--precision", given.precision]
    peers = {"FastAPI and torch": (sys.executable, "fastapi_torch.py")} if given.base else {}
    if given.litserve:
        peers["LitServe and torch"] = (given.litserve, "litserve_torch.py")
    found: dict[str, list[dict[str, float]]] = {"graft serve": [], **{name: [] for name in peers}}
    offline: list[tuple[float, ...]] = []
    for _ in range(given.rounds):
        script = [sys.executable, "-c", OFFLINE, given.run, given.images, given.precision, str(given.seconds)]
        told = subprocess.run(script, capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout
        offline.append(tuple(map(float, told.split())))
        with served(graft, port, "serving") as process:
            url = f"http://127.0.0.1:{port}"
            found["graft serve"].append(measured(process, url, "image", images, given.seconds))
        for name, (python, script) in peers.items():
            command = [python, str(PEERS / script), "--base", str(given.base), "--port", str(PEER_PORT)]
            with served(command, PEER_PORT, "ready") as process:
                url = f"http://127.0.0.1:{PEER_PORT}"
                found[name].append(measured(process, url, "file", images, given.seconds))
    stream, processor = (statistics.median(column) for column in zip(*offline, strict=True))
    print(f"{'one stream, as graft predict':30} {stream:7.1f} images/s, {1000 * processor:.0f} ms of processor each")
    for name, rounds in found.items():
        if rounds:
            middle = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
            print(
                f"{name:30} {middle['rate']:7.1f} images/s ({middle['rate'] / stream:.2f}) with {CLIENTS} clients, "
                f"{1000 * middle['processor']:.0f} ms of processor each; at half of that rate "
                f"{1000 * middle['p50']:.0f} ms median, {1000 * middle['p99']:.0f} ms p99, where one alone takes "
                f"{1000 * middle['alone']:.0f} ms"
            )
    print(json.dumps({"offline": offline, **found}), file=sys.stderr)
    if given.requests:
        with served(graft, port, "serving") as process:
            url = f"http://127.0.0.1:{port}"
            asyncio.run(rate(url, "image", images, 0, WARM))
            held = [memory(process)]
            for _ in range(PARTS):
                asyncio.run(rate(url, "image", images, 0, given.requests // PARTS))
                held.append(memory(process))
        told = ", ".join(f"{each / 1e6:.0f}" for each in held)
        print(f"{given.requests:,} requests: MB of memory before, and after every {given.requests // PARTS:,}: {told}")


if __name__ == "__main__":
    main()
