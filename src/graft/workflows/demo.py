"""The textbook's example of transfer: a network that knows typed Latin letters learns typed Cyrillic ones.

Three levels are trained on ten images per letter, repeated with other images and other starts: everything from a random
start, a new head on frozen features, and everything from the Latin start.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from graft.data.dataset import TEST, TRAIN
from graft.errors import InputError
from graft.evaluation.intervals import wilson_interval
from graft.images.letters import CYRILLIC, dejavu_fonts, render_letters
from graft.images.resizing import to_square
from graft.seeding import seeded
from graft.training.heads import put_head
from graft.training.inputs import PixelInputs
from graft.training.loop import Watcher, crown_logits, fit_crown
from graft.training.recipe import Recipe
from graft.transfer.head import fit_head
from graft.weights.base import Base, load_base, untrained_base

BASE = "latin_letters"
LEVELS = ("scratch", "head", "all")
TRAIN_PER_LETTER, TEST_PER_LETTER = 10, 20
# Each level has the epochs and rate that suit it, found by a search scored on such images. A random start gets twice
# the epochs, so that it is no straw man; 150 epochs would give it another 1.4 points.
RECIPES = {
    "scratch": Recipe(epochs=60, learning_rate=3e-3).resolve(),
    "all": Recipe(epochs=30, learning_rate=1e-3).resolve(),
}


@dataclass(frozen=True)
class Demo:
    """Test accuracy of every level: curves by epoch (repeats, epochs + 1), where epoch 0 is the start, and final
    values.

    The head has no epochs: it is solved at once, and its curve is a single number.
    """

    letters: int
    per_letter: int
    test_images: int
    curves: dict[str, tuple[tuple[float, ...], ...]]
    seconds: float

    def ends(self, level: str) -> list[float]:
        return [curve[-1] for curve in self.curves[level]]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that `graft demo --json` prints."""
        levels = {
            level: {
                "top1": statistics.mean(self.ends(level)),
                "spread": spread(self.ends(level)),
                "repeats": self.ends(level),
                "curves": [list(curve) for curve in self.curves[level]],
            }
            for level in self.curves
        }
        return {
            "base": BASE,
            "letters": self.letters,
            "train_per_letter": self.per_letter,
            "test_images": self.test_images,
            "levels": levels,
            "transfer_wins": self.transfer_wins(),
            "seconds": {"total": self.seconds},
        }

    def transfer_wins(self) -> bool:
        """Return whether the worst repeat of both transfer levels beats the best of the random start."""
        return min(min(self.ends("head")), min(self.ends("all"))) > max(self.ends("scratch"))

    def table(self) -> str:
        rows = [f"{'level':8} {'start':>7} {'end':>7}  {'repeats':24} 95 % interval of the first"]
        for level, curves in self.curves.items():
            ends = self.ends(level)
            start = f"{statistics.mean(curve[0] for curve in curves):.1%}" if len(curves[0]) > 1 else "–"
            low, high = wilson_interval(round(ends[0] * self.test_images), self.test_images)
            repeats = "  ".join(f"{end:.1%}" for end in ends)
            rows.append(f"{level:8} {start:>7} {statistics.mean(ends):7.1%}  {repeats:24} {low:.1%} to {high:.1%}")
        return "\n".join(rows)

    def conclusion(self) -> str:
        mean = {level: statistics.mean(self.ends(level)) for level in self.curves}
        shown = f"{self.letters} Cyrillic letters, {self.per_letter} images of each"
        gains = (
            f"a head on frozen Latin features {mean['head'] - mean['scratch']:+.1%}, all layers from the Latin start "
        )
        gains += f"{mean['all'] - mean['scratch']:+.1%} against a random start"
        widest = max(spread(self.ends(level)) for level in self.curves)
        if self.transfer_wins():
            return f"{shown}: {gains}; the repeats of a level differ by {widest:.1%} at most, so the transfer is real"
        return f"{shown}: {gains}; the repeats differ by {widest:.1%}, so these images do not decide it"


def spread(values: list[float]) -> float:
    """Return the largest minus the smallest value."""
    return max(values) - min(values)


def run_demo(
    seed: int = 0, repeats: int = 3, step: Callable[[str, int, int], None] = lambda name, done, total: None
) -> Demo:
    """Train every level `repeats` times on the embedded data and test it on images with other distortions."""
    threads = torch.get_num_threads()
    # LeNet's steps are too small to share between threads, and one thread adds in a fixed order: same seed, same
    # figures.
    torch.set_num_threads(1)
    try:
        return _run_demo(seed, repeats, step)
    finally:
        torch.set_num_threads(threads)


def write_images(folder: Path, seed: int = 0) -> int:
    """Write images like the demo's as a data set for trying graft, and return how many there are.

    Each letter gets ten images to train on and ten to test on, in `train/LETTER/` and `test/LETTER/`. Raises InputError
    for a folder that is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"expected a new or empty folder for --images, got {folder}, which is neither: give another")
    written = 0
    for number, split in enumerate((TRAIN, TEST)):
        images, labels = render_letters(CYRILLIC, dejavu_fonts(), TRAIN_PER_LETTER, 1000 * seed + number)
        for pixels, label in zip(images, labels.tolist(), strict=True):
            place = folder / split / CYRILLIC[label]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.squeeze()).save(place / f"{written:04}.png")
            written += 1
    return written


def _run_demo(seed: int, repeats: int, step: Callable[[str, int, int], None]) -> Demo:
    started = time.perf_counter()
    curves: dict[str, list[tuple[float, ...]]] = {level: [] for level in LEVELS}
    done, total = 0, repeats * (1 + sum(recipe.epochs for recipe in RECIPES.values()))
    test_images = 0
    for repeat in range(repeats):
        start = load_base(BASE)
        # Training and test seeds never coincide, and no two repeats share a seed.
        own = 1000 * seed + 2 * repeat
        train, test = _inputs(start, TRAIN_PER_LETTER, own), _inputs(start, TEST_PER_LETTER, own + 1)
        test_images = len(test.labels)
        for level in LEVELS:
            before = done

            def told(history: Any, level: str = level, before: int = before) -> None:
                step(f"{repeats} × {', '.join(LEVELS)}", before + history[-1].epoch, total)

            if level == "head":
                curves[level].append((_head_accuracy(start, train, test),))
                done += 1
                continue
            if level == "scratch":
                network = untrained_base(start.network.config.architecture, seed=own).network
                with seeded(own):
                    network.new_head(len(CYRILLIC))
            else:
                network = start.network
            _, crown = network.split("input")
            history = fit_crown(crown, train, test, RECIPES[level], seed=own, watcher=Watcher(told)).history
            curves[level].append(tuple(epoch.val_top1 or 0.0 for epoch in history))
            done += RECIPES[level].epochs
    step(f"{repeats} × {', '.join(LEVELS)}", total, total)
    kept = {level: tuple(values) for level, values in curves.items()}
    return Demo(len(CYRILLIC), TRAIN_PER_LETTER, test_images, kept, time.perf_counter() - started)


def draw(demo: Demo, path: str) -> None:
    """Write the curves as a PNG: accuracy by epoch, each repeat thin and their mean thick. Raises OSError."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    colours = {"scratch": "tab:gray", "head": "tab:orange", "all": "tab:blue"}
    names = {"scratch": "all layers, random start", "head": "new head, frozen Latin features",
             "all": "all layers, Latin start"}  # fmt: skip
    for level, curves in demo.curves.items():
        if len(curves[0]) == 1:
            mean = statistics.mean(curve[0] for curve in curves)
            axes.axhline(mean, color=colours[level], linestyle="--", label=f"{names[level]} ({mean:.1%})")
            continue
        for curve in curves:
            axes.plot(curve, color=colours[level], alpha=0.35, linewidth=1)
        mean_curve = np.mean(curves, axis=0)
        axes.plot(mean_curve, color=colours[level], linewidth=2.2, label=f"{names[level]} ({mean_curve[-1]:.1%})")
    axes.set_xlabel("epochs")
    axes.set_ylabel("accuracy on unseen images")
    axes.set_title(f"{demo.letters} Cyrillic letters from {demo.per_letter} images each")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120, format="png")


def _inputs(base: Base, per_letter: int, seed: int) -> PixelInputs:
    images, labels = render_letters(CYRILLIC, dejavu_fonts(), per_letter, seed)
    pixels = torch.stack([to_square(image, base.preprocessing) for image in images])
    return PixelInputs((pixels,), labels, base.preprocessing)


def _head_accuracy(base: Base, train: PixelInputs, test: PixelInputs) -> float:
    """Solve the head on frozen features, store it in the base's network, and return its test accuracy."""
    trunk, _ = base.network.split(base.network.cuts[-2])
    head = fit_head(crown_logits(trunk, train), train.labels, len(CYRILLIC))
    put_head(base.network, head)
    _, whole = base.network.split("input")
    return float((crown_logits(whole, test).argmax(1) == test.labels).mean())
