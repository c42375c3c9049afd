"""Options for what a table of images, or the names of image files, leave open."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from graft.errors import InputError
from graft.given import path, text, truth

# For --label-from: the folder of an image is its class, even if there are tables beside it.
FOLDER = "folder"
# In place of a column name: no column has this role.
NO_COLUMN = "none"


@dataclass(frozen=True)
class TableOptions:
    """How to read a table of images. Options left at None are inferred, or asked for in an error.

    Columns are named as in the first row of the table, or by number from 1 if it has no header; `none` stands for no
    column. `image_dir` is the folder that paths start from, `suffix` the file name extension of the images, for example
    `.bmp`. `label_from` is a regular expression whose one group captures the label from the path of an image, or
    `folder`, to take labels from folders even if a table lies beside them. `encoding` is that of the names in a zip
    that does not declare it. With `multi_label`, an image may have several labels, or none; `label_column` may then be
    several columns of 0 and 1, each of which is a class.
    """

    path_column: str | None = None
    label_column: str | Sequence[str] | None = None
    split_column: str | None = None
    group_column: str | None = None
    weight_column: str | None = None
    image_dir: str | None = None
    suffix: str | None = None
    label_from: str | None = None
    encoding: str | None = None
    multi_label: bool = False

    def __post_init__(self) -> None:
        given = self.label_column
        if isinstance(given, list | tuple):
            # One form for each meaning, whether it comes from a caller, the command line or a file.
            object.__setattr__(self, "label_column", tuple(given) if len(given) > 1 else next(iter(given), None))

    def column(self, role: str) -> str | None:
        """Return the name given for the one column with this role, or None."""
        found = getattr(self, f"{role}_column")
        return found if isinstance(found, str) else None

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The names given for several columns of labels; empty if one or none was given."""
        return () if self.label_column is None or isinstance(self.label_column, str) else tuple(self.label_column)

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """The regular expression for labels, if there is one."""
        return None if self.label_from in (None, FOLDER) else re.compile(self.label_from)


def option_name(field: str) -> str:
    """Return the name of a field on the command line: `--path-column`."""
    return f"--{field.replace('_', '-')}"


def refuse_columns(options: TableOptions, path: Path, found: str = "", advice: str = "") -> None:
    """Raise InputError for table options given for data without a table.

    `found` and `advice` say what tables there are nevertheless, and what to do with them.
    """
    columns = replace(options, multi_label=False)
    given = [option_name(each.name) for each in fields(columns) if getattr(columns, each.name) not in (None, False)]
    if given and columns != TableOptions(label_from=options.label_from):
        raise InputError(
            f"expected a table of images with {' and '.join(given)}, got {path}, which is read without one"
            f"{found and f' ({found})'}: leave {'it' if len(given) == 1 else 'them'} out, or "
            f"{advice or 'give the table'}"
        )


def checked_table(options: TableOptions) -> TableOptions:
    """Return the options as native Python values. Raises InputError naming the first option that is invalid."""
    values: dict[str, Any] = {}
    several = options.label_columns
    if several and not truth(options.multi_label, "--multi-label"):
        shown = " and ".join(repr(each) for each in several[:4])
        raise InputError(
            f"expected one --label-column, got {len(several)} ({shown}): keep one, or train on all of them with "
            "--multi-label"
        )
    for each in fields(TableOptions):
        value = getattr(options, each.name)
        if each.name == "multi_label":
            continue
        if each.name == "label_column" and several:
            values[each.name] = tuple(text(name, "--label-column") for name in several)
            continue
        check = path if each.name == "image_dir" else text
        values[each.name] = None if value is None else check(value, option_name(each.name))
    if (suffix := values["suffix"]) is not None:
        values["suffix"] = suffix if suffix.startswith(".") or not suffix else f".{suffix}"
    _check_expression(values["label_from"])
    return TableOptions(**values, multi_label=truth(options.multi_label, "--multi-label"))


def _check_expression(rule: str | None) -> None:
    if rule in (None, FOLDER):
        return
    try:
        groups = re.compile(rule).groups
    except re.error as error:
        raise InputError(
            f"expected 'folder' or a regular expression with one group for --label-from, got {rule!r} ({error}): "
            "correct it"
        ) from None
    if groups != 1:
        raise InputError(
            f"expected one group in the regular expression for --label-from, got {groups} in {rule!r}: put what is the "
            r"label between parentheses, as in '([a-z]+)\d*\.jpg'"
        )
