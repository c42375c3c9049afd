"""What a user may say of images where their table, or the names of their files, do not say it themselves."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

from graft.errors import InputError
from graft.given import path, text, truth

# For --label-from: the folder that an image lies in is its class, whatever tables lie beside.
FOLDER = "folder"
# In place of a column: no column has this role.
NO_COLUMN = "none"


@dataclass(frozen=True)
class TableOptions:
    """How a table of images is to be read; what is None is found out, or asked for in an error.

    The columns are named as in the first row of the table, or by their number from 1 where it has no names; `none`
    stands for no column. `image_dir` is the folder that paths start from, `suffix` the ending of the files that are
    images, such as `.bmp`. `label_from` is a regular expression whose first group, found in the path of an image, is
    its label, or `folder`, by which folders tell the labels even where a table lies beside them. `encoding` is that of
    names in a zip that does not say it. With `multi_label`, an image may have several labels, or none.
    """

    path_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    weight_column: str | None = None
    image_dir: str | None = None
    suffix: str | None = None
    label_from: str | None = None
    encoding: str | None = None
    multi_label: bool = False

    def column(self, role: str) -> str | None:
        """The name that was given for the column with a role, or None."""
        found: str | None = getattr(self, f"{role}_column")
        return found

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """The regular expression for labels, if there is one."""
        return None if self.label_from in (None, FOLDER) else re.compile(self.label_from)


def option_name(field: str) -> str:
    """What the command line calls a field: `--path-column`."""
    return f"--{field.replace('_', '-')}"


def refuse_columns(options: TableOptions, path: Path) -> None:
    """Raise InputError for options about a table, where there is none."""
    columns = replace(options, multi_label=False)
    given = [option_name(each.name) for each in fields(columns) if getattr(columns, each.name) not in (None, False)]
    if given and columns != TableOptions(label_from=options.label_from):
        raise InputError(
            f"expected a table of images with {' and '.join(given)}, got {path}, which is read without one: leave "
            f"{'it' if len(given) == 1 else 'them'} out, or give the table"
        )


def checked_table(options: TableOptions) -> TableOptions:
    """The same in Python's own values. Raises InputError that names the option for what is no text or expression."""
    values: dict[str, str | None] = {}
    for each in fields(TableOptions):
        value = getattr(options, each.name)
        if each.name == "multi_label":
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
