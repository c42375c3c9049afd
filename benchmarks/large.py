"""What five million images take: measured on generated data of two smaller sizes, and carried on by the slope.

    python benchmarks/large.py [--images 500000] [--classes 10] [--parts split,copies,head] [--folder DIR] [--json]

Each part runs in a process of its own on half of the images and on all: `split` opens nothing but divides so many
labelled rows, `copies` finds near duplicates among so many thumbnails, of which one in fifty is a copy, and `head`
solves a head on so many features of 1,280 numbers in bfloat16, written to DIR and mapped from there as the cache maps
them. Memory is what the process holds of its own at its peak; pages of mapped files, which the system takes back
whenever it needs them, are told separately.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

MILLIONS, WIDTH = 5_000_000, 1280
PARTS = ("split", "copies", "head")


class Peak:
    """Peak memory of this process in bytes: its own, and the pages of mapped files."""

    def __init__(self) -> None:
        self.own, self.mapped, self.done = 0, 0, threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def look(self) -> tuple[int, int]:
        lines = Path("/proc/self/status").read_text().splitlines()
        facts = {line.split(":")[0]: line.split() for line in lines}
        return int(facts["RssAnon"][1]) * 1024, int(facts["RssFile"][1]) * 1024

    def watch(self) -> None:
        while not self.done.wait(0.02):
            own, mapped = self.look()
            self.own, self.mapped = max(self.own, own), max(self.mapped, mapped)


class Rows:
    """A source of `count` images that are never read."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def name(self, row: int) -> str:
        return f"{row}.jpg"

    key = stamp = name


def split(count: int, classes: int, folder: Path) -> dict[str, Any]:
    from graft.data.dataset import WHOLE, Dataset, Images
    from graft.data.splitting import with_validation

    random = np.random.default_rng(0)
    images = Images(Rows(count), np.arange(count), random.integers(0, classes, count), np.arange(count) // 3)
    dataset = Dataset("large", tuple(map(str, range(classes))), {WHOLE: images})
    measure_from_here()
    found = with_validation(dataset)
    return {"val": len(found.splits["val"])}


def copies(count: int, classes: int, folder: Path) -> dict[str, Any]:
    from graft.audit import duplicates
    from graft.audit.looking import _ROW, _looks
    from graft.audit.measuring import THUMBNAIL

    path, random = folder / "looks", np.random.default_rng(0)
    table = np.memmap(path, _ROW, "w+", shape=(count,))
    position = np.arange(THUMBNAIL)
    smooth = np.linalg.cholesky(np.exp(-0.5 * ((position - position[:, None]) / 2.0) ** 2) + 1e-6 * np.eye(THUMBNAIL))
    for start in range(0, count, 10_000):
        number = min(10_000, count - start)
        noise = smooth @ random.normal(size=(number, THUMBNAIL, THUMBNAIL)) @ smooth.T
        values = (128 + 40 * noise).clip(0, 255)
        # One in every fifty is a brighter copy of its neighbour.
        values[1::50] = (values[0::50][: len(values[1::50])] * 1.05).clip(0, 255)
        table["thumbnail"][start : start + number] = values.astype(np.uint8)
    table["digest"][:, 0] = np.arange(count) + 1
    table["colour"] = 0.5
    table.flush()
    looks = _looks(np.memmap(path, _ROW, "r", shape=(count,)), {})
    del table
    measure_from_here()
    found = duplicates.alike(looks)
    planted = len(range(1, count, 50))
    right = np.count_nonzero((found.pairs[:, 0] % 50 == 0) & (found.pairs[:, 1] == found.pairs[:, 0] + 1))
    return {"pairs": len(found.pairs), "planted": planted, "found": int(right)}


def head(count: int, classes: int, folder: Path) -> dict[str, Any]:
    import torch

    from graft.transfer.streamed_head import StoredRows, bytes_streamed, fit_streamed_head

    path, random = folder / "features", np.random.default_rng(0)
    labels = random.integers(0, classes, count)
    centres = random.normal(size=(classes, WIDTH)).astype(np.float32) * 0.06
    with path.open("wb") as file:
        for start in range(0, count, 10_000):
            own = labels[start : start + 10_000]
            values = centres[own] + random.standard_normal((len(own), WIDTH), dtype=np.float32)
            file.write(torch.from_numpy(values).bfloat16().view(torch.uint8).numpy().data)
    kept = torch.from_file(str(path), shared=False, size=count * WIDTH, dtype=torch.bfloat16).view(count, WIDTH)
    measure_from_here()
    passes: set[str] = set()
    from graft.progress import Reporter

    fitted = fit_streamed_head(
        StoredRows((kept,)),
        labels,
        classes,
        reporter=Reporter(step=lambda name, done, total, text="": passes.add(text)),
    )
    right = (fitted.logits.argmax(1) == fitted.labels).mean()
    stated = bytes_streamed(count, WIDTH, classes)
    return {"passes": len(passes), "held out": float(right), "slope left": fitted.gradient, "stated": stated}


_BEGAN: list[float] = []
_PEAK: list[Peak] = []


def measure_from_here() -> None:
    """Start measuring, once the data are ready."""
    _PEAK.append(Peak())
    _BEGAN.append(time.perf_counter())


def measured(part: str, count: int, classes: int, folder: Path) -> dict[str, Any]:
    told = {"split": split, "copies": copies, "head": head}[part](count, classes, folder)
    seconds, peak = time.perf_counter() - _BEGAN[0], _PEAK[0]
    peak.done.set()
    processor = time.process_time()
    return {"seconds": seconds, "processor": processor, "own": peak.own, "mapped": peak.mapped, **told}


def carried_on(small: dict[str, Any], large: dict[str, Any], sizes: tuple[int, int], name: str) -> float:
    slope = (large[name] - small[name]) / (sizes[1] - sizes[0])
    return float(large[name] + slope * (MILLIONS - sizes[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=MILLIONS // 10)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", type=int, default=None, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only is not None:
        print(json.dumps(measured(asked.parts, asked.only, asked.classes, asked.folder)))
        return
    sizes, found = (asked.images // 2, asked.images), {}
    for part in asked.parts.split(","):
        rows = []
        for count in sizes:
            with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
                command = [sys.executable, __file__, "--parts", part, "--only", str(count)]
                command += ["--classes", str(asked.classes), "--folder", folder]
                rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
        names = ("seconds", "own", "mapped")
        found[part] = {**dict(zip(map(str, sizes), rows, strict=True)), f"{MILLIONS}": {}}
        for name in names:
            found[part][f"{MILLIONS}"][name] = carried_on(*rows, sizes, name)
        if not asked.json:
            print(part)
            for count, row in found[part].items():
                own, mapped = (row[name] / 2**30 for name in ("own", "mapped"))
                others = {key: value for key, value in row.items() if key not in names}
                print(
                    f"  {int(count):>9,} images: {row['seconds']:8.1f} s, {own:5.2f} GiB and {mapped:5.2f} GiB mapped"
                )
                print(f"             {others}" if others else "             carried on by the slope")
    if asked.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
