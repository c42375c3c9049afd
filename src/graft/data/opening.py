"""Open labelled images in any format: DATA is a single argument whose format is recognised from the data."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from graft.data.apart import check_apart, join_apart, read_tables_apart
from graft.data.class_naming import with_usual_names
from graft.data.dataset import TEST, VAL, Dataset
from graft.data.grouping import by_path, straddling
from graft.data.label_sets import with_label_sets
from graft.data.readers.archive import is_archive
from graft.data.readers.arrays import FILES as ARRAYS
from graft.data.readers.arrays import NoArraysError, read_arrays
from graft.data.readers.class_lists import LISTS, with_listed_names
from graft.data.readers.file_labels import read_named_files
from graft.data.readers.folder import straight
from graft.data.readers.folder_tables import read_place
from graft.data.readers.grid import ENDINGS, LIST_ENDINGS
from graft.data.readers.hub_dataset import PREFIX, is_saved_dataset, read_hub_dataset, read_saved_dataset
from graft.data.readers.idx import is_idx, read_idx
from graft.data.readers.parquet import read_parquet, refuse_arrow
from graft.data.readers.place import Place
from graft.data.readers.split_lists import names_list
from graft.data.readers.split_names import SPLIT_FOLDERS
from graft.data.readers.table import is_table, read_table
from graft.data.readers.tar_shards import is_tar_shards, read_tar_shards
from graft.data.readers.unpacking import open_place
from graft.data.split_file import split_as
from graft.data.table_options import NO_COLUMN, TableOptions, checked_table, refuse_columns
from graft.errors import DataError
from graft.given import expanded
from graft.names import plain, readable, shortened
from graft.packed_tables import PACKED
from graft.spreadsheet import ENDING as SHEETS
from graft.words import counted, first_few

# At most this many files are searched for class names, and at most this many levels below the root.
_MOST_LISTS, _DEPTH = 30, 3


def open_dataset(
    path: str | Path,
    group: str | None = None,
    split: str | Path | None = None,
    table: TableOptions | None = None,
    val: str | Path | None = None,
    test: str | Path | None = None,
) -> Dataset:
    """Open the images and labels at `path` in their splits, or in a single split `all` if there are none.

    `path` is a folder per class (under `train/ val/ test/` or not), an archive of such folders, a manifest (CSV, TSV,
    lists, JSON, spreadsheets, Parquet), images with such a table beside them, Parquet with embedded images, WebDataset
    shards, IDX files, arrays (`.npz`, `.mat`, `.h5`), pixels in CSV, or `hf:owner/dataset`. Nothing is written beside
    the data. The only images decoded are a few, where one of two must be a mask.

    `table` specifies what the columns of a manifest, or file names, leave open. `group` defines which images belong
    together: the name of a table column, or a rule about paths as in `grouping.by_path`. `split` is a file that assigns
    images to splits, as every run writes one; or one of the split lists stored beside the images, as a path relative
    to the data (`labels/train1.txt`); or `none`, to ignore such lists. `val` and `test` are the places of these splits,
    in any format too, where they are stored apart from the data. Raises DataError for anything else, InputError for a
    group that matches nothing or an invalid option.
    """
    options = TableOptions() if table is None else checked_table(table)
    apart = {name: given for name, given in ((VAL, val), (TEST, test)) if given is not None}
    with ExitStack() as places, _readable(path):
        whole = _open_apart(path, apart, group, options, split, places)
        dataset = with_listed_names(whole.dataset, whole.lists)
        return finished(dataset, group, None if whole.divided else split, options.multi_label)


@dataclass(frozen=True)
class _Opened:
    """The data read, the files that may name its classes, and whether the given split was already applied."""

    dataset: Dataset
    lists: Iterable[Path] = ()
    divided: bool = False


def _open_apart(
    path: str | Path,
    apart: Mapping[str, str | Path],
    group: str | None,
    options: TableOptions,
    split: str | Path | None,
    places: ExitStack,
) -> _Opened:
    """Open the data at a path, joined with the splits that are stored apart."""
    if not apart:
        return _open(path, group, options, split, places)
    check_apart(path, apart)
    tables = read_tables_apart(path, apart, group, options)
    if tables is not None:
        return _Opened(tables, _lists_beside(expanded(path)))
    whole = _open(path, group, options, split, places)
    parts = {name: _open(given, group, options, None, places) for name, given in apart.items()}
    dataset = join_apart(
        whole.dataset,
        {
            # The name for messages.
            name: replace(part.dataset, name=expanded(apart[name]).name)
            for name, part in parts.items()
        },
    )
    return replace(whole, dataset=dataset, lists=chain(whole.lists, *(part.lists for part in parts.values())))


def _open(
    given: str | Path, group: str | None, options: TableOptions, split: str | Path | None, places: ExitStack
) -> _Opened:
    """Read the data at a path, before names and groups are worked out; `places` keeps archives open."""
    if str(given).startswith(PREFIX):
        return _Opened(read_hub_dataset(str(given), group, options))
    path = expanded(given)
    with _readable(path):
        if not path.exists():
            raise DataError(
                f"expected a folder or file of images, got {str(path)!r}, which does not exist: check the path"
            )
        # Paths in a symlinked table are relative to the link, not to its target.
        place = path.resolve() if path.is_dir() else straight(path.absolute())
        if split is not None and names_list(split) and (path.is_dir() or is_archive(path)):
            return replace(_read(place, group, options, str(split), places), divided=True)
        return _read(place, group, options, None, places)


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Turn an OSError into a DataError that names the path."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"expected images that can be read, got {str(path)!r} ({error.strerror or error}): check the path and "
            "its permissions"
        ) from None


def _read(path: Path, group: str | None, options: TableOptions, split: str | None, places: ExitStack) -> _Opened:
    if options.pattern is not None and not is_table(path):
        return _Opened(read_named_files(places.enter_context(open_place(path, options.encoding)), options.pattern))
    if path.is_file() and re.search(ARRAYS, path.name):
        try:
            return _Opened(read_arrays([path], path.name, options), _lists_beside(path))
        except NoArraysError:
            if path.suffix.lower() not in ENDINGS:
                raise
    if path.suffix.lower() == SHEETS and path.is_file():
        return _Opened(read_table(path, group, options), _lists_beside(path))
    if path.suffix.lower() in PACKED and is_table(path):
        return _Opened(read_table(path, group, options), _lists_beside(path))
    for is_kind, read in ((is_idx, read_idx), (is_tar_shards, read_tar_shards)):
        if is_kind(path):
            refuse_columns(options, path)
            return _Opened(read(path))
    if path.is_dir():
        if is_saved_dataset(path):
            return _Opened(read_saved_dataset(path, group, options))
        if _holds_parquet(path):
            return _Opened(read_parquet(path, group, options), [*_lists_in(path), *_lists_in(path / "data")])
    if path.is_dir() or is_archive(path):
        place = places.enter_context(open_place(path, options.encoding))
        if not place.packed and not place.tree.root.all_images and place.names(r"(?i)\.parquet$"):
            # The Hub's layout: a folder per configuration, possibly with a folder per split in it.
            return _Opened(read_parquet(path, group, options), map(place.file, _lists_of_classes(place)))
        dataset = _read_place(place, group, options, split)
        return _Opened(dataset, (place.file(name) for name in _lists_of_classes(place)))
    if path.suffix.lower() == ".parquet":
        return _Opened(read_parquet(path, group, options), _lists_beside(path))
    if path.suffix.lower() in (*ENDINGS, *LIST_ENDINGS) or (not path.suffix and is_table(path)):
        try:
            return _Opened(read_table(path, group, options), _lists_beside(path))
        except DataError:
            # Checked last: only reading a text file tells whether it is a list.
            if is_table(path):
                raise
    refuse_arrow(path)
    raise DataError(
        "expected a folder per class, a zip or tar of one, WebDataset shards (.tar), a table of paths and labels "
        "(.csv, .tsv, .txt, .json, .jsonl, .xlsx, .parquet), Parquet with embedded images, arrays (.npz, .npy, .mat, "
        ".h5), IDX files or hf:owner/dataset, got the file "
        f"{str(path)!r}: give the folder or the table that names the images"
    )


def _lists_beside(path: Path) -> Iterable[Path]:
    """Return the files beside a table that may name the classes."""
    return (file for file in _lists_in(path.parent) if file != path)


def _lists_in(folder: Path) -> Iterable[Path]:
    """Return the files in a folder that may name the classes; none if there is no such folder."""
    return (file for file in sorted(folder.glob("*")) if re.search(LISTS, file.name))


def _read_place(place: Place, group: str | None, options: TableOptions, split: str | None) -> Dataset:
    """Read image files or, failing that, arrays."""
    try:
        return read_place(place, group, options, split)
    except DataError:
        names = sorted(name for name in place.names(ARRAYS) if name.count("/") <= _DEPTH)
        if not names:
            raise
        # Where there are images, the error to report is the one about them.
        with suppress(DataError if place.tree.root.all_images else NoArraysError):
            return read_arrays([place.file(name) for name in names], place.listing.name, options)
        raise


def _lists_of_classes(place: Place) -> list[str]:
    """Return the files of a place that may name its classes, at most `_MOST_LISTS`, the shallowest first."""
    found = [name for name in place.names(LISTS) if name.count("/") <= _DEPTH]
    return sorted(found, key=lambda name: (name.count("/"), name))[:_MOST_LISTS]


def finished(
    dataset: Dataset, group: str | None = None, split: str | Path | None = None, multi_label: bool = False
) -> Dataset:
    """Apply to a dataset that was made elsewhere everything that `open_dataset` adds; see there.

    With `multi_label`, its classes are read as sets of labels, unless they already have been.
    """
    if multi_label and dataset.label_sets is None:
        dataset = with_label_sets(dataset)
    return _finish(dataset, group, split)


def _holds_parquet(folder: Path) -> bool:
    """Return whether `folder` or its `data/` holds Parquet files, with no split folder beside them."""
    if any(child.is_dir() and child.name.lower() in SPLIT_FOLDERS for child in folder.iterdir()):
        return False
    return any(folder.glob("*.parquet")) or any(folder.glob("data/*.parquet"))


def _finish(dataset: Dataset, group: str | None, split: str | Path | None) -> Dataset:
    """Add groups by path, unless a column gave them, the splits of a file, and notes on likely mistakes.

    Names are written as `graft.names` specifies. Raises DataError if that gives two classes the same name, or if there
    are no images.
    """
    if not any(map(len, dataset.splits.values())):
        raise DataError(f"expected images with labels in {plain(dataset.name)}, got none: give some")
    dataset = _written(with_usual_names(dataset) if dataset.label_sets is None else dataset)
    if group is not None and all(images.groups is None for images in dataset.splits.values()):
        dataset = by_path(dataset, group)
    if split is not None and str(split) != NO_COLUMN:
        dataset = split_as(dataset, Path(split).expanduser())
    notes = [
        f"{counted(count, 'group has', 'groups have')} images in both {first} and {second}: for unseen groups, scores "
        f"on {second} are optimistic"
        for first, second, count in straddling(dataset)
    ]
    spellings: dict[str, list[str]] = {}
    for name in dataset.classes:
        spellings.setdefault(" ".join(name.split()).casefold(), []).append(name)
    alike = [" and ".join(repr(shortened(name)) for name in names) for names in spellings.values() if len(names) > 1]
    if alike:
        notes.append(
            f"{counted(len(alike), 'class is', 'classes are')} spelled in several ways that differ only in case or "
            f"spaces; each spelling was kept as a class of its own ({first_few(alike)})"
        )
    return replace(dataset, notes=(*dataset.notes, *notes))


def _written(dataset: Dataset) -> Dataset:
    """Return the dataset with its names in the form that all output uses."""
    classes = tuple(map(plain, dataset.classes))
    twice = next((name for name, times in Counter(classes).items() if times > 1), None)
    if twice is not None:
        raise DataError(
            f"expected classes with different names, got two that are both written {twice}: rename one of them"
        )
    return replace(
        dataset,
        name=plain(dataset.name),
        classes=classes,
        notes=tuple(map(readable, dataset.notes)),
        left_out={plain(name): readable(reason) for name, reason in dataset.left_out.items()},
    )
