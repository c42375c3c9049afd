"""Whether the cells of a column can mean a split, a group or a weight, which its name alone does not tell.

A `weight` may be in kilograms, a `group` one half of a trial, a `fold` one of five. None of these may decide a training
run unless the user says so.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from graft.data.dataset import TEST, TRAIN, VAL
from graft.data.readers.column_names import SPLIT_WORDS, TRUTHS, plain_name
from graft.data.readers.several_labels import FALSE, TRUE
from graft.data.readers.split_names import EVALUATION, evaluated, splits_by_letter

if TYPE_CHECKING:
    import pyarrow

# Groups are small: if there are fewer groups than this, each has at most this many images on average.
FEW_GROUPS, FEW_IMAGES = 5, 3
# Values seem to be animals, slides or the like if there are this many, several for each class, each of this many images
# on average, and if two images of one value differ in their label at most this much as often as any two images do.
_FEWEST_VALUES, _VALUES_PER_CLASS, _IMAGES_PER_VALUE, _DIFFERING = 10, 3, (2, 20), 0.25
# Measurements and dates, which images may share without belonging together.
_MEASURED = re.compile(r"[+-]?\d*[.,]\d+([eE][+-]?\d+)?|\d{1,4}([-./]\d{1,4}){2}([ T].*)?|(19|20)\d{6}|\d{1,2}:\d\d.*")
# Image weights lie around one: their mean is within these bounds, and none exceeds the last.
_MEAN_WEIGHT, _MOST_WEIGHT = (0.2, 5.0), 100.0


def as_splits(name: str, column: pyarrow.ChunkedArray, any_word: bool = False) -> pyarrow.ChunkedArray | None:
    """The split that each cell, large_string, means, empty for an empty cell; None if some cells mean none.

    With `any_word`, words that mean no split are splits of that name.
    """
    import pyarrow

    encoded = column.combine_chunks().dictionary_encode()
    words = [word.strip() for word in encoded.dictionary.to_pylist()]
    # The first word counts: `train_test_split` is true for training images.
    plain = plain_name(name)
    truths = min(((plain.find(word), meant) for word, meant in TRUTHS.items() if word in plain), default=(0, None))[1]
    meant: list[str | None] = [_split(word, truths) for word in words]
    known = {word: split for word, split in zip(words, meant, strict=True) if split}
    tested = evaluated(known, [word for word in known if _bare(word) in EVALUATION])
    meant = [tested.get(word, split) for word, split in zip(words, meant, strict=True)]
    if "partition" in plain and set(words) == {"0", "1", "2"}:
        # CelebA's numbering.
        meant = [(TRAIN, VAL, TEST)[int(word)] for word in words]
    if letters := splits_by_letter(filter(None, words)):
        meant = [letters.get(word, "") for word in words]
    if any_word and not all(word.replace(".", "").isdigit() for word in words if word):
        meant = [word if split is None else split for word, split in zip(words, meant, strict=True)]
    if None in meant or not (any_word or any(meant)):
        return None
    return pyarrow.chunked_array([pyarrow.array(meant, pyarrow.large_string()).take(encoded.indices)])


def _split(word: str, truths: tuple[str, str] | None) -> str | None:
    if not word:
        return ""
    if truths is not None and word.lower() in TRUE:
        return truths[0]
    if truths is not None and word.lower() in FALSE:
        return truths[1]
    return SPLIT_WORDS.get(_bare(word))


def _bare(word: str) -> str:
    """A word without case, punctuation and parts that do not change its meaning: `train` for `1 - Training set`."""
    return plain_name(re.sub(r"(?i)^\d+[\W_]+|[\W_]*(sets?|data|split|images?)$", "", word))


def are_words_of_splits(column: pyarrow.ChunkedArray) -> bool:
    """Whether the cells, large_string, are all words for splits or empty, and not all empty."""
    words = {word.strip() for word in column.unique().to_pylist()} - {""}
    return bool(words) and all(_bare(word) in SPLIT_WORDS for word in words)


def say_splits(column: pyarrow.ChunkedArray) -> bool:
    """Whether the cells, large_string, are all words for splits or empty, with train and another split among them."""
    meant = {SPLIT_WORDS.get(_bare(word)) for word in column.unique().to_pylist() if word.strip()}
    return None not in meant and TRAIN in meant and len(meant) > 1


def can_be_groups(column: pyarrow.ChunkedArray) -> bool:
    """Whether cells, large_string, can name what few images share, for example one animal or one burst."""
    import pyarrow.compute

    blank = int(pyarrow.compute.sum(pyarrow.compute.equal(column, "")).as_py() or 0)
    distinct = len(column.unique()) - bool(blank)
    return distinct > 0 and (distinct >= FEW_GROUPS or (len(column) - blank) <= FEW_IMAGES * distinct)


def values_that_group(column: pyarrow.ChunkedArray, labels: pyarrow.ChunkedArray) -> int:
    """How many values cells, large_string, have that seem to say which images belong together; 0 if they do not.

    Judged by structure alone: many values, each of a few images that mostly share a label.
    """
    values, of_labels = (each.combine_chunks().dictionary_encode() for each in (column, labels))
    words = values.dictionary.to_pylist()
    codes, label = (each.indices.to_numpy().astype(np.int64) for each in (values, of_labels))
    filled = np.array([bool(word) for word in words], bool)[codes] if words else np.zeros(0, bool)
    codes, label = codes[filled], label[filled]
    found, least, most = len(words) - ("" in words), *_IMAGES_PER_VALUE
    classes = len(np.unique(label))
    if found < max(_FEWEST_VALUES, _VALUES_PER_CLASS * classes) or not least * found <= len(codes) <= most * found:
        return 0
    if all(_MEASURED.fullmatch(word) for word in words if word):
        return 0
    _, of_both = np.unique(codes * len(of_labels) + label, return_counts=True)
    differing = 1 - _pairs(of_both) / _pairs(np.bincount(codes))
    by_chance = 1 - _pairs(np.bincount(label)) / _pairs(np.array([len(codes)]))
    return found if by_chance > 0 and differing <= _DIFFERING * by_chance else 0


def _pairs(counts: np.ndarray) -> float:
    """The number of pairs within parts of these sizes."""
    return float((counts.astype(np.float64) * (counts - 1)).sum())


def can_be_weights(column: pyarrow.ChunkedArray) -> bool:
    """Whether cells, large_string, can be image weights: at least half are numbers, and these lie around one."""
    numbers = numbers_in(column)
    fine = numbers[np.isfinite(numbers) & (numbers >= 0)]
    if 2 * len(fine) < len(numbers) or not len(fine):
        return False
    low, high = _MEAN_WEIGHT
    return bool(low <= fine.mean() <= high and fine.max() <= _MOST_WEIGHT)


def numbers_in(column: pyarrow.ChunkedArray) -> np.ndarray:
    """Cells as numbers, float64 (N,), NaN for anything else."""
    import pyarrow
    import pyarrow.compute

    try:
        return np.asarray(column.cast(pyarrow.float64()).to_numpy(), np.float64)
    except pyarrow.ArrowInvalid:
        number = pyarrow.compute.match_substring_regex(column, r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$")
        texts = pyarrow.compute.if_else(number, pyarrow.compute.utf8_trim_whitespace(column), None)
        return np.asarray(texts.cast(pyarrow.float64()).to_numpy(zero_copy_only=False), np.float64)
