"""What Ray costs `graft predict`, and whether it loses an image: beside one process on one core, with an actor killed.

    python benchmarks/cluster.py RUN [--images 20000] [--damaged 100] [--processes 2]

Needs the extra `scale`. Draws `--images` images of 32 px, of which `--damaged` cannot be decoded, and classifies them
by `graft predict` on one core, by one actor of Ray, which has a core of its own, and by `--processes` actors, one of
which is killed half way. Rates are those between an early and a late row, so that no start counts; memory is that of
the actors as they go. All rows are compared with those of the one process. Linux only.
"""

import argparse
import csv
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow.parquet
from PIL import Image

from predicting import SIDE, memory, rows_of

# Rates are measured between these shares of all rows.
EARLY, LATE = 0.15, 0.95


def draw(folder: Path, count: int, damaged: int) -> None:
    bad = set(random.Random(0).sample(range(count), damaged))
    for number in range(count):
        place = folder / f"{number // 1000:03}"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{number:06}.png"
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        if number in bad:
            path.write_bytes(path.read_bytes()[:40])


def actors(process: int) -> list[int]:
    """The process ids of the Ray actors that descend from `process`."""
    found, every = [], [process]
    for each in every:
        with suppress(OSError):  # a process may end meanwhile
            for task in Path(f"/proc/{each}/task").glob("*/children"):
                every += map(int, task.read_text().split())
            if b"_Actor" in Path(f"/proc/{each}/cmdline").read_bytes():
                found.append(each)
    return found


def rows_on_disk(out: Path) -> int:
    return sum(pyarrow.parquet.read_metadata(path).num_rows for path in out.glob("part-*.parquet"))


def watched(command: list[str], rows, count: int, cache: Path, core: int | None, kill: bool) -> tuple[float, list[int]]:
    """Rows per second between an early and a late row, and the MiB of the largest actor during the job."""

    def alone() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})

    process = subprocess.Popen(
        [sys.executable, "-m", "graft", "predict", *command, "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "GRAFT_CACHE": str(cache)},
        preexec_fn=alone,
    )
    seen: list[tuple[float, int]] = []
    held: list[int] = []
    while process.poll() is None:
        time.sleep(0.1)
        done = rows()
        seen.append((time.perf_counter(), done))
        hands = actors(process.pid) if process.poll() is None else []
        if hands and done >= len(held) * count / 5:
            held.append(round(max(map(memory, hands))))
        if kill and hands and done >= count / 2:
            os.kill(hands[0], 9)
            kill = False
    # The command exits with 1 if some images cannot be read.
    assert process.returncode in (0, 1), process.stderr and process.stderr.read()
    assert not kill, "all was done before an actor could be killed"
    within = [(at, done) for at, done in seen if EARLY * count <= done <= LATE * count]
    (began, first), (ended, last) = within[0], within[-1]
    return (last - first) / (ended - began), held


def answers(rows: list[dict[str, str]]) -> dict[str, tuple[str, float] | None]:
    """Label and probability by path; None for an image that cannot be decoded."""
    found = {row["path"]: None if row["error"] else (row["label"], round(float(row["probability"]), 4)) for row in rows}
    assert len(found) == len(rows), "an image has more than one row"
    return found


def of_parts(out: Path) -> dict[str, tuple[str, float] | None]:
    tables = [pyarrow.parquet.read_table(path).to_pylist() for path in sorted(out.glob("part-*.parquet"))]
    return answers([row for table in tables for row in table])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--damaged", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    with TemporaryDirectory(prefix="graft-cluster-") as name:
        folder = Path(name)
        images, cache, alone = folder / "images", folder / "cache", folder / "alone.csv"
        draw(images, given.images, given.damaged)
        one, _ = watched(
            [given.run, str(images), "--out", str(alone)], lambda: rows_of(alone), given.images, cache, core, False
        )
        print(f"graft predict, one core      {one:8.0f} images/s", flush=True)
        expected = answers([*csv.DictReader(alone.open(encoding="utf-8"))])
        assert len(expected) == given.images and sum(row is None for row in expected.values()) == given.damaged
        for processes, kill in ((1, False), (given.processes, True)):
            out = folder / f"by {processes}"
            command = [given.run, str(images), "--engine", "ray", "--processes", str(processes), "--out", str(out)]
            rate, held = watched(command, lambda place=out: rows_on_disk(place), given.images, cache, None, kill)
            assert of_parts(out) == expected, "rows are missing, or others"
            what = f"Ray, {processes} {'actors, one killed' if kill else 'actor'}"
            print(
                f"{what:28} {rate:8.0f} images/s, {rate / one / processes:.2f} of that per core; MiB of the largest "
                f"actor as it goes: {', '.join(map(str, held))}",
                flush=True,
            )
        print(f"{given.images:,} rows each time, {given.damaged} of them errors, with the same labels")


if __name__ == "__main__":
    main()
