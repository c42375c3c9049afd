"""The arguments of a training run, and `args.yaml`, which keeps them in the run folder."""

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
from graft.images.preprocessing import ResizeMode, Scaling
from graft.names import plain, restored
from graft.training.recipe import Recipe
from graft.weights.packaged import DEFAULT_BASE
from graft.weights.saved import ARGUMENTS_FILE
from graft.workflows.prepare import BaseOptions, Data, DataOptions
from graft.workflows.run import near
from graft.yaml_text import yaml_in

# The arguments that are paths, written as `graft.names` describes.
PATHS = ("data", "val", "test", "base", "classes_file", "class_map", "split_file", "image_dir")
# The arguments that may be spelled differently on resuming, if the run began with one.
MOVABLE = ("data", "base", "val", "test")
# Arguments whose command-line options have other names.
OPTIONS = {"learning_rate": "lr", "find_learning_rate": "find-lr", "classes_file": "classes", "time_limit": "time"}


# The names of arguments that appear in the call itself, as far as they are known.
_STATED: ContextVar[frozenset[str]] = ContextVar("stated", default=frozenset())
# Heads the arguments of a run whose images have no path.
IN_MEMORY = """# The images were handed over in Python, so this run cannot be resumed from a path, and neither can what
# needs its images find them again. It goes on where they are handed over again:
# graft.train(images, out="this folder", resume=True)
"""


@dataclass(frozen=True)
class Arguments:
    """The arguments of a training run: with `split.csv`, `args.yaml` is all that resuming needs.

    Paths are absolute, so that a run can be resumed from any folder. With `in_memory`, the images were given as
    objects, and `data` is only their name. `processes` is how many processes train together; None if it was not
    specified.
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
    mean: Scaling | None = None
    std: Scaling | None = None
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
        """Build the arguments from a flat mapping. Raises TypeError for entries that are missing or unknown."""
        parts: dict[str, Any] = {}
        # YAML has lists alone.
        values = {**values, **{name: tuple(values[name]) for name in ("mean", "std") if values.get(name) is not None}}
        for part, kind in (("recipe", Recipe), ("table", TableOptions)):
            own = {each.name for each in fields(kind)}
            parts[part] = kind(**{name: value for name, value in values.items() if name in own})
            values = {name: value for name, value in values.items() if name not in own}
        return cls(**values, **parts)


def images_of(arguments: Arguments, split_file: str | Path | None, handed_over: Dataset | None = None) -> DataOptions:
    """Return the options that open the images of a run, by path or `handed_over`, in the splits of a file if given."""
    data = arguments.data if handed_over is None else handed_over
    return DataOptions(data, arguments.group, split_file, arguments.table, arguments.val, arguments.test)


def base_of(arguments: Arguments, image_size: int | None) -> BaseOptions:
    """Return the options that load the base of a run for images of this size."""
    return BaseOptions(
        arguments.base,
        arguments.arch,
        arguments.classes_file,
        image_size,
        arguments.resize,
        arguments.mean,
        arguments.std,
    )


def absolute_apart(given: Data | None, option: str) -> str | None:
    """Return the absolute path of a split that was given separately."""
    return None if given is None else absolute(given, option)  # type: ignore[arg-type]  # refused there


def absolute(named: str | Path, option: str) -> str:
    """Return the absolute form of a path that exists; return anything else, such as the name of a base, unchanged.

    Raises InputError that names the option if `named` is neither a path nor a string.
    """
    path = Path(checked_path(named, option)).expanduser()
    return str(path.absolute()) if path.exists() else str(named)


def absolute_table(options: TableOptions) -> TableOptions:
    """Return the options with the folder of images made absolute, if it exists."""
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
    """Return the arguments a run began with. Raises InputError if the file is damaged or from another version."""
    try:
        values = yaml_in((folder / ARGUMENTS_FILE).read_text(encoding="utf-8"))
        paths = {name: _read(values[name]) for name in PATHS if values.get(name) is not None}
        return Arguments.from_dict({**values, **paths})
    except (OSError, ValueError, TypeError, AttributeError):
        raise InputError(
            f"expected arguments written by this version of graft in {near(folder / ARGUMENTS_FILE)}, got something "
            "else: train again into another folder"
        ) from None


def _written(path: str) -> str | bytes:
    """Return a path as `graft.names` writes it, or as bytes if it would be read back differently, like a\\x41.csv."""
    written = plain(path)
    return written if restored(written) == path else os.fsencode(path)


def _read(written: str | bytes) -> str:
    return os.fsdecode(written) if isinstance(written, bytes) else restored(written)


@contextmanager
def stated(names: Iterable[str]) -> Iterator[None]:
    """Within the block, treat arguments of these names as given in the call, even with their default values.

    The command line knows which were given; in Python, an explicit default looks the same as an omitted argument.
    """
    token = _STATED.set(frozenset(names))
    try:
        yield
    finally:
        _STATED.reset(token)


def merged_arguments(before: Arguments, given: Arguments, folder: Path) -> Arguments:
    """Return the arguments of the run to resume, with any new spelling of its data or base.

    The number of processes may change, which leaves the result the same. An argument left at its default is not checked
    unless it is `stated`. Raises InputError that names any differences.
    """
    if before.in_memory and not given.in_memory:
        raise InputError(
            f"expected a run that was begun with a path, got {near(folder)}, whose images were handed over in Python: "
            f"hand the same images over again, graft.train(images, out={str(folder)!r}, resume=True)"
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
            f"expected the arguments that {near(folder)} was begun with, got different ones ({'; '.join(differing)}): "
            "leave them out, or train into another folder"
        )
    return replace(before, **moved)


def _begun_with(name: str, value: Any, usual: Any) -> str:
    """Describe an argument of a run in words: `seed was 3`, `no --epochs was given`, `--strict was not given`."""
    option = OPTIONS.get(name, name).replace("_", "-")
    if value is None:
        return f"no --{option} was given"
    if not isinstance(value, bool):
        return f"{name} was {value!r}"
    flag, other = (f"--{option}", f"--no-{option}") if value else (f"--no-{option}", f"--{option}")
    return f"{other} was not given" if value is usual else f"{flag} was given"
