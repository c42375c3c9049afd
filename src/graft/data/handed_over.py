"""Images passed in as Python values, with or without labels: lists, arrays, data frames, PyTorch datasets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Set, Sized
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from graft.data.content import content_digest, digest_text
from graft.data.dataset import WHOLE, Dataset, Images, class_order
from graft.data.handed_labels import cells_of, named_by, texts_of
from graft.data.opening import finished
from graft.data.readers.column_names import find_columns
from graft.data.readers.column_names import named as columns_named
from graft.data.readers.columns import arrange_rows, as_text, as_weights, numbered_groups
from graft.data.readers.folder import Files
from graft.data.readers.remote import Addresses, is_address
from graft.data.readers.several_labels import together_by_path
from graft.data.readers.table import arrange_table
from graft.data.unlabelled import one_image
from graft.data.unused_columns import notes_on_unused
from graft.errors import DataError, ImageError
from graft.images.handed_over import ACCEPTED, as_read, is_open_file, is_tensor, named, taken_in
from graft.words import counted

if TYPE_CHECKING:
    import pyarrow

# The name of a data set that has none of its own.
NAME = "images"
# The deepest nesting of subsets of torch in which the names of classes are looked for.
DEEPEST = 100


@runtime_checkable
class Frame(Protocol):
    """A data frame, from pandas or any other library that looks columns up by name."""

    @property
    def columns(self) -> Any: ...

    def __getitem__(self, name: Any, /) -> Any: ...


# Labelled images: the place they are stored, or the values themselves.
Given = str | Path | Dataset | tuple[Any, Any] | Frame


class HandedOver:
    """Images as the caller holds them, not copied; `before` is the number of images that precede them."""

    def __init__(self, things: Sequence[Any], before: int = 0) -> None:
        self.things = things
        self.before = before
        # One lock per object: a PIL image reads its file on first access, and two threads at once would garble it.
        self._loading: dict[int, Lock] = {}

    def __len__(self) -> int:
        return len(self.things)

    def name(self, row: int) -> str:
        thing = self.things[row]
        return os.fsdecode(thing) if isinstance(thing, str | os.PathLike) else f"image {self.before + row}"

    key = name

    def read(self, row: int) -> bytes | np.ndarray:
        """Return the encoded image or its pixels. Raises OSError, ImageError."""
        thing = self.things[row]
        if isinstance(thing, str) and not thing:
            raise ImageError("expected the path of an image, got an empty string: name a file")
        if isinstance(thing, str | os.PathLike):
            return one_image(os.fsdecode(thing)).read(0)
        if isinstance(thing, ImageError):
            raise thing
        with self._loading.setdefault(id(thing), Lock()):
            return as_read(thing)

    def stamp(self, row: int) -> str:
        """Return a file's stamp, made of size and times, or a digest of the content: nothing else reveals a change."""
        thing = self.things[row]
        if isinstance(thing, str | os.PathLike):
            return one_image(os.fsdecode(thing)).source.stamp(0)
        try:
            return digest_text(content_digest(self.read(row)))
        except (OSError, ImageError):
            return f"unreadable {self.before + row}"


def from_arrays(
    images: Any,
    labels: Any,
    *,
    name: str = NAME,
    multi_label: bool = False,
    classes: Sequence[str] | None = None,
    weights: Any = None,
    groups: Any = None,
) -> Dataset:
    """See `Dataset.from_arrays`."""
    notes: list[str] = []
    if multi_label:
        labels = cells_of(labels, classes)
    elif classes is None:
        labels = texts_of(labels)
    else:
        labels, notes = named_by(labels, classes)
    if not isinstance(images, Sized):
        if not isinstance(images, Iterable) or isinstance(images, str | bytes) or is_open_file(images):
            raise DataError(f"expected several images, each {ACCEPTED}, got {named(images)}: give a list of them")
        images = list(images)
        notes.append(
            f"{counted(len(images), 'image')} came from an iterator, which can be read only once: they are kept in "
            "memory; to use them again, pass the Dataset, or a list"
        )
    things = _things(images)
    if len(things) != len(labels):
        raise DataError(
            f"expected a label for each of {counted(len(things), 'image')}, got {counted(len(labels), 'label')}: give "
            "as many labels as images"
        )
    if not things:
        raise DataError("expected images and labels, got none: give some")
    distinct = class_order(set(labels))
    position = {label: number for number, label in enumerate(distinct)}
    numbers = np.array([position[label] for label in labels], np.int64)
    group_names, group_of = _groups(groups, len(things))
    whole = Images(_source(things), np.arange(len(things)), numbers, group_of, _weights(weights, len(things)))
    dataset = Dataset(name, distinct, {WHOLE: whole}, tuple(notes), group_names=group_names)
    return finished(dataset, multi_label=multi_label)


def from_frame(
    frame: Any,
    path: str = "path",
    label: str | Sequence[str] = "label",
    *,
    split: str | None = None,
    group: str | None = None,
    weight: str | None = None,
    root: str | Path = "",
    name: str = NAME,
    multi_label: bool = False,
) -> Dataset:
    """See `Dataset.from_frame`."""
    roles: dict[str, Any] = {"path": path, "label": label, "split": split, "group": group, "weight": weight}
    if multi_label:
        del roles["label"]
    columns = {role: _column(frame, column) for role, column in roles.items() if column is not None}
    if multi_label and isinstance(label, str):
        columns["label"] = cells_of(_column(frame, label), None)
    elif multi_label:
        columns["label"] = cells_of(np.array([_column(frame, column) for column in label]).T, list(label))
    things = columns.pop("path")
    table = _text_table(columns, name)
    labels = [label] if isinstance(label, str) else label
    used = {column for column in (path, split, group, weight, *labels) if column is not None}
    notes = notes_on_unused(name, _names(frame), frame.__getitem__, used, table)
    if all(thing is None or isinstance(thing, str | os.PathLike | float) for thing in things):
        import pyarrow

        paths = [os.fsencode(thing) if isinstance(thing, str | os.PathLike) else b"" for thing in things]
        table = table.add_column(0, "path", pyarrow.chunked_array([pyarrow.array(paths, pyarrow.large_binary())]))
        if multi_label:
            table = together_by_path(table)
        place = Path(root).expanduser().absolute()
        return finished(arrange_table(name, place, table, notes), multi_label=multi_label)
    return finished(arrange_rows(name, HandedOver(_things(things)), table, notes=notes), multi_label=multi_label)


def from_named_columns(frame: Frame, *, group: str | None = None, multi_label: bool = False) -> Dataset:
    """Read a data frame whose columns are named as in a table: `path`, `label`, optionally `split`, `group`, `weight`.

    `group` is the column of groups if it has another name. Raises DataError if `path` or `label` is missing.
    """
    names = [str(name) for name in frame.columns]
    roles = {role: names[place] for role, place in find_columns(names).items()}
    missing = [role for role in ("path", "label") if role not in roles]
    if missing:
        raise DataError(
            f"expected columns of images and of labels in the frame, such as 'path' and 'label', got "
            f'{", ".join(map(repr, names)) or "none"}: name them as in graft.Dataset.from_frame(frame, path="file", '
            'label="class")'
        )
    if group is not None:
        roles["group"] = group
    return from_frame(frame, **roles, multi_label=multi_label)


def images_column(frame: Frame) -> str | None:
    """Return the column of images of a data frame, with or without labels; None if no column is named as one."""
    names = [str(name) for name in frame.columns]
    return next((names[place] for role, place in find_columns(names).items() if role == "path"), None)


def column_of(frame: Frame, name: str) -> str | None:
    """Return the column of a data frame that is called so, whatever the case and punctuation; None if there is none."""
    names = [str(each) for each in frame.columns]
    return name if name in names else next((names[place] for place in columns_named(names, [name])), None)


def from_torch(dataset: Any, *, name: str | None = None) -> Dataset:
    """See `Dataset.from_torch`."""
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise DataError(
            f"expected a torch dataset that has a length and gives (image, label) by number, got {named(dataset)}: "
            "give one of these, or lists to Dataset.from_arrays"
        )
    pairs = [dataset[number] for number in range(len(dataset))]
    odd = next((number for number, pair in enumerate(pairs) if not isinstance(pair, tuple | list) or len(pair) < 2), -1)
    if odd >= 0:
        raise DataError(
            f"expected (image, label) for each number of the torch dataset, got {named(pairs[odd])} for {odd}: give "
            "lists to Dataset.from_arrays"
        )
    images, labels = [pair[0] for pair in pairs], texts_of([pair[1] for pair in pairs])
    known = _classes_of(dataset)
    if known and all(label.isdigit() and int(label) < len(known) for label in labels):
        labels = [str(known[int(label)]) for label in labels]
    return from_arrays(images, labels, name=name or type(dataset).__name__.lower())


def _classes_of(dataset: Any) -> Sequence[Any] | None:
    """Return the names of a torch dataset's classes, which a `Subset` has of the dataset that it is a part of."""
    for _ in range(DEEPEST):
        known = getattr(dataset, "classes", None)
        if known:
            return list(known)
        dataset = getattr(dataset, "dataset", None)
        if dataset is None:
            break
    return None


def _things(images: Any) -> list[Any]:
    """Return the images as a list, with open files read. Raises DataError naming the first item that is no image."""
    if isinstance(images, str | bytes | Mapping | Set) or is_open_file(images):
        raise DataError(f"expected several images, each {ACCEPTED}, got {named(images)}: give a list of them")
    if (isinstance(images, np.ndarray) or is_tensor(images)) and images.ndim not in (1, 3, 4):
        raise DataError(
            f"expected images as an array (N, H, W) or (N, H, W, 3) or a tensor (N, 3, H, W), got shape "
            f"{tuple(images.shape)}: give one of these, or a list of images"
        )
    found: list[Any] = []
    faults: list[str] = []
    for number, thing in enumerate(images):
        try:
            thing = taken_in(thing)
            if not isinstance(thing, str | os.PathLike | bytes | bytearray | memoryview):
                _check_form(thing)
        except ImageError as error:
            faults.append(f"image {number}: {error}")
        found.append(thing)
    if faults:
        more = f" (the same or alike for {counted(len(faults) - 1, 'more image')})" if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}{more}")
    return found


def _check_form(thing: Any) -> None:
    """Raise ImageError if the type, shape or value range is not that of an image."""
    # PIL images are opened only when needed, and may turn out to be broken then, like any file.
    if type(thing).__module__.partition(".")[0] != "PIL":
        as_read(thing)


def _source(things: list[Any]) -> Files | HandedOver:
    if not all(isinstance(thing, str | os.PathLike) and os.fspath(thing) for thing in things):
        return HandedOver(things)
    paths = [_without_tilde(os.fsdecode(thing)) for thing in things]
    return (Addresses if any(map(is_address, paths)) else Files).of(paths, Path.cwd())


def _without_tilde(path: str) -> str:
    with suppress(RuntimeError):
        return path if is_address(path) else str(Path(path).expanduser())
    return path


def _groups(groups: Any, count: int) -> tuple[tuple[str, ...], np.ndarray | None]:
    """Return the group names, and the group of each of `count` images, int64 (N,), or None. Raises DataError."""
    if groups is None:
        return (), None
    if isinstance(groups, str | bytes | Mapping | Set) or not isinstance(groups, Iterable):
        raise DataError(f"expected a group for each of {counted(count, 'image')}, got {named(groups)}: give a list")
    cells = [cell.item() if is_tensor(cell) and cell.ndim == 0 else cell for cell in groups]
    odd = next((cell for cell in cells if isinstance(cell, Iterable) and not isinstance(cell, str)), None)
    if odd is not None or len(cells) != count:
        came = counted(len(cells), "group") if odd is None else named(odd)
        raise DataError(
            f"expected a group for each of {counted(count, 'image')}, got {came}: give a string or number for each"
        )
    return numbered_groups(_text_table({"group": cells}, "these images")["group"])


def _weights(weights: Any, count: int) -> np.ndarray | None:
    """Return the weight of each of `count` images, float32 (N,), or None if all weigh the same. Raises DataError."""
    if weights is None:
        return None
    try:
        found = np.asarray(weights, np.float64)
    except (TypeError, ValueError):
        raise DataError(f"expected a number as the weight of each image, got {named(weights)}: give numbers") from None
    if found.shape != (count,):
        raise DataError(
            f"expected a weight for each of {counted(count, 'image')}, got shape {found.shape}: give one for each"
        )
    single, image = as_weights(found)
    if image is not None:
        raise DataError(
            f"expected a weight of 0 or more for each image, got {found[image]} for image {image}: correct it"
        )
    return single


def _names(frame: Any) -> list[Any]:
    return list(getattr(frame, "columns", frame.keys() if isinstance(frame, Mapping) else ()))


def _column(frame: Any, column: str) -> list[Any]:
    names = _names(frame)
    if not isinstance(column, str) or column not in names:
        raise DataError(
            f"expected the column {column!r} in the frame, got {', '.join(map(repr, names)) or named(frame)}: name the "
            'columns as in Dataset.from_frame(frame, path="file", label="class")'
        )
    if names.count(column) > 1:
        raise DataError(f"expected one column {column!r} in the frame, got {names.count(column)}: rename the others")
    return list(frame[column])


def _text_table(columns: dict[str, list[Any]], name: str) -> pyarrow.Table:
    import pyarrow

    found = {}
    for role, cells in columns.items():
        try:
            column = pyarrow.chunked_array([pyarrow.array(cells, from_pandas=True)])
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            cells = [None if cell is None or cell != cell else str(cell) for cell in cells]
            column = pyarrow.chunked_array([pyarrow.array(cells)])
        found[role] = as_text(column, f"the column of each {role} of {name}")
    return pyarrow.table(found)
