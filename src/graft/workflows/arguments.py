"""What a training was asked for, and `args.yaml`, where a run keeps it."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from graft.data.dataset import Dataset
from graft.data.table_options import TableOptions
from graft.errors import InputError
from graft.files import write_aside
from graft.given import path as checked_path
from graft.images.preprocessing import ResizeMode
from graft.names import plain, restored
from graft.training.recipe import Recipe
from graft.weights.packaged import DEFAULT_BASE
from graft.weights.saved import ARGUMENTS_FILE
from graft.workflows.prepare import Data, DataOptions
from graft.workflows.run import near
from graft.yaml_text import yaml_in

# Those among the arguments, which are written as `graft.names` says.
PATHS = ("data", "val", "test", "base", "classes_file", "class_map", "split_file", "image_dir")
# Those that may have another name when a run is gone on with, where it was begun with any.
MOVABLE = ("data", "base", "val", "test")
# Where the command line calls an argument otherwise.
OPTIONS = {"learning_rate": "lr", "find_learning_rate": "find-lr", "classes_file": "classes", "time_limit": "time"}


# The names of arguments that stand in the call itself, as far as that is known.
_STATED: ContextVar[frozenset[str]] = ContextVar("stated", default=frozenset())
# Stands above the arguments of a run whose images have no path.
IN_MEMORY = """# The images were handed over in Python, so this run cannot be resumed from a path, and neither can what
# needs its images find them again. It goes on where they are handed over again:
# graft.train(images, out="this folder", resume=True)
"""


@dataclass(frozen=True)
class Arguments:
    """What a training was asked for: `args.yaml`, and with `split.csv` all that going on with it takes.

    Paths are absolute, so that a run can be resumed from any folder. With `in_memory`, the images were handed over
    themselves, and `data` is what they are called. `processes` is how many train together, None where nothing
    was said of it.
    """

    data: str
    base: str = DEFAULT_BASE
    level: str = "auto"
    image_size: int | None = None
    resize: ResizeMode | None = None
    engine: str = "auto"
    precision: str = "auto"
    deterministic: bool = False
    threads: int | None = None
    processes: int | None = None
    arch: str | None = None
    classes_file: str | None = None
    class_map: str | None = None
    group: str | None = None
    split_file: str | None = None
    val: str | None = None
    test: str | None = None
    audit: bool = True
    refit: bool = True
    strict: bool = False
    seed: int = 0
    time_limit: float | None = None
    in_memory: bool = False
    recipe: Recipe = field(default_factory=Recipe)
    table: TableOptions = field(default_factory=TableOptions)

    def to_dict(self) -> dict[str, Any]:
        values = asdict(self)
        recipe, table = values.pop("recipe"), values.pop("table")
        return {**values, **table, **recipe}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Arguments":
        """Raises TypeError for entries that are missing or unknown."""
        parts: dict[str, Any] = {}
        for part, kind in (("recipe", Recipe), ("table", TableOptions)):
            own = {each.name for each in fields(kind)}
            parts[part] = kind(**{name: value for name, value in values.items() if name in own})
            values = {name: value for name, value in values.items() if name not in own}
        return cls(**values, **parts)


def images_of(arguments: Arguments, split_file: str | Path | None, handed_over: Dataset | None = None) -> DataOptions:
    """Where the images of a training are, or those that were handed over, in the splits of a file if there is one."""
    data = arguments.data if handed_over is None else handed_over
    return DataOptions(data, arguments.group, split_file, arguments.table, arguments.val, arguments.test)


def absolute_apart(given: Data | None, option: str) -> str | None:
    """The path of a split that was given apart, from the root on."""
    return None if given is None else absolute(given, option)  # type: ignore[arg-type]  # refused there


def absolute(named: str | Path, option: str) -> str:
    """A path that exists, from the root on; anything else, such as the name of a base, as it is.

    Raises InputError that names the option for what is neither path nor text.
    """
    path = Path(checked_path(named, option)).expanduser()
    return str(path.absolute()) if path.exists() else str(named)


def absolute_table(options: TableOptions) -> TableOptions:
    """The same with a folder of images that exists from the root on."""
    given = options.image_dir
    return options if given is None else replace(options, image_dir=absolute(given, "--image-dir"))


def write_arguments(folder: Path, arguments: Arguments) -> None:
    values = arguments.to_dict()
    paths = {name: _written(values[name]) for name in PATHS if values[name] is not None}
    data = yaml.safe_dump({**values, **paths}, sort_keys=False, allow_unicode=True)
    if arguments.in_memory:
        data = f"{IN_MEMORY}{data}"
    write_aside(folder / ARGUMENTS_FILE, lambda file: file.write(data.encode()))


def read_arguments(folder: Path) -> Arguments:
    """What the run in `folder` was begun with. Raises InputError for a file that is damaged, or of another version."""
    try:
        values = yaml_in((folder / ARGUMENTS_FILE).read_text(encoding="utf-8"))
        paths = {name: _read(values[name]) for name in PATHS if values.get(name) is not None}
        return Arguments.from_dict({**values, **paths})
    except (OSError, ValueError, TypeError, AttributeError):
        raise InputError(
            f"expected the arguments of a run of this version of graft in {near(folder / ARGUMENTS_FILE)}, got "
            "something else: train again into another folder"
        ) from None


def _written(path: str) -> str | bytes:
    """A path as `graft.names` writes it; as bytes one that would then be read as another, such as a\\x41.csv."""
    written = plain(path)
    return written if restored(written) == path else os.fsencode(path)


def _read(written: str | bytes) -> str:
    return os.fsdecode(written) if isinstance(written, bytes) else restored(written)


@contextmanager
def stated(names: Iterable[str]) -> Iterator[None]:
    """Within the block, arguments of these names stand in the call itself, be it with the values they have by default.

    A command line knows that. In Python a default that is given cannot be told from one that is not.
    """
    token = _STATED.set(frozenset(names))
    try:
        yield
    finally:
        _STATED.reset(token)


def gone_on_with(before: Arguments, given: Arguments, folder: Path) -> Arguments:
    """The arguments that a run was begun with; another spelling of its data or its base, where given, takes effect.

    It may be gone on with by another number of processes, which comes to the same.
    What was not given, and so is as by default, is not asked for, but what is `stated` is. Raises InputError that names
    what differs.
    """
    if before.in_memory and not given.in_memory:
        raise InputError(
            f"expected a run that was begun with a path, got {near(folder)}, whose images were handed over in Python: "
            f"hand the same over again, graft.train(images, out={str(folder)!r}, resume=True)"
        )
    default, outright = Arguments(data=before.data, in_memory=given.in_memory), _STATED.get()
    movable = [name for name in MOVABLE if getattr(before, name) is not None]
    moved = {
        name: getattr(given, name)
        for name in movable
        if getattr(given, name) != str(folder) and (getattr(given, name) != getattr(default, name) or name in outright)
    }
    began, asked, usual = before.to_dict(), given.to_dict(), default.to_dict()
    differing = [
        _begun_with(name, began[name], usual[name])
        for name, value in asked.items()
        if name not in (*movable, "processes") and value != began[name] and (value != usual[name] or name in outright)
    ]
    if differing:
        raise InputError(
            f"expected the arguments that {near(folder)} was begun with, got others ({'; '.join(differing)}): leave "
            "them out, or train into another folder"
        )
    return replace(before, **moved)


def _begun_with(name: str, value: Any, usual: Any) -> str:
    """An argument of a run in words: `seed was 3`, `no --epochs was given`, `--strict was not given`."""
    option = OPTIONS.get(name, name).replace("_", "-")
    if value is None:
        return f"no --{option} was given"
    if not isinstance(value, bool):
        return f"{name} was {value!r}"
    flag, other = (f"--{option}", f"--no-{option}") if value else (f"--no-{option}", f"--{option}")
    return f"{other} was not given" if value is usual else f"{flag} was given"
