"""Training by several processes: the same bits, random kills, and how much faster two are than one.

    python benchmarks/processes.py [--kills N] [--seed N] [--only bits|kills|speed] [--images FOLDER] [--json]

Bits: EfficientNet-Lite0 and MobileNetV2 are trained with AdamW by one, two and three processes, all stages, for three
epochs on augmented images of a folder with one folder for each class, or on drawn letters; with batch norm by stored
statistics and by those of the batch. Kills: LeNet-5 is trained on drawn letters by one to three processes, with AdamW,
augmentation and dropout. Again and again one of them, drawn at random, is killed at a random moment after its first
step, and another number of processes goes on from the checkpoint. At the end weights, metrics and a ledger of the
images of every step are compared with those of one process that nobody disturbed. Speed: one process on one core
against two on two, each with a core of its own, taking turns; the same number of images in every batch; and one process
whose batches are not cut into pieces. docs/scale.md has the outcome.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import signal
import sys
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
from PIL import Image
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

CLASSES, EPOCHS, BATCH = 6, 8, 16
TURNS = 3
# What `bits` trains on: side in px, images (three steps an epoch, the last batch not full), and networks.
PIXELS, IMAGES, NETWORKS = 64, 40, ("efficientnet_lite0", "mobilenet_v2")
# Pause after each step, to leave time for a kill, and the longest time from the first step to a kill, in seconds.
PAUSE, MOMENT = 0.15, 1.0
# One process that cuts its batches into pieces, as under torchrun.
ONE = Processes(job="benchmark")


@dataclass(frozen=True)
class Ledgered:
    """Inputs that record the images of every batch taken from them."""

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
    """Letters in one augmented view per epoch, and other letters to validate on."""
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


def fit(processes: Processes, inputs: tuple[PixelInputs, PixelInputs], folder: Path, pause: float) -> None:
    """Train together with the other processes; write the ledger step by step, and the outcome at the end."""
    taken: list[int] = []
    torch.manual_seed(0)
    crown = build(Config("lenet5", classes=CLASSES, channels=1)).split("input")[1]
    recipe = Recipe(EPOCHS, BATCH, 1e-3, dropout=0.2, ema_decay=0.9)

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
        work(Processes(rank, count, ONE.job, store))
    except GraftError:
        # Another process was killed.
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
    """The images of every step; the last line of a process is skipped if it was cut short."""
    done: dict[int, list[int]] = {}
    for path in folder.glob("ledger-*"):
        for line in path.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                step, rows = json.loads(line)
                done.setdefault(step, []).extend(rows)
    return done


def killed_at_random(kills: int, seed: int) -> dict[str, Any]:
    """Compare a run that is killed again and again with one that is left alone."""
    chance, inputs = random.Random(seed), letters(32, 24)
    with TemporaryDirectory() as name:
        alone = Path(name) / "alone"
        alone.mkdir()
        (whole,) = started(1, alone / "run", lambda processes: fit(processes, inputs, alone / "run", 0.0))
        whole.join()
        root, ledger, shared, counts, victims, attempt = Path(name) / "killed", {}, {}, [], [], 0
        root.mkdir()
        while True:
            folder = root / str(attempt)
            count = chance.choice([each for each in (1, 2, 3) if not counts or each != counts[-1]])
            members = started(count, folder, partial(fit, inputs=inputs, folder=folder, pause=PAUSE))
            counts.append(count)
            while not list(folder.glob("ledger-*")) and all(each.is_alive() for each in members):
                time.sleep(0.01)
            if len(victims) < kills:
                time.sleep(MOMENT * chance.random())
                victim = chance.randrange(count)
                if members[victim].is_alive():
                    os.kill(members[victim].pid, signal.SIGKILL)
                    victims.append(victim)
                    # torchrun's agent does the same when one of its processes dies.
                    for each in members:
                        each.terminate()
            for each in members:
                each.join()
            # Steps after the last checkpoint are repeated; the last repetition counts.
            done = ledger_of(folder)
            ledger |= done
            shared |= dict.fromkeys(done, count)
            attempt += 1
            if (folder / "history.json").is_file():
                break
        states = [load_file(each / "crown.safetensors") for each in (alone / "run", folder)]
        histories = [json.loads((each / "history.json").read_text()) for each in (alone / "run", folder)]
        own = ledger_of(alone / "run")
    return {
        "kills": len(victims),
        "processes": counts,
        "largest_difference_of_weights": difference(*states),
        "same_bytes": in_bytes(states[0]) == in_bytes(states[1]),
        "same_losses_and_accuracies": histories[0] == histories[1],
        "same_ledger": in_order(ledger) == in_order(own),
        "steps_by_processes": {str(count): list(shared.values()).count(count) for count in (1, 2, 3)},
    }


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((values.double() - other[of].double()).abs().max()) for of, values in one.items())


def in_bytes(state: dict[str, Tensor]) -> dict[str, bytes]:
    return {name: values.contiguous().numpy().tobytes() for name, values in state.items()}


def bits(folder: Path | None) -> dict[str, Any]:
    """Compare the outcomes of one, two and three processes, and of one whose batches are not cut into pieces."""
    inputs, classes = pictured(folder)
    found: dict[str, Any] = {}
    with TemporaryDirectory() as name:
        for architecture in NETWORKS:
            for norm in ("stored", "batch"):
                states, histories = [], []

                def work(
                    processes: Processes, folder: Path, architecture: str = architecture, norm: str = norm
                ) -> None:
                    torch.manual_seed(0)
                    crown = build(Config(architecture, classes=classes)).split("input")[1]
                    recipe = Recipe(3, 16, 1e-3, batch_norm=norm, ema_decay=0.9).resolve()
                    fitted = fit_crown(crown, inputs, inputs, recipe, processes=processes, keep_last=True)
                    if processes.first:
                        save_file(crown.state_dict(), folder / "crown.safetensors")
                        history = [(each.train_loss, each.val_loss, each.val_top1) for each in fitted.history]
                        (folder / "history.json").write_text(json.dumps(history))

                def whole(processes: Processes, folder: Path, work: Callable[..., None] = work) -> None:
                    work(Processes(), folder)

                for number, (count, how) in enumerate(((1, work), (2, work), (3, work), (1, whole))):
                    place = Path(name) / f"{architecture}-{norm}-{number}"
                    for each in started(count, place, partial(how, folder=place)):
                        each.join()
                    states.append(load_file(place / "crown.safetensors"))
                    histories.append(json.loads((place / "history.json").read_text()))
                found[f"{architecture}, batch norm by {norm} statistics"] = {
                    "same_bytes": all(in_bytes(each) == in_bytes(states[0]) for each in states[1:3]),
                    "same_losses_and_accuracies": all(each == histories[0] for each in histories[1:3]),
                    "largest_difference_of_weights": max(difference(each, states[0]) for each in states[1:3]),
                    "largest_difference_to_uncut_batches": difference(states[3], states[0]),
                    "losses": [each[0] for each in histories[0][1:]],
                }
                print(architecture, norm, "done", file=sys.stderr)
    return found


def pictured(folder: Path | None) -> tuple[PixelInputs, int]:
    """Images of three channels in one augmented view for each of three epochs, and their number of classes."""
    preprocessing = Preprocessing(size=PIXELS, mean=(0.5,) * 3, std=(0.5,) * 3, crop_fraction=1.0)
    if folder is None:
        images, labels = render_letters(LATIN[:CLASSES], dejavu_fonts(), -(-IMAGES // CLASSES), 0)
        images = [np.asarray(Image.fromarray(image.squeeze()).convert("RGB")) for image in images]
    else:
        names = sorted(each.name for each in folder.iterdir() if each.is_dir())
        paths = [(path, at) for at, each in enumerate(names) for path in sorted((folder / each).iterdir())]
        drawn = np.random.default_rng(0).permutation(len(paths))[:IMAGES]
        images = [np.asarray(Image.open(paths[at][0]).convert("RGB")) for at in drawn]
        labels = np.array([paths[at][1] for at in drawn])
    views = tuple(
        torch.stack(
            [augment(each, preprocessing, STRENGTHS["medium"], (0, view, row)) for row, each in enumerate(images)]
        )
        for view in range(3)
    )
    return PixelInputs(views, labels, preprocessing), int(labels.max()) + 1


def in_order(ledger: dict[int, list[int]]) -> dict[int, list[int]]:
    return {step: sorted(rows) for step, rows in ledger.items()}


def speed() -> dict[str, Any]:
    """Seconds per step of one process on one core, of two on two, and of one whose batches are not cut into pieces."""
    inputs, cores = letters(32, 40), sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        raise SystemExit("expected two cores, got one: run it on a machine with two")
    recipe = replace(Recipe(2, 32, 1e-3).resolve(), epochs=2)
    found: dict[str, list[float]] = {"uncut": [], "1": [], "2": []}
    with TemporaryDirectory() as name:
        for turn in range(TURNS):
            for way in found:
                folder = Path(name) / f"{turn}-{way}"

                def work(processes: Processes, folder: Path = folder, way: str = way) -> None:
                    os.sched_setaffinity(0, {cores[processes.rank]})
                    processes = Processes() if way == "uncut" else processes
                    torch.manual_seed(0)
                    crown = build(Config("resnet20", classes=CLASSES, channels=1)).split("input")[1]
                    began: list[float] = []
                    watcher = Watcher(step=lambda done, total: began.append(time.perf_counter()))
                    fit_crown(crown, inputs[0], None, recipe, watcher=watcher, processes=processes)
                    if processes.first:
                        seconds = (began[-1] - began[0]) / (len(began) - 1)
                        (folder / "seconds").write_text(str(seconds))

                for each in started(2 if way == "2" else 1, folder, work):
                    each.join()
                found[way].append(float((folder / "seconds").read_text()))
    ratios = [one / two for one, two in zip(found["1"], found["2"], strict=True)]
    return {
        "seconds_per_step": {way: median(values) for way, values in found.items()},
        "speed_up": median(ratios),
        "speed_ups": ratios,
        "load": os.getloadavg()[0],
        "steps": math.ceil(len(inputs[0].labels) / 32) * 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("bits", "kills", "speed"))
    parser.add_argument("--images", type=Path, help="a folder with a folder of images for each class")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    if given.only in (None, "bits"):
        found |= bits(given.images)
    if given.only in (None, "kills"):
        found["kills"] = killed_at_random(given.kills, given.seed)
    if given.only in (None, "speed"):
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
