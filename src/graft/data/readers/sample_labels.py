"""Labels of WebDataset samples, from the files beside an image and a list of classes beside the shards."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from graft.class_lists import in_order, read_list
from graft.words import counted

# Endings, keys and files, in the order in which they are tried.
LABELS = (b"cls", b"json", b"txt")
_LABEL_KEYS = ("label", "class", "cls")
_LISTS = ("classes.txt", "classes.json", "labels.txt", "classnames.txt", "_info.json", "dataset_info.json")


def label_of(labels: dict[bytes, bytes]) -> tuple[str, str]:
    """The label of a sample as text, whole numbers without leading zeros; or an empty text and the reason."""
    reason = "it has no label"
    for ending in LABELS:
        if ending not in labels:
            continue
        value: Any = labels[ending].decode(errors="backslashreplace")
        if ending == b"json":
            try:
                record = json.loads(value)
            except (ValueError, RecursionError):
                reason = "its label in JSON cannot be read"
                continue
            values = [record[key] for key in _LABEL_KEYS if key in record] if isinstance(record, dict) else [record]
            value = next((each for each in values if isinstance(each, str | int) and not isinstance(each, bool)), "")
        text = str(value).strip()
        if text.isascii() and text.isdigit():
            text = text.lstrip("0") or "0"
        # -1 stands for no label, as in datasets on the Hugging Face Hub.
        if text and text != "-1":
            return text, ""
    return "", reason


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
