"""Spellings of class names: case, accents, underscores and hyphens removed, plurals made singular."""

import re
import unicodedata

IRREGULAR = {
    "mice": "mouse", "geese": "goose", "oxen": "ox", "wolves": "wolf", "calves": "calf", "leaves": "leaf",
    "loaves": "loaf", "scarves": "scarf", "shelves": "shelf", "knives": "knife", "feet": "foot", "teeth": "tooth",
    "men": "man", "women": "woman", "children": "child", "people": "person",
}  # fmt: skip


def fold_spelling(name: str) -> str:
    """Return `name` in lower case, without accents, and with spaces for punctuation.

    A single character stays as it is, since its case distinguishes classes.
    """
    if len(name) < 2:
        return name
    plain = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", name.casefold()))
    return " ".join(re.split(r"[\s_\-.,:;'’()/]+", plain)).strip() or name


def spellings_of(name: str) -> tuple[str, ...]:
    """Return the folded name, followed by versions with its last word in the singular, if that may be a plural."""
    folded = fold_spelling(name)
    before, space, last = folded.rpartition(" ")
    singulars = [IRREGULAR[last]] if last in IRREGULAR else []
    for ending, replacement in (("ies", "y"), ("es", ""), ("s", "")):
        # Words like glass, bus and iris are not plurals.
        if len(last) > len(ending) + 1 and last.endswith(ending) and not last.endswith(("ss", "us", "is")):
            singulars.append(last.removesuffix(ending) + replacement)
    return (folded, *(before + space + singular for singular in singulars))
