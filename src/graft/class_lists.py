"""Lists of class names in any common form: lines, tables, JSON, YAML.

`classes.txt`, `obj.names`, `names.csv`, `cat_to_name.json`, `id2label`, YOLO's `data.yaml`, `LOC_synset_mapping.txt`. A
ground-floor module, since both images and weights come with such lists.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

from graft.array_files import matlab_columns

# An identifier that stands for a class without naming it: a number, or a WordNet or Freebase id.
CODE = re.compile(r"\d+|n\d{8}|/m/\w+")
_KEYS = ("id2label", "names", "classes", "class_names", "labels", "label_names", "categories", "features", "label")
_MOST_BYTES = 2**23
# The most digits of a class number.
_MOST_DIGITS = 9
# Names by the number or code of their class, or in numeric order.
Listed = Mapping[str, str] | Sequence[str]


def read_list(file: Path) -> Listed:
    """Return the class names in a file, in NFC; empty if the file is missing or holds something else."""
    return _composed(_listed(file))


def list_in(value: Any) -> Listed:
    """Return the class names in a value as JSON or a checkpoint holds it, in NFC; empty if it is something else."""
    return _composed(_in_value(list(value) if isinstance(value, tuple) else value))


def _composed(listed: Listed) -> Listed:
    if isinstance(listed, Mapping):
        return {code: normalize("NFC", name) for code, name in listed.items()}
    return [normalize("NFC", name) for name in listed]


def _listed(file: Path) -> Listed:
    try:
        # Reading a pipe or a device would never end.
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            return ()
        if file.suffix.lower() == ".mat":
            (names,) = matlab_columns(file).values()
            return names
        text = file.read_text("utf-8-sig")
        if file.suffix.lower() == ".json":
            return _in_value(json.loads(text))
        if file.suffix.lower() in (".yaml", ".yml"):
            import yaml

            return _in_value(yaml.safe_load(text))
        if file.suffix.lower() in (".csv", ".tsv"):
            return _in_rows(list(csv.reader(text.splitlines(), delimiter=",\t"[file.suffix.lower() == ".tsv"])))
    except Exception:  # whatever error a parser raises, the file is not a list
        return ()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pairs = [re.split(r"\s*[\t,;:=]\s*|\s+", line, maxsplit=1) for line in lines]
    if all(len(pair) == 2 and CODE.fullmatch(pair[0]) for pair in pairs):
        return _in_rows(pairs)
    numbered = by_number_behind(lines)
    # Other numbers may be part of the names: `Boeing 707`.
    counted = sorted(map(int, numbered)) in ([*range(len(lines))], [*range(1, len(lines) + 1)])
    return numbered if counted else lines


def by_number_behind(lines: Sequence[str]) -> dict[str, str]:
    """Return names by the number after each, as in `airfield 0`; empty unless each line has a number of its own."""
    numbered: dict[str, str] = {}
    for line in map(str.strip, lines):
        ahead = line.rstrip("0123456789")
        number, name = line[len(ahead) :], ahead.rstrip()
        name = name[:-1].rstrip() if name.endswith((",", ";", ":", "=")) else name
        if name and name != ahead and 0 < len(number) <= _MOST_DIGITS:
            numbered[str(int(number))] = name
    # `type 1` and `type 2` are whole names, and `3 5` is not a name.
    distinct = len(lines) == len(numbered) == len({*numbered.values()})
    return numbered if distinct and not all(map(str.isdigit, numbered.values())) else {}


def in_order(listed: Listed) -> list[str]:
    """Return the names ordered by their numbers from 0; empty if a number is missing."""
    if not isinstance(listed, Mapping):
        return list(listed)
    numbered = {int(code): name for code, name in listed.items() if code.isdecimal() and len(code) <= _MOST_DIGITS}
    return [numbered[number] for number in range(len(listed))] if {*numbered} == {*range(len(listed))} else []


def _in_value(value: Any) -> Listed:
    """Return the names in a JSON or YAML value, which may hold them under a customary key."""
    if isinstance(value, list):
        if all(isinstance(each, dict) and {"id", "name"} <= each.keys() for each in value):
            return {str(each["id"]): str(each["name"]) for each in value}
        return value if all(isinstance(each, str) for each in value) else ()
    if not isinstance(value, dict):
        return ()
    for key in _KEYS:
        if inner := _in_value(value.get(key)):
            return inner
    if value and all(isinstance(each, int) for each in value.values()):
        return {str(number): str(name) for name, number in value.items()}
    # Keras' ImageNet index puts the id before the name.
    last = {str(key): each[-1] if isinstance(each, list) and each else each for key, each in value.items()}
    return last if all(map(CODE.fullmatch, last)) and all(isinstance(each, str) for each in last.values()) else ()


def _in_rows(rows: Sequence[Sequence[str]]) -> Listed:
    """Return the names in a table with one column of distinct codes, or with a single column."""
    rows = [[cell.strip() for cell in row] for row in rows if any(row)]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        return ()
    if len(rows[0]) == 1:
        head = re.fullmatch(r"(?i)(class|label)?[ _]?(names?|class(es)?|labels?|id)", rows[0][0])
        return [cell for (cell,) in rows[bool(head) :]]
    for first in (0, 1):
        distinct = [each for each in zip(*rows[first:], strict=True) if len({*each}) == len(each)]
        codes = next((each for each in distinct if all(map(CODE.fullmatch, each))), None)
        names = next((each for each in distinct if not any(map(CODE.fullmatch, each))), None)
        if codes is not None and names is not None:
            return dict(zip(codes, names, strict=True))
    return ()
