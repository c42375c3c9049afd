"""Times the way from files to batches: a manifest of a million rows, decoding beside torchvision, and an audit.

    python benchmarks/reading.py PHOTOS [--cifar DATA --base FILE] [--rows N] [--rounds N] [--json]

PHOTOS is a folder of JPEGs of about 500 px, one subfolder per class; DATA has the test images of CIFAR-10 in a form
that graft reads; FILE has the weights of MobileNetV2. README.md beside this file describes the comparisons.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from graft.data.dataset import Images
from graft.data.loading import batches
from graft.data.readers.folder import Files
from graft.images.preprocessing import Preprocessing
from photos import BUSY_LOAD, machine, say

ROWS, CLASSES, FOLDERS = 1_000_000, 100, 1_000
SIZE, BATCH_SIZE, WORKERS = 224, 32, 2
GRAFT, TORCHVISION, BARE = "graft", "torchvision", "bare loop"

# The program of a child process, which prints its seconds and bytes; its imports count.
OPEN = """
import json, os, resource, sys, time
start = time.perf_counter()
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
opened = open_dataset(sys.argv[1])
between = time.perf_counter()
dataset = with_validation(opened)
end = time.perf_counter()
if os.path.exists("/proc/self/status"):  # here the figure of `resource` includes the parent process
    lines = open("/proc/self/status").read().splitlines()
    peak = next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
sizes = {name: len(images) for name, images in dataset.splits.items()}
print(json.dumps({"opening": between - start, "splitting": end - between, "peak_bytes": peak, "sizes": sizes}))
"""


@dataclass(frozen=True)
class Bound:
    """A measured figure and its bound, an upper or a lower one."""

    figure: str
    measured: float
    bound: float
    at_most: bool

    @property
    def met(self) -> bool:
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Manifests, decoding and audits, timed.")
    parser.add_argument("photos", type=Path, help="a folder per class of JPEGs of about 500 px")
    parser.add_argument("--cifar", type=Path, help="the 10,000 test images of CIFAR-10, to be audited")
    parser.add_argument("--base", default="mobilenet_v2", help="base of the audit, as for graft audit")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of the manifest (default {ROWS:,}); 0 skips it")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of decoding, for medians (default 5)")
    parser.add_argument("--json", action="store_true", help="all figures as one JSON document instead of the table")
    given = parser.parse_args()
    if not any(given.photos.glob("*/*.jpg")) and not any(given.photos.glob("*/*/*.jpg")):
        parser.error(f"expected a folder of folders with JPEGs, got {given.photos}: give another")
    if given.rounds < 1 or given.rows < 0:
        parser.error("expected at least one round and no negative rows: raise --rounds or --rows")
    return given


# The manifest


def write_manifest(folder: Path, rows: int) -> Path:
    """Write `rows` empty files in a thousand folders, and a CSV that lists them; only their names are read."""
    manifest = folder / "manifest.csv"
    with manifest.open("w") as file:
        file.write("path,label\n")
        for number in range(rows):
            place = f"part{number % FOLDERS:04}/{number:07}.jpg"
            if number < FOLDERS:
                (folder / place).parent.mkdir()
            os.close(os.open(folder / place, os.O_CREAT | os.O_WRONLY))
            file.write(f"{place},class{number * 7919 % CLASSES:02}\n")
    return manifest


def time_manifest(rows: int) -> dict[str, Any]:
    """Seconds and peak memory of a child process that opens the manifest and splits it."""
    with TemporaryDirectory(prefix="graft-reading-") as name:
        start = time.perf_counter()
        manifest = write_manifest(Path(name), rows)
        preparing = time.perf_counter() - start
        say(f"{rows:,} files and their manifest written in {preparing:.0f} s")
        figures = run_child("-c", OPEN, str(manifest))
    assert sum(figures["sizes"].values()) == rows, figures
    return {"rows": rows, "preparing": preparing, **figures}


# Decoding


def time_decoding(folder: Path, rounds: int) -> dict[str, Any]:
    """Images per second of each contestant; they take turns, and the first turn warms up and does not count."""
    loader = torchvision_loader(folder)
    paths = [Path(path) for path, _ in loader.dataset.samples]
    contestants: dict[str, Callable[[], int]] = {
        GRAFT: lambda: with_graft(paths),
        TORCHVISION: lambda: sum(len(images) for images, _ in loader),
        BARE: lambda: in_a_bare_loop(paths),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(rounds + 1):
        for name, run in contestants.items():
            start = time.perf_counter()
            count = run()
            assert count == len(paths), f"{name} read {count} of {len(paths)}"
            if turn:
                seconds[name].append(time.perf_counter() - start)
    rates = {name: len(paths) / median(each) for name, each in seconds.items()}
    ratios = {
        peer: median(theirs / ours for ours, theirs in zip(seconds[GRAFT], seconds[peer], strict=True))
        for peer in (TORCHVISION, BARE)
    }
    return {"images": len(paths), "rates": rates, "ratios": ratios, "seconds": seconds}


def with_graft(paths: list[Path]) -> int:
    images = Images(Files.of(paths), np.arange(len(paths)), np.zeros(len(paths), np.int64))
    preprocessing = Preprocessing(SIZE, (0.5,) * 3, (0.5,) * 3)
    return sum(len(batch.pixels) for batch in batches(images, preprocessing, BATCH_SIZE, threads=WORKERS))


def torchvision_loader(folder: Path) -> DataLoader[Any]:
    """The loader from torchvision's documentation for a network at 224 px, with persistent workers."""
    steps = [transforms.Resize(256), transforms.CenterCrop(SIZE), transforms.ToTensor()]
    images = ImageFolder(str(folder), transforms.Compose(steps))
    return DataLoader(images, batch_size=BATCH_SIZE, num_workers=WORKERS, persistent_workers=True)


def in_a_bare_loop(paths: list[Path]) -> int:
    """The least work that two threads must do: read, decode, crop and resize, without checks, batching or order."""

    def load(path: Path) -> torch.Tensor:
        pixels = simplejpeg.decode_jpeg(path.read_bytes(), "RGB")
        height, width, _ = pixels.shape
        side = round(0.875 * min(height, width))
        top, left = (height - side) // 2, (width - side) // 2
        region = torch.from_numpy(pixels[top : top + side, left : left + side]).permute(2, 0, 1)[None]
        return F.interpolate(region, size=(SIZE, SIZE), mode="bilinear", antialias=True)

    with ThreadPoolExecutor(WORKERS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return sum(len(image) for image in pool.map(load, paths))


# The audit


def time_audit(data: Path, base: str) -> dict[str, Any]:
    """Seconds of `graft audit`, imports included: with an empty cache, then with the cache that this run left."""
    command = ("-m", "graft", "audit", str(data), "--base", base, "--json", "--quiet")
    seconds = []
    with TemporaryDirectory(prefix="graft-reading-") as cache:
        for _ in range(2):
            start = time.perf_counter()
            printed = run_child(*command, cache=cache)
            seconds.append(time.perf_counter() - start)
    return {"images": printed["items"], "cold": seconds[0], "warm": seconds[1]}


def run_child(*arguments: str, cache: str = "") -> dict[str, Any]:
    environment = os.environ | ({"GRAFT_CACHE": cache} if cache else {})
    finished = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    if finished.returncode != 0:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{finished.stderr[-4000:]}")
    return json.loads(finished.stdout)


# The verdict


def judged(figures: dict[str, Any]) -> Iterator[Bound]:
    if manifest := figures.get("manifest"):
        yield Bound("manifest, seconds", manifest["opening"] + manifest["splitting"], 10, at_most=True)
        yield Bound("manifest, GiB", manifest["peak_bytes"] / 2**30, 1.5, at_most=True)
    ratios = figures["decoding"]["ratios"]
    yield Bound(f"{GRAFT} / {TORCHVISION}", ratios[TORCHVISION], 1.3, at_most=False)
    yield Bound(f"{GRAFT} / {BARE}", ratios[BARE], 0.85, at_most=False)
    if audit := figures.get("audit"):
        yield Bound("audit, seconds", audit["cold"], 30, at_most=True)


def print_tables(figures: dict[str, Any]) -> None:
    table = Table(title=f"{figures['decoding']['images']} images to {SIZE} px, {WORKERS} threads or workers")
    table.add_column("contestant")
    table.add_column("images/s", justify="right")
    for name, rate in figures["decoding"]["rates"].items():
        table.add_row(name, f"{rate:,.0f}")
    console = Console()
    console.print(table)
    for bound in judged(figures):
        limit = f"at {'most' if bound.at_most else 'least'} {bound.bound:g}"
        met = "met" if bound.met else "missed"
        console.print(f"{bound.figure}: {bound.measured:.2f}, {limit}: {met}", highlight=False)


def main() -> None:
    given = read_arguments()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY_LOAD:
        say(f"note: the machine is busy (load {load:.1f} over the last minute), so the figures are unreliable")
    figures: dict[str, Any] = {"machine": machine(load)}
    if given.rows:
        figures["manifest"] = time_manifest(given.rows)
        say("opened in {opening:.1f} s, split in {splitting:.1f} s".format(**figures["manifest"]))
    figures["decoding"] = time_decoding(given.photos, given.rounds)
    if given.cifar:
        figures["audit"] = time_audit(given.cifar, given.base)
        say("{images:,} images audited in {cold:.1f} s, again in {warm:.1f} s".format(**figures["audit"]))
    figures["bounds"] = [{**asdict(bound), "met": bound.met} for bound in judged(figures)]
    if given.json:
        print(json.dumps(figures, indent=2))
    else:
        print_tables(figures)


if __name__ == "__main__":
    main()
