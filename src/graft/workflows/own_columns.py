"""Read the columns and groups of images as those of the training data were read."""

from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path

from graft.data.grouping import FOLDER
from graft.data.readers.column_names import named
from graft.data.readers.table import column_names, is_table
from graft.data.table_options import NO_COLUMN, option_name
from graft.errors import InputError
from graft.progress import Reporter
from graft.weights.saved import ARGUMENTS_FILE
from graft.workflows.arguments import read_arguments
from graft.workflows.prepare import Data, DataOptions, open_images

COLUMNS = ("path_column", "label_column", "split_column", "group_column", "weight_column")
# The letters that tell a regular expression on paths from the name of a column.
OF_EXPRESSIONS = frozenset("\\[](){}*+?|^$")

Named = dict[str, str | tuple[str, ...]]


def with_columns_of(run: Path, data: Data, reporter: Reporter) -> Data:
    """Return data with the options on columns and groups that `run` was trained with, as far as they apply to the data.

    `run` is a run folder or its model folder; nothing is added for other models. An option given in `data` replaces
    only its own counterpart.
    """
    options = data if isinstance(data, DataOptions) else DataOptions(data)
    place = options.path
    if not isinstance(place, str | PathLike):
        return data
    columns, group = _not_given(*_options_of(run), options)
    if not columns and group is None:
        return data
    path = Path(place).expanduser()
    table = is_table(path)
    if group is not None and "group_column" not in columns and (_is_column(group) or (table and _has(path, group))):
        columns, group = {**columns, "group_column": group}, None
    if table:
        columns = _present(columns, path)
    alone = {name: value for name, value in columns.items() if name != "group_column"}
    attempts: list[tuple[Named, str | None]] = []
    for attempt in ((columns, group), (columns, None), (alone, None), ({}, group)):
        if any(attempt) and attempt not in attempts:
            attempts.append(attempt)
    # A table of these columns is read with them; whether other data have a table, or such paths, opening them tells.
    for own, rule in attempts:
        read = replace(options.table, **own)  # type: ignore[arg-type]  # by the names of its fields
        taken = replace(options, group=options.group or rule, table=read)
        if (table and rule is None) or _opens(taken):
            said = [f"{option_name(name)} {each!r}" for name, value in own.items() for each in _each(value)]
            said += [] if rule is None else [f"--group {rule!r}"]
            reporter.note(f"read with {' '.join(said)}, like the images that {run.name} was trained on")
            return taken
    return data


def _options_of(run: Path) -> tuple[Named, str | None]:
    """Return the columns that a run was trained with, by the field of `TableOptions`, and its `--group`."""
    folder = next((each for each in (run, run.parent) if (each / ARGUMENTS_FILE).is_file()), None)
    if folder is None or not run.is_dir():
        return {}, None
    try:
        arguments = read_arguments(folder)
    except InputError:
        return {}, None
    table = arguments.table
    return {name: value for name in COLUMNS if (value := getattr(table, name)) is not None}, arguments.group


def _not_given(columns: Named, group: str | None, options: DataOptions) -> tuple[Named, str | None]:
    """Return the options of a run without those that `options` state otherwise."""
    given = {name for name in COLUMNS if getattr(options.table, name) is not None}
    if options.table.label_from is not None:
        given.add("label_column")
    if options.group is not None:
        given.add("group_column")
    return (
        {name: value for name, value in columns.items() if name not in given},
        None if "group_column" in given else group,
    )


def _is_column(group: str) -> bool:
    """Whether a value of `--group` can only name a column: as an expression, a plain word matches itself alone."""
    return group != FOLDER and not OF_EXPRESSIONS & set(group)


def _has(path: Path, name: str) -> bool:
    """Whether a table has a column of this name."""
    try:
        return bool(named(column_names(path), [name]))
    except InputError:
        return False


def _opens(options: DataOptions) -> bool:
    try:
        open_images(options)
    except InputError:
        # It has no such columns, or no table at all, or the rule matches none of its paths.
        return False
    return True


def _present(own: Mapping[str, str | tuple[str, ...]], path: Path) -> Named:
    """Return the options that name columns of a table."""
    try:
        names = column_names(path)
    except InputError:
        return {}
    found = {name: value for name, value in own.items() if all(named(names, [each]) for each in _each(value))}
    return found | {name: value for name, value in own.items() if found and value == NO_COLUMN}


def _each(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
