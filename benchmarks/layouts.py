"""Times `graft audit` on the same images in one folder per class and in the layouts that are hardest to understand.

    python benchmarks/layouts.py PHOTOS [--rounds N] [--json]

PHOTOS is a folder of JPEGs, one subfolder per class, of which IMAGES are laid out. All layouts are read in one process,
each time with an empty cache and without a network, which would cost the same for all and hide the cost of reading. The
processor time of a layout is divided by that of the folders, audited just before or after, and the median over the
rounds is bounded. Unpacking from archives is reported apart and has no bound.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from graft.workflows.audit import audit
from graft.workflows.prepare import DataOptions, open_images
from photos import machine, say

IMAGES, MOST_RATIO = 400, 1.05
Photos = list[tuple[Path, str]]


@dataclass(frozen=True)
class Layout:
    """A layout: `write` puts the photographs below a folder and returns the options that open them."""

    name: str
    write: Callable[[Path, Photos], DataOptions]
    packed: bool = False


def place(photo: Path, target: Path) -> Path:
    """Put the photograph at another path as a hard link, or as a copy where the disk has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(photo, target)
    except OSError:
        shutil.copyfile(photo, target)
    return target


def in_folders(root: Path, photos: Photos, path: Callable[[int, str], str] = "{1}".format) -> DataOptions:
    """Put the photograph with number n and label l into the folder `path(n, l)`."""
    for number, (photo, label) in enumerate(photos):
        place(photo, root / path(number, label) / photo.name)
    return DataOptions(root)


def in_wrappers(root: Path, photos: Photos) -> DataOptions:
    in_folders(root, photos, lambda n, label: f"archive/Data/{('training_set', 'test_set')[n % 5 == 0]}/{label}")
    for junk in ("__MACOSX/Data/x", "archive/runs/exp/args.yaml", "archive/Data/readme.md", "archive/@eaDir/x"):
        (root / junk).parent.mkdir(parents=True, exist_ok=True)
        (root / junk).write_bytes(b"x")
    return DataOptions(root)


def flat(root: Path, photos: Photos, folder: str = "images") -> DataOptions:
    return in_folders(root, photos, lambda n, label: folder)


def with_table(root: Path, photos: Photos) -> DataOptions:
    """Write a table of file stems, under unusual column names."""
    flat(root, photos)
    rows = "".join(f"{photo.stem},{label}\n" for photo, label in photos)
    (root / "train.csv").write_text(f"image_id,species\n{rows}")
    return DataOptions(root)


def with_foreign_paths(root: Path, photos: Photos) -> DataOptions:
    in_folders(root, photos)
    rows = "".join(f"C:\\Users\\me\\{label}\\{photo.name.upper()},{label}\n" for photo, label in photos)
    (root / "labels.csv").write_text(f"path,label\n{rows}")
    return DataOptions(root / "labels.csv")


def with_lists(root: Path, photos: Photos) -> DataOptions:
    """Write lists joined by number, as in CUB-200."""
    flat(root, photos)
    classes = sorted({label for _, label in photos})
    columns = {
        "images": [photo.name for photo, _ in photos],
        "image_class_labels": [str(classes.index(label)) for _, label in photos],
        "train_test_split": [str(int(number % 5 > 0)) for number in range(len(photos))],
    }
    for name, cells in columns.items():
        (root / f"{name}.txt").write_text("".join(f"{number} {cell}\n" for number, cell in enumerate(cells, 1)))
    return DataOptions(root)


def with_divisions(root: Path, photos: Photos) -> DataOptions:
    """Write class folders that lists divide into splits, as in Food-101."""
    in_folders(root, photos, lambda n, label: f"images/{label}")
    (root / "meta").mkdir()
    for name, own in (("train", photos[1::5] + photos[2::5]), ("test", photos[::5] + photos[3::5] + photos[4::5])):
        (root / "meta" / f"{name}.txt").write_text("".join(f"{label}/{photo.stem}\n" for photo, label in own))
    return DataOptions(root)


def with_coco(root: Path, photos: Photos) -> DataOptions:
    flat(root, photos, "train2017")
    classes = sorted({label for _, label in photos})
    document = {
        "images": [{"id": number, "file_name": photo.name} for number, (photo, _) in enumerate(photos)],
        "annotations": [{"image_id": n, "category_id": classes.index(label)} for n, (_, label) in enumerate(photos)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes)],
    }
    (root / "annotations.json").write_text(json.dumps(document))
    return DataOptions(root)


def line_by_line(root: Path, photos: Photos) -> DataOptions:
    flat(root, photos)
    (root / "images.txt").write_text("".join(f"{photo.name}\n" for photo, _ in photos))
    (root / "labels.txt").write_text("".join(f"{label}\n" for _, label in photos))
    return DataOptions(root)


def apart(root: Path, photos: Photos) -> DataOptions:
    flat(root, photos)
    for name, own in (("train", photos[2:]), ("val", photos[:2])):
        rows = "".join(f"images/{photo.name},{label}\n" for photo, label in own)
        (root / f"{name}.csv").write_text(f"path,label\n{rows}")
    return DataOptions(root / "train.csv", val=root / "val.csv")


def packed(kind: str, inner: bool = False) -> Callable[[Path, Photos], DataOptions]:
    def write(root: Path, photos: Photos) -> DataOptions:
        in_folders(root / "x", photos)
        if not inner:
            return DataOptions(shutil.make_archive(str(root / "photos"), kind, root / "x"))
        for label in sorted({label for _, label in photos}):
            shutil.make_archive(str(root / "y" / label), kind, root / "x" / label)
        return DataOptions(shutil.make_archive(str(root / "photos"), kind, root / "y"))

    return write


LAYOUTS = (
    Layout("a folder per class", in_folders),
    Layout("wrappers, splits and what systems leave", in_wrappers),
    Layout(
        "splits in every class", lambda root, photos: in_folders(root, photos, lambda n, label: f"{label}/{_split(n)}")
    ),
    Layout("places", lambda root, photos: in_folders(root, photos, lambda n, label: f"site_{n % 20:02d}/{label}")),
    Layout("a table of names without folder and ending", with_table),
    Layout("a table of paths of another machine", with_foreign_paths),
    Layout("lists joined by number", with_lists),
    Layout("lists line by line", line_by_line),
    Layout("lists that divide folders", with_divisions),
    Layout("COCO", with_coco),
    Layout("tables given apart", apart),
    Layout("zip", packed("zip"), packed=True),
    Layout("zip in zip", packed("zip", inner=True), packed=True),
    Layout("tar", packed("tar"), packed=True),
)


def _split(number: int) -> str:
    return "test" if number % 5 == 0 else "train"


@dataclass(frozen=True)
class Measured:
    """Processor seconds of the whole audit and of opening alone, and the number of audited images."""

    whole: float
    opening: float
    images: int


def measure(options: DataOptions, cache: Path) -> Measured:
    """Open the data, then audit them, each with an empty cache."""
    shutil.rmtree(cache, ignore_errors=True)
    start = time.process_time()
    open_images(options)
    opening = time.process_time() - start
    shutil.rmtree(cache, ignore_errors=True)
    start = time.process_time()
    found = audit(options, with_features=False, quiet=True)
    return Measured(time.process_time() - start, opening, len(found.dataset))


def photographs(folder: Path) -> Photos:
    """IMAGES photographs in all, the same number of each class."""
    by_class = [sorted(each.iterdir()) for each in sorted(folder.iterdir()) if each.is_dir()]
    share = IMAGES // len(by_class)
    return [(photo, photo.parent.name) for photos in by_class for photo in photos[:share]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Audits of one set of images in many layouts, timed.")
    parser.add_argument("photos", type=Path, help="a folder per class of JPEGs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    photos, load = photographs(given.photos), os.getloadavg()[0]
    with TemporaryDirectory(prefix="graft-layouts-") as scratch:
        os.environ["GRAFT_CACHE"] = str(Path(scratch) / "cache")
        roots = {layout: Path(scratch) / f"data{number}" for number, layout in enumerate(LAYOUTS)}
        options = {layout: layout.write(root, photos) for layout, root in roots.items()}
        cache, plain = Path(scratch) / "cache", options[LAYOUTS[0]]
        measure(plain, cache)
        rounds: dict[str, list[tuple[Measured, Measured]]] = {each.name: [] for each in LAYOUTS}
        for number in range(given.rounds):
            say(f"round {number + 1} of {given.rounds}")
            for layout in LAYOUTS:
                # They alternate in coming first: the second may find warm processor caches.
                order = (options[layout], plain)[:: (-1) ** number]
                both = [measure(each, cache) for each in order][:: (-1) ** number]
                rounds[layout.name].append((both[0], both[1]))
    rows = [
        {
            "layout": each.name,
            "images": rounds[each.name][0][0].images,
            "ratio": median(own.whole / other.whole for own, other in rounds[each.name]),
            "seconds": median(own.whole for own, _ in rounds[each.name]),
            "opening": median(own.opening for own, _ in rounds[each.name]),
            "packed": each.packed,
        }
        for each in LAYOUTS
    ]
    slow = [row["layout"] for row in rows if not row["packed"] and row["ratio"] > MOST_RATIO]
    if given.json:
        print(json.dumps({"machine": machine(load), "rows": rows, "slow": slow}))
    else:
        table = Table(
            "layout",
            "images",
            "ratio",
            "processor s",
            "opening s",
            title="Audits without a network, beside a folder per class",
        )
        for row in rows:
            table.add_row(
                row["layout"],
                str(row["images"]),
                f"{row['ratio']:.3f}",
                f"{row['seconds']:.2f}",
                f"{row['opening']:.3f}",
            )
        Console().print(table)
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    main()
