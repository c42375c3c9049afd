"""Lists of the names of classes, in any form that people keep them in: lines, tables, JSON, YAML.

`classes.txt`, `obj.names`, `names.csv`, `cat_to_name.json`, `id2label`, YOLO's `data.yaml`, `LOC_synset_mapping.txt`. A
module of the ground floor, since images come with such lists and weights do.
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

# What stands for a class without naming it: a number, or the ids of WordNet and Freebase.
CODE = re.compile(r"\d+|n\d{8}|/m/\w+")
_KEYS = ("id2label", "names", "classes", "class_names", "labels", "label_names", "categories", "features", "label")
_MOST_BYTES = 2**23
# Of the number of a class.
_MOST_DIGITS = 9
# Names by the number or code of their class, or in the order of the numbers.
Listed = Mapping[str, str] | Sequence[str]


def read_list(file: Path) -> Listed:
    """The names of classes in a file, in NFC, none if there is no such file or it holds something else."""
    listed = _listed(file)
    if isinstance(listed, Mapping):
        return {code: normalize("NFC", name) for code, name in listed.items()}
    return [normalize("NFC", name) for name in listed]


def _listed(file: Path) -> Listed:
    try:
        # A pipe or a device would never end.
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
    except Exception:  # whatever a file that is no list makes its parser raise, it is no list
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
    """Names by the number that stands behind each, as in `airfield 0`; none unless every line has one of its own."""
    numbered: dict[str, str] = {}
    for line in map(str.strip, lines):
        ahead = line.rstrip("0123456789")
        number, name = line[len(ahead) :], ahead.rstrip()
        name = name[:-1].rstrip() if name.endswith((",", ";", ":", "=")) else name
        if name and name != ahead and 0 < len(number) <= _MOST_DIGITS:
            numbered[str(int(number))] = name
    # `type 1` and `type 2` are names as they stand, and `3 5` is none.
    distinct = len(lines) == len(numbered) == len({*numbered.values()})
    return numbered if distinct and not all(map(str.isdigit, numbered.values())) else {}


def in_order(listed: Listed) -> list[str]:
    """The names by their numbers from 0 on, none if a number is missing."""
    if not isinstance(listed, Mapping):
        return list(listed)
    numbered = {int(code): name for code, name in listed.items() if code.isdigit()}
    return [numbered[number] for number in range(len(listed))] if {*numbered} == {*range(len(listed))} else []


def _in_value(value: Any) -> Listed:
    """The names in a value of JSON or YAML, which may lie in it under a usual key."""
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
    # Keras' index of ImageNet has the id before the name.
    last = {str(key): each[-1] if isinstance(each, list) and each else each for key, each in value.items()}
    return last if all(map(CODE.fullmatch, last)) and all(isinstance(each, str) for each in last.values()) else ()


def _in_rows(rows: Sequence[Sequence[str]]) -> Listed:
    """The names in a table, of which one column has a different code in each row, or which has no other column."""
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
