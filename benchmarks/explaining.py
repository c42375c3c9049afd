"""Class maps on every network, whether they tell, and whether they find what was planted.

    python benchmarks/explaining.py networks
    python benchmarks/explaining.py faithful DATA --base FILE
    python benchmarks/explaining.py pointing DATA --base FILE [--level stages:3]

`networks` makes maps on each architecture of the catalogue and one of timm's, all parameters frozen, with a head over
the last and over all stages. `faithful` trains a head on DATA (train/ and val/), compares deletion in the order of the
maps with random order on 50 images of val, and does the same once the weights are randomised. `pointing` plants a
coloured square in one class of DATA, trains at --level on that, and counts the maps of held-out images whose maximum
lies in the square: of all, and of those whose answer rests on it, since without it the class is another. Each prints
one JSON document.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import binomtest
from torch import nn

import graft
from graft.data.dataset import VAL, Images
from graft.data.opening import open_dataset
from graft.data.unlabelled import open_images
from graft.explanation.class_maps import exact_maps, gradient_maps, resized
from graft.explanation.explaining import MapOptions, decoded, explain_images
from graft.explanation.model import Model, answers_of
from graft.explanation.randomisation import cascaded
from graft.features.engine import choose, for_answers
from graft.images.preprocessing import Preprocessing
from graft.models.catalog import CATALOG, build, default_config
from graft.models.cuts import HeadKind
from graft.models.network import freeze
from graft.weights.creating import create
from graft.weights.saved import SavedModel, load_model
from graft.workflows.explain import answers_on

# Small input sides whose last map still has several positions.
SIDES = {28: 28, 32: 32, 227: 163, 299: 171}
TIMM = "timm:resnet10t"
IMAGES = 50
# RISE takes some 800 forward passes an image, tests included.
IMAGES_OF_RISE = 10
# Sides of the planted images and of their square, in px. The maximum may be off by half a position of the map.
SIDE, SQUARE, COLOUR = 256, 48, (230, 0, 230)
# Lets a level that trains stages learn the square: no augmentation hides it, no share of the start holds it back.
TUNED = graft.Recipe(epochs=6, augment="none", label_smoothing=0.0, start_share=0.0, learning_rate=1e-3)


def networks() -> dict[str, object]:
    found: dict[str, object] = {}
    for name in (*CATALOG, TIMM):
        for head in ("last", "stages"):
            found[f"{name}, head over {head}"] = on_network(name, head)
    made = [value for value in found.values() if isinstance(value, dict)]
    return {
        "networks": len(found),
        "exact": sum(each["method"] == "exact" for each in made),
        "grad-cam": sum(each["method"] == "grad-cam" for each in made),
        "finite and not empty": sum(each["good"] for each in made),
        "by network": found,
    }


def on_network(name: str, head: HeadKind) -> dict[str, object]:
    torch.manual_seed(0)
    network = create(name) if name == TIMM else build(default_config(name))
    size = network.input_size[-1] if network.input_size else 224
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    nn.init.normal_(network.new_head(10, head).weight, std=0.1)
    freeze(network.eval())
    channels, side = network.config.channels, SIDES.get(size, 128)
    model = SavedModel(network, Preprocessing(side, (0.5,) * channels, (0.5,) * channels), tuple("abcdefghij"))
    pixels = torch.randint(0, 256, (2, channels, side, side), dtype=torch.uint8)
    maps = exact_maps(model, pixels, [0, 1]) or gradient_maps(model, pixels, [0, 1])
    good = all(np.isfinite(each.values).all() and each.values.any() for each in maps)
    trained = any(parameter.requires_grad for parameter in network.parameters())
    return {
        "method": maps[0].method,
        "stage": maps[0].stage,
        "positions": maps[0].values.shape,
        "good": good and not trained,
    }


def faithful(data: Path, base: str) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        run = graft.train(data, base, "head", out=Path(folder) / "run", refit=False)
        saved = load_model(run.folder / "model")
    images = open_dataset(data).splits[VAL]
    images = images.take(np.linspace(0, len(images) - 1, IMAGES).astype(int))
    *_, (_, randomised) = cascaded(saved)
    broken = replace(saved, network=randomised.network)
    few = images.take(np.linspace(0, len(images) - 1, IMAGES_OF_RISE).astype(int))
    return {
        "val": run.val.to_dict(),
        "auto": of_maps(saved, images, "auto"),
        "auto, weights randomised": of_maps(broken, images, "auto"),
        "rise": of_maps(saved, few, "rise"),
    }


def of_maps(model: SavedModel, images: Images, method: str) -> dict[str, object]:
    explained = explain_images(model, images, MapOptions(method), answers=answers_on(model, *engine_of(model)))
    tested = [each.faithfulness for each in explained.explanations if each.faithfulness is not None]
    better = sum(each.deletion < each.deletion_random for each in tested)
    return {
        "images": len(tested),
        "method": explained.explanations[0].map.method,
        "deletion": float(np.mean([each.deletion for each in tested])),
        "deletion, random order": float(np.mean([each.deletion_random for each in tested])),
        "insertion": float(np.mean([each.insertion for each in tested])),
        "insertion, random order": float(np.mean([each.insertion_random for each in tested])),
        "deletion below random": better,
        "p of the sign test": float(binomtest(better, len(tested), alternative="greater").pvalue),
        "beat all random orders": sum(each.beaten == each.orders for each in tested),
        "likeness over the cascade": float(np.mean([each.sensitivity.alike for each in explained.explanations])),
        "tell": sum(each.tells is True for each in explained.explanations),
    }


def engine_of(model: Model) -> tuple[str, str]:
    choice = for_answers(choose(), model.network, "auto")
    return choice.engine, choice.precision


def pointing(data: Path, base: str, level: str) -> dict[str, object]:
    """With the classes that DATA has, and with classes drawn at random, which nothing but the square tells apart."""
    return {
        "square": SQUARE / SIDE,
        "classes at random": on_planted(data, base, level, at_random=True),
        "own classes": on_planted(data, base, level, at_random=False),
    }


def on_planted(data: Path, base: str, level: str, at_random: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        squares = plant(data, Path(folder) / "planted", at_random)
        recipe = None if level.startswith("head") else TUNED
        run = graft.train(
            *(Path(folder) / "planted", base, level),
            image_size=224,
            recipe=recipe,
            out=Path(folder) / "run",
            audit=False,
            refit=False,
        )
        saved = load_model(run.folder / "model")
        first = sorted({path.parent for path in squares})[0]
        images = open_images(first)
        places = [squares[Path(images.name(row))] for row in range(len(images))]
        rests = rest_on(saved, images, places)
        last = [stage.name for stage in saved.network.stages if stage.stride is not None]
        # The last map of twice the positions, and the last of all.
        finer = next(name for name in reversed(last) if stride_of(saved, name) < stride_of(saved, last[-1]))
        found = {}
        for title, options in (
            ("auto", MapOptions("auto", test=False, of_class=first.name)),
            (f"grad-cam, {finer}", MapOptions("grad-cam", finer, first.name, test=False)),
            ("rise", MapOptions("rise", test=False, of_class=first.name)),
        ):
            answers = answers_on(saved, *engine_of(saved))
            shown = images.take(np.arange(IMAGES_OF_RISE)) if title == "rise" else images
            explained = explain_images(saved, shown, options, answers=answers)
            hits = np.array(
                [
                    inside(each.map.values, places[row], saved.preprocessing)
                    for each, row in zip(explained.explanations, explained.rows, strict=True)
                ]
            )
            of_these = rests[explained.rows]
            found[title] = {
                "images": len(hits),
                "share": float(hits.mean()),
                "rest on the square": int(of_these.sum()),
                "share of these": float(hits[of_these].mean()) if of_these.any() else None,
            }
    return {"val": run.val.to_dict(), **found}


def stride_of(model: SavedModel, stage: str) -> int:
    return next(each.stride or 0 for each in model.network.stages if each.name == stage)


def rest_on(model: SavedModel, images: Images, places: list[tuple[int, int]]) -> np.ndarray:
    """Which images are given their class, and another once their square has the mean colour, bool (n,)."""
    index = model.classes.index(Path(images.name(0)).parent.name)
    pixels, rows, _ = decoded(model, images)
    covered = pixels.clone()
    for own, row in zip(covered, rows, strict=True):
        top, left, bottom, right = as_seen(places[row], model.preprocessing)
        own[:, top:bottom, left:right] = own.float().mean((1, 2)).round().to(torch.uint8)[:, None, None]
    answers = answers_of(model)
    with_it, without = (answers(each).argmax(1).numpy() == index for each in (pixels, covered))
    found = np.zeros(len(images), dtype=bool)
    found[rows] = with_it & ~without
    return found


def as_seen(square: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of a square in the pixels that the network sees."""
    kept = round(preprocessing.crop_fraction * SIDE)
    scale, start = preprocessing.size / kept, (SIDE - kept) // 2
    low = [max(0, round((at - start) * scale)) for at in square]
    high = [round((at + SQUARE - start) * scale) for at in square]
    return low[0], low[1], high[0], high[1]


def plant(data: Path, to: Path, at_random: bool) -> dict[Path, tuple[int, int]]:
    """Copies of all images, with a square in those of the first class; where it is in those of val."""
    random, squares = np.random.default_rng(0), {}
    margin = round(SIDE * 0.0625) + 1
    for split in ("train", "val"):
        classes = sorted(folder.name for folder in (data / split).iterdir())
        for path in sorted((data / split).rglob("*.jpg")):
            pixels = np.array(Image.open(path).convert("RGB").resize((SIDE, SIDE)))
            label = str(random.choice(classes)) if at_random else path.parent.name
            copy = to / split / label / f"{path.stem}.png"
            if label == classes[0]:
                top, left = random.integers(margin, SIDE - SQUARE - margin, 2).tolist()
                pixels[top : top + SQUARE, left : left + SQUARE] = COLOUR
                if split == "val":
                    squares[copy] = (top, left)
            copy.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(copy)
    return squares


def inside(values: np.ndarray, square: tuple[int, int], preprocessing: Preprocessing) -> bool:
    """Whether the maximum of a map lies in the square, off by half a position at most."""
    size = preprocessing.size
    off = size / max(values.shape) / 2
    top, left, bottom, right = as_seen(square, preprocessing)
    row, column = np.unravel_index(resized(values, size).argmax(), (size, size))
    return bool(top - off <= row < bottom + off and left - off <= column < right + off)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("part", choices=("networks", "faithful", "pointing"))
    arguments.add_argument("data", type=Path, nargs="?")
    arguments.add_argument("--base", default="efficientnet_lite0")
    arguments.add_argument("--level", default="head", help="of pointing")
    given = arguments.parse_args()
    if given.part == "networks":
        found = networks()
    elif given.part == "faithful":
        found = faithful(given.data, given.base)
    else:
        found = pointing(given.data, given.base, given.level)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
