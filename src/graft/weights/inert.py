"""Read a pickle's values without its classes: tensors and containers as torch builds them, inert records for the rest.

torch's weights-only unpickler calls only what it has been allowed to. For each file, every class or function that the
file names is registered as a stand-in from this module: a record that keeps its arguments and does nothing. The names
come from scanning the pickle's instructions, which runs none of them.
"""

import pickletools
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import IO, Any, ClassVar

import torch

from graft.errors import WeightsError

# Modules that act on the machine, and builtins that run what they are given. No checkpoint needs one: a file that names
# one is reported as such, though its stand-in would do nothing either.
ACTING_MODULES = frozenset(
    (
        "os",
        "posix",
        "nt",
        "sys",
        "subprocess",
        "shutil",
        "socket",
        "runpy",
        "importlib",
        "ctypes",
        "pty",
        "code",
        "codeop",
        "pdb",
        "timeit",
        "webbrowser",
    )
)
ACTING_BUILTINS = frozenset(("eval", "exec", "compile", "open", "input", "breakpoint", "__import__"))
_BUILTINS = ("builtins", "__builtin__")
# A legacy file begins with a magic number, a version and a description of the machine, each a pickle of its own.
LEGACY_PICKLES = 4
MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
# The stand-ins are registered with torch for the whole process, so one file is read at a time.
_READING = RLock()


class Record:
    """An instance of a class that was not loaded, or the result of a function that was not called."""

    name: ClassVar[str] = ""
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> "Record":
        record = object.__new__(cls)
        record.arguments, record.state = arguments, None
        return record

    def __init__(self, *arguments: Any) -> None:
        """Do nothing: `__new__` has kept the arguments."""

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Mapping:
    """Stands in for a class derived from dict: torch sets items only of plain dictionaries."""

    def __new__(cls, *arguments: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict(arguments[0]) if arguments and isinstance(arguments[0], dict | list) else OrderedDict()


class _List:
    """Stands in for a class derived from list."""

    def __new__(cls, *arguments: Any) -> list[Any]:  # type: ignore[misc]
        return list(arguments[0]) if arguments and isinstance(arguments[0], list | tuple) else []


@dataclass
class _Survey:
    """What a pickle names, as `module.name`, and which of these names it sets items of or appends to."""

    names: set[str] = field(default_factory=set)
    mappings: set[str] = field(default_factory=set)
    lists: set[str] = field(default_factory=set)


def load_inert(path: Path) -> Any:
    """Load what torch saved in a file, on the CPU: tensors and containers, and a `Record` for anything else.

    Raises WeightsError for a file that names something that acts on the machine, for one that the weights-only
    unpickler still refuses, and for one that torch did not save.
    """
    survey = _survey(path)
    for name in sorted(survey.names):
        module, _, bare = name.rpartition(".")
        # A package of the user's may share such a name: only the module itself is meant.
        if module in ACTING_MODULES or (module in _BUILTINS and bare in ACTING_BUILTINS):
            raise _refusal(path, f"it names {name}")
    if _is_bare_pickle(path):
        raise WeightsError(
            f"expected a file that torch.save or safetensors wrote, got {path.name}, a pickle of another program, "
            "which could run code and was refused: where you trust it, load it there and save its tensors by their "
            "names with torch.save"
        )
    try:
        # Opened here, because torch goes by the suffix of a path.
        with _standing_in(survey), path.open("rb") as file, warnings.catch_warnings():
            # The warnings are about how the file was written, which its reader cannot change.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        # A hostile or truncated file can make the unpickler raise anything.
        text = str(error)
        if "TorchScript" in text:
            raise WeightsError(
                f"expected a checkpoint of weights, got {path.name}, which is a TorchScript program: save "
                "torch.jit.load(FILE).state_dict() where you trust it, preferably as .safetensors"
            ) from None
        if "weights_only" in text.lower() or "unsupported" in text.lower():
            raise _refusal(path, _culprit(text)) from None
        raise WeightsError(
            f"expected a torch checkpoint or a safetensors file, got {path.name} ({first_line(error)}): check that it "
            "is complete and of that kind"
        ) from None


def _is_bare_pickle(path: Path) -> bool:
    """Return whether the whole file is one pickle; torch's follow a magic number or are in an archive."""
    with path.open("rb") as file:
        start = file.read(64)
    return start.startswith(b"\x80") and len(start) == 64 and MAGIC not in start


def _survey(path: Path) -> _Survey:
    """Return the names in a file's pickles; for a damaged file, those before the damage, which torch then reports."""
    survey = _Survey()
    with suppress(Exception), path.open("rb") as file:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(file) as archive:
                for member in archive.namelist():
                    if member.endswith("data.pkl"):
                        with suppress(Exception), archive.open(member) as pickle:
                            _survey_pickle(pickle, survey)
        else:
            for _ in range(LEGACY_PICKLES):
                _survey_pickle(file, survey)
    return survey


def _survey_pickle(pickle: IO[bytes], survey: _Survey) -> None:
    """Follow a pickle's instructions on a stack that holds, for every value, the name that would create it."""
    stack: list[str | None] = []
    marks: list[int] = []
    memo: dict[Any, str | None] = {}
    for operation, argument, _ in pickletools.genops(pickle):
        match operation.name:
            case "GLOBAL":
                name = str(argument).replace(" ", ".", 1)
                survey.names.add(name)
                stack.append(name)
            case "MARK":
                marks.append(len(stack))
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memo[argument])
            case "REDUCE" | "NEWOBJ" | "BUILD":
                # An instance goes by the name of its class or of the function that returned it.
                stack.pop()
            case _:
                if pickletools.markobject in operation.stack_before:
                    del stack[marks.pop() :]
                    taken = operation.stack_before.index(pickletools.markobject)
                else:
                    taken = len(operation.stack_before)
                if operation.name.startswith(("SETITEM", "APPEND")) and (made := stack[-taken]):
                    (survey.mappings if operation.name.startswith("SETITEM") else survey.lists).add(made)
                    taken -= 1
                    pushed = 0
                else:
                    pushed = len(operation.stack_after)
                del stack[len(stack) - taken :]
                stack.extend([None] * pushed)


@contextmanager
def _standing_in(survey: _Survey) -> Iterator[None]:
    """Make torch's unpickler accept stand-ins for all that the survey names, and nothing that a program allowed."""
    from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING

    stand_ins: list[Any] = []
    for name in survey.names:
        module, _, bare = name.rpartition(".")
        stand_in: type = (
            _Mapping
            if name in survey.mappings
            else _List
            if name in survey.lists
            else type("Record", (Record,), {"name": name})
        )
        # torch translates the names of Python 2.
        now = ".".join(NAME_MAPPING.get((module, bare), (IMPORT_MAPPING.get(module, module), bare)))
        stand_ins += [(stand_in, each) for each in {name, now}]
    with _READING:
        before = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(stand_ins)
        try:
            yield
        finally:
            torch.serialization.clear_safe_globals()
            torch.serialization.add_safe_globals(before)


def _refusal(path: Path, culprit: str) -> WeightsError:
    return WeightsError(
        f"expected nothing but tensors, got {path.name}, which needs pickle to run code ({culprit}) and was refused: "
        "save its state_dict() again, preferably as .safetensors"
    )


def _culprit(text: str) -> str:
    marker = "GLOBAL "
    return f"it names {text.split(marker, 1)[1].split()[0]}" if marker in text else "it holds more than tensors"


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, shortened, without trailing punctuation."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:")[:160] if lines else type(error).__name__
