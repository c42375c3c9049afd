"""JSON files that name images: records, columns, COCO annotations, and exports of other programs; also CVAT's XML."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from graft.annotation_exports import (
    Record,
    coco,
    exported_records,
    is_task,
    label_studio,
    one_of,
    without_boxes,
)
from graft.data.readers.column_names import known_names
from graft.data.readers.split_names import SPLIT_FOLDERS
from graft.errors import DataError
from graft.xml_files import root_of

# JSON must be in memory as a whole, where it takes several times its size.
_MOST_BYTES = 2**28
# Where an object may hold its list of records.
_LISTS = ("data", "images", "annotations", "samples", "records", "items", "rows")


def read_records(path: Path) -> tuple[list[Record], bool]:
    """Read one record per image: texts, numbers as spelled, and lists of them. Raises DataError for anything else.

    Also returns whether each record is all that one person said of an image, as in the export of a program.
    """
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise DataError(
            f"expected at most {_MOST_BYTES:,} bytes of JSON in {path.name}, got {size:,}: write a record in each "
            "line, as JSON lines"
        )
    try:
        # Numbers keep their original spelling.
        value = json.loads(path.read_text(encoding="utf-8-sig"), parse_int=str, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise DataError(f"expected JSON in UTF-8, got {path} ({error}): correct it or save it again") from None
    exported = exported_records(value)
    records = exported or _records(value)
    if records is None:
        raise DataError(
            f'expected records of images and labels in {path.name}, such as [{{"path": …, "label": …}}], COCO\'s '
            f"annotations or an export of Label Studio, Labelbox, VIA or CreateML, got {_shape(value)}: write one "
            "record for each image"
        )
    return records, bool(exported) or (isinstance(value, list) and all(map(is_task, value)))


def read_cvat(path: Path) -> list[Record]:
    """Read one record per image from a "CVAT for images" export. Raises DataError for other files.

    A record holds the image's name, its tags or else the labels of its shapes, and its subset if images have any.
    """
    root = root_of(path, _MOST_BYTES)
    images = [] if root is None or root.tag != "annotations" else root.findall("image")
    if not images or not all(image.get("name") for image in images):
        raise DataError(
            f"expected CVAT's annotations of images in {path.name}, got another file, or one of more than "
            f"{_MOST_BYTES:,} bytes: export them as CVAT for images, or as ImageNet"
        )
    which = "tag" if any(image.find("tag") is not None for image in images) else "*"
    records: list[Record] = []
    for image in images:
        labels = dict.fromkeys(each.attrib["label"] for each in image.findall(which) if "label" in each.attrib)
        records.append({"path": image.get("name"), "label": one_of(labels)})
    subsets = [image.get("subset") for image in images]
    if all(subset and subset.lower() in SPLIT_FOLDERS for subset in subsets):
        records = [{**record, "split": subset} for record, subset in zip(records, subsets, strict=True)]
    return records


def _records(value: Any) -> list[Record] | None:
    if isinstance(value, dict):
        return _of_object(value)
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(each, list) for each in value):
        value = [_record(each) for each in value]
    if not all(isinstance(each, dict) for each in value):
        return None
    return label_studio(value) if all(map(is_task, value)) else without_boxes(value)


def _of_object(value: Record) -> list[Record] | None:
    if {"images", "annotations", "categories"} <= value.keys():
        return coco(value)
    columns = [each for each in value.values() if isinstance(each, list)]
    if len(columns) == len(value) > 0 and all(name.lower() in SPLIT_FOLDERS for name in value):
        return [{**_record(each), "split": split} for split, rows in value.items() for each in rows]
    texts = all(isinstance(each, str) for rows in columns for each in rows)
    if len(columns) == len(value) > 1 and texts and not known_names(list(value)):
        # Lists of the images of each class.
        return [{"path": path, "label": name} for name, paths in value.items() for path in paths]
    if len(columns) == len(value) > 1 and len({len(each) for each in columns}) == 1:
        return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    found = next((value[name] for name in _LISTS if isinstance(value.get(name), list)), None)
    if found is not None:
        return _records(found)
    # Bare numbers are not paths but name classes.
    if any(not name.isdigit() for name in value) and all(isinstance(each, str) for each in value.values()):
        return [{"path": path, "label": label} for path, label in value.items()]
    return None


def _record(value: Any) -> Record:
    """An entry of a list as a record: a bare value is a path, and values in a list are named by their number."""
    if isinstance(value, dict):
        return value
    return {str(number): each for number, each in enumerate(value, 1)} if isinstance(value, list) else {"path": value}


def _shape(value: Any) -> str:
    if isinstance(value, dict):
        return f"an object of {', '.join(map(repr, list(value)[:6])) or 'nothing'}"
    return f"a list of {len(value):,}" if isinstance(value, list) else f"a {type(value).__name__}"
