"""The class map: a file in which the user assigns the base's classes to their own."""

import json
from collections.abc import Mapping
from pathlib import Path

from graft.errors import InputError

# For each of the user's classes, the base's classes that count for it, by name or by index.
ClassMap = Mapping[str, tuple[str | int, ...]]

# Twenty times the size of a line for every class of ImageNet-21k.
LARGEST_CLASS_MAP_BYTES = 16 * 2**20


def read_class_map(path: Path) -> ClassMap:
    """Read a class map from a JSON file: `{"class": "base class" | index | [either, …], …}`.

    Raises InputError if the file cannot be read or holds anything else.
    """
    try:
        with path.expanduser().open("rb") as file:
            data = file.read(LARGEST_CLASS_MAP_BYTES + 1)
    except OSError as error:
        raise InputError(f"expected a class map in {path} ({error.strerror}): check the path") from None
    try:
        if len(data) > LARGEST_CLASS_MAP_BYTES:
            raise ValueError
        values = json.loads(data)
        return {name: _entry(value) for name, value in values.items()}
    except (ValueError, AttributeError, RecursionError):
        raise InputError(
            'expected a class map, JSON like {"ants": "ant", "dogs": ["beagle", 207]}, of '
            f"{LARGEST_CLASS_MAP_BYTES // 2**20} MiB at most, got something else in {path}: correct the file"
        ) from None


def _entry(value: object) -> tuple[str | int, ...]:
    entry = tuple(value) if isinstance(value, list) else (value,)
    if not entry or not all(type(each) in (str, int) for each in entry):
        raise ValueError
    return entry
