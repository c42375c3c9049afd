"""How messages count ("1 image", "1,024 classes"), and what they call the command that is to be given next."""

import os
import shlex
import shutil
import sys
from pathlib import Path


def program() -> str:
    """`graft`, or where it lies for a shell that would not find it, as in a virtual environment that is not active."""
    called = Path(sys.argv[0])
    if called.name != "graft" or shutil.which("graft") is not None:
        return "graft"
    return shlex.quote(min(str(called.absolute()), os.path.relpath(called), key=len))


def counted(number: int, one: str, plural: str | None = None) -> str:
    """The number, with commas between thousands, and the noun that agrees with it.

    The plural is `one` with an s unless given. Either may carry its verb, so that both agree:
    `counted(1, "image is", "images are")` is `"1 image is"`.
    """
    return f"{number:,} {one if number == 1 else plural or f'{one}s'}"


def in_bytes(number: int) -> str:
    """A size in the unit that suits it: `"930 B"`, `"13.4 kB"`."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"
