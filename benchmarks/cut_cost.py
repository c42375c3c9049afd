"""Seconds per epoch at every cut: from cached activations, and in the loop that runs the frozen part every time.

    python benchmarks/cut_cost.py DATA [--images N] [--epochs N] [--network NAME …] [--cuts CUT …] [--json]

At every cut, the same crowns of MobileNetV2 and ResNet-50 are trained on the same images by three contestants, which
alternate after every epoch: graft's loop, and the usual loop in float32 and in bfloat16. README.md beside this file
describes them.
"""

import argparse
import copy
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from graft.accounting.counting import account, by_group
from graft.cli.process import keep_freed_memory
from graft.data.dataset import TRAIN, WHOLE, Images
from graft.data.loading import batches
from graft.data.opening import open_dataset
from graft.features.engine import Precision, choose, precision_for, processor_has_bfloat16
from graft.features.extraction import extract
from graft.images.preprocessing import Preprocessing
from graft.models.network import Network, Section, freeze
from graft.training.history import Epoch
from graft.training.inputs import ActivationInputs, Inputs, PixelInputs
from graft.training.loop import Watcher, fit_crown
from graft.training.recipe import Recipe
from graft.transfer.levels import plan_level, weight_layers
from graft.weights.base import untrained_base
from photos import BUSY_LOAD, machine, say

# With this many images the benchmark takes about ten minutes on two cores, three quarters of it in the usual loops.
IMAGES = {"mobilenet_v2": 96, "resnet50": 64}
BATCH_SIZE = 32
WORKERS = 2
# Width of the tables, in characters.
WIDTH = 132

CACHED, FLOAT32, BFLOAT16 = "cached", "usual float32", "usual bfloat16"


@dataclass(frozen=True)
class Bound:
    """The usual loop in float32 takes at least `at_least` times as long as graft's at the cut of this level."""

    level: str
    at_least: float


# This level freezes half of the weight layers and, in both networks, half of the stages that have any.
MIDDLE = "frozen:0.5"
EVERY = "every cut"
BOUNDS = (Bound("stages:1", 5.0), Bound(MIDDLE, 2.5), Bound(EVERY, 1.0))


@dataclass(frozen=True)
class Row:
    """A cut: the seconds of every contestant's timed epochs, turn by turn, and of graft's preparation.

    `levels` are the levels that mean this cut; `share` is the crown's share of the multiply-adds; `precision` is the
    precision of graft's crown; `preparing` is the seconds for decoding, running the trunk and caching the activations.
    """

    network: str
    images: int
    cut: str
    levels: tuple[str, ...]
    share: float
    precision: Precision
    preparing: float
    turns: dict[str, list[float]]

    @property
    def seconds(self) -> dict[str, float]:
        """Median seconds per epoch, by contestant."""
        return {contestant: median(each) for contestant, each in self.turns.items()}

    @property
    def ratios(self) -> dict[str, float]:
        """The time of the usual loops divided by graft's, as the median of the ratios within a turn."""
        return {
            contestant: median(theirs / ours for theirs, ours in zip(each, self.turns[CACHED], strict=True))
            for contestant, each in self.turns.items()
            if contestant != CACHED
        }

    @property
    def paid_after(self) -> int | None:
        """Number of epochs after which preparing has paid off against the loop in float32; None for never."""
        saved = self.seconds[FLOAT32] - self.seconds[CACHED]
        return max(1, math.ceil(self.preparing / saved)) if saved > 0 else None


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Seconds per epoch at every cut: cached and recomputed activations.")
    parser.add_argument("data", type=Path, help="photographs, a folder per class")
    parser.add_argument("--images", type=int, help="number of images, " + usual_counts())
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs, after one that warms up (default 3)")
    parser.add_argument("--network", nargs="+", choices=list(IMAGES), default=list(IMAGES), metavar="NAME")
    parser.add_argument("--cuts", nargs="+", metavar="CUT", help="only these cuts, each named by the last frozen stage")
    parser.add_argument("--json", action="store_true", help="all figures as one JSON document instead of the tables")
    given = parser.parse_args()
    if given.epochs < 1 or (given.images is not None and given.images < BATCH_SIZE):
        parser.error(f"expected at least one epoch and {BATCH_SIZE} images, a batch: raise --epochs or --images")
    return given


def usual_counts() -> str:
    return ", ".join(f"{count} for {name}" for name, count in IMAGES.items()) + " by default"


def rows_of(name: str, given: argparse.Namespace) -> Iterator[Row]:
    """Time every cut but the last, which leaves nothing to train. Random weights take as long as any others."""
    base = untrained_base(name)
    network, preprocessing = base.network, base.preprocessing
    images = some(given.data, given.images or IMAGES[name])
    network.new_head(int(images.labels.max()) + 1)
    table = account(network, (preprocessing.channels, preprocessing.size, preprocessing.size))
    macs = [stage.macs for stage in by_group(table, {stage.name: stage.parts for stage in network.stages})]
    levels = levels_by_cut(network)
    for frozen, cut in enumerate(network.cuts[:-1]):
        if given.cuts and cut not in given.cuts:
            continue
        trunk, crown = copy.deepcopy(network).split(cut)
        precision = precision_for(crown, choose())
        started = time.perf_counter()
        inputs = kept_inputs(trunk, images, preprocessing)
        preparing = time.perf_counter() - started
        with usual_process(given.data, name, cut, images) as usual:
            turns = take_turns(crown, inputs, precision, usual, given.epochs)
        share = sum(macs[frozen:]) / sum(macs)
        yield Row(name, len(images), cut, levels.get(cut, ()), share, precision, preparing, turns)


def some(data: Path, count: int) -> Images:
    """At most `count` images, spread evenly over the classes in `data`."""
    splits = open_dataset(data).splits
    if list(splits) != [WHOLE]:
        raise SystemExit(f"expected a folder per class, got the splits {', '.join(splits)}: give one of their folders")
    images = splits[WHOLE]
    return images.take(np.linspace(0, len(images) - 1, min(count, len(images))).astype(np.int64))


def levels_by_cut(network: Network) -> dict[str, tuple[str, ...]]:
    """The levels that mean each cut, as the user spells them."""
    stages = sum(1 for layers in weight_layers(network).values() if layers) - 1
    spellings: dict[str, tuple[str, ...]] = {}
    for level in ("head", *(f"stages:{count}" for count in range(1, stages)), "all", MIDDLE):
        cut = plan_level(level, network, pretrained=True).cut
        spellings[cut] = (*spellings.get(cut, ()), level)
    return spellings


def kept_inputs(trunk: Section, images: Images, preprocessing: Preprocessing) -> Inputs:
    """What graft keeps between epochs: activations at the cut, or pixels if nothing is frozen."""
    if not trunk.stages:
        decoded = list(batches(images, preprocessing, BATCH_SIZE))
        readable = np.concatenate([batch.indices for batch in decoded])
        return PixelInputs((torch.cat([batch.pixels for batch in decoded]),), images.labels[readable], preprocessing)
    freeze(trunk)
    found = extract(trunk, {TRAIN: images}, preprocessing, choose())[TRAIN]
    return ActivationInputs((found.values,), images.labels[found.indices])


@contextmanager
def usual_process(data: Path, name: str, cut: str, images: Images) -> Iterator[dict[str, Callable[[], float]]]:
    """The usual loops by name, in a process of their own; each runs one epoch and returns its seconds.

    The command `graft` tells the C library to keep freed memory in the process, and so does this script for graft's
    loop. The usual loops run without that setting.
    """
    kinds = (FLOAT32, BFLOAT16) if processor_has_bfloat16() else (FLOAT32,)
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    named = [(images.name(index), int(label)) for index, label in enumerate(images.labels)]
    process = context.Process(target=serve_usual, args=(far, data, name, cut, named))
    process.start()

    def epoch_of(kind: str) -> Callable[[], float]:
        def epoch() -> float:
            near.send(kind)
            return float(near.recv())

        return epoch

    try:
        yield {kind: epoch_of(kind) for kind in kinds}
    finally:
        near.send(None)
        process.join()


def serve_usual(pipe: Connection, data: Path, name: str, cut: str, named: list[tuple[str, int]]) -> None:
    """Run an epoch of each loop that is requested by name and answer with its seconds, until the request is None."""
    base = untrained_base(name)
    base.network.new_head(1 + max(label for _, label in named))
    loader = usual_loader(data, named, base.preprocessing)
    loops = {kind: usual_epoch(base.network, cut, loader, kind == BFLOAT16) for kind in (FLOAT32, BFLOAT16)}
    while (kind := pipe.recv()) is not None:
        started = time.perf_counter()
        loops[kind]()
        pipe.send(time.perf_counter() - started)


def usual_loader(data: Path, named: list[tuple[str, int]], preprocessing: Preprocessing) -> DataLoader:
    """The same images, by path and label, read by torchvision with persistent workers."""
    transform = transforms.Compose(
        [
            transforms.Resize(round(preprocessing.size / preprocessing.crop_fraction)),
            transforms.CenterCrop(preprocessing.size),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )
    folder = ImageFolder(data, transform)
    folder.samples = named
    return DataLoader(folder, BATCH_SIZE, shuffle=True, num_workers=WORKERS, persistent_workers=True)


def usual_epoch(network: Network, cut: str, loader: DataLoader, bfloat16: bool) -> Callable[[], None]:
    """Return an epoch of the usual loop, which decodes every image and runs it through the frozen trunk every time."""
    trunk, crown = copy.deepcopy(network).split(cut)
    trunk.requires_grad_(False)
    trunk.eval()
    crown.train()
    optimizer = torch.optim.AdamW(crown.parameters(), lr=1e-3)

    def epoch() -> None:
        for images, labels in loader:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                with torch.no_grad():
                    x = trunk(images)
                loss = F.cross_entropy(crown(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def take_turns(
    crown: nn.Module, inputs: Inputs, precision: Precision, usual: dict[str, Callable[[], float]], epochs: int
) -> dict[str, list[float]]:
    """Seconds of the timed epochs by contestant: after each epoch of graft's loop, the others run one epoch each."""
    seconds: dict[str, list[float]] = {contestant: [] for contestant in (CACHED, *usual)}
    began = 0.0

    def turn(history: tuple[Epoch, ...]) -> None:
        nonlocal began
        # Epoch 0 is the state before any step.
        if history[-1].epoch:
            seconds[CACHED].append(time.perf_counter() - began)
            for contestant, epoch in usual.items():
                seconds[contestant].append(epoch())
        began = time.perf_counter()

    recipe = Recipe(epochs=1 + epochs, batch_size=BATCH_SIZE).resolve()
    fit_crown(crown, inputs, None, recipe, precision=precision, watcher=Watcher(epoch=turn))
    return {contestant: each[1:] for contestant, each in seconds.items()}


def judged(rows: list[Row]) -> Iterator[dict[str, Any]]:
    """Every bound for every network that was timed at its cut, with the smallest ratio."""
    for network in dict.fromkeys(row.network for row in rows):
        for bound in BOUNDS:
            there = [row for row in rows if row.network == network and bound.level in (EVERY, *row.levels)]
            if there:
                row = min(there, key=lambda row: row.ratios[FLOAT32])
                ratio = row.ratios[FLOAT32]
                met = ratio >= bound.at_least
                yield {"network": network, **asdict(bound), "cut": row.cut, "ratio": ratio, "met": met}


def print_tables(rows: list[Row]) -> None:
    """Print a table per network, then a line per bound."""
    # Wide enough for every column even if the output is not a terminal.
    console = Console(width=max(Console().width, WIDTH))
    for network in dict.fromkeys(row.network for row in rows):
        own = [row for row in rows if row.network == network]
        table = Table(title=f"{network}, {own[0].images} images: seconds per epoch, and how many times graft's")
        table.add_column("cut")
        table.add_column("levels")
        for heading in ("crown", CACHED, "in", FLOAT32, "x", BFLOAT16, "x", "preparing", "paid after"):
            table.add_column(heading, justify="right")
        for row in own:
            cells = [f"{row.share:.0%}", f"{row.seconds[CACHED]:.3f}", row.precision]
            for contestant in (FLOAT32, BFLOAT16):
                timed = contestant in row.turns
                cells += [f"{row.seconds[contestant]:.2f}", f"{row.ratios[contestant]:.1f}"] if timed else ["", ""]
            cells += [f"{row.preparing:.2f}", "never" if row.paid_after is None else str(row.paid_after)]
            table.add_row(row.cut, ", ".join(row.levels), *cells)
        console.print(table)
    for bound in judged(rows):
        where = bound["level"] if bound["level"] != EVERY else f"{EVERY}, least at {bound['cut']}"
        met = "met" if bound["met"] else "missed"
        line = f"{bound['network']}, {where}: {bound['ratio']:.2f} times, bound {bound['at_least']:.1f}: {met}"
        console.print(line, highlight=False)


def main() -> None:
    given = read_arguments()
    keep_freed_memory()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > BUSY_LOAD:
        say(f"note: the machine is busy (load {load:.1f} over the last minute), so the figures are unreliable")
    rows = []
    with TemporaryDirectory(prefix="graft-cut-cost-") as cache:
        os.environ["GRAFT_CACHE"] = cache
        for name in given.network:
            for row in rows_of(name, given):
                said = ", ".join(f"{contestant} {seconds:.2f} s" for contestant, seconds in row.seconds.items())
                say(f"{name} at {row.cut}: {said}")
                rows.append(row)
    if not rows:
        raise SystemExit(
            f"expected cuts that the networks have, got {', '.join(given.cuts)}: `graft models NAME` lists them"
        )
    if given.json:
        timed = [{**asdict(row), "seconds": row.seconds, "ratios": row.ratios} for row in rows]
        figures = {"data": str(given.data), "machine": machine(load), "rows": timed, "bounds": list(judged(rows))}
        print(json.dumps(figures, indent=2))
    else:
        print_tables(rows)


if __name__ == "__main__":
    main()
