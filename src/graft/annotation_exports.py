"""Exports of annotation programs as records of images: CreateML, Labelbox, VIA (VGG's), Label Studio, and COCO's form.

The answers about an image as a whole are its label, in a column named after the question; if there are none, the
distinct names of its boxes are. So an image with boxes of two classes has two labels, as with COCO. A ground-floor
module: it knows of JSON alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from graft.errors import DataError

Record = dict[str, Any]
# The label of an image that nobody has labelled yet, unlike one that somebody found to have no label.
UNLABELLED = "\x02"
# The keys of what Label Studio says of a whole image, and of a part of it, such as `rectanglelabels`.
_CHOICES, _SHAPES = re.compile("choices"), re.compile("[a-z]*labels")
# What an object may call its list of labels, such as that of its boxes on the Hub, or of a shape in Label Studio.
_NAMES_OF_LABELS = re.compile(r"(?i)categor(y|ies)|label|[a-z]*labels|names?|class(es)?|choices")
# The columns of VIA's CSV.
VIA_COLUMNS = ("filename", "file_attributes", "region_attributes")


def exported_records(value: Any) -> list[Record] | None:
    """The records in a JSON value that one of the programs exports, None for any other value.

    Raises DataError for a known export that cannot be read.
    """
    if isinstance(value, dict):
        if {"project", "config", "attribute", "file", "metadata"} <= value.keys():
            raise DataError(
                "expected annotations of images as VIA 2 writes them, got a project of VIA 3: write a table with the "
                "path and label of each image"
            )
        metadata = value.get("_via_img_metadata", value)
        value = [*metadata.values()] if isinstance(metadata, dict) else []
    every = value if isinstance(value, list) else []
    for keys, read in _KINDS if every and all(isinstance(each, dict) for each in every) else ():
        if all(keys <= each.keys() for each in every):
            # What looks like an export may turn out not to be one further in.
            with suppress(AttributeError, LookupError, TypeError, ValueError):
                return read(every)
    return None


def one_of(labels: Iterable[str]) -> str | list[str] | None:
    """The only label, None if there is none, or a list of the distinct labels."""
    found = list(dict.fromkeys(labels))
    return found if len(found) > 1 else next(iter(found), None)


def labels_in(value: Any) -> list[str] | None:
    """The labels in a list, in a list that an object holds by a name for labels, or in such objects; None for others.

    Boxes of one class give one label.
    """
    if isinstance(value, dict):
        lists = (labels_in(each) for name, each in value.items() if _NAMES_OF_LABELS.fullmatch(name))
        found = next((each for each in lists if each is not None), None)
        return None if found is None else list(dict.fromkeys(found))
    if not isinstance(value, list):
        return None
    if value and all(isinstance(each, dict) for each in value):
        of_boxes = [names for each in value if (names := labels_in(each)) is not None]
        return list(dict.fromkeys(chain.from_iterable(of_boxes))) if len(of_boxes) == len(value) else None
    plain = not any(isinstance(each, list | dict) for each in value)
    return [str(each) for each in value if each is not None] if plain else None


def _createml(value: Sequence[Record]) -> list[Record]:
    path = next(key for key in ("image", "imagefilename") if key in value[0])
    (boxes,) = {key for each in value for key in ("annotations", "annotation") if key in each}
    return [{"path": each[path], "label": one_of(str(box["label"]) for box in each.get(boxes, ()))} for each in value]


def _via(images: Sequence[Record]) -> list[Record]:
    rows = []
    for image in images:
        regions = image["regions"]
        regions = [*regions.values()] if isinstance(regions, dict) else regions or []
        of_regions = [each["region_attributes"] for each in regions if isinstance(each.get("region_attributes"), dict)]
        rows.append((str(image["filename"]), image.get("file_attributes") or {}, of_regions))
    return _with_questions(rows)


def via_rows(names: Sequence[str], of_images: Sequence[str], of_shapes: Sequence[str]) -> list[Record]:
    """The records in the columns of VIA's CSV, one row per region. Raises DataError for cells that are not JSON."""
    of_files: dict[str, Record] = {}
    of_regions: dict[str, list[Record]] = {}
    for name, of_file, of_region in zip(names, of_images, of_shapes, strict=True):
        try:
            whole, region = json.loads(of_file or "{}"), json.loads(of_region or "{}")
        except (ValueError, RecursionError):
            raise DataError(
                f"expected attributes in JSON in VIA's table, got {(of_file + of_region)[:60]!r} of {name}: export it "
                "again"
            ) from None
        of_files.setdefault(name, whole if isinstance(whole, dict) else {})
        of_regions.setdefault(name, []).append(region if isinstance(region, dict) else {})
    return _with_questions([(name, whole, of_regions[name]) for name, whole in of_files.items()])


def _labelbox(value: Sequence[Record]) -> list[Record]:
    rows: list[tuple[str, Record | None, list[Record]]] = []
    for each in value:
        row = each["data_row"]
        name = row.get("external_id") or row.get("global_key") or row.get("row_data") or ""
        done = [label for project in each["projects"].values() for label in project.get("labels") or ()]
        done = [label for label in done if not (label.get("performance_details") or {}).get("skipped")]
        for label in done:
            rows.append((str(name), *_said(label.get("annotations") or {}, "name")))
        if not done:
            rows.append((str(name), None, []))
    return _with_questions(rows)


def _labelbox_before(value: Sequence[Record]) -> list[Record]:
    # The label of a skipped image is a word; if all are words, the records are another program's.
    said = [each["Label"] if isinstance(each["Label"], dict) else None for each in value]
    if not any(said):
        raise LookupError("no annotations")
    return _with_questions(
        [
            (str(each["External ID"]), *((None, []) if own is None else _said(own, "title")))
            for each, own in zip(value, said, strict=True)
        ]
    )


def _said(annotations: Record, name: str) -> tuple[Record, list[Record]]:
    """The answers to questions about an image, and the classes of its objects."""
    answers: Record = {}
    for each in annotations.get("classifications") or ():
        found = next((each[key] for key in each if key.startswith(("answer", "radio", "checklist", "text"))), None)
        found = found if isinstance(found, list) else [found]
        texts = [str(one.get(name) or one.get("content") or "") if isinstance(one, dict) else one for one in found]
        answers[str(each.get(name) or "label")] = one_of(text for text in texts if text)
    return answers, [{"label": each.get(name)} for each in annotations.get("objects") or ()]


def _with_questions(rows: Sequence[tuple[str, Record | None, list[Record]]]) -> list[Record]:
    """Records of a path with the answers about the whole image, or about its regions if no image has any.

    The answers are None for an image that nobody has labelled.
    """
    of_images = [
        (name, {question: _answers(said) for question, said in (whole or {}).items()}) for name, whole, _ in rows
    ]
    if not any(answers for _, said in of_images for answers in said.values()):
        questions = [dict.fromkeys(key for region in regions for key in region) for *_, regions in rows]
        of_images = [
            (name, {key: [text for region in regions for text in _answers(region.get(key))] for key in keys})
            for (name, _, regions), keys in zip(rows, questions, strict=True)
        ]
    used = dict.fromkeys(key for _, said in of_images for key, answers in said.items() if answers)
    records = [
        {"path": name, **{key: UNLABELLED if whole is None else one_of(said.get(key, ())) for key in used}}
        for (name, said), (_, whole, _) in zip(of_images, rows, strict=True)
    ]
    # Several people may have given the same answers.
    return list({json.dumps(each): each for each in records}.values())


def coco(value: Record) -> list[Record] | None:
    """The file of each image with the distinct categories of its annotations. Raises DataError for an unknown one."""
    try:
        names = {each["id"]: each["name"] for each in value["categories"]}
        found: dict[Any, dict[str, None]] = {each["id"]: {} for each in value["images"]}
        unknown = next((each for each in value["annotations"] if each["category_id"] not in names), None)
        if unknown is not None:
            raise DataError(
                f"expected each category_id among those of COCO's categories ({', '.join(map(str, list(names)[:6]))}"
                f"{', …' if len(names) > 6 else ''}), got {unknown['category_id']} of image {unknown['image_id']}: "
                "correct it, or add the category"
            )
        for each in value["annotations"]:
            found.setdefault(each["image_id"], {})[str(names[each["category_id"]])] = None
        return [{"path": each["file_name"], "label": one_of(found[each["id"]])} for each in value["images"]]
    except (KeyError, TypeError):
        return None


def is_task(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and isinstance(record.get("data"), dict)
        and ("annotations" in record or "completions" in record)
    )


def label_studio(tasks: Sequence[Record]) -> list[Record]:
    """The records of tasks: the choices made, or the classes of boxes and other shapes if no task has any choice."""
    records = [each for task in tasks for each in _of_task(task, _CHOICES)]
    if any(each["choice"] not in (None, UNLABELLED) for each in records):
        return records
    return [each for task in tasks for each in _of_task(task, _SHAPES)]


def _of_task(task: Record, keys: re.Pattern[str]) -> list[Record]:
    """A task as records: its own data, and each distinct set of labels in annotations that were not cancelled.

    Annotators who disagree thus get a row each, and the contradiction is reported.
    """
    done = [each for each in task.get("annotations") or task.get("completions") or () if isinstance(each, dict)]
    done = [each for each in done if not (each.get("was_cancelled") or each.get("skipped"))]
    if not done:
        return [{**task["data"], "choice": UNLABELLED}]
    chosen: dict[tuple[str, ...], None] = {}
    for results in (each.get("result") or [] for each in done):
        values = [each["value"] for each in results if isinstance(each, dict) and isinstance(each.get("value"), dict)]
        said = [value[key] or () for value in values for key in value if keys.fullmatch(key)]
        if labels := tuple(dict.fromkeys(str(label) for each in said for label in each)):
            chosen[labels] = None
    return [{**task["data"], "choice": one_of(labels)} for labels in chosen or [()]]


def without_boxes(records: list[Record]) -> list[Record]:
    """The records of Label Studio's short form without the columns of boxes, if another column holds choices."""
    if not any(record.get("choice") for record in records):
        return records
    boxes = {name for record in records for name, cell in record.items() if _are_shapes(cell)}
    return [{name: cell for name, cell in record.items() if name not in boxes} for record in records]


def _are_shapes(value: Any) -> bool:
    """Whether a value is a list of shapes as Label Studio writes them, each with its labels."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(each, dict) and any(map(_SHAPES.fullmatch, each)) for each in value)
    )


def _answers(said: Any) -> list[str]:
    """The answers: one text, the true keys of a mapping, or several texts."""
    if isinstance(said, dict):
        return [str(name) for name, meant in said.items() if meant is True or meant == "true"]
    found = said if isinstance(said, list) else [said]
    return [str(each).strip() for each in found if each is not None and str(each).strip()]


# The keys of each image in an export, and the function that reads it.
_KINDS: list[tuple[set[str], Callable[[Sequence[Record]], list[Record]]]] = [
    ({"filename", "regions"}, _via),
    ({"data_row", "projects"}, _labelbox),
    ({"Label", "External ID"}, _labelbox_before),
    ({"image"}, _createml),
    ({"imagefilename"}, _createml),
]
