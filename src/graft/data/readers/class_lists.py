"""Class names from a file beside the images, for folders and tables that use numbers or codes as classes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from graft.class_lists import CODE, Listed, by_number_behind, read_list
from graft.data.class_naming import renamed, wordnet_words
from graft.data.dataset import Dataset
from graft.endings import IMAGE_ENDING
from graft.names import shortened
from graft.words import counted, first_few

LISTS = (
    r"(?i)((^|[/_ .-])(class(es|names)?|labels?|names?|categor(y|ies)|synsets?|words|id2label|labelmap|map(ping)?|index"
    r"|descriptions?)([_ .-][^/]*)?\.(txt|[ct]sv|json|ya?ml)|\.names|(^|/|_)(data|config|info)\.(json|ya?ml)"
    r"|(^|/|_)(meta|names)\.mat)$"
)


def with_listed_names(dataset: Dataset, files: Iterable[Path]) -> Dataset:
    """Name the classes as one of the files does, if it names each of them; notes say what was done.

    A file without numbers must name as many classes as there are, from 0 or 1 on. Files that contradict each other are
    not used.
    """
    if not dataset.classes or not all(map(CODE.fullmatch, dataset.classes)):
        return dataset
    known = {name: wordnet_words()[name] for name in dataset.classes if name in wordnet_words()}
    fitting: dict[str, dict[str, str]] = {}
    notes = []
    for file in () if len(known) == len(dataset.classes) else files:
        listed = read_list(file)
        names = listed.values() if isinstance(listed, Mapping) else listed
        if not any(re.search(r"[^\W\d]", name) for name in names) or any(re.search(IMAGE_ENDING, n) for n in names):
            continue
        found = {**_by_code(listed, dataset.classes), **known}
        if len(found) == len(set(found.values())) == len(dataset.classes):
            if not _name_images(set(found.values()), dataset):
                fitting[file.name] = found
        elif len(found) == len(dataset.classes):
            twice = next(name for number, name in enumerate(found.values()) if name in [*found.values()][:number])
            notes.append(
                f"{file.name} was not used for the names of classes: two classes would have one name, "
                f"{shortened(twice)!r}"
            )
        elif isinstance(listed, Sequence) or any(_plain(name) in map(_plain, listed) for name in dataset.classes):
            notes.append(
                f"{file.name} was not used for the names of classes: it has {counted(len(listed), 'name')}, and the "
                f"{counted(len(dataset.classes), 'class is', 'classes are')} {_span(dataset.classes)}"
            )
    if len({tuple(found.items()) for found in fitting.values()}) > 1:
        notes.append(f"{' and '.join(fitting)} name the classes differently: neither was used")
    elif fitting:
        source, found = next(iter(fitting.items()))
        shown = first_few(f"{name} is {shortened(found[name])!r}" for name in dataset.classes)
        return renamed(dataset, found, f"classes are named as in {source} ({shown})")
    return renamed(dataset, {}, *notes)


def _name_images(names: set[str], dataset: Dataset) -> bool:
    """Whether any of the names is that of an image, so that they come from a table of images."""
    every = (images.key(row) for images in dataset.splits.values() for row in range(len(images)))
    return any(re.sub(IMAGE_ENDING, "", key.rpartition("/")[2]) in names for key in every)


def _plain(code: str) -> str:
    return str(int(code)) if code.isdigit() else code


def _by_code(listed: Listed, classes: Sequence[str]) -> dict[str, str]:
    """The listed name of each class, as far as there is one; a list without codes must name every class."""
    if isinstance(listed, Mapping):
        known = {_plain(code): name for code, name in listed.items()}
        of_classes = {name: known[_plain(name)].strip() for name in classes if _plain(name) in known}
        # WordNet lists all words for a thing; the first is the usual one, if it means nothing else.
        short = {
            name: called.partition(",")[0] if name.startswith("n") else called for name, called in of_classes.items()
        }
        return short if len(set(short.values())) == len(short) else of_classes
    if {*map(_plain, classes)} <= by_number_behind(listed).keys():
        return _by_code(by_number_behind(listed), classes)
    numbers = sorted(int(name) for name in classes if name.isdigit())
    start = numbers[0] if numbers else -1
    if start not in (0, 1) or numbers != list(range(start, start + len(listed))) or len(numbers) < len(classes):
        return {}
    return {name: listed[int(name) - start].strip() for name in classes}


def _span(classes: Sequence[str]) -> str:
    return classes[0] if len(classes) == 1 else f"{classes[0]} to {classes[-1]}"
