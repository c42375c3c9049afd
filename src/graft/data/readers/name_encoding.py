"""Names of members of a zip that does not say how they are written: which encoding makes words of them.

Zip files know UTF-8 and code page 437; programs on Windows write the code page of their country and say neither. All
names of an archive have one encoding, so it is judged by all of them: double-byte ones by how common their characters
are, the others by whether letters stand where letters belong. What is read so is always told.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from graft.errors import InputError

# Pairs of bytes for the characters that most text is made of: kana and the first level of kanji, of hanzi.
_COMMON = {
    "cp932": re.compile(rb"[\x82\x83][\x40-\xf1]|[\x88-\x97][\x40-\x7e\x80-\xfc]|\x81[\x40-\xac]"),
    "gbk": re.compile(rb"[\xb0-\xd7][\xa1-\xfe]|[\xa1\xa3][\xa1-\xfe]"),
}
_LETTERS = {
    "cp437": re.compile("[ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜáíóúñÑß]"),
    "cp1252": re.compile("[À-ÖØ-öø-ÿŒœŠšŽžŸ]"),
    "cp866": re.compile("[А-Яа-яЁё]"),
    "cp1251": re.compile("[А-Яа-яЁё]"),
}
_HIGH = re.compile(rb"[\x80-\xff]+")
_KOREAN = re.compile(rb"([\xb0-\xc8][\xa1-\xfe])+")
_SURE = 0.8


def encoding_of(names: Sequence[bytes]) -> tuple[str, bool]:
    """The encoding of names that are not UTF-8, and whether no other fits about as well."""
    ranked = sorted(((_fit(names, encoding), encoding) for encoding in (*_COMMON, *_LETTERS)), reverse=True)
    (best, encoding), (second, _) = ranked[:2]
    # Hangul takes the same bytes as a part of the hanzi.
    korean = encoding == "gbk" and all(_KOREAN.fullmatch(run) for name in names for run in _HIGH.findall(name))
    return (encoding, best >= _SURE and best - second > 0.1 and not korean) if best > 0 else ("cp437", False)


def check_encoding(encoding: str) -> str:
    """The same. Raises InputError if there is no such encoding of text."""
    try:
        b"a".decode(encoding)
    except (LookupError, ValueError):
        raise InputError(
            f"expected the name of an encoding such as gbk, cp932 (Japanese), cp949 (Korean), big5 or cp1252, "
            f"got {encoding!r}: correct it"
        ) from None
    return encoding


def _fit(names: Sequence[bytes], encoding: str) -> float:
    """How well an encoding fits, from 0 to 1: the part of what is not ASCII that is common in it."""
    try:
        texts = [name.decode(encoding) for name in names]
    except UnicodeDecodeError:
        return 0.0
    if encoding in _LETTERS:
        foreign = [character for text in texts for character in text if not character.isascii()]
        letters = sum(bool(_LETTERS[encoding].match(character)) for character in foreign)
        fit = letters / max(len(foreign), 1)
        runs = [len(run) for name in names for run in _HIGH.findall(name)]
        if encoding in ("cp437", "cp1252"):
            # Between letters of English, those of Western languages are single ones.
            return fit * sum(run for run in runs if run < 3) / max(sum(runs), 1)
        # Words of Cyrillic are long, and begin with what is a capital or are small throughout.
        words = re.findall("[А-Яа-яЁё]+", " ".join(texts))
        usual = sum(len(word) for word in words if len(word) > 1 and (word[1:].islower() or word.isupper()))
        return fit * usual / max(sum(map(len, words)), 1)
    pairs = [pair for name in names for pair in _pairs(name, encoding)]
    common = sum(len(pair) for pair in pairs if _COMMON[encoding].fullmatch(pair))
    return common / max(sum(map(len, pairs)), 1)


def _pairs(name: bytes, encoding: str) -> list[bytes]:
    """The bytes of each character that is not ASCII."""
    return [character.encode(encoding) for character in name.decode(encoding) if not character.isascii()]
