"""Compares graft with what a practitioner would run instead: the accuracy of the classifier, and the time it takes.

    python benchmarks/accuracy.py SHARED --out FILE [--tasks ants_bees] [--seeds 0,1,2]

A task is a data set with a number of images per class, a base and an image size. The seed draws its training images,
and its test images too if the data set has no test split: one half of 300 cells can favour a method by five points over
the other half. The images are written as files, one folder per class. Every contestant is a fresh process on these
files, timed from start to exit: `graft train` with its defaults, `peers/plain.py`, `peers/expert.py` and
`peers/fastai_tune.py`, which `--fastai PYTHON` runs with a Python that has fastai.
No contestant sees the test images before it scores them. Existing lines are not run again, so an interrupted benchmark
can continue.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from safetensors.torch import save_file

from graft.data.dataset import TEST, TRAIN, VAL, Images
from graft.data.opening import open_dataset
from graft.weights.base import load_base

PEERS = Path(__file__).resolve().parent / "peers"
BASES = {
    "mobilenet_v1_025": "mobilenet_v1_025_imagenet.safetensors",
    "mobilenet_v2": "mobilenet_v2_imagenet.safetensors",
}
# graft's default, which comes as a Python package; the peers get it as a file of timm's network.
LITE0 = "efficientnet_lite0"
CONTESTANTS = ("auto", "plain", "expert")
# The scripts of the contestants other than graft, and whether they take a seed.
SCRIPTS = {"plain": ("plain.py", True), "expert": ("expert.py", False), "fastai": ("fastai_tune.py", True)}
# Share of every class held out if a data set has no test split; test images per class of the large data sets.
TEST_SHARE, TEST_PER_CLASS = 0.5, 100
# Seed of the held-out images; the run's seed is added to it if the data set has no test split.
TEST_SEED = 12345


@dataclass(frozen=True)
class Task:
    """`per_class` images of each class (None: all) of a data set in `datasets/`, a base, and an image size in pixels.

    Recipes and constants were tuned on the tasks with `development`, and on no others.
    """

    data: str
    per_class: int | None
    base: str
    size: int
    development: bool

    @property
    def name(self) -> str:
        return f"{self.data} {self.per_class or 'all'} {self.base} {self.size}"


TASKS = (
    Task("ants_bees", None, "mobilenet_v1_025", 128, True),
    Task("ants_bees", None, "mobilenet_v2", 160, False),
    Task("pacs_sketch", 20, "mobilenet_v1_025", 128, True),
    Task("pacs_sketch", None, "mobilenet_v1_025", 128, False),
    Task("pacs_sketch", 30, "mobilenet_v2", 128, False),
    Task("textures", 10, "mobilenet_v1_025", 128, True),
    Task("textures", 40, "mobilenet_v1_025", 128, False),
    Task("textures", 20, "mobilenet_v2", 128, True),
    Task("blood_cells", 20, "mobilenet_v1_025", 128, True),
    Task("blood_cells", None, "mobilenet_v1_025", 128, True),
    Task("blood_cells", None, "mobilenet_v2", 128, False),
    Task("cifar10", 20, "mobilenet_v1_025", 96, True),
    Task("cifar10", 100, "mobilenet_v1_025", 96, False),
    Task("cifar10", 25, "mobilenet_v2", 96, False),
    Task("mnist", 10, "mobilenet_v1_025", 96, True),
    Task("mnist", 40, "mobilenet_v1_025", 96, True),
    Task("ants_bees", None, LITE0, 160, False),
    Task("pacs_sketch", 30, LITE0, 128, False),
    Task("textures", 20, LITE0, 128, False),
    Task("blood_cells", None, LITE0, 128, False),
    Task("cifar10", 25, LITE0, 96, False),
    Task("mnist", 20, LITE0, 96, False),
)


def images_of(task: Task, shared: Path, seed: int) -> tuple[tuple[str, ...], Images, Images]:
    """Class names, training images and test images of a task."""
    place = shared / "datasets" / task.data
    with TemporaryDirectory(prefix="graft-manifest-") as name:
        whole = open_dataset(blood_cells(place, Path(name)) if task.data == "blood_cells" else place)
    names = whole.classes
    if TRAIN in whole.splits:
        pool, held_out = whole.splits[TRAIN], whole.splits[TEST if TEST in whole.splits else VAL]
        test = some(held_out, np.full(len(names), TEST_PER_CLASS if len(held_out) > 1000 else len(held_out)), TEST_SEED)
    else:
        (every,) = whole.splits.values()
        counts = np.bincount(every.labels, minlength=len(names))
        test = some(every, (counts * TEST_SHARE).astype(int), TEST_SEED + seed)
        pool = every.take(np.setdiff1d(np.arange(len(every)), np.flatnonzero(np.isin(every.rows, test.rows))))
    counts = np.bincount(pool.labels, minlength=len(names))
    # A class needs two images for one of them to be held out.
    known = counts >= 2
    pool = pool.take(np.flatnonzero(known[pool.labels]))
    test = test.take(np.flatnonzero(known[test.labels]))
    return names, some(pool, counts if task.per_class is None else np.full(len(names), task.per_class), seed), test


def blood_cells(place: Path, folder: Path) -> Path:
    """Write a manifest of the images to `folder`: the published one names them by number, and masks lie beside them."""
    rows = [row.split(",") for row in (place / "Class Labels.csv").read_text(encoding="utf-8-sig").splitlines()[1:]]
    lines = [f"{place.resolve()}/images/{int(number):03d}.bmp,{label}" for number, label in rows if label]
    manifest = folder / "blood_cells.csv"
    manifest.write_text("path,label\n" + "\n".join(lines) + "\n")
    return manifest


def some(images: Images, per_class: np.ndarray, seed: int) -> Images:
    """Draw up to `per_class` images of each class by `seed`, in their original order."""
    random = np.random.default_rng(seed)
    members = [
        random.permutation(np.flatnonzero(images.labels == label))[: per_class[label]]
        for label in range(len(per_class))
    ]
    return images.take(np.sort(np.concatenate(members)))


def write_files(names: tuple[str, ...], images: Images, folder: Path) -> None:
    """Write a file per image in a folder per class: its original bytes, or PNG if the image is an array."""
    for index, label in enumerate(images.labels.tolist()):
        data = images.read(index)
        if not isinstance(data, bytes):
            buffer = BytesIO()
            Image.fromarray(data.squeeze()).save(buffer, "png")
            data = buffer.getvalue()
        kind = (Image.open(BytesIO(data)).format or "png").lower()
        path = folder / names[label] / f"{index:05d}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def base_of(task: Task, shared: Path, folder: Path) -> Path:
    """Return the weight file of a task's base; Lite0's is written to `folder`, in the layout and words of timm."""
    if task.base != LITE0:
        return (shared / "weights" / BASES[task.base]).resolve()
    # Imported here, because most bases do not need it.
    import timm

    base, theirs = load_base(LITE0), timm.create_model(f"tf_{LITE0}").state_dict()
    tensors = dict(zip(theirs, base.network.state_dict().values(), strict=True))
    mean, std = (",".join(map(repr, values)) for values in (base.preprocessing.mean, base.preprocessing.std))
    told = {"architecture": f"tf_{LITE0}", "mean": mean, "std": std, "input_size": str(base.preprocessing.size)}
    save_file(tensors, folder / f"{LITE0}.safetensors", told)
    return folder / f"{LITE0}.safetensors"


def command(contestant: str, task: Task, data: Path, base: Path, seed: int, out: Path) -> list[str]:
    given = [str(data), "--base", str(base)]
    name, *others = contestant.split()
    if name in SCRIPTS:
        script, seeded = SCRIPTS[name]
        given += [*(["--seed", str(seed)] if seeded else []), *others, "--size", str(task.size), "--split", TEST]
        return [str(PEERS / script), *given]
    given += ["--seed", str(seed), "--image-size", str(task.size), "--level", name, *others]
    return ["-m", "graft", "train", *given, "--out", str(out), "--json"]


def run(contestant: str, task: Task, seed: int, shared: Path, python: str = sys.executable) -> dict[str, Any]:
    """Return the line of one process: test accuracy, what it promised, and whole-process seconds."""
    with TemporaryDirectory(prefix="graft-accuracy-") as name:
        folder = Path(name)
        base = base_of(task, shared, folder)
        names, train, test = images_of(task, shared, seed)
        write_files(names, train, folder / "data" / TRAIN)
        write_files(names, test, folder / "data" / TEST)
        environment = os.environ | {"GRAFT_CACHE": str(folder / "cache")}
        arguments = command(contestant, task, folder / "data", base, seed, folder / "run")
        started = time.perf_counter()
        finished = subprocess.run([python, *arguments], capture_output=True, text=True, env=environment)
        seconds = time.perf_counter() - started
        if finished.returncode:
            raise SystemExit(f"{contestant} failed on {task.name}:\n{finished.stderr[-4000:]}")
        printed = json.loads(finished.stdout)
        line = {"task": task.name, "seed": seed, "contestant": contestant, "development": task.development}
        line |= {"images": len(train), "n": printed[TEST]["n"], "test": printed[TEST]["top1"], "seconds": seconds}
        if "level" in printed:
            plan = json.loads((folder / "run" / "plan.json").read_text())
            line |= {"level": printed["level"], "val": printed[VAL], "seconds_of": printed["seconds"]}
            line["expected"] = printed.get("expected")
            line["race"] = plan.get("evidence", {}).get("race", [])
            metrics = folder / "run" / "metrics.jsonl"
            if metrics.is_file():
                line["curve"] = [json.loads(row)["val_top1"] for row in metrics.read_text().splitlines()]
        shutil.rmtree(folder, ignore_errors=True)
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy and time of graft and its peers, by task.")
    parser.add_argument("shared", type=Path, help="the folder with datasets/ and weights/")
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, a line per run; existing lines are kept")
    parser.add_argument("--tasks", default="", help="only tasks whose name contains this")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--contestants",
        default=",".join(CONTESTANTS),
        help="plain, expert, fastai, auto or a level, with their options",
    )
    parser.add_argument("--fastai", default=sys.executable, help="a Python that has fastai beside torch")
    given = parser.parse_args()
    lines = [json.loads(row) for row in given.out.read_text().splitlines()] if given.out.is_file() else []
    done = {(line["task"], line["seed"], line["contestant"]) for line in lines}
    for seed in map(int, given.seeds.split(",")):
        for task in TASKS:
            for contestant in given.contestants.split(","):
                if given.tasks not in task.name or (task.name, seed, contestant) in done:
                    continue
                python = given.fastai if contestant.startswith("fastai") else sys.executable
                line = run(contestant, task, seed, given.shared.resolve(), python)
                with given.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                shown = f"{line['test']:.3f} in {line['seconds']:.1f} s {line.get('level', '')}"
                print(f"{task.name}, seed {seed}, {contestant}: {shown}", file=sys.stderr)


if __name__ == "__main__":
    main()
