"""Match the user's classes with those of a base by name: which of the base's classes count for each.

Case, accents, underscores and hyphens do not matter. If every name is one of the base's own, the names are matched
directly. Otherwise each name is looked up as written and then in the singular: first in the list of everyday words for
ImageNet's classes, then among the base's names, then among their comma-separated synonyms. A class map takes precedence
over all of that.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import Tensor, isin, tensor

from graft.data.class_naming import wordnet_words
from graft.errors import DataError, InputError, did_you_mean
from graft.transfer.class_names.class_map import ClassMap, read_class_map
from graft.transfer.class_names.imagenet_words import ANCHORS, imagenet_words
from graft.transfer.class_names.spelling import fold_spelling, spellings_of
from graft.weights.saved import Outputs
from graft.words import counted

How = Literal[
    "literally", "by name", "by the word list", "by a synonym", "by its WordNet id", "by its index", "by the class map"
]
# Lookups in the order in which they are tried: how a name was found, and indices of the base's classes by name.
Tables = tuple[tuple[How, Mapping[str, Iterable[int]]], ...]

# The most names in one sentence, and the most notes, where there could be thousands.
SHOWN = 6
MOST_NOTES = 20


@dataclass(frozen=True)
class ClassMatch:
    """One of the user's classes, the indices of the base's classes that count for it, and how they were found."""

    name: str
    base_classes: tuple[int, ...]
    how: How


def find_outputs(
    classes: tuple[str, ...],
    base_classes: tuple[str, ...],
    base_outputs: Outputs | None = None,
    class_map: str | Path | None = None,
) -> tuple[Outputs, tuple[str, ...]]:
    """Find the outputs of a base's network that count for each of `classes`, with notes for the user.

    `base_outputs` are the outputs of the base's own classes, None if each has one, in order. `class_map` is a file for
    `read_class_map`. The notes say how each class without exactly a base class's name was matched. Raises what
    `match_classes` and `read_class_map` raise.
    """
    matches = match_classes(classes, base_classes, None if class_map is None else read_class_map(Path(class_map)))
    own = base_outputs or tuple((index,) for index in range(len(base_classes)))
    outputs = tuple(tuple(sorted(each for index in match.base_classes for each in own[index])) for match in matches)
    read = [match for match in matches if match.how != "literally" or len(match.base_classes) > 1]
    notes = [
        f"{match.name!r} is read as the base's {_some([base_classes[index] for index in match.base_classes])} "
        f"({match.how})"
        for match in read[:MOST_NOTES]
    ]
    if len(read) > MOST_NOTES:
        more = counted(len(read) - MOST_NOTES, "more class is", "more classes are")
        notes.append(f"{more} read by name or as the class map says")
    return outputs, tuple(notes)


def match_classes(
    classes: tuple[str, ...], base_classes: tuple[str, ...], class_map: ClassMap | None = None
) -> tuple[ClassMatch, ...]:
    """Match each of `classes` with the base's classes, in order; no base class counts for two of them.

    If two classes claim the same base class, the class map decides first, and then the class that claims fewer wins
    (`beagle` over `dog`). Raises DataError for names without a match and for ties, InputError for a class map that does
    not fit the names.
    """
    class_map = class_map or {}
    if strangers := [name for name in class_map if name not in classes]:
        raise InputError(
            f"expected classes of the images in the class map, got {_some(strangers, classes)}: spell them like the "
            "folders or labels of the images"
        )
    names = _Names(base_classes)
    own = all(name in class_map or names.find_own(name) for name in classes)
    find = names.find_own if own else names.find
    matches, lost = [], []
    numbered = _are_indices(classes, base_classes)
    for name in classes:
        found = _mapped(name, class_map[name], names) if name in class_map else find(name)
        if found is None and numbered:
            found = ClassMatch(name, (int(name),), "by its index")
        if found is None:
            lost.append(name)
        else:
            matches.append(found)
    if lost:
        raise DataError(
            f"expected names among the base's {counted(len(base_classes), 'class', 'classes')}, got "
            f"{_some(lost, names.known())}: assign the base's classes to each with --class-map FILE, or train a head"
        )
    return _each_once(matches, base_classes)


def note_on_others(split: str, logits: Tensor, outputs: Outputs) -> str:
    """Return a note on how often the most likely output, of logits (n, outputs), belongs to none of the classes."""
    of_classes = tensor([output for each in outputs for output in each])
    others = len(logits) - int(isin(logits.argmax(1), of_classes).sum())
    return (
        f"on {others} of {counted(len(logits), 'image')} in {split} the base's own first answer is none of these "
        "classes; the probabilities sum to one over these classes alone"
    )


def _are_indices(classes: tuple[str, ...], base_classes: tuple[str, ...]) -> bool:
    """Return whether numeric class names can only be indices of the base's classes, and not, say, the ten digits."""
    if not all(name.isascii() and name.isdecimal() for name in classes):
        return False
    numbers = [int(name) for name in classes]
    beyond = max(numbers) >= len(classes) or len(classes) == len(base_classes)
    return len(set(numbers)) == len(classes) and beyond and max(numbers) < len(base_classes)


class _Names:
    """Lookup tables of the names of a base's classes."""

    def __init__(self, base_classes: tuple[str, ...]) -> None:
        self.classes = base_classes
        literal, whole, first, synonyms = (defaultdict[str, set[int]](set) for _ in range(4))
        for index, name in enumerate(base_classes):
            # A name that occurs twice has its index appended; it can be looked up by its bare name as well.
            bare = name.removesuffix(f" ({index})")
            parts = bare.split(",")
            for table, keys in (
                (literal, (name, bare)),
                (whole, (*spellings_of(name), *spellings_of(bare))),
                (first, (fold_spelling(parts[0]),)),
                (synonyms, map(fold_spelling, parts)),
            ):
                for key in keys:
                    table[key].add(index)
        words = imagenet_words() if _is_imagenet(base_classes) else {}
        numbered: defaultdict[str, set[int]] = defaultdict(set)
        for index, name in enumerate(base_classes):
            if name in wordnet_words():
                for spelling in spellings_of(wordnet_words()[name]):
                    numbered[spelling].add(index)
        self._own: Tables = (
            *(("literally", literal), ("by name", whole), ("by name", first)),
            ("by its WordNet id", numbered),
        )
        # Everyday words come first: to ImageNet, a plane is a carpenter's tool and a boa is made of feathers.
        of_words = {fold_spelling(word): indices for word, indices in words.items()}
        self._all: Tables = (("by the word list", of_words), *self._own, ("by a synonym", synonyms))

    def find_own(self, name: str) -> ClassMatch | None:
        """Find a class by its name in the base, or by the first of its synonyms."""
        return _find(name, (fold_spelling(name),), self._own)

    def find(self, name: str) -> ClassMatch | None:
        """Find a class by any spelling, everyday word or synonym."""
        return _find(name, spellings_of(name), self._all)

    def known(self) -> list[str]:
        """Return every name that can be looked up, for suggestions."""
        return list(dict.fromkeys(key for _, table in self._all for key in table))


def _find(name: str, spellings: tuple[str, ...], tables: Tables) -> ClassMatch | None:
    for spelling in spellings:
        for how, table in tables:
            key = name if how == "literally" else spelling
            if key in table:
                return ClassMatch(name, tuple(sorted(table[key])), how)
    return None


def _is_imagenet(base_classes: tuple[str, ...]) -> bool:
    return len(base_classes) == 1000 and all(
        fold_spelling(base_classes[index].split(",")[0]) == name for index, name in ANCHORS.items()
    )


def _mapped(name: str, entry: tuple[str | int, ...], names: _Names) -> ClassMatch:
    found: set[int] = set()
    for each in entry:
        if isinstance(each, int):
            if not 0 <= each < len(names.classes):
                raise InputError(
                    f"expected indices from 0 to {len(names.classes) - 1} in the class map, got {each} for {name!r}: "
                    "correct the index"
                )
            found.add(each)
        elif match := names.find_own(each) or names.find(each):
            found.update(match.base_classes)
        else:
            raise InputError(
                f"expected the base's classes in the class map, got {_some([each], names.known())} for "
                f"{name!r}: correct the name"
            )
    return ClassMatch(name, tuple(sorted(found)), "by the class map")


def _each_once(matches: list[ClassMatch], base_classes: tuple[str, ...]) -> tuple[ClassMatch, ...]:
    """Return the matches, with every base class assigned to the closest of those that claim it."""
    claims = defaultdict[int, list[ClassMatch]](list)
    for match in matches:
        for index in match.base_classes:
            claims[index].append(match)

    def closeness(match: ClassMatch) -> tuple[bool, int]:
        return match.how != "by the class map", len(match.base_classes)

    kept = defaultdict[str, list[int]](list)
    for index, claimants in sorted(claims.items()):
        closest, *others = sorted(claimants, key=closeness)
        if others and closeness(closest) == closeness(others[0]):
            raise _undecided(closest, others[0], base_classes[index])
        kept[closest.name].append(index)
    for match in matches:
        if match.name not in kept:
            index = match.base_classes[0]
            raise _undecided(match, min(claims[index], key=closeness), base_classes[index])
    return tuple(replace(match, base_classes=tuple(kept[match.name])) for match in matches)


def _undecided(one: ClassMatch, other: ClassMatch, base_class: str) -> DataError:
    return DataError(
        f"expected every class of the base to count for one class, got {one.name!r} and {other.name!r} both for "
        f"{base_class!r}: assign the base's classes to each with --class-map FILE, or join the two"
    )


def _some(names: list[str], known: Iterable[str] = ()) -> str:
    """List the first few of `names`, each with the nearest of the `known` names suggested."""
    known = list(known)
    shown = ", ".join(f"{name!r}{did_you_mean(name, known)}" for name in names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown}, … ({len(names)} in all)"
