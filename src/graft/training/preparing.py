"""DATA before it is split for a training: opened, looked over, and copies of a picture kept together."""

from dataclasses import replace
from pathlib import Path

from graft.data.dataset import Dataset
from graft.data.findings import Finding, left_out
from graft.data.grouping import joined, straddling
from graft.data.opening import open_dataset
from graft.data.split_file import split_as
from graft.images.preprocessing import Preprocessing
from graft.training.auditing import audit_pictures, duplicate_pairs, look_at
from graft.training.fitting import Reporter


def open_data(data: str | Path, group: str | None = None, split: str | Path | None = None) -> Dataset:
    """The pictures and labels of DATA in the splits of the file `split`, if one is given, grouped as `group` says.

    Raises InputError and its kinds for what cannot be used.
    """
    dataset = open_dataset(data, group)
    if split is not None:
        dataset = split_as(dataset, Path(split).expanduser())
    notes = (
        f"{count:,} group(s) have pictures in {first} and in {second}: what {second} says of unseen groups is too good"
        for first, second, count in straddling(dataset)
    )
    return replace(dataset, notes=(*dataset.notes, *notes))


def look_over(
    opened: Dataset, preprocessing: Preprocessing | None, reporter: Reporter
) -> tuple[Dataset, tuple[Finding, ...]]:
    """Look at every picture: the dataset with copies of one in a group, which no split divides, and what is wrong.

    Without `preprocessing`, which tells what a crop would cut away, no picture is looked at.
    """
    if preprocessing is None:
        return opened, tuple(left_out(opened))
    looks = look_at(opened, reporter)
    pairs = duplicate_pairs(looks)
    dataset = joined(opened, pairs)
    return dataset, audit_pictures(dataset, preprocessing, looks, pairs)
