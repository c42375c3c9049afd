"""Read the columns of a table as those of the training data were read."""

from dataclasses import replace
from os import PathLike
from pathlib import Path

from graft.data.readers.column_names import named
from graft.data.readers.table import column_names, is_table
from graft.data.table_options import NO_COLUMN, TableOptions, option_name
from graft.errors import InputError
from graft.progress import Reporter
from graft.weights.saved import ARGUMENTS_FILE
from graft.workflows.arguments import read_arguments
from graft.workflows.prepare import Data, DataOptions, open_images

COLUMNS = ("path_column", "label_column", "split_column", "group_column", "weight_column")


def with_columns_of(run: Path, data: Data, reporter: Reporter) -> Data:
    """Return data with the column options that `run` was trained with, if none is given and the data have such columns.

    `run` is a run folder or its model folder; nothing is added for other models.
    """
    options = data if isinstance(data, DataOptions) else DataOptions(data)
    place, several = options.path, options.table.multi_label
    if not isinstance(place, str | PathLike) or options.table != TableOptions(multi_label=several):
        return data
    own = _columns_of(run)
    path = Path(place).expanduser()
    if own and is_table(path):
        own = _present(own, path)
    if not own:
        return data
    table = TableOptions(**own, multi_label=several)  # type: ignore[arg-type]
    if not is_table(path):
        try:
            open_images(replace(options, table=table))
        except InputError:
            # It has no such columns, or no table at all.
            return data
    given = [f"{option_name(name)} {each!r}" for name, value in own.items() for each in _each(value)]
    reporter.note(f"read with {' '.join(given)}, as the images that {run.name} was trained on")
    return replace(options, table=table)


def _columns_of(run: Path) -> dict[str, str | tuple[str, ...]]:
    """Return the options on columns that a run was trained with, by the field of `TableOptions`."""
    folder = next((each for each in (run, run.parent) if (each / ARGUMENTS_FILE).is_file()), None)
    if folder is None or not run.is_dir():
        return {}
    try:
        table = read_arguments(folder).table
    except InputError:
        return {}
    return {name: value for name in COLUMNS if (value := getattr(table, name)) is not None}


def _present(own: dict[str, str | tuple[str, ...]], path: Path) -> dict[str, str | tuple[str, ...]]:
    """Return the options that name columns of a table."""
    try:
        names = column_names(path)
    except InputError:
        return {}
    found = {name: value for name, value in own.items() if all(named(names, [each]) for each in _each(value))}
    return found | {name: value for name, value in own.items() if found and value == NO_COLUMN}


def _each(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value
