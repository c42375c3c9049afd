"""Names of classes as people mean them: one spelling for what looks the same, words for numbers of WordNet.

Unicode writes é as one character (NFC) or as e with an accent (NFD); file systems, archives and tables differ in that.
ImageNet's folders are called by the number of what they show in WordNet, `n01440764` for a tench.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from unicodedata import normalize

import numpy as np

from graft.data.dataset import Dataset, class_order
from graft.names import shortened
from graft.words import counted

_BUNDLED = Path(__file__).resolve().parents[1] / "bundled"
# Alone, or before the name as in the folders of Stanford's dogs: `n02085620-Chihuahua`.
_WORDNET_ID = re.compile(r"(n\d{8})(?:-(.+))?")


def with_usual_names(dataset: Dataset) -> Dataset:
    """The dataset with its classes called so, those of one name joined, and notes on what was changed."""
    composed = [normalize("NFC", name) for name in dataset.classes]
    words = _words(composed)
    notes = []
    if len(set(composed)) < len(composed):
        several = sorted({name for name in composed if composed.count(name) > 1})
        notes.append(
            f"{counted(len(several), 'class is', 'classes are')} spelled in two forms of Unicode, NFC and NFD, and was "
            f"read as one class each: {', '.join(map(shortened, several[:3]))}"
        )
    if words:
        shown = ", ".join(f"{number} is {word!r}" for number, word in list(words.items())[:3])
        notes.append(
            f"{counted(len(words), 'class', 'classes')} named by WordNet ids are called what they name "
            f"({shown}{', …' if len(words) > 3 else ''})"
        )
    called = {name: words.get(plain, plain) for name, plain in zip(dataset.classes, composed, strict=True)}
    return renamed(dataset, called, *notes)


def renamed(dataset: Dataset, called: Mapping[str, str], *notes: str) -> Dataset:
    """The dataset with classes called otherwise, those of one name joined, and further notes."""
    names = [called.get(name, name) for name in dataset.classes]
    dataset = replace(dataset, notes=(*dataset.notes, *notes))
    if names == list(dataset.classes):
        return dataset
    ordered = dataset.classes == class_order(set(dataset.classes))
    classes = class_order(set(names)) if ordered else tuple(dict.fromkeys(names))
    # The last entry is what -1 indexes: an image without a label stays without.
    table = np.array([*map(classes.index, names), -1], np.int64)
    splits = {name: replace(images, labels=table[images.labels]) for name, images in dataset.splits.items()}
    return replace(dataset, classes=classes, splits=splits)


@cache
def wordnet_words() -> dict[str, str]:
    """What the WordNet ids of ImageNet's thousand classes name, in the order of the classes."""
    ids = (_BUNDLED / "imagenet_wordnet_ids.txt").read_text("ascii").split()
    return dict(zip(ids, json.loads((_BUNDLED / "imagenet_classes.json").read_text("utf-8")), strict=True))


def _words(names: list[str]) -> dict[str, str]:
    """What classes that are all called by WordNet ids are, as far as that is known, or as it stands behind the id."""
    found = [_WORDNET_ID.fullmatch(name) for name in names]
    words = {each[0]: wordnet_words().get(each[1], each[2] or "") for each in found if each is not None}
    words = {name: word for name, word in words.items() if word}
    return words if len(words) == len({*words.values()}) and all(found) else {}
