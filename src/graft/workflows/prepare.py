"""The common first step of every workflow: from the user's arguments to a dataset and a base that are ready to use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

from graft.audit.auditing import look_over
from graft.audit.findings import Finding, left_out
from graft.audit.looking import Looks
from graft.data.apart import join_apart
from graft.data.dataset import TEST, VAL, Dataset
from graft.data.depths import levels_of, note_on_levels, note_on_strange_levels
from graft.data.handed_over import Frame, Given, column_of, from_arrays, from_named_columns
from graft.data.opening import finished, open_dataset
from graft.data.splitting import with_validation
from graft.data.table_options import TableOptions, checked_table
from graft.data.understood import understood
from graft.errors import FetchError, InputError
from graft.features.engine import Choice, Precision
from graft.features.extraction import check_input_size
from graft.given import path, text, truth
from graft.images.handed_over import named
from graft.images.levels import Levels
from graft.images.preprocessing import (
    Preprocessing,
    ResizeMode,
    Scaling,
    check_image_size,
    check_resize,
    check_scaling,
    with_choices,
)
from graft.progress import NOBODY, Reporter
from graft.seeding import check_seed, seeded
from graft.training.memory import check_images_fit
from graft.weights.architectures import resolve
from graft.weights.base import Base, load_base, untrained_base
from graft.weights.kept import kept_bases
from graft.weights.metadata import note_on_preparation
from graft.weights.packaged import DEFAULT_BASE
from graft.workflows.ahead import looked_ahead


@dataclass(frozen=True)
class DataOptions:
    """Labelled images, and what is known about them.

    `path` is any source that `graft.data.opening` knows, or the images themselves: a `Dataset`, `(images, labels)` as
    `Dataset.from_arrays` takes them, or a data frame with the column names of a table. `group` says which images belong
    together, so that no split divides them: a column of the table or data frame, `folder`, or a regular expression on
    paths.
    `split_file` assigns images to splits, like the `split.csv` of a run. `table` says what the columns of a table, or
    the names of files, do not say themselves. `val` and `test` are the images of these splits if `path` does not hold
    them: also any source, or in memory if `path` is.
    """

    path: Given
    group: str | None = None
    split_file: str | Path | None = None
    table: TableOptions = field(default_factory=TableOptions)
    val: Given | None = None
    test: Given | None = None


# What every workflow accepts as its images, and those of the types that have fields.
Data = Given | DataOptions
DATA_KINDS = (DataOptions, TableOptions)


@dataclass(frozen=True)
class BaseOptions:
    """The network to start from, and how it sees images.

    `name` is an architecture, a file of weights, a run, `hf:owner/name` or `timm:NAME`. `arch` names the architecture
    of a file that does not name its own, and `classes_file` holds the class names of weights that name none.
    `image_size` is the side of the network's input in pixels, and `mean` and `std`, of pixels in [0, 1], are what its
    images were scaled with: a number for each channel, or one for all. None for these and for `resize_mode` keeps what
    the weights state, or what is usual for the network.
    """

    name: str = DEFAULT_BASE
    arch: str | None = None
    classes_file: str | Path | None = None
    image_size: int | None = None
    resize_mode: ResizeMode | None = None
    mean: Scaling | None = None
    std: Scaling | None = None


@dataclass(frozen=True)
class Prepared:
    """Data and base, ready to use.

    `dataset` has the splits of its source, and copies of an image share a group if it was looked over, as `looks` and
    `findings` report. `base` sees images as asked for; it is None if it was optional and unavailable.
    """

    dataset: Dataset
    base: Base | None
    choice: Choice
    findings: tuple[Finding, ...] = ()
    looks: Looks | None = None
    # The data as the user named them.
    source: str = ""
    levels: Levels = ()

    @property
    def start(self) -> Base:
        """The base, for workflows that require one."""
        assert self.base is not None
        return self.base


def prepare(
    data: Data,
    base: str | BaseOptions | None,
    choice: Choice,
    *,
    audit: bool = True,
    splittable: bool = True,
    as_is: bool = False,
    scratch: bool = False,
    base_optional: bool = False,
    multi_label: bool = False,
    seed: int = 0,
    reporter: Reporter = NOBODY,
) -> Prepared:
    """Open the data, load the base and look over the images, in this order, so that errors come before slow work.

    How the data were understood is reported first, in two lines. With `splittable`, data that cannot be trained on are
    refused before weights are loaded. With `scratch`, the base starts at random, from `seed`. With `base_optional`, a
    base whose weights cannot be fetched is left out, with a note in the dataset. Without `audit`, no image is looked
    at. Black and white levels of images deeper than 8 bits come from the training images, as a note says, unless the
    base is a saved model used `as_is`. Without `multi_label`, images with several labels are refused. Raises InputError
    and its subclasses for unusable input, FetchError for weights that are not on this machine and cannot be fetched.
    """
    seed, audit = check_seed(seed), truth(audit, "--audit")
    options = checked_data(data)
    if base is not None:
        base = checked_base(base if isinstance(base, BaseOptions) else BaseOptions(base))
    dataset = open_images(options)
    if dataset.label_sets is not None and not multi_label:
        raise InputError(
            f"expected images with one label each here, got {dataset.name}, which has several: `graft train "
            "--multi-label` chooses a level for these itself; evaluate, predict, audit and features also take them"
        )
    for line in understood(dataset):
        reporter.note(line)
    if splittable:
        with_validation(dataset, seed)
    start = None
    if base is not None:
        try:
            start = load_start(base, scratch=scratch, seed=seed, precision=choice.precision, reporter=reporter)
        except FetchError as error:
            if not base_optional:
                raise
            note = f"likely wrong labels and outliers were not looked for: {error}"
            dataset = replace(dataset, notes=(*dataset.notes, note))
    looked_ahead()
    preprocessing = resolve(DEFAULT_BASE).preprocessing if start is None else start.preprocessing
    saved = base is not None and (bool(preprocessing.levels) or Path(base.name).expanduser().is_dir())
    dataset, preprocessing = _with_levels(dataset, preprocessing, as_saved=as_is and saved)
    if start is not None:
        start = replace(start, preprocessing=preprocessing)
    if not audit:
        return Prepared(
            dataset, start, choice, tuple(left_out(dataset)), source=called(options), levels=preprocessing.levels
        )
    looked = look_over(dataset, preprocessing, reporter)
    return Prepared(looked.dataset, start, choice, looked.findings, looked.looks, called(options), preprocessing.levels)


def open_images(data: Data) -> Dataset:
    """Open the labelled images without a base or an audit. Raises DataError, InputError."""
    options = checked_data(data)
    if isinstance(options.path, Dataset):
        several = options.table.multi_label
        if options.table != TableOptions(multi_label=several):
            raise InputError(
                "expected no table options with images that are handed over, got some: name the columns as in "
                'Dataset.from_frame(frame, path="file", label="class")'
            )
        return finished(options.path, options.group, options.split_file, several)
    assert isinstance(options.path, str)
    apart = {name: given for name, given in _apart(options).items() if isinstance(given, str)}
    return open_dataset(options.path, options.group, options.split_file, options.table, **apart)


def _with_levels(dataset: Dataset, preprocessing: Preprocessing, as_saved: bool) -> tuple[Dataset, Preprocessing]:
    """Add black and white levels of images deeper than 8 bits, with a note if these images determined them."""
    measured, number = levels_of(dataset)
    if as_saved:
        known = {kind for kind, _, _ in preprocessing.levels}
        strange = tuple(level for level in measured if level[0] not in known)
        notes = (note_on_strange_levels(strange),) if strange else ()
        return replace(dataset, notes=(*dataset.notes, *notes)), preprocessing
    if not measured:
        return dataset, preprocessing
    levels = {level[0]: level for level in (*preprocessing.levels, *measured)}
    notes = (note_on_levels(measured, number),)
    preprocessing = replace(preprocessing, levels=tuple(level for _, level in sorted(levels.items())))
    return replace(dataset, notes=(*dataset.notes, *notes)), preprocessing


def checked_data(data: Data) -> DataOptions:
    """Return the options in plain Python values, with images and labels as one Dataset of all splits.

    Raises InputError, before anything is opened, for data that are neither a path nor images.
    """
    options = data if isinstance(data, DataOptions) else DataOptions(data)
    several = options.table.multi_label is True
    group = None if options.group is None else text(options.group, "--group")
    given = _images_or_path(options.path, "the images", several, group)
    apart = {split: _images_or_path(each, f"--{split}", several, group) for split, each in _apart(options).items()}
    if group is not None and isinstance(options.path, Frame) and column_of(options.path, group) is not None:
        # The images have their groups now.
        group = None
    for split, each in apart.items():
        if isinstance(each, Dataset) != isinstance(given, Dataset):
            one, other = ("images", "a path") if isinstance(given, Dataset) else ("a path", "images")
            raise InputError(
                f"expected {one} for {split} as for the images to train on, got {other}: give all by path, or hand all "
                "over, a path as Dataset.from_folder(path)"
            )
    if isinstance(given, Dataset):
        given = join_apart(given, {split: each for split, each in apart.items() if isinstance(each, Dataset)})
        apart = {}
    return DataOptions(
        given,
        group,
        None if options.split_file is None else path(options.split_file, "--split-file"),
        checked_table(options.table),
        **apart,
    )


def _apart(options: DataOptions) -> dict[str, Any]:
    """Return what was given for val and test separately, by split."""
    return {split: each for split, each in ((VAL, options.val), (TEST, options.test)) if each is not None}


def _images_or_path(given: Any, option: str, multi_label: bool, group: str | None) -> str | Dataset:
    if isinstance(given, tuple | list) and len(given) == 2 and not isinstance(given[0], str):
        return from_arrays(*given, multi_label=multi_label)
    if isinstance(given, Frame):
        column = None if group is None else column_of(given, group)
        return from_named_columns(given, group=column, multi_label=multi_label)
    if not isinstance(given, Dataset | str | PathLike):
        came = repr(given) if given is None or isinstance(given, int | float) else named(given)
        advice = "give one of these"
        if hasattr(given, "dataset") and hasattr(given, "batch_size"):
            advice = "give graft.Dataset.from_torch(loader.dataset), without augmentation or scaling in its transform"
        elif hasattr(given, "__getitem__") and hasattr(given, "__len__") and not isinstance(given, Mapping | Sequence):
            advice = "give a torch dataset as graft.Dataset.from_torch(dataset), any other as one of these"
        raise InputError(
            f"expected a path, a graft.Dataset, (images, labels) or a data frame for {option}, got {came}: {advice}"
        )
    return given if isinstance(given, Dataset) else path(given, option)


def with_several_labels(data: Data) -> DataOptions:
    """Return options that read the same data as images that may have several labels each."""
    options = data if isinstance(data, DataOptions) else DataOptions(data)
    return replace(options, table=replace(options.table, multi_label=True))


def handed_over(options: DataOptions) -> Dataset | None:
    """Return the images if they were given in memory, None if they were given by path."""
    return options.path if isinstance(options.path, Dataset) else None


def called(options: DataOptions) -> str:
    """Return the name of the data in messages."""
    return options.path.name if isinstance(options.path, Dataset) else str(options.path)


def checked_base(options: BaseOptions) -> BaseOptions:
    """Return the options in plain Python values. Raises InputError for invalid paths, strings or sizes."""
    return BaseOptions(
        path(options.name, "--base"),
        None if options.arch is None else text(options.arch, "--arch"),
        None if options.classes_file is None else path(options.classes_file, "--classes"),
        check_image_size(options.image_size),
        check_resize(options.resize_mode),
        *check_scaling(options.mean, options.std),
    )


def load_start(
    base: str | BaseOptions,
    *,
    scratch: bool = False,
    seed: int = 0,
    precision: Precision = "float32",
    reporter: Reporter = NOBODY,
) -> Base:
    """Return the base for a name or options, seeing images as asked for; with `scratch`, random from `seed`.

    Raises WeightsError, FetchError, and InputError for a size or a resizing mode that it cannot take, or for a size
    that exceeds memory in `precision`.
    """
    options = base if isinstance(base, BaseOptions) else BaseOptions(base)
    mean, std = check_scaling(options.mean, options.std)
    given = {"mean": mean, "input_size": options.image_size}
    stated = frozenset(name for name, value in given.items() if value is not None)
    if scratch:
        start = untrained_base(options.name, architecture=options.arch, seed=seed)
    else:
        names = None if options.classes_file is None else Path(options.classes_file)

        def load() -> Base:
            with seeded(seed):
                return load_base(
                    options.name, architecture=options.arch, classes_file=names, stated=stated, reporter=reporter
                )

        # A base with a separate file of class names is loaded again: such files are small and may change.
        kept = kept_bases() if names is None else None
        start = load() if kept is None else kept.loaded(options.name, (options.arch, seed, stated), load)
    chosen = with_choices(start.preprocessing, options.image_size, options.resize_mode, mean, std)
    start = replace(start, preprocessing=chosen)
    if start.origins is not None:
        prepared = note_on_preparation(chosen, start.origins, stated, options.resize_mode is not None)
        start = replace(start, notes=(*start.notes, *([] if prepared is None else [prepared])))
    if options.image_size is not None:
        check_images_fit(start.network, start.preprocessing, precision)
    check_input_size(start.network, start.preprocessing)
    return start
