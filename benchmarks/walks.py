"""Walks through architectures: checks the page's numbers against the network's own, and the size of the page.

    python benchmarks/walks.py IMAGE               one architecture of every family, and the largest
    python benchmarks/walks.py IMAGE NAME NAME     these
    python benchmarks/walks.py IMAGE all           all of the catalogue

Every network has random weights. At two random places of every stage the page's number is compared with the network's
own (four digits), and every weighted sum on the page is added up again from the numbers that the page shows. Prints a
line for each architecture and exits with 1 if a number or a size is wrong.
"""

import base64
import gzip
import json
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch

from graft.data.loading import least_side
from graft.drawing.walk_page import draw_walk
from graft.images.decoding import decode
from graft.images.preprocessing import normalise
from graft.images.resizing import to_square
from graft.models.catalog import CATALOG
from graft.weights.base import untrained_base
from graft.workflows.walk import LARGEST_PAGE, walk

LARGEST = ("vgg19_bn", "resnet152", "densenet161", "efficientnet_b7")


def sums(step: dict[str, Any]) -> list[dict[str, Any]]:
    return ([step] if "s" in step else []) + [each for operand in step.get("a", ()) for each in sums(operand)]


def wrong_sums(stage: dict[str, Any]) -> tuple[int, int]:
    """Count the weighted sums that a stage shows, and those that do not add up."""
    count = wrong = 0
    for channel in stage["channels"]:
        for each in (each for pixel in channel["pixels"] for each in sums(pixel[-1])):
            numbers, kernel = each["s"], channel["kernels"][each["s"]["k"]]
            total = sum(numbers["d"]) + numbers["r"] + kernel["bias"]
            largest = max(map(abs, [*numbers["d"], numbers["r"], each["v"]]))
            for inputs, weights, product in zip(numbers["x"], kernel["weights"], numbers["d"], strict=True):
                products = [x * w for x, w in zip(inputs, weights, strict=True) if x is not None]
                scale = max(map(abs, products), default=0.0)
                wrong += abs(sum(products) - product) > 2e-4 * scale * max(1, len(products)) ** 0.5
            count, wrong = count + 1, wrong + (abs(total - each["v"]) > 2e-4 * largest)
    return count, wrong


def check(name: str, image: Path) -> bool:
    start, chosen = time.perf_counter(), random.Random(name)
    base = untrained_base(name, seed=0)
    base.network.eval()
    pixels = to_square(decode(image.read_bytes(), least_side(base.preprocessing)), base.preprocessing)
    with torch.no_grad():
        batch = normalise(pixels[None], base.preprocessing)
        maps = {**base.network.feature_maps(batch), "head": base.network(batch)}
    places = [
        (stage, tuple(chosen.randrange(size) for size in output.shape[1:]))
        for stage, output in maps.items()
        for _ in range(2)
    ]
    walked = walk([name], str(image), at=[":".join([s, *map(str, place)]) for s, place in places], random=True)
    page = draw_walk(walked.to_dict(), name)
    found = re.search(rb'id="data">([^<]*)<', page)
    assert found is not None
    (network,) = json.loads(gzip.decompress(base64.b64decode(found[1])))["networks"]
    stages = {stage["name"]: stage for stage in network["stages"]}
    different = 0
    for stage, (channel, *pixel) in places:
        shown = next(each for each in stages[stage]["channels"] if each["index"] == channel)
        (step,) = (each[-1] for each in shown["pixels"] if each[:-1] == pixel)
        own = float(maps[stage][(0, channel, *pixel)])
        # Two networks with equal weights differ in their last bits, by more than the value where large terms cancel.
        near = 1e-4 * abs(own) + 1e-6 * float(maps[stage].abs().max())
        if abs(step["v"] - own) > near:
            different += 1
            print(f"  {stage}:{channel}:{pixel}: {step['v']} on the page, {own} in the network")
    count, wrong = (sum(each) for each in zip(*map(wrong_sums, stages.values()), strict=True))
    right = not different and not wrong and len(page) <= LARGEST_PAGE
    print(
        f"{name:22} {len(stages):2} stages, {len(places):2} places with {different} wrong, {count:5} sums with {wrong} "
        f"wrong, {len(page) / 1e6:.2f} MB, {time.perf_counter() - start:5.1f} s{'' if right else '  WRONG'}",
        flush=True,
    )
    return right


def main() -> None:
    image, names = Path(sys.argv[1]), sys.argv[2:]
    if names == ["all"]:
        names = list(CATALOG)
    first = {row.family: name for name, row in reversed(CATALOG.items())}
    right = [check(name, image) for name in names or (*reversed(first.values()), *LARGEST)]
    sys.exit(not all(right))


if __name__ == "__main__":
    main()
