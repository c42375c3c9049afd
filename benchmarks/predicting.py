"""Measures `graft predict`: seconds and memory to the first answer, and memory over 100,000 small images.

    python benchmarks/predicting.py RUN IMAGE [--images 100000] [--kills 5] [--rounds 5]

Starts `graft predict RUN IMAGE` in a process of its own, once with an empty cache and then `--rounds` times, and prints
the lowest wall-clock seconds, processor seconds and peak memory. Then draws `--images` images of 32 px and classifies
them in a process whose memory is read as it runs, and once more in a process that is killed `--kills` times and
continued with `--resume`. Compares the two files row by row. Linux only.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

SIDE = 32
PARTS = 8


def predict(run: str, *arguments: object, cache: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "graft", "predict", run, *map(str, arguments), "--quiet"]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "GRAFT_CACHE": str(cache)}
    )


def first_answer(run: str, image: str, cache: Path) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak memory in MiB of one prediction."""
    began = time.perf_counter()
    process = predict(run, image, cache=cache)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, process.stderr and process.stderr.read()
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def memory(process: int) -> float:
    """MiB that a process holds now."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def rows_of(place: Path) -> int:
    """Number of rows that a job has stored so far."""
    kept = place.with_name(place.name + ".unfinished")
    return max(0, kept.read_bytes().count(b"\n") - 1) if kept.exists() else 0


def watched(run: str, images: Path, count: int, out: Path, cache: Path) -> float:
    """Run the whole job, print its memory as it goes, and return its seconds."""
    began, process, told = time.perf_counter(), predict(run, images, "--out", out, cache=cache), 0
    while process.poll() is None:
        time.sleep(0.5)
        done = rows_of(out)
        if done >= told * count / PARTS and process.poll() is None:
            print(f"{done:8,} rows  {memory(process.pid):6.0f} MiB  {time.perf_counter() - began:6.0f} s", flush=True)
            told += 1
    assert process.returncode == 0, process.stderr and process.stderr.read()
    return time.perf_counter() - began


def killed(run: str, images: Path, seconds: float, kills: int, out: Path, cache: Path) -> None:
    """Kill a job that takes `seconds` at random times, and resume it each time until it is done."""
    for _ in range(kills):
        process = predict(run, images, "--out", out, "--resume", cache=cache)
        time.sleep(random.uniform(0, 1.5 * seconds / kills))
        process.kill()
        process.wait()
        print(f"killed with {rows_of(out):,} rows", flush=True)
    process = predict(run, images, "--out", out, "--resume", cache=cache)
    assert process.wait() == 0, process.stderr and process.stderr.read()


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds and memory of graft predict.")
    parser.add_argument("run")
    parser.add_argument("image")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with TemporaryDirectory(prefix="graft-predicting-") as name:
        folder = Path(name)
        cache = folder / "cache"
        for what, rounds in (("nothing kept", 1), ("ready", given.rounds)):
            found = [first_answer(given.run, given.image, cache) for _ in range(rounds)]
            seconds, processor, peak = map(min, zip(*found, strict=True))
            print(f"{what:14} {seconds:5.2f} s  {processor:5.2f} s of processors  {peak:5.0f} MiB", flush=True)
        images = folder / "images"
        for number in range(given.images):
            place = images / f"{number // 1000:03}"
            if number % 1000 == 0:
                place.mkdir(parents=True)
            pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number:06}.png")
        whole, again = folder / "whole.csv", folder / "again.csv"
        seconds = watched(given.run, images, given.images, whole, cache)
        killed(given.run, images, seconds, given.kills, again, cache)
        rows = whole.read_text().splitlines()[1:]
        paths = {row.partition(",")[0] for row in rows}
        assert len(rows) == len(paths) == given.images, "an image has no row, or more than one"
        assert whole.read_bytes() == again.read_bytes(), "the rows are others after --resume"
        print(f"{len(rows):,} images, one row each, the same after {given.kills} kills")


if __name__ == "__main__":
    main()
