"""Labels of WebDataset samples, from the files beside an image and a list of classes beside the shards."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft.class_lists import in_order, read_list
from graft.errors import DataError
from graft.words import counted

# Endings, keys and files, in the order in which they are tried.
LABELS = (b"cls", b"json", b"txt")
_LABEL_KEYS = ("label", "class", "cls")
_LISTS = ("classes.txt", "classes.json", "labels.txt", "classnames.txt", "_info.json", "dataset_info.json")


def label_of(labels: Mapping[bytes, bytes], name: str) -> tuple[str, str]:
    """The label of a sample of a name as text, whole numbers without leading zeros; or an empty text and the reason.

    `labels` are by whole ending, `cls` or `color.cls`; of one kind, the plain one counts. Raises DataError if there is
    none and the others say different labels.
    """
    reason = "it has no label"
    for kind in LABELS:
        of_kind = sorted(ending for ending in labels if ending.rpartition(b".")[2] == kind)
        found: dict[str, bytes] = {}
        for ending in [kind] if kind in of_kind else of_kind:
            label, why = _label_in(labels[ending], kind)
            reason = why or reason
            if label:
                found.setdefault(label, ending)
        if len(found) > 1:
            shown = " and ".join(f".{os.fsdecode(ending)} ({label[:60]!r})" for label, ending in found.items())
            raise DataError(
                f"expected one label for the sample {name}, got {shown}: pack the one to learn as .{kind.decode()}"
            )
        if found:
            return next(iter(found)), ""
    return "", reason


def _label_in(content: bytes, kind: bytes) -> tuple[str, str]:
    """The label in a file of a kind, or an empty text and the reason, empty if it just says none."""
    value: Any = content.decode(errors="backslashreplace")
    if kind == b"json":
        try:
            record = json.loads(value)
        except (ValueError, RecursionError):
            return "", "its label in JSON cannot be read"
        values = [record[key] for key in _LABEL_KEYS if key in record] if isinstance(record, dict) else [record]
        value = next((each for each in values if isinstance(each, str | int) and not isinstance(each, bool)), "")
    text = str(value).strip()
    if text.isascii() and text.isdigit():
        text = text.lstrip("0") or "0"
    # -1 stands for no label, as in datasets on the Hugging Face Hub.
    return ("" if text == "-1" else text), ""


def names_of(words: list[str], root: Path) -> tuple[list[str], tuple[str, ...] | None, list[str]]:
    """The names that labels stand for, all names of the list used, if any, and notes.

    A list is used if all labels are whole numbers and it is long enough for the largest.
    """
    notes: list[str] = []
    if all(word.isascii() and word.isdigit() for word in words):
        largest = max(map(int, words))
        for file in _LISTS:
            listed = in_order(read_list(root / file))
            if len(listed) > largest:
                # Two classes may share a name, as the cranes of ImageNet do.
                often = Counter(listed)
                names = [f"{name} ({number})" if often[name] > 1 else name for number, name in enumerate(listed)]
                return [names[int(word)] for word in words], tuple(names), notes
            if listed:
                listing = counted(len(listed), "class", "classes")
                notes.append(f"{file} lists {listing} but the labels go up to {largest}: it was not used")
    return words, None, notes
