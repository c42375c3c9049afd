"""Images a second of the trunk and of training steps in one process; part of gpu.py."""

import argparse
import copy
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F

from figures import Record
from graft.data.dataset import TRAIN
from graft.data.loading import batches
from graft.data.opening import open_dataset
from graft.features.engine import choose, open_engine, precision_for
from graft.features.extraction import BATCH, extract
from graft.training.inputs import PixelInputs
from graft.training.loop import fit_crown
from graft.training.recipe import Recipe
from graft.weights.base import load_base


def images_per_second(count: int, work: Callable[[], object]) -> float:
    """Images a second of `work`, which takes `count` images; the device is idle before and after."""
    rest()
    began = time.perf_counter()
    work()
    rest()
    return count / (time.perf_counter() - began)


def rest() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turn(rounds: int, contestants: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """The rate of every contestant in every round, after one warm-up round."""
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            rate = run()
            found[name] += [rate] if number else []
    return found


def tell_rates(record: Record, found: dict[str, list[float]], over: str, bounds: dict[str, str]) -> None:
    for name, rates in found.items():
        record.tell(name, median(rates), "images/s")
    for name, rates in found.items():
        if name != over:
            ratio = median(one / other for one, other in zip(rates, found[over], strict=True))
            record.tell(f"  {name} / {over}", ratio, "x", bound=bounds.get(name, ""))


def time_trunk(given: argparse.Namespace, record: Record, data: Path, base_file: Path) -> None:
    """Time the trunk in images a second: bare on the device, from memory, from disk, and decoding alone."""
    base, choice = load_base(str(base_file)), choose("torch")
    record.tell("graft's choice", None, "", note=str(choice))
    trunk, images = base.network.split(base.network.cuts[-2])[0].eval(), open_dataset(data).splits[TRAIN]
    dtype = torch.bfloat16 if choice.precision == "bfloat16" else torch.float32
    bare = copy.deepcopy(trunk).to(choice.device, dtype, memory_format=torch.channels_last)
    in_memory = list(batches(images.take(range(min(len(images), 64 * BATCH))), base.preprocessing, BATCH))
    engine = open_engine(choice, trunk, base.preprocessing)

    def bare_rate(size: int) -> Callable[[], float]:
        x = torch.randn(size, 3, given.pixels, given.pixels, device=choice.device, dtype=dtype)
        x, steps = x.contiguous(memory_format=torch.channels_last), max(1, min(4096, given.images) // size)

        @torch.inference_mode()
        def work() -> None:
            for _ in range(steps):
                bare(x)

        return lambda: images_per_second(size * steps, work)

    def through_engine() -> None:
        for _ in engine.run(in_memory):
            pass

    def from_disk() -> None:
        extract(trunk, {TRAIN: images}, base.preprocessing, choice, use_cache=False)

    def decode() -> None:
        for _ in batches(images, base.preprocessing, BATCH):
            pass

    large = "bare network, large batches" if given.quick else "bare network, batches of 256"
    found = in_turn(
        given.rounds,
        {
            large: bare_rate(4 * BATCH if given.quick else 256),
            f"bare network, batches of {BATCH}": bare_rate(BATCH),
            "graft's engine, pixels in memory": lambda: images_per_second(
                sum(len(batch.indices) for batch in in_memory), through_engine
            ),
            "graft, JPEGs on disk": lambda: images_per_second(len(images), from_disk),
            "graft, decoding alone": lambda: images_per_second(len(images), decode),
        },
    )
    bounds = dict.fromkeys(("graft's engine, pixels in memory", "graft, JPEGs on disk"), ">= 0.8")
    tell_rates(record, found, large, bounds)
    # Through the cache, as in whole processes.
    for what in ("graft, activations into the cache", "graft, activations from the cache"):
        record.tell(
            what,
            images_per_second(len(images), lambda: extract(trunk, {TRAIN: images}, base.preprocessing, choice)),
            "images/s",
        )


def time_steps(given: argparse.Namespace, record: Record, base_file: Path) -> None:
    """Time training steps: graft's loop on pixels in memory, and bare steps on a batch that is on the device."""
    choice, size, steps = choose("torch"), given.batch_size, 4 if given.quick else 60
    base, other = load_base(str(base_file)), load_base(str(base_file))
    pixels = torch.randint(0, 256, (size * min(steps, 20), 3, given.pixels, given.pixels), dtype=torch.uint8)
    labels, precision = np.arange(len(pixels)) % 4, precision_for(base.network, choice)
    inputs = PixelInputs((pixels,), labels, base.preprocessing, device=choice.device)
    base.network.new_head(4)
    other.network.new_head(4)
    _, crown = base.network.split("input")
    crown.requires_grad_(True)
    recipe = Recipe(epochs=steps * size // len(pixels), batch_size=size, augment="none").resolve(pretrained=True)
    plain = other.network.to(choice.device, memory_format=torch.channels_last).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-4, fused=True)
    x = torch.randn(size, 3, given.pixels, given.pixels, device=choice.device)
    x, y = x.contiguous(memory_format=torch.channels_last), torch.arange(size, device=choice.device) % 4

    def graft_steps() -> None:
        fit_crown(crown, inputs, None, recipe, device=choice.device, precision=precision)

    def bare_steps() -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            with torch.autocast(choice.device, torch.bfloat16, enabled=precision == "bfloat16"):
                loss = F.cross_entropy(plain(x), y)
            loss.backward()
            optimizer.step()

    bare = "bare steps, a batch on the device"
    found = in_turn(
        given.rounds,
        {
            bare: lambda: images_per_second(steps * size, bare_steps),
            "graft's loop, pixels in memory": lambda: images_per_second(steps * size, graft_steps),
        },
    )
    tell_rates(record, found, bare, {})
    if given.device == "cuda":
        tell_waits(record, graft_steps, steps)


def tell_waits(record: Record, work: Callable[[], None], steps: int) -> None:
    """Record where the loop waits for the device: a wait or two per fit is harmless, one per step is worth a look."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places = Counter(f"{each.filename}:{each.lineno}" for each in heard if "synchroniz" in str(each.message))
    record.tell("waits for the device, for each step", sum(places.values()) / steps, "")
    for place, count in places.most_common(8):
        record.tell(f"  {place[-52:]}", count / steps, "a step")
