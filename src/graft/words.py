"""How messages count ("1 image", "1,024 classes"), and what they call a command and its options.

Messages are written once, in command-line options: "lower --image-size". A script or notebook that imports graft sees
arguments instead: "lower `image_size`".
"""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

# With more groups than this share of the images, figures are said to be over images.
HARDLY_GROUPED = 0.95
# Arguments whose name differs from their option's.
ARGUMENTS = {
    "class": "of_class",
    "classes": "classes_file",
    "find-lr": "find_learning_rate",
    "lr": "learning_rate",
    "race": "with_race",
    "set": "settings",
    "time": "time_limit",
}
COMMANDS = (
    "advise|audit|cache|compare|demo|evaluate|explain|export|features|lab|models|predict|push|quiz|report|serve|train|"
    "tune|walk"
)
# Option values that are written in quotes as arguments.
VALUES = (
    r"head(?::stages)?|stages:\w+|frozen:[\d.]+|all|scratch|as-is|auto|timm:\w+|onnx|openvino|torch|timm|litert|ray|"
    r"float32|bfloat16|int8|crop|letterbox|squash|folder|flip|crops|grad-cam|none|[a-z_]+\d\w*"
)
# A whole command, which stays unchanged, or an option and its value: in quotes, a number, a NAME or one of the words.
SPOKEN = re.compile(
    rf"(?P<command>\b(?:graft'? (?:{COMMANDS})|pip install|ray start)\b[^`,;()]*)"
    r"|`?(?<![\w/-])--(?P<option>[a-z][a-z-]*[a-z])"
    rf"(?: (?:(?P<name>'[^'`]*'|[A-Z]{{2,}}\b|\d[\d.]*%?(?<!\.))|(?P<word>(?:{VALUES})(?![\w-]|:\w))))?`?"
)


# Digits behind the point of a percentage, enough for one of five million images.
MOST_DIGITS = 5

# Whether this process is the command rather than a program that imports graft.
_is_command = False


@contextmanager
def in_options() -> Iterator[None]:
    """Let messages name options within the block: this process is the command, or reports to it."""
    global _is_command
    before, _is_command = _is_command, True
    try:
        yield
    finally:
        _is_command = before


def as_called(sentence: str) -> str:
    """Return the sentence with options where graft is a command, with arguments where it is imported."""
    return sentence if _is_command else SPOKEN.sub(_in_arguments, sentence)


def _in_arguments(spoken: re.Match[str]) -> str:
    if spoken["command"]:
        return spoken[0]
    option = spoken["option"]
    if option.startswith("no-"):
        return f"`{option.removeprefix('no-').replace('-', '_')}=False`"
    argument = ARGUMENTS.get(option, option.replace("-", "_"))
    value = spoken["name"] or spoken["word"]
    value = repr(value) if value and (spoken["word"] or value.endswith("%")) else value
    return f"`{argument}={value}`" if value else f"`{argument}`"


def program() -> str:
    """Return `graft`, or its full path where a shell would not find it, as in an inactive virtual environment."""
    called = Path(sys.argv[0])
    if called.name != "graft" or shutil.which("graft") is not None:
        return "graft"
    return shlex.quote(min(str(called.absolute()), os.path.relpath(called), key=len))


def counted(number: int, one: str, plural: str | None = None) -> str:
    """Return the number, with thousands separators, and the noun that agrees with it.

    The plural is `one` with an s unless given. Either may include its verb, so that both agree:
    `counted(1, "image is", "images are")` is `"1 image is"`.
    """
    return f"{number:,} {one if number == 1 else plural or f'{one}s'}"


def in_percent(share: float, digits: int = 1) -> str:
    """Return a share as `96.7%`, with more digits where these few would call it all or none, which it is not."""
    for more in range(digits, MOST_DIGITS + 1) if 0 < share < 1 else ():
        text = f"{share:.{more}%}"
        if float(text[:-1]) not in (0, 100):
            return text
    return f"{share:.{digits}%}"


def first_few(names: Iterable[str], most: int = 3) -> str:
    """Return at most so many of some names, separated by commas, and an ellipsis if there are more."""
    every = list(names)
    return ", ".join(every[:most]) + (", …" if len(every) > most else "")


def independent(drawn: int, count: int) -> str:
    """Return `20 groups of images` where one of each was `drawn` from `count` images.

    Where hardly any images share a group, return `158 images`.
    """
    return counted(drawn, "image") if drawn > HARDLY_GROUPED * count else f"{counted(drawn, 'group')} of images"


def in_bytes(number: int) -> str:
    """Return a size in a suitable unit: `"930 B"`, `"13.4 kB"`."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
