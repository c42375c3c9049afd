"""Open the images of a run again: those it was trained on, and those it was measured on."""

from pathlib import Path

from graft.data.dataset import TRAIN, VAL, Dataset, Images, relabel
from graft.errors import DataError, InputError
from graft.weights.saved import ARGUMENTS_FILE
from graft.workflows.arguments import images_of, read_arguments
from graft.workflows.prepare import open_images
from graft.workflows.run import SPLIT_FILE, near, was_refitted


def images_of_run(folder: Path, purpose: str, instead: str) -> tuple[str, Dataset, Images]:
    """Return the location of the run's data, the data themselves, and the images of their val.

    `purpose` (like "to check the export on") and `instead`, the caller's alternative, go into error messages. Raises
    InputError for a model without its run, DataError if its images cannot be opened unchanged.
    """
    source, dataset = _data_of_run(folder, purpose, instead)
    return source, dataset, dataset.splits[VAL]


def trained_images(folder: Path, classes: tuple[str, ...], purpose: str, instead: str) -> dict[str, Images]:
    """Return the images the classifier in `folder` was trained on, by split, with labels that index `classes`.

    Raises what `images_of_run` raises.
    """
    _, dataset = _data_of_run(folder, purpose, instead)
    names = (TRAIN, VAL) if was_refitted(folder) else (TRAIN,)
    splits = relabel(dataset, classes).splits
    return {name: splits[name] for name in names if name in splits and len(splits[name])}


def _data_of_run(folder: Path, purpose: str, instead: str) -> tuple[str, Dataset]:
    if not (folder / ARGUMENTS_FILE).is_file():
        raise InputError(f"expected images {purpose}, got {near(folder)}, which is a model without its run: {instead}")
    arguments = read_arguments(folder)
    if arguments.in_memory:
        raise DataError(
            f"expected images {purpose}, got {near(folder)}, whose images were handed over in Python and have no path: "
            f"{instead}"
        )
    try:
        dataset = open_images(images_of(arguments, folder / SPLIT_FILE))
    except InputError as error:
        raise DataError(f"expected the images of the run {purpose}, got none ({error}): {instead}") from None
    return arguments.data, dataset
