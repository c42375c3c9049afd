"""What a caller gives, as Python's own values, or one sentence that says what was expected in its place.

Numbers of numpy become Python's: nothing else can be written to YAML and JSON and read again. A truth is no number,
`1.0` is no whole one and `"no"` is no truth, since what is taken for something else shows hours later. A module of the
ground floor, since every room has a door of its own for what callers give.
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
# What options and other libraries call an argument of graft's.
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
# How a field of these is given to a function.
GIVEN_AS = {
    "BaseOptions": "base=graft.BaseOptions(NAME, {}=...)",
    "DataOptions": "data=graft.DataOptions(PATH, {}=...)",
    "MapOptions": "maps=graft.MapOptions({}=...)",
    "Recipe": "recipe=graft.Recipe({}=...)",
    "TableOptions": "data=graft.DataOptions(PATH, table=graft.TableOptions({}=...))",
}


def with_hints(*kinds: type) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: the TypeError for an argument that the function does not have says where it belongs.

    `kinds` are the dataclasses that arguments of the function take, whose fields may be meant.
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        own = inspect.signature(function).parameters
        inner = {each.name: GIVEN_AS[kind.__name__] for kind in kinds for each in fields(kind)}

        @wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            for name in kwargs:
                if name not in own:
                    raise TypeError(f"{function.__name__}() has no argument {name!r}: {_place(name, list(own), inner)}")
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
    """A number, truth or text of numpy as Python's own; anything else as it is."""
    if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b":
        return bool(value) if getattr(value, "ndim", 0) == 0 else value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return str(value) if isinstance(value, str) else value


def whole_number(value: Any, option: str, least: int, most: int, advice: str) -> int:
    """A whole number within these limits. Raises InputError that names the option."""
    found = native(value)
    if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
        raise InputError(f"expected a whole number from {least:,} to {most:,} for {option}, got {value!r}: {advice}")
    return found


def truth(value: Any, option: str) -> bool:
    """True or False. Raises InputError that names the option."""
    found = native(value)
    if not isinstance(found, bool):
        raise InputError(f"expected True or False for {option}, got {value!r}: give one of them")
    return found


def text(value: Any, option: str) -> str:
    """A text. Raises InputError that names the option."""
    if not isinstance(value, str):
        raise InputError(f"expected a text for {option}, got {value!r}: put it in quotes")
    return str(value)


def path(value: Any, option: str) -> str:
    """A path, or the name of something, as a text. Raises InputError that names the option."""
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(found, str) or "\0" in found:
        raise InputError(f"expected a path or a name for {option}, got {value!r}: give it as a text or a Path")
    if not found:
        # Of a variable that is not set; as a path it would be the whole current folder.
        raise InputError(f"expected a path or a name for {option}, got an empty text: give one, or . for this folder")
    return str(found)


def expanded(given: str | Path) -> Path:
    """A path below the home that it names. `~nobody` has none, and may well be a folder of that name."""
    with suppress(RuntimeError):
        return Path(given).expanduser()
    return Path(given)


def share(value: Any, option: str) -> float:
    """A part of a whole between 0 and 1, as a number or as in 2% or 0.02. Raises InputError that names the option."""
    found = native(value)
    if isinstance(found, str) and (match := re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(%|)", found.strip())):
        found = float(match[1]) / (100 if match[2] else 1)
    if isinstance(found, bool | str) or not isinstance(found, int | float) or not 0 < found < 1:
        raise InputError(f"expected a share such as 2% or 0.02 for {option}, got {value!r}: write it like these")
    return float(found)


def seconds(value: Any, option: str) -> float:
    """Seconds, as a number or as in 90s, 10m, 2h, 5ms or 90. Raises InputError that names the option."""
    found = native(value)
    if isinstance(found, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", found.strip())):
        found = float(match[1]) * {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600}[match[2]]
    if isinstance(found, bool | str) or not isinstance(found, int | float) or not 0 < found < math.inf:
        raise InputError(f"expected a time such as 90s, 10m or 2h for {option}, got {value!r}: write it like these")
    return float(found)
