"""Trains every level to the end on every task, and records what the advisor and the textbook's rule would choose.

    python benchmarks/regret.py SHARED --out docs/transfer_runs.jsonl

A task is a data set with a number of images per class, a base, and an image size. A line of the output is one run
(task, seed, level): the accuracy on test images that played no part in any choice, the curve, and the seconds. Existing
lines are not run again, so an interrupted benchmark can continue. `docs/transfer.py` turns the output into
docs/transfer.md.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from graft.data.dataset import TEST, TRAIN, VAL, Dataset, Images
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.evaluation.intervals import wilson_interval
from graft.features.engine import choose
from graft.images.preprocessing import with_choices
from graft.training.fitting import fit_level
from graft.training.recipe import Recipe
from graft.training.task import Task as TrainingTask
from graft.transfer.levels import plan_level
from graft.weights.base import Base, load_base, untrained_base
from graft.workflows.advise import advise_on

BASES = {
    "resnet20": "resnet20-12fca82f.th",  # from CIFAR-10, 32 px
    "mobilenet_v1_025": "mobilenet_v1_025_imagenet.safetensors",
    "mobilenet_v2": "mobilenet_v2_imagenet.safetensors",
}
LEVELS = ("head", "stages:1", "stages:2", "frozen:0.7", "frozen:0.4", "all", "scratch")
# The value of `level` in the advisor's lines.
ADVICE = "advice"
# Test images per class of the larger data sets, the same for every seed.
TEST_PER_CLASS = 200


@dataclass(frozen=True)
class Task:
    """`per_class` images of each class (None: all) of a data set in `datasets/`, a base, and an image size in px."""

    base: str
    data: str
    per_class: int | None
    size: int

    @property
    def name(self) -> str:
        return f"{self.data} {self.per_class or 'all'} {self.base} {self.size}"


TASKS = (
    Task("mobilenet_v2", "cifar10", 20, 160),
    Task("mobilenet_v2", "ants_bees", None, 160),
    Task("mobilenet_v2", "pacs_sketch", None, 160),
    Task("mobilenet_v1_025", "ants_bees", None, 128),
    Task("mobilenet_v1_025", "pacs_sketch", None, 128),
    Task("mobilenet_v1_025", "cifar10", 10, 96),
    Task("mobilenet_v1_025", "cifar10", 50, 96),
    Task("mobilenet_v1_025", "mnist", 10, 96),
    Task("mobilenet_v1_025", "mnist", 50, 96),
    Task("mobilenet_v1_025", "cifar10", 500, 96),
    Task("resnet20", "mnist", 10, 32),
    Task("resnet20", "mnist", 50, 32),
    Task("resnet20", "cifar10", 50, 32),
    Task("resnet20", "pacs_sketch", None, 32),
    Task("resnet20", "cifar10", 200, 32),
    Task("resnet20", "mnist", 500, 32),
)


def dataset_of(task: Task, shared: Path, seed: int) -> Dataset:
    """The splits of a task: train, val (a fifth of the training images) and test (held out by the data set itself)."""
    whole = open_dataset(shared / "datasets" / task.data)
    held_out = whole.splits[TEST if TEST in whole.splits else VAL]
    splits = {
        TRAIN: some(whole.splits[TRAIN], task.per_class, seed),
        TEST: some(held_out, TEST_PER_CLASS, seed=12345),
    }
    return with_validation(Dataset(task.name, whole.classes, splits), seed)


def some(images: Images, per_class: int | None, seed: int) -> Images:
    """Draw `per_class` images of each class by `seed`, in their original order."""
    if per_class is None:
        return images
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(images.labels == label) for label in np.unique(images.labels)]
    return images.take(np.sort(np.concatenate([random.permutation(each)[:per_class] for each in members])))


def base_of(task: Task, shared: Path, level: str, seed: int) -> Base:
    path = str(shared / "weights" / BASES[task.base])
    if level != "scratch":
        return load_base(path)
    return untrained_base(path, seed=seed)


def train_one(task: Task, level: str, seed: int, shared: Path) -> dict:
    """Train one level to the end, and return its line."""
    dataset, base = dataset_of(task, shared, seed), base_of(task, shared, level, seed)
    torch.manual_seed(seed)
    base = replace(base, preprocessing=with_choices(base.preprocessing, task.size, None))
    chosen = plan_level(level, base.network, base.pretrained)
    found = fit_level(TrainingTask.of(dataset, base, choose(), Recipe(), seed=seed), chosen)
    right = {name: int((found.logits[name].argmax(1) == found.labels[name]).sum()) for name in (VAL, TEST)}
    count = len(found.labels[TEST])
    return {
        "task": task.name,
        "seed": seed,
        "level": level,
        "cut": chosen.cut,
        "images": len(dataset.splits[TRAIN]),
        "test": right[TEST] / count,
        "test_ci95": wilson_interval(right[TEST], count),
        "n": count,
        "val": right[VAL] / len(found.labels[VAL]),
        "curve": [epoch.val_top1 for epoch in found.history],
        "seconds": {"features": found.feature_seconds, "training": found.training_seconds},
    }


def advise_one(task: Task, seed: int, shared: Path) -> dict:
    """The advisor's line: its choice, the choice of the textbook's rule, and the seconds that deciding took."""
    dataset, base = dataset_of(task, shared, seed), base_of(task, shared, "head", seed)
    torch.manual_seed(seed)
    started = time.perf_counter()
    base = replace(base, preprocessing=with_choices(base.preprocessing, task.size, None))
    advice = advise_on(TrainingTask.of(dataset, base, choose(), Recipe(), seed=seed))
    seconds = time.perf_counter() - started
    facts = advice.to_dict()
    return {
        "task": task.name,
        "seed": seed,
        "level": ADVICE,
        "chosen": advice.plan.cut,
        "textbook": plan_level(advice.textbook, base.network, True).cut,
        "scenario": advice.scenario,
        "shift": facts["evidence"]["mean_shift"],
        "probe": facts["evidence"]["probe"],
        "race": facts["evidence"]["race"],
        "seconds": {"deciding": seconds, "trials": sum(row["seconds"] for row in facts["evidence"]["race"])},
    }


def distinct_levels(base: Base) -> dict[str, str]:
    """Levels and their cuts, without levels that repeat an earlier cut; `scratch` stays, as its start differs."""
    levels: dict[str, str] = {}
    for level in LEVELS:
        cut = plan_level(level, base.network, True).cut
        if level == "scratch" or cut not in levels.values():
            levels[level] = cut
    return levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="the folder with datasets/ and weights/")
    parser.add_argument("--out", type=Path, default=Path("docs/transfer_runs.jsonl"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--without", nargs="*", default=[], help="levels to leave out")
    parser.add_argument("--advise", action="store_true", help="run the advisor instead of the levels")
    parser.add_argument("--only", help="only tasks whose name contains this")
    arguments = parser.parse_args()
    lines = arguments.out.read_text().splitlines() if arguments.out.exists() else []
    there = {(row["task"], row["seed"], row["level"]) for row in map(json.loads, lines)}
    for seed in range(arguments.seeds):
        for task in TASKS:
            if arguments.only and arguments.only not in task.name:
                continue
            levels = distinct_levels(base_of(task, arguments.shared, "head", seed))
            for level in [ADVICE] if arguments.advise else levels:
                if level in arguments.without or (task.name, seed, level) in there:
                    continue
                started = time.perf_counter()
                advising = level == ADVICE
                shared = arguments.shared
                row = advise_one(task, seed, shared) if advising else train_one(task, level, seed, shared)
                with arguments.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                seconds = time.perf_counter() - started
                outcome = row["chosen"] if advising else f"{row['test']:.3f}"
                print(f"{task.name}, seed {seed}, {level}: {outcome} in {seconds:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
