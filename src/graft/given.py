"""Validation of what callers pass: values become Python's own, or one sentence says what was expected instead.

NumPy numbers become Python's, the only ones that YAML and JSON can write and read back. A boolean is not a number,
`1.0` is not an integer and `"no"` is not a boolean: a value mistaken for another would only show hours later. A
ground-floor module, since every room checks what its callers pass.
"""

import inspect
import math
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from difflib import get_close_matches
from functools import wraps
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from graft.errors import InputError
from graft.words import ARGUMENTS

P = ParamSpec("P")
R = TypeVar("R")
# What command-line options and other libraries call graft's arguments.
OTHER_NAMES = ARGUMENTS | {
    "bs": "batch_size",
    "data_dir": "data",
    "device": "engine",
    "img_size": "image_size",
    "imgsz": "image_size",
    "model": "base",
    "n_epochs": "epochs",
    "output": "out",
    "wd": "weight_decay",
}
# How to pass a field of these classes to a function.
GIVEN_AS = {
    "BaseOptions": "base=graft.BaseOptions(NAME, {}=...)",
    "DataOptions": "data=graft.DataOptions(DATA, {}=...)",
    "MapOptions": "maps=graft.MapOptions({}=...)",
    "Recipe": "recipe=graft.Recipe({}=...)",
    "TableOptions": "data=graft.DataOptions(PATH, table=graft.TableOptions({}=...))",
}
# How to say what the columns of a data frame are, which no option about tables does.
IN_A_FRAME = {
    f"{role}_column": f"data=graft.Dataset.from_frame(FRAME, {role}=...)"
    for role in ("path", "label", "split", "group", "weight")
} | {"image_dir": "data=graft.Dataset.from_frame(FRAME, root=...)"}


def with_hints(*kinds: type) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator whose TypeError for an unknown argument says where the argument belongs.

    `kinds` are the dataclasses that the function's arguments take; the unknown name may be one of their fields.
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        own = inspect.signature(function).parameters
        inner = {each.name: GIVEN_AS[kind.__name__] for kind in kinds for each in fields(kind)}

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in own:
                    data = args[0] if args else kwargs.get("data")
                    places = inner | (IN_A_FRAME if hasattr(data, "columns") else {})
                    raise TypeError(
                        f"{function.__name__}() has no argument {name!r}: {_place(name, list(own), places)}"
                    )
            return function(*args, **kwargs)

        return called

    return decorated


def _place(name: str, own: list[str], inner: dict[str, str]) -> str:
    near = [OTHER_NAMES.get(name, name), *get_close_matches(name, [*own, *inner], 1, 0.7)]
    found = next((each for each in near if each in own or each in inner), None)
    if found is None:
        return f"it takes {', '.join(own)}"
    return f"did you mean {found}?" if found in own else f"give it as {inner[found].format(found)}"


def native(value: Any) -> Any:
    """Convert a NumPy number, boolean or string to Python's own; return anything else unchanged."""
    if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b":
        return bool(value) if getattr(value, "ndim", 0) == 0 else value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return str(value) if isinstance(value, str) else value


def whole_number(value: Any, option: str, least: int, most: int, advice: str) -> int:
    """Return an integer within these limits. Raises InputError that names the option."""
    found = native(value)
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
        raise InputError(f"expected a whole number from {least:,} to {most:,} for {option}, got {value!r}: {advice}")
    return found


def truth(value: Any, option: str) -> bool:
    """Return True or False. Raises InputError that names the option."""
    found = native(value)
    if not isinstance(found, bool):
        raise InputError(f"expected True or False for {option}, got {value!r}: give one of them")
    return found


def text(value: Any, option: str) -> str:
    """Return a string. Raises InputError that names the option."""
    if not isinstance(value, str):
        raise InputError(f"expected a string for {option}, got {value!r}: put it in quotes")
    return str(value)


def path(value: Any, option: str) -> str:
    """Return a path, or the name of something, as a string. Raises InputError that names the option."""
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(found, str) or "\0" in found:
        raise InputError(f"expected a path or a name for {option}, got {value!r}: give it as a string or a Path")
    if not found:
        # Usually an unset shell variable; as a path it would mean the whole current folder.
        raise InputError(f"expected a path or a name for {option}, got an empty string: give one, or . for this folder")
    return str(found)


def expanded(given: str | Path) -> Path:
    """Return a path with its home folder expanded. `~nobody` has no home, and may well be a folder of that name."""
    with suppress(RuntimeError):
        return Path(given).expanduser()
    return Path(given)


def share(value: Any, option: str) -> float:
    """Return a share between 0 and 1, given as a number, 2% or 0.02. Raises InputError that names the option."""
    found = native(value)
    if isinstance(found, str) and (match := re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(%|)", found.strip())):
        found = float(match[1]) / (100 if match[2] else 1)
    if isinstance(found, bool | str) or not isinstance(found, int | float) or not 0 < found < 1:
        raise InputError(
            f"expected a share such as 2% or 0.02, between 0 and 1, for {option}, got {value!r}: write it like these"
        )
    return float(found)


def seconds(value: Any, option: str) -> float:
    """Return seconds, given as a number or as in 90s, 10m, 2h, 5ms or 90. Raises InputError that names the option."""
    found = native(value)
    if isinstance(found, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", found.strip())):
        found = float(match[1]) * {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600}[match[2]]
    if isinstance(found, bool | str) or not isinstance(found, int | float) or not 0 < found < math.inf:
        raise InputError(f"expected a time such as 90s, 10m or 2h for {option}, got {value!r}: write it like these")
    return float(found)
