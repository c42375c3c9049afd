"""The options on tables and names of files, which every command has that takes labelled images."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from graft.data.table_options import TableOptions, option_name

# What commands are given where none of the options is.
NOTHING_SAID = TableOptions()
PANEL = "Tables and names of files (where they do not say it)"
# What each field of `TableOptions` is called and said to mean on the command line.
HELP = {
    "path_column": "The column of paths or names of files.",
    "label_column": "The column of labels.",
    "split_column": "The column of splits; none for no column.",
    "group_column": "The column of what no split may divide; none for no column.",
    "weight_column": "The column of how much images count; none for no column.",
    "image_dir": "The folder that the paths in a table start from.",
    "suffix": "How the files of the images end, such as .bmp.",
    "label_from": "A regular expression with one group, which is the label in the path of an image; or folder, for "
    "that of its folder in spite of a table.",
    "encoding": "How names in a zip are written that does not say it, such as gbk or cp932.",
    "multi_label": "An image may have several labels: in a cell, in columns of 0 and 1, or in a row for each.",
}


def reads_tables(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with an option for every field of `TableOptions` in place of its parameter `table`."""

    @wraps(command)
    def with_options(*arguments: Any, **given: Any) -> None:
        table = TableOptions(**{field: given.pop(field, _default(field)) for field in HELP})
        command(*arguments, **given, table=table)

    signature, parameters = inspect.signature(command, eval_str=True), []
    for parameter in signature.parameters.values():
        if parameter.name == "table":
            parameters += [_parameter(field, text) for field, text in HELP.items()]
        else:
            parameters.append(parameter)
    # Where typer looks for the options.
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return with_options


def _parameter(field: str, text: str) -> inspect.Parameter:
    option: Any = typer.Option(option_name(field), help=text, rich_help_panel=PANEL)
    kind, default = inspect.Parameter.POSITIONAL_OR_KEYWORD, _default(field)
    annotation = Annotated[bool, option] if default is False else Annotated[str | None, option]
    return inspect.Parameter(field, kind, default=default, annotation=annotation)


def _default(field: str) -> Any:
    return getattr(NOTHING_SAID, field)
