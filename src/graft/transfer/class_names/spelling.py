"""Names of classes without what their spellings differ in: case, accents, underscores, hyphens, singular and plural."""

import re
import unicodedata

IRREGULAR = {
    "mice": "mouse", "geese": "goose", "oxen": "ox", "wolves": "wolf", "calves": "calf", "leaves": "leaf",
    "loaves": "loaf", "scarves": "scarf", "shelves": "shelf", "knives": "knife", "feet": "foot", "teeth": "tooth",
    "men": "man", "women": "woman", "children": "child", "people": "person",
}  # fmt: skip


def fold_spelling(name: str) -> str:
    """`name` without what spellings differ in; one letter or digit stays as it is, since there case tells."""
    if len(name) < 2:
        return name
    plain = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", name.casefold()))
    return " ".join(re.split(r"[\s_\-.,:;'’()/]+", plain)).strip() or name


def spellings_of(name: str) -> tuple[str, ...]:
    """The folded name, then what its last word may be the plural of."""
    folded = fold_spelling(name)
    before, space, last = folded.rpartition(" ")
    singulars = [IRREGULAR[last]] if last in IRREGULAR else []
    for ending, replacement in (("ies", "y"), ("es", ""), ("s", "")):
        # Neither glass, nor bus, nor iris is a plural.
        if len(last) > len(ending) + 1 and last.endswith(ending) and not last.endswith(("ss", "us", "is")):
            singulars.append(last.removesuffix(ending) + replacement)
    return (folded, *(before + space + singular for singular in singulars))
