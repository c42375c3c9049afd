"""Class maps on every network, whether they tell, and whether they find what was planted.

    python benchmarks/explaining.py networks
    python benchmarks/explaining.py faithful DATA --base FILE
    python benchmarks/explaining.py pointing DATA --base FILE

`networks` makes maps on each architecture of the catalogue and one of timm's, all parameters frozen, with a head over
the last and over all stages. `faithful` trains a head on DATA (train/ and val/), compares deletion in the order of the
maps with random order on 50 images of val, and does the same once the weights are randomised. `pointing` plants a
coloured square in one class of DATA, trains a head on that, and counts the maps whose maximum lies in the square. Each
prints one JSON document.
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
from graft.explanation.explaining import MapOptions, explain_images
from graft.explanation.model import Model
from graft.explanation.randomisation import cascaded
from graft.features.engine import choose, for_answers
from graft.images.preprocessing import Preprocessing
from graft.models.catalog import CATALOG, build, default_config
from graft.models.network import HeadKind, freeze
from graft.weights.creating import create
from graft.weights.saved import SavedModel, load_model
from graft.workflows.explain import answers_on

# Small, yet so large that the last map has some positions.
SIDES = {28: 28, 32: 32, 227: 163, 299: 171}
TIMM = "timm:resnet10t"
IMAGES = 50
# RISE takes some 800 answers an image, tests included.
IMAGES_OF_RISE = 10
# Of planted images, and of the square in them, px; the maximum may be off by half a position of the map.
SIDE, SQUARE, COLOUR = 256, 48, (230, 0, 230)


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


def pointing(data: Path, base: str) -> dict[str, object]:
    """With the classes that DATA has, and with classes drawn at random, which nothing but the square tells apart."""
    return {
        "square": SQUARE / SIDE,
        "classes at random": on_planted(data, base, at_random=True),
        "own classes": on_planted(data, base, at_random=False),
    }


def on_planted(data: Path, base: str, at_random: bool) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        squares = plant(data, Path(folder) / "planted", at_random)
        run = graft.train(Path(folder) / "planted", base, "head", out=Path(folder) / "run", refit=False)
        saved = load_model(run.folder / "model")
        first = sorted({path.parent for path in squares})[0]
        images = open_images(first)
        found = {}
        for method in ("auto", "rise"):
            options = MapOptions(method, test=False, of_class=first.name)
            answers = answers_on(saved, *engine_of(saved))
            shown = images.take(np.arange(IMAGES_OF_RISE)) if method == "rise" else images
            explained = explain_images(saved, shown, options, answers=answers).explanations
            hits = [inside(each.map.values, squares[Path(each.path)], saved.preprocessing) for each in explained]
            found[method] = {"images": len(hits), "hits": sum(hits), "share": sum(hits) / len(hits)}
    return {"val": run.val.to_dict(), **found}


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
    kept = round(preprocessing.crop_fraction * SIDE)
    scale, start = size / kept, (SIDE - kept) // 2
    off = size / max(values.shape) / 2
    where = np.unravel_index(resized(values, size).argmax(), (size, size))
    return all(
        (low - start) * scale - off <= at < (low + SQUARE - start) * scale + off
        for at, low in zip(where, square, strict=True)
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("part", choices=("networks", "faithful", "pointing"))
    arguments.add_argument("data", type=Path, nargs="?")
    arguments.add_argument("--base", default="efficientnet_lite0")
    given = arguments.parse_args()
    if given.part == "networks":
        found = networks()
    else:
        found = (faithful if given.part == "faithful" else pointing)(given.data, given.base)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
