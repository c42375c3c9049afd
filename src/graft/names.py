r"""How graft writes a name that need not be text.

Names of files, folders and classes come from whoever made the data: a file system takes any bytes, and tables, archives
and EXIF any characters. Whatever graft prints or writes, be it a terminal, JSON, CSV, Parquet, YAML or a page, follows
one rule. The following are written byte by byte as `\xHH`, using the bytes of their UTF-8 where they have one:

- bytes that are not UTF-8: the folder b"caf\xe9" is the class `caf\xe9`;
- control characters, so that a name neither breaks a line nor colours a terminal: `a\x0ab.jpg`, `\x1b[31m.jpg`;
- line and paragraph separators, and marks that reverse the text around them.

Everything else stays as it is, backslashes included, so writing a written name again does not change it. `restored`
finds the file again.

A ground-floor module: readers, pages, saved models, progress and the command line all write names, and one rule has one
home.
"""

import os
import re

# Controls (C0, delete, C1), separators, embeddings, overrides and isolates, and the surrogates that stand for bytes.
_NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST = 200
# Longer stretches of a sentence that are no text, or have no blank, are the content of a file rather than its name.
_CONTENT, _ESCAPED = 1000, re.compile(rf"{_NOT_TEXT.pattern}|\\(x|udc)[0-9a-f]{{2}}")
_WITHOUT_BLANKS, _SHOWN = re.compile(r"\S{4097,}"), 40
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
# How Python's repr shows a byte that is not UTF-8.
_QUOTED_BYTE = re.compile(r"\\udc([89a-f][0-9a-f])")


def plain(name: str) -> str:
    """Return a name as graft writes it: valid UTF-8 on one line."""
    return name if name.isprintable() else _NOT_TEXT.sub(_byte_by_byte, name)


def shortened(name: str) -> str:
    """Return a name as sentences show it: at most 200 characters."""
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"


def without_content(sentence: str) -> str:
    """Return a sentence with at most the beginning of anything that it quotes from inside a file, such as an image."""
    if len(sentence) <= _CONTENT:
        return sentence
    strange = [found.span() for found in _ESCAPED.finditer(sentence)]
    if strange and strange[-1][1] - strange[0][0] > _CONTENT:
        sentence = f"{sentence[: strange[0][0] + _SHOWN]}…{sentence[strange[-1][1] :]}"
    return _WITHOUT_BLANKS.sub(lambda found: f"{found[0][:_SHOWN]}…", sentence)


def restored(written: str) -> str:
    """Return the name as the file system has it, from its written form."""
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), os.fsencode(written)))


def readable(sentence: str) -> str:
    """Return a sentence as graft writes it, including the names in it, whether or not they are in Python's quotes."""
    return plain(_QUOTED_BYTE.sub(r"\\x\1", without_content(sentence)))


def _byte_by_byte(found: re.Match[str]) -> str:
    character = found[0]
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
