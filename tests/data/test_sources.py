"""Each source gives the same Dataset for the same images: classes, labels, order, splits and decoded pixels."""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.data.splitting import with_validation
from graft.images.decoding import decode

PER_CLASS = 3
SPLITS = {
    "none": [],
    "train and val": ["train", "val"],
    "train, val and test": ["train", "val", "test"],
    "valid": ["train", "valid", "test"],
    "validation": ["training", "validation", "testing"],
}
MEANT = {"valid": "val", "validation": "val", "training": "train", "testing": "test", "": "all"}


@dataclass(frozen=True)
class Record:
    """One image: the split as it is spelled, empty for none, its class, its file's name and bytes, and its pixels."""

    split: str
    label: str
    name: str
    data: bytes
    pixels: np.ndarray

    @property
    def path(self) -> str:
        return "/".join(part for part in (self.split, self.label, self.name) if part)


@pytest.fixture(scope="session")
def photographs(shared: Path) -> list[np.ndarray]:
    """Small real photographs of ants, then of bees, uint8 (16, 20, 3)."""
    files = [
        file
        for label in ("ants", "bees")
        for file in sorted((shared / "datasets" / "ants_bees" / "train" / label).glob("*.jpg"))[: 3 * PER_CLASS]
    ]
    return [np.asarray(Image.open(file).convert("RGB").resize((20, 16))) for file in files]


def records(photographs: list[np.ndarray], splits: list[str], classes: tuple[str, str]) -> list[Record]:
    """Images of both classes in each split, in the order of their paths, as every source has them."""
    found = []
    for place, split in enumerate(splits or [""]):
        for number, label in enumerate(classes):
            for index in range(PER_CLASS):
                pixels = photographs[3 * PER_CLASS * number + PER_CLASS * place + index]
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "PNG")
                found.append(Record(split, label, f"{index} é.png", file.getvalue(), pixels))
    return sorted(found, key=lambda record: record.path.encode())


def by_split(images: list[Record]) -> list[tuple[str, list[Record]]]:
    return [(split, list(own)) for split, own in groupby(images, lambda record: record.split)]


def folder(root: Path, images: list[Record]) -> Path:
    for record in images:
        (root / record.path).parent.mkdir(parents=True, exist_ok=True)
        (root / record.path).write_bytes(record.data)
    return root


def rows(images: list[Record]) -> list[dict[str, str]]:
    whole = [{"path": record.path, "label": record.label, "split": record.split} for record in images]
    return whole if images[0].split else [{"path": row["path"], "label": row["label"]} for row in whole]


def manifest(root: Path, images: list[Record], ending: str, separator: str = ",") -> Path:
    folder(root, images)
    path = root / f"manifest{ending}"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows(images)[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows(images))
    return path


def json_lines(root: Path, images: list[Record]) -> Path:
    folder(root, images)
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(images)))
    return root / "manifest.jsonl"


def parquet_manifest(root: Path, images: list[Record]) -> Path:
    folder(root, images)
    pq.write_table(pa.Table.from_pylist(rows(images)), root / "manifest.parquet")
    return root / "manifest.parquet"


def embedded(root: Path, images: list[Record]) -> Path:
    for split, own in by_split(images):
        cells = [{"bytes": record.data, "path": record.name} for record in own]
        table = pa.table({"image": cells, "label": [record.label for record in own]})
        pq.write_table(table, root / f"{split or 'data'}.parquet", row_group_size=2)
    return root


def embedded_with_a_column(root: Path, images: list[Record]) -> Path:
    columns = {name: [row[name] for row in rows(images)] for name in rows(images)[0] if name != "path"}
    pq.write_table(pa.table({"image": [record.data for record in images], **columns}), root / "data.parquet")
    return root / "data.parquet"


def zipped(root: Path, images: list[Record]) -> Path:
    with zipfile.ZipFile(root / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for record in images:
            archive.writestr(record.path, record.data)
    return root / "images.zip"


def tarred(root: Path, images: list[Record], ending: str, mode: Any) -> Path:
    with tarfile.open(root / f"images{ending}", mode) as archive:
        for record in images:
            add(archive, record.path, record.data)
    return root / f"images{ending}"


def add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def shards(root: Path, images: list[Record]) -> Path:
    for split, own in by_split(images):
        for shard in range(2):
            with tarfile.open(root / f"{split or 'shard'}-{shard:06}.tar", "w") as archive:
                for number, record in enumerate(own):
                    if number // (2 * PER_CLASS - 2) == shard:
                        add(archive, f"{number:06}.png", record.data)
                        add(archive, f"{number:06}.cls", record.label.encode())
    return root


def imagefolder(root: Path, images: list[Record]) -> Path:
    for split, own in by_split(images):
        lines = ["file_name,label"]
        (root / split).mkdir(exist_ok=True)
        for number, record in enumerate(own):
            (root / split / f"{number}.png").write_bytes(record.data)
            lines.append(f"{number}.png,{record.label}")
        (root / split / "metadata.csv").write_text("\n".join(lines))
    return root


def idx(root: Path, images: list[Record]) -> Path:
    for split, own in by_split(images):
        for what, array in (
            ("images-idx4", np.stack([record.pixels for record in own])),
            ("labels-idx1", np.array([int(record.label) for record in own], np.uint8)),
        ):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (root / f"{split}{'-' * bool(split)}{what}-ubyte").write_bytes(header + array.tobytes())
    return root


def hub(root: Path, images: list[Record]) -> str:
    """The address of a dataset that `load_dataset`, replaced below, makes of these images."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    splits = {
        split or "all": datasets.Dataset.from_dict(
            {
                "image": [{"bytes": record.data, "path": None} for record in own],
                "label": [record.label for record in own],
            },
            features=features,
        )
        for split, own in by_split(images)
    }
    HUB["owner/images"] = datasets.DatasetDict(splits)
    return "hf:owner/images"


HUB: dict[str, Any] = {}
SOURCES: dict[str, Callable[[Path, list[Record]], Path | str]] = {
    "folder": folder,
    "CSV": lambda root, images: manifest(root, images, ".csv"),
    "CSV with semicolons": lambda root, images: manifest(root, images, ".csv", ";"),
    "TSV": lambda root, images: manifest(root, images, ".tsv", "\t"),
    "JSON lines": json_lines,
    "Parquet manifest": parquet_manifest,
    "Parquet with embedded images": embedded,
    "Parquet with a column of splits": embedded_with_a_column,
    "zip": zipped,
    "tar": lambda root, images: tarred(root, images, ".tar", "w"),
    "tar.gz": lambda root, images: tarred(root, images, ".tar.gz", "w:gz"),
    "WebDataset shards": shards,
    "imagefolder": imagefolder,
    "IDX": idx,
    "hub": hub,
}


def content(dataset: Dataset) -> dict[str, list[tuple[str | None, bytes]]]:
    """Class and pixels of every image, in order, by split."""
    found = {}
    for split, images in dataset.splits.items():
        data = [images.read(row) for row in range(len(images))]
        pixels = [decode(each) if isinstance(each, bytes) else each for each in data]
        assert all(each.shape == (16, 20, 3) for each in pixels)
        found[split] = [(dataset.item(split, row).label, each.tobytes()) for row, each in enumerate(pixels)]
    return found


# The second class sorts first: as text, or as a number where text order would differ. IDX has only numbers as names.
WORDS, NUMBERS = ("bees", "ants"), ("10", "2")
CASES = [(source, classes) for source in SOURCES for classes in (WORDS, NUMBERS) if (source, classes) != ("IDX", WORDS)]


@pytest.mark.parametrize("splits", SPLITS)
@pytest.mark.parametrize(("source", "classes"), CASES, ids=lambda value: value if isinstance(value, str) else value[1])
def test_the_same_images_give_the_same_dataset(
    tmp_path: Path,
    photographs: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    classes: tuple[str, str],
    splits: str,
) -> None:
    if source == "hub":
        monkeypatch.setattr(pytest.importorskip("datasets"), "load_dataset", lambda name, *_, **__: HUB[name])
    images = records(photographs, SPLITS[splits], classes)
    dataset = open_dataset(SOURCES[source](tmp_path, images))
    assert dataset.classes == tuple(reversed(classes))
    assert content(dataset) == {
        MEANT.get(split, split): [(record.label, record.pixels.tobytes()) for record in own]
        for split, own in by_split(images)
    }
    assert not dataset.notes and not dataset.left_out
    keys = [each.key(row) for each in dataset.splits.values() for row in range(len(each))]
    assert len(set(keys)) == len(images)
    # Splits carved from it are equal too.
    reference = open_dataset(folder(tmp_path / "reference", images))
    assert content(with_validation(dataset, seed=1)) == content(with_validation(reference, seed=1))
