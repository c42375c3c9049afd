"""Finds copies that were planted among real images: the share found, the pairs in untouched data, and the time.

    python benchmarks/duplicates.py SHARED [--data NAME…] [--images N] [--copies N] [--peers] [--json]

SHARED holds `datasets/` with ants_bees, pacs_sketch, cifar10 and mnist. Nothing is written there: copies of one kind at
a time are planted in memory, beside all images of the data (the first N of cifar10 and mnist). `--peers` adds the
hashes of imagehash, comparing all pairs, if it is installed.
"""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from graft.audit.confirming import confirmed
from graft.audit.duplicates import alike, exact, near
from graft.audit.looking import Looks, look
from graft.data.dataset import Images, together
from graft.data.opening import open_dataset
from graft.errors import ImageError
from graft.images.decoding import decode

DATA = ("ants_bees", "pacs_sketch", "cifar10", "mnist")


def crop(left: float, top: float, right: float, bottom: float) -> Callable[[Image.Image], Image.Image]:
    """Crop the given fractions of the side off each edge."""

    def cut(image: Image.Image) -> Image.Image:
        width, height = image.size
        return image.crop(
            (round(left * width), round(top * height), width - round(right * width), height - round(bottom * height))
        )

    return cut


def halve(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


def brighten(image: Image.Image) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.1)


# Kinds of copies: the change to the pixels, and the JPEG quality of the file (None: lossless PNG).
KINDS: dict[str, tuple[Callable[[Image.Image], Image.Image], int | None]] = {
    "JPEG quality 60": (lambda image: image, 60),
    "half the size": (halve, 95),
    "cropped 5 % in all": (crop(0.025, 0.025, 0.025, 0.025), 95),
    "cropped 5 % a side": (crop(0.05, 0.05, 0.05, 0.05), 95),
    "cropped at a corner": (crop(0.05, 0.05, 0, 0), 95),
    "brighter by 10 %": (brighten, 95),
    "brighter, lossless": (brighten, None),
    "half, then brighter": (lambda image: brighten(halve(image)), 95),
}


class Copies:
    """Images in memory."""

    def __init__(self, encoded: list[bytes | np.ndarray]) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    def name(self, row: int) -> str:
        return f"copies[{row}]"

    key = name

    def read(self, row: int) -> bytes | np.ndarray:
        return self.encoded[row]

    def stamp(self, row: int) -> str:
        return f"{id(self)}:{row}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--data", nargs="+", default=DATA, choices=DATA)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--copies", type=int, default=400)
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.data:
        dataset = open_dataset(arguments.shared / "datasets" / name)
        # The training images come first, because `--images` takes the first ones.
        images = together(sorted(dataset.splits.values(), key=len, reverse=True))
        rows += measure(name, images.take(np.arange(min(len(images), arguments.images))), arguments)
    if arguments.json:
        print(json.dumps(rows, indent=2))


def measure(name: str, images: Images, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    chosen = np.sort(np.random.default_rng(0).permutation(len(images))[: arguments.copies])
    with tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        looks = look(images, Path(cache))
        looked = time.perf_counter()
        look(images, Path(cache))
        again = time.perf_counter()
    originals = {int(row): encoded(images, int(row)) for row in chosen if int(row) not in looks.reasons}
    planted = {kind: of([saved(image, *KINDS[kind]) for image in originals.values()]) for kind in KINDS}
    planted["byte for byte"] = of([images.read(row) for row in originals])
    timed = time.perf_counter()
    untouched = near(looks)
    seconds = {"look": looked - started, "look again": again - looked, "near": time.perf_counter() - timed}
    found = {kind: recall(images, looks, copies, list(originals)) for kind, copies in planted.items()}
    result = {
        "data": name,
        "by": "graft",
        "images": len(images),
        "copies": len(originals),
        "recall": {kind: either for kind, (either, _) in found.items()},
        "confirmed": {kind: sure for kind, (_, sure) in found.items()},
        "untouched pairs": len(untouched),
        "pairs per image": len(untouched) / len(images),
        "seconds": seconds,
    }
    show(result, arguments.json)
    results = [result]
    if arguments.peers:
        for result in peers(images, originals):
            show({"data": name, "by": result["by"], **result}, arguments.json)
            results.append({"data": name, **result})
    return results


def encoded(images: Images, row: int) -> Image.Image:
    data = images.read(row)
    return Image.fromarray(decode(data) if isinstance(data, bytes) else data).convert("RGB")


def saved(image: Image.Image, change: Callable[[Image.Image], Image.Image], quality: int | None) -> bytes:
    content = io.BytesIO()
    if quality is None:
        change(image).save(content, "PNG")
    else:
        change(image).save(content, "JPEG", quality=quality)
    return content.getvalue()


def of(contents: list[bytes | np.ndarray]) -> Images:
    return Images(Copies(contents), np.arange(len(contents)), np.full(len(contents), -1))


def recall(images: Images, looks: Looks, planted: Images, originals: list[int]) -> tuple[float, float]:
    """Shares of the planted copies that look like their originals, and that are confirmed as copies of them."""
    copies = look(planted)
    columns = {
        name: np.concatenate([values, vars(copies)[name]]) for name, values in vars(looks).items() if name != "reasons"
    }
    both = Looks(**columns, reasons=looks.reasons)
    found = alike(both)
    sure = found.pairs[confirmed(together([images, planted]), both, found)]
    same = {(int(group[0]), int(row)) for group in exact(both) for row in group[1:]}
    wanted = [(row, len(looks) + number) for number, row in enumerate(originals)]
    shares = []
    for pairs in (found.pairs, sure):
        told = same | {(int(one), int(other)) for one, other in pairs}
        shares.append(float(np.mean([pair in told for pair in wanted])))
    return shares[0], shares[1]


def peers(images: Images, originals: dict[int, Image.Image]) -> list[dict[str, Any]]:
    """imagehash with 64 bits, at distances 0, 4 and 8, and at the largest with at most 0.01 pairs per image."""
    import imagehash

    results = []
    for method in ("phash", "dhash", "whash", "average_hash"):
        compute = getattr(imagehash, method)

        def code(image: Image.Image, compute: Callable[..., Any] = compute) -> np.ndarray:
            return np.packbits(compute(image).hash.reshape(-1)).view(np.uint64)

        opened = []
        for row in range(len(images)):
            try:
                opened.append(encoded(images, row))
            except ImageError:
                opened.append(Image.new("RGB", (8, 8)))
        started = time.process_time()
        codes = np.concatenate([code(image) for image in opened])
        seconds = time.process_time() - started
        del opened
        copies = {
            kind: np.concatenate([code(Image.open(io.BytesIO(saved(image, *how)))) for image in originals.values()])
            for kind, how in KINDS.items()
        }
        apart = {kind: np.bitwise_count(codes[list(originals)] ^ values) for kind, values in copies.items()}
        between = np.zeros(65, dtype=np.int64)
        for row in range(len(codes) - 1):
            between += np.bincount(np.bitwise_count(codes[row] ^ codes[row + 1 :]), minlength=65)
        within = between.cumsum()
        largest = int(np.searchsorted(within, 0.01 * len(codes), side="right")) - 1
        for distance in sorted({0, 4, 8, largest} - {-1}):
            results.append(
                {
                    "by": f"{method} <= {distance}" + (" (bound)" if distance == largest else ""),
                    "images": len(codes),
                    "recall": {kind: float((values <= distance).mean()) for kind, values in apart.items()},
                    "pairs per image": int(within[distance]) / len(codes),
                    "seconds": {"hash, one core": seconds},
                }
            )
    return results


def show(result: dict[str, Any], aside: bool) -> None:
    file = sys.stderr if aside else sys.stdout
    took = ", ".join(f"{what} {seconds:.2f} s" for what, seconds in result["seconds"].items())
    print(f"{result['data']}, {result['images']:,} images, {result['by']}: ", end="", file=file)
    print(f"{result['pairs per image']:.4f} pairs per untouched image; {took}", file=file)
    for what in ("recall", "confirmed"):
        shares = "; ".join(f"{kind} {share:.3f}" for kind, share in result.get(what, {}).items())
        print(f"    {what}: {shares}", file=file, flush=True)


if __name__ == "__main__":
    main()
