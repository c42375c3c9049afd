"""Times whole processes from a folder of photographs to a classifier: graft beside the usual alternatives.

    python benchmarks/photos.py DATA --base FILE [--repeats 3] [--skip-tutorial] [--json]

Each contestant is a fresh Python process, timed from start to exit, so imports count. They take turns within each
repeat, so that a ratio compares neighbours in time. README.md beside this file describes them.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

PEERS = Path(__file__).resolve().parent / "peers"
TUTORIAL_EPOCHS = 25

COLD, WARM, EXPERT, TUTORIAL = "graft cold", "graft warm", "expert", "tutorial"

# The machine is not idle if the load average over the last minute exceeds this.
BUSY_LOAD = 0.5

# Otherwise the first timed run would read these from a cold disk, or compile them.
GRAFT_IMPORTS = """
import importlib, pkgutil, graft
import matplotlib.figure, numpy, PIL.Image, pyarrow, rich.progress, safetensors.torch, scipy.optimize, simplejpeg
import torch, typer, yaml
for module in pkgutil.walk_packages(graft.__path__, "graft."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
PIL.Image.init()
try:
    from graft.features.openvino_import import core
except ImportError:
    pass
else:
    core().get_property("CPU", "FULL_DEVICE_NAME")
"""
PEER_IMPORTS = f"""
import sys
sys.path.insert(0, {str(PEERS)!r})
import expert, tutorial, PIL.Image, sklearn.linear_model
PIL.Image.init()
"""


@dataclass(frozen=True)
class Bound:
    """`run` takes at most `at_most` times as long as `peer`: a requirement of the project, or only an aim."""

    run: str
    peer: str
    at_most: float
    aim: bool = False


BOUNDS = (
    Bound(COLD, EXPERT, 0.35),
    Bound(COLD, EXPERT, 0.25, aim=True),
    Bound(COLD, TUTORIAL, 0.04),
    Bound(WARM, EXPERT, 0.25),
)


@dataclass(frozen=True)
class Outcome:
    """One process: wall-clock seconds, processor seconds including its children's, and the JSON that it printed."""

    contestant: str
    seconds: float
    cpu_seconds: float
    printed: dict[str, Any]

    @property
    def top1(self) -> float:
        return float(self.printed["val"]["top1"])

    @property
    def images(self) -> int:
        return int(self.printed["val"]["n"])


@dataclass(frozen=True)
class Round:
    """One run of every contestant, and the bytes that graft's cold run left in its cache for the warm one."""

    outcomes: tuple[Outcome, ...]
    cache_bytes: int

    def seconds(self, contestant: str) -> float:
        return next(outcome.seconds for outcome in self.outcomes if outcome.contestant == contestant)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Photographs to classifier, whole process: graft and two peers.")
    parser.add_argument("data", type=Path, help="a folder with train/ and val/, each a folder per class")
    parser.add_argument("--base", type=Path, required=True, help="safetensors of a network that torchvision has too")
    parser.add_argument("--repeats", type=int, default=1, help="rounds; figures are medians over them (default 1)")
    parser.add_argument("--skip-tutorial", action="store_true", help="leave out the slowest contestant")
    parser.add_argument("--tutorial-epochs", type=int, default=TUTORIAL_EPOCHS, help="fewer than 25 for a smoke run")
    parser.add_argument("--json", action="store_true", help="all figures as one JSON document instead of the table")
    given = parser.parse_args()
    given.data, given.base = given.data.resolve(), given.base.resolve()
    for split in ("train", "val"):
        if not (given.data / split).is_dir():
            parser.error(f"expected a folder with train/ and val/, got {given.data} without {split}/: give another")
    if not (given.base.is_file() and given.base.suffix == ".safetensors"):
        parser.error(f"expected a .safetensors file as base, got {given.base}: give the path of one")
    if given.repeats < 1 or given.tutorial_epochs < 1:
        parser.error("expected at least one repeat and one epoch: raise --repeats or --tutorial-epochs")
    return given


def warm_up(data: Path, base: Path) -> None:
    """Read images and weights into the page cache and import every library once, untimed."""
    base.read_bytes()
    for path in data.rglob("*"):
        if path.is_file():
            path.read_bytes()
    for name, imports in (("graft", GRAFT_IMPORTS), ("the peers", PEER_IMPORTS)):
        say(f"warm-up: importing the libraries of {name}")
        finished = subprocess.run([sys.executable, "-c", imports], capture_output=True, text=True)
        if finished.returncode != 0:
            raise SystemExit(f"the libraries of {name} cannot be imported:\n{finished.stderr}")


def commands(given: argparse.Namespace, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The contestants in the order in which they run, with their commands; outputs go to `folder`."""
    inputs = [str(given.data), "--base", str(given.base)]
    graft = ["-m", "graft", "train", *inputs, "--level", "head", "--json", "--out"]
    yield COLD, [*graft, str(folder / "cold")]
    yield WARM, [*graft, str(folder / "warm")]
    yield EXPERT, [str(PEERS / "expert.py"), *inputs]
    if not given.skip_tutorial:
        yield TUTORIAL, [str(PEERS / "tutorial.py"), *inputs, "--epochs", str(given.tutorial_epochs)]


def run_round(given: argparse.Namespace) -> Round:
    """Run every contestant once, in a temporary folder."""
    with TemporaryDirectory(prefix="graft-photos-") as name:
        folder = Path(name)
        cache = folder / "cache"
        outcomes = []
        cache_bytes = 0
        for contestant, command in commands(given, folder):
            outcomes.append(run(contestant, command, folder, cache))
            if contestant == COLD:
                cache_bytes = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        return Round(tuple(outcomes), cache_bytes)


def run(contestant: str, command: list[str], folder: Path, cache: Path) -> Outcome:
    """Run and time one process."""
    environment = os.environ | {"GRAFT_CACHE": str(cache)}
    before, start = os.times(), time.perf_counter()
    finished = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    seconds, after = time.perf_counter() - start, os.times()
    if finished.returncode != 0:
        raise SystemExit(f"{contestant} failed with exit code {finished.returncode}:\n{finished.stderr[-4000:]}")
    try:
        printed = json.loads(finished.stdout)
        cpu_seconds = after.children_user + after.children_system - before.children_user - before.children_system
        outcome = Outcome(contestant, seconds, cpu_seconds, printed)
        say(f"{contestant}: {seconds:.2f} s, top-1 {outcome.top1:.3f} of {outcome.images}")
    except (ValueError, KeyError, TypeError) as error:
        expected = 'JSON with "val": {"top1", "n"}'
        raise SystemExit(f"expected {contestant} to print {expected}, got {finished.stdout[:400]!r}") from error
    return outcome


def ratio(rounds: list[Round], run: str, peer: str) -> float:
    """The time of `run` divided by that of `peer` in the same round, as the median over the rounds."""
    return median(one.seconds(run) / one.seconds(peer) for one in rounds)


def report(given: argparse.Namespace, rounds: list[Round], load: float) -> dict[str, Any]:
    """Collect all figures, ready for JSON."""
    contestants = {}
    for number, first in enumerate(rounds[0].outcomes):
        each = [one.outcomes[number] for one in rounds]
        contestants[first.contestant] = {
            "seconds": median(outcome.seconds for outcome in each),
            "cpu_seconds": median(outcome.cpu_seconds for outcome in each),
            "top1": median(outcome.top1 for outcome in each),
            "n": first.images,
            "cold_ratio": ratio(rounds, COLD, first.contestant),
            "warm_ratio": ratio(rounds, WARM, first.contestant),
        }
    bounds = []
    for bound in BOUNDS:
        # The tutorial's recipe has 25 epochs; a shorter run says nothing about the bound.
        if bound.peer in contestants and (bound.peer != TUTORIAL or given.tutorial_epochs == TUTORIAL_EPOCHS):
            measured = ratio(rounds, bound.run, bound.peer)
            bounds.append({**asdict(bound), "ratio": measured, "met": measured <= bound.at_most})
    return {
        "data": given.data.name,
        "base": given.base.name,
        "repeats": given.repeats,
        "tutorial_epochs": None if given.skip_tutorial else given.tutorial_epochs,
        "machine": machine(load),
        "contestants": contestants,
        "bounds": bounds,
        "rounds": [asdict(one) for one in rounds],
    }


def machine(load: float) -> dict[str, Any]:
    """The machine that was measured; `load` is its load average over the minute before."""
    return {
        "system": platform.platform(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_before": load,
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "torchvision", "scikit-learn")},
    }


def processor() -> str:
    """The processor's name, if the system gives it."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def print_table(figures: dict[str, Any]) -> None:
    """Print a row per contestant, then a line per bound."""
    table = Table(title=f"{figures['data']} on {figures['base']}, median of {figures['repeats']}")
    table.add_column("contestant")
    for heading in ("seconds", "CPU s", "val top-1", "of", "cold / it", "warm / it"):
        table.add_column(heading, justify="right")
    for name, row in figures["contestants"].items():
        short = name == TUTORIAL and figures["tutorial_epochs"] != TUTORIAL_EPOCHS
        table.add_row(
            f"{name} ({figures['tutorial_epochs']} epochs)" if short else name,
            f"{row['seconds']:.2f}",
            f"{row['cpu_seconds']:.1f}",
            f"{row['top1']:.3f}",
            str(row["n"]),
            f"{row['cold_ratio']:.3f}",
            f"{row['warm_ratio']:.3f}",
        )
    console = Console()
    console.print(table)
    for bound in figures["bounds"]:
        kind = "aim" if bound["aim"] else "bound"
        met = "met" if bound["met"] else "missed"
        console.print(
            f"{bound['run']} / {bound['peer']}: {bound['ratio']:.3f}, {kind} {bound['at_most']:.2f}: {met}",
            highlight=False,
        )


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    given = read_arguments()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY_LOAD:
        say(f"note: the machine is busy (load {load:.1f} over the last minute), so the figures are unreliable")
    warm_up(given.data, given.base)
    rounds = [run_round(given) for _ in range(given.repeats)]
    if any(one.cache_bytes == 0 for one in rounds):
        say("note: graft's cold run left its cache empty, so its warm run was a second cold one")
    if len({outcome.images for one in rounds for outcome in one.outcomes}) > 1:
        say("note: the contestants validated on different numbers of images")
    figures = report(given, rounds, load)
    if given.json:
        print(json.dumps(figures, indent=2))
    else:
        print_table(figures)


if __name__ == "__main__":
    main()
