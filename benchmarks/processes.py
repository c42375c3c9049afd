"""Training by several processes: random kills, and how much faster two are than one.

    python benchmarks/processes.py [--kills N] [--optimizer sgd|adamw] [--seed N] [--only kills|speed] [--json]

Kills: LeNet-5 is trained on drawn letters by one to three processes, with augmentation and dropout. Again and again one
of them, drawn at random, is killed at a random moment, and another number of processes goes on from the checkpoint. At
the end weights, metrics and a ledger of the images of every step are compared with those of one process that nobody
disturbed. Speed: one process on one core against two on two, each with a core of its own, taking turns; the same
number of images in every batch. docs/scale.md has the outcome.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed import FileStore

from graft.errors import GraftError
from graft.images.augmenting import STRENGTHS, augment
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.images.preprocessing import Preprocessing
from graft.models.catalog import build
from graft.models.network import Config
from graft.training.checkpoint import CheckpointFile
from graft.training.inputs import PixelInputs
from graft.training.loop import Watcher, fit_crown
from graft.training.processes import Processes
from graft.training.recipe import Recipe

CLASSES, EPOCHS, BATCH = 6, 6, 16
TURNS = 3
# Seconds after each step, so that there are moments to be killed at, and the longest from the first step to a kill.
PAUSE, MOMENT = 0.15, 0.35
STRONG = STRENGTHS["medium"]


@dataclass(frozen=True)
class Ledgered:
    """Inputs that note the images of every batch that is taken from them."""

    inputs: PixelInputs
    taken: list[int]

    @property
    def labels(self) -> np.ndarray:
        return self.inputs.labels

    @property
    def weights(self) -> None:
        return None

    def batches(self, order: np.ndarray, batch_size: int, epoch: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            if epoch:
                self.taken.extend(rows.tolist())
            yield from self.inputs.batches(rows, batch_size, epoch)


def letters(size: int, per_letter: int) -> tuple[PixelInputs, PixelInputs]:
    """Letters in an augmented view for every epoch, and others to judge by."""
    preprocessing = Preprocessing(size=size, mean=(0.5,), std=(0.5,), crop_fraction=1.0)
    splits = []
    for seed, count, views in ((0, per_letter, EPOCHS), (1, 10, 1)):
        images, labels = render_letters(LATIN[:CLASSES], dejavu_fonts(), count, seed)
        pixels = tuple(
            torch.stack(
                [
                    augment(each, preprocessing, STRENGTHS["medium"], (seed, view, row))
                    for row, each in enumerate(images)
                ]
            )
            for view in range(views)
        )
        splits.append(PixelInputs(pixels, labels, preprocessing))
    return splits[0], splits[1]


def fit(
    processes: Processes, inputs: tuple[PixelInputs, PixelInputs], optimizer: str, folder: Path, pause: float
) -> None:
    """Train with the others; the ledger is written step by step, and the outcome at the end."""
    taken: list[int] = []
    torch.manual_seed(0)
    crown = build(Config("lenet5", classes=CLASSES, channels=1)).split("input")[1]
    recipe = Recipe(
        EPOCHS, BATCH, 1e-2 if optimizer == "sgd" else 1e-3, optimizer=optimizer, dropout=0.2, ema_decay=0.9
    )

    def step(done: int, total: int) -> None:
        with (folder / f"ledger-{processes.rank}").open("a") as file:
            file.write(json.dumps((done, taken)) + "\n")
        taken.clear()
        time.sleep(pause)

    checkpoint = CheckpointFile(folder.parent / "last.safetensors", every=0.05)
    found = fit_crown(
        crown,
        Ledgered(inputs[0], taken),
        inputs[1],
        recipe.resolve(),
        checkpoint=checkpoint,
        watcher=Watcher(step=step),
        processes=processes,
    )
    if processes.first:
        save_file(crown.state_dict(), folder / "crown.safetensors")
        history = [(each.epoch, each.train_loss, each.val_loss, each.val_top1) for each in found.history]
        (folder / "history.json").write_text(json.dumps(history))


def member(rank: int, count: int, folder: Path, work: Callable[[Processes], None]) -> None:
    torch.set_num_threads(1)
    store = None if count == 1 else FileStore(str(folder / "store"), count)
    try:
        work(Processes(rank, count, store=store))
    except GraftError:
        # Another was killed.
        os._exit(1)
    os._exit(0)


def started(count: int, folder: Path, work: Callable[[Processes], None]) -> list[Any]:
    folder.mkdir()
    fork = multiprocessing.get_context("fork")
    members = [fork.Process(target=member, args=(rank, count, folder, work)) for rank in range(count)]
    for each in members:
        each.start()
    return members


def ledger_of(folder: Path) -> dict[int, list[int]]:
    """Images by step; the last line of a process may be cut short."""
    done: dict[int, list[int]] = {}
    for path in folder.glob("ledger-*"):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                step, rows = json.loads(line)
                done.setdefault(step, []).extend(rows)
    return done


def killed_at_random(kills: int, optimizer: str, seed: int) -> dict[str, Any]:
    """What a training that is killed again and again comes to, beside one that is not."""
    chance, inputs = random.Random(seed), letters(32, 24)
    with TemporaryDirectory() as name:
        alone = Path(name) / "alone"
        alone.mkdir()
        (whole,) = started(1, alone / "run", lambda processes: fit(processes, inputs, optimizer, alone / "run", 0.0))
        whole.join()
        root, ledger, shared, counts, victims, attempt = Path(name) / "killed", {}, {}, [], [], 0
        root.mkdir()
        while True:
            folder = root / str(attempt)
            count = chance.choice([each for each in (1, 2, 3) if not counts or each != counts[-1]])
            members = started(
                count, folder, partial(fit, inputs=inputs, optimizer=optimizer, folder=folder, pause=PAUSE)
            )
            counts.append(count)
            while not list(folder.glob("ledger-*")) and all(each.is_alive() for each in members):
                time.sleep(0.01)
            if len(victims) < kills:
                time.sleep(MOMENT * chance.random())
                victim = chance.randrange(count)
                if members[victim].is_alive():
                    os.kill(members[victim].pid, signal.SIGKILL)
                    victims.append(victim)
                    # As torchrun's agent does when one of its processes has died.
                    for each in members:
                        each.terminate()
            for each in members:
                each.join()
            # Steps after the last checkpoint are done again, and the last time counts.
            done = ledger_of(folder)
            ledger |= done
            shared |= dict.fromkeys(done, count)
            attempt += 1
            if (folder / "history.json").is_file():
                break
        states = [load_file(each / "crown.safetensors") for each in (alone / "run", folder)]
        histories = [json.loads((each / "history.json").read_text()) for each in (alone / "run", folder)]
        own = ledger_of(alone / "run")
    losses = [
        abs(one[at] - other[at]) for one, other in zip(*histories, strict=True) for at in (1, 2) if one[at] is not None
    ]
    return {
        "optimizer": optimizer,
        "kills": len(victims),
        "processes": counts,
        "largest_difference_of_weights": max(
            float((values - states[1][of]).abs().max()) for of, values in states[0].items()
        ),
        "same_accuracies": [each[3] for each in histories[0]] == [each[3] for each in histories[1]],
        "largest_difference_of_losses": max(losses),
        "same_ledger": in_order(ledger) == in_order(own),
        "steps_by_processes": {str(count): list(shared.values()).count(count) for count in (1, 2, 3)},
    }


def in_order(ledger: dict[int, list[int]]) -> dict[int, list[int]]:
    return {step: sorted(rows) for step, rows in ledger.items()}


def speed() -> dict[str, Any]:
    """Images a second of one process on one core, and of two on two."""
    inputs, cores = letters(32, 40), sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("expected two cores, got one: run it on a machine with two")
    recipe = replace(Recipe(2, 32, 1e-3).resolve(), epochs=2)
    found: dict[int, list[float]] = {1: [], 2: []}
    with TemporaryDirectory() as name:
        for turn in range(TURNS):
            for count in found:
                folder = Path(name) / f"{turn}-{count}"

                def work(processes: Processes, folder: Path = folder) -> None:
                    os.sched_setaffinity(0, {cores[processes.rank]})
                    torch.manual_seed(0)
                    crown = build(Config("resnet20", classes=CLASSES, channels=1)).split("input")[1]
                    began: list[float] = []
                    watcher = Watcher(step=lambda done, total: began.append(time.perf_counter()))
                    fit_crown(crown, inputs[0], None, recipe, watcher=watcher, processes=processes)
                    if processes.first:
                        seconds = (began[-1] - began[0]) / (len(began) - 1)
                        (folder / "seconds").write_text(str(seconds))

                for each in started(count, folder, work):
                    each.join()
                found[count].append(float((folder / "seconds").read_text()))
    ratios = [one / two for one, two in zip(found[1], found[2], strict=True)]
    return {
        "seconds_per_step": {str(count): median(values) for count, values in found.items()},
        "speed_up": median(ratios),
        "speed_ups": ratios,
        "load": os.getloadavg()[0],
        "steps": math.ceil(len(inputs[0].labels) / 32) * 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--optimizer", default="sgd", choices=("sgd", "adamw"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("kills", "speed"))
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    if given.only != "speed":
        found["kills"] = killed_at_random(given.kills, given.optimizer, given.seed)
    if given.only != "kills":
        found["speed"] = speed()
    if given.json:
        print(json.dumps(found, indent=2))
        return
    for name, values in found.items():
        print(name)
        for key, value in values.items():
            print(f"  {key.replace('_', ' ')}: {value}")


if __name__ == "__main__":
    main()
