"""Names of folders and files that say which split or fold images are in: `train`, `Validation Set`, `seg_test1`.

Case, digits and other non-letters separate words. A name means a split if one of its words does and the others say
nothing; `flowers_train` means one only beside a `flowers_test`, since a class may be named `freight train`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from unicodedata import normalize

from graft.data.dataset import TEST, TRAIN, VAL, WHOLE

SPLIT_FOLDERS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "test": TEST,
    "testing": TEST,
    "trainval": TRAIN,
}
# Words for val that mean test if there is another word for val and none for test.
EVALUATION = ("eval", "evaluation")
# For folders only; in a table column, any word may be the name of a split.
_WORDS_OF_FOLDERS = {
    **SPLIT_FOLDERS,
    **dict.fromkeys(("trn", "entrainement", "entraînement", "apprentissage"), TRAIN),
    **dict.fromkeys(("validate", "dev", "development", *EVALUATION, "publictest"), VAL),
    **dict.fromkeys(("tests", "tst", "holdout", "pred", "predict", "prediction", "privatetest"), TEST),
    "训练集": TRAIN,
    "训练": TRAIN,
    "验证集": VAL,
    "验证": VAL,
    "测试集": TEST,
    "测试": TEST,
}
# Letters that mean splits if all of them occur together and no other word does.
_LETTERS = {"t": TRAIN, "v": VAL, "s": TEST}
# Words beside a split word that leave its meaning unchanged.
_IDLE = re.compile(
    r"data(sets?)?|sets?|final|images?|imgs?|photos?|pictures?|pics|files?|samples?|splits?|folder|dir|seg|part|\d+"
)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-zà-ÿ]+|\d+|[^\W\d_a-zA-Zà-ÿ]+")
# `trainset`, `valdata`, `testimages`.
_JOINED = re.compile(rf"({'|'.join(sorted(_WORDS_OF_FOLDERS, key=len, reverse=True))})(set|data|images?|imgs?|folder)")
# `a. Training Set` and `b) test`.
_LETTERED = re.compile(r"^\s*[a-zA-Z]\s*[.)]\s*")
_FOLD = re.compile(r"(?:k|cv|cross[ _-]?val(?:idation)?)?[ _-]*fold[ _-]*(\d+)(?:[ _-]*of[ _-]*\d+)?", re.IGNORECASE)


def splits_by_letter(words: Iterable[str]) -> dict[str, str]:
    """The splits of T, V and S, if some words are these three; if one is missing, none is certain."""
    meant = {word: _LETTERS.get(word.strip().lower(), "") for word in words}
    return meant if sorted(meant.values()) == sorted(_LETTERS.values()) else {}


def split_in_name(name: str) -> str:
    """The split that a file is named after, by the first word that means one: `train-00000`, `flowers_val2`."""
    words = [word.lower() for word in _WORDS.findall(name)]
    return next((SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS), WHOLE)


def is_part(name: str) -> bool:
    """Whether a folder is named as one of the parts that all images come in: `images_001`, `part 2`."""
    words = [word.lower() for word in _WORDS.findall(name)]
    return any(word.isdigit() for word in words[1:]) and all(map(_IDLE.fullmatch, words))


def splits_of(names: Iterable[str]) -> dict[str, str]:
    """The split that each of several sibling folders is named after; other folders are missing."""
    found: dict[str, str] = {}
    alike: defaultdict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for name in names:
        split, rest = _parts(name)
        if split and not rest:
            found[name] = split
        elif split:
            alike[rest][name] = split
    for called in alike.values():
        if len(set(called.values())) > 1:
            found |= called
    return found | evaluated(found, [name for name in found if _is_evaluation(name)])


def evaluated(splits: Mapping[str, str], called: Iterable[str]) -> dict[str, str]:
    """Map the evaluation names in `called` to test if another split is val and none is test; otherwise empty."""
    called = {*called}
    others = {split for name, split in splits.items() if name not in called}
    return dict.fromkeys(called, TEST) if VAL in others and TEST not in others else {}


def fold_of(name: str) -> str | None:
    """The number of the cross-validation fold that a folder is named after: `3` for `fold_3` and `Fold3`."""
    found = _FOLD.fullmatch(name.strip())
    return found and found[1]


def _parts(name: str) -> tuple[str, tuple[str, ...]]:
    """The split in a name, empty for none or several, and the words that are neither that nor idle."""
    # As macOS writes it, `î` is an `i` and an accent.
    name = _LETTERED.sub("", normalize("NFC", name))
    parts = [name] if name.lower() in _WORDS_OF_FOLDERS else _WORDS.findall(_hold_out(name))
    words = [_JOINED.fullmatch(word) or word for word in map(str.lower, parts)]
    plain = [word if isinstance(word, str) else word[1] for word in words]
    meant = {_WORDS_OF_FOLDERS[word] for word in plain if word in _WORDS_OF_FOLDERS}
    rest = tuple(word for word in plain if word not in _WORDS_OF_FOLDERS and not _IDLE.fullmatch(word))
    return (meant.pop(), rest) if len(meant) == 1 else ("", rest)


def _is_evaluation(name: str) -> bool:
    return any(word.lower().startswith(EVALUATION) for word in _WORDS.findall(name))


def _hold_out(name: str) -> str:
    return re.sub(r"(?i)hold[ _-]out", "holdout", name)
