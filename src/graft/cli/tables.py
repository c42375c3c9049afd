"""The options on tables and file names, shared by all commands that take labelled images."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from graft.data.table_options import TableOptions, option_name

# What commands receive when none of the options is given.
NOTHING_SAID = TableOptions()
PANEL = "Tables and file names (inferred unless given)"
# The name and help text on the command line of each field of `TableOptions`.
HELP = {
    "path_column": "Column with image paths or file names.",
    "label_column": "Column with labels; with --multi-label, may be repeated for columns of 0 and 1.",
    "split_column": "Column with splits, or none for no column.",
    "group_column": "Column with groups to keep in one split, or none for no column.",
    "weight_column": "Column with image weights, or none for no column.",
    "image_dir": "Folder that the paths in a table start from.",
    "suffix": "File extension of the images, such as .bmp.",
    "label_from": "Regular expression whose one group is the label in an image's path, or folder to take labels from "
    "folders even if there is a table.",
    "encoding": "Encoding of file names in a zip that does not declare it, such as gbk or cp932.",
    "multi_label": "Allow several labels per image: in one cell, in columns of 0 and 1, or in one row per label.",
}


def reads_tables(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with an option for every field of `TableOptions` in place of its parameter `table`."""

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
    # typer reads the options from the signature.
    with_options.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return with_options


def _parameter(field: str, text: str) -> inspect.Parameter:
    option: Any = typer.Option(option_name(field), help=text, rich_help_panel=PANEL)
    kind, default = inspect.Parameter.POSITIONAL_OR_KEYWORD, _default(field)
    several = field == "label_column"
    annotation = Annotated[bool, option] if default is False else Annotated[str | None, option]
    annotation = Annotated[list[str] | None, option] if several else annotation
    return inspect.Parameter(field, kind, default=default, annotation=annotation)


def _default(field: str) -> Any:
    return getattr(NOTHING_SAID, field)
