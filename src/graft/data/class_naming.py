"""Class names as people mean them: one spelling for names that look the same, and words for WordNet ids.

Unicode writes é as one character (NFC) or as e with an accent (NFD); file systems, archives and tables differ in which.
ImageNet names its folders by WordNet id: `n01440764` is a tench.
"""

from __future__ import annotations

import json
import re
from collections import Counter
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
# Alone, or followed by the name, as in the folders of Stanford Dogs: `n02085620-Chihuahua`.
_WORDNET_ID = re.compile(r"(n\d{8})(?:-(.+))?")


def with_usual_names(dataset: Dataset) -> Dataset:
    """Normalise the class names of a dataset, merge classes that then share a name, and note what changed."""
    composed = [normalize("NFC", name) for name in dataset.classes]
    words = _words(composed)
    notes = []
    if len(set(composed)) < len(composed):
        several = sorted(name for name, times in Counter(composed).items() if times > 1)
        notes.append(
            f"{counted(len(several), 'class is', 'classes are')} spelled in two forms of Unicode, NFC and NFD, which "
            f"were read as one: {', '.join(map(shortened, several[:3]))}"
        )
    if words:
        shown = ", ".join(f"{number} is {word!r}" for number, word in list(words.items())[:3])
        notes.append(
            f"{counted(len(words), 'class', 'classes')} named by WordNet ids: the names that these stand for are used "
            f"instead ({shown}{', …' if len(words) > 3 else ''})"
        )
    called = {name: words.get(plain, plain) for name, plain in zip(dataset.classes, composed, strict=True)}
    return renamed(dataset, called, *notes)


def renamed(dataset: Dataset, called: Mapping[str, str], *notes: str) -> Dataset:
    """Rename the classes of a dataset, merge those that then share a name, and add notes."""
    names = [called.get(name, name) for name in dataset.classes]
    dataset = replace(dataset, notes=(*dataset.notes, *notes))
    if names == list(dataset.classes):
        return dataset
    ordered = dataset.classes == class_order(set(dataset.classes))
    classes = class_order(set(names)) if ordered else tuple(dict.fromkeys(names))
    # The last entry is the one that -1 indexes: an image without a label stays without one.
    place = {name: number for number, name in enumerate(classes)}
    table = np.array([*(place[name] for name in names), -1], np.int64)
    splits = {name: replace(images, labels=table[images.labels]) for name, images in dataset.splits.items()}
    return replace(dataset, classes=classes, splits=splits)


@cache
def wordnet_words() -> dict[str, str]:
    """Return the names of ImageNet's thousand classes by WordNet id, in the order of the classes."""
    ids = (_BUNDLED / "imagenet_wordnet_ids.txt").read_text("ascii").split()
    return dict(zip(ids, json.loads((_BUNDLED / "imagenet_classes.json").read_text("utf-8")), strict=True))


def _words(names: list[str]) -> dict[str, str]:
    """Return the words for class names that are WordNet ids: ImageNet's, or the text behind the id.

    Empty if a name is not a WordNet id or if two ids have the same words.
    """
    found = [_WORDNET_ID.fullmatch(name) for name in names]
    words = {each[0]: wordnet_words().get(each[1], each[2] or "") for each in found if each is not None}
    words = {name: word for name, word in words.items() if word}
    return words if len(words) == len({*words.values()}) and all(found) else {}
