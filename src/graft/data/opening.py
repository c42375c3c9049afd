"""DATA is one argument, recognised by what it is."""

from contextlib import suppress
from pathlib import Path

from graft.data.dataset import Dataset
from graft.data.folder import SPLIT_FOLDERS, read_folder
from graft.data.idx import is_idx, read_idx
from graft.data.parquet import read_parquet
from graft.errors import DataError


def open_dataset(path: str | Path) -> Dataset:
    """The pictures and labels at `path`, in the splits it has (one called `all` when it has none).

    A folder per class (under `train/ val/ test/` or not), a Parquet file or a folder of them with embedded pictures,
    or IDX files. Nothing is decoded and nothing is written. Raises DataError for anything else.
    """
    path = Path(path)
    # `~nobody` has no home and may well be a folder of that name.
    with suppress(RuntimeError):
        path = path.expanduser()
    try:
        if not path.exists():
            raise DataError(
                f"expected a folder or file of pictures, got {str(path)!r}, which does not exist: check the path"
            )
        return _open(path.resolve())
    except OSError as error:
        raise DataError(
            f"expected pictures that can be read, got {str(path)!r} ({error.strerror or error}): check the path and "
            "its rights"
        ) from None


def _open(path: Path) -> Dataset:
    if is_idx(path):
        return read_idx(path)
    if path.suffix.lower() == ".parquet" or (path.is_dir() and _holds_parquet(path)):
        return read_parquet(path)
    if path.is_dir():
        return read_folder(path)
    raise DataError(
        "expected a folder per class, a Parquet file with embedded pictures or IDX files, "
        f"got the file {str(path)!r}: give the folder that holds the pictures"
    )


def _holds_parquet(folder: Path) -> bool:
    """Whether Parquet files lie in `folder` itself or in its `data/`, and no folder of a split stands beside them."""
    if any(child.is_dir() and child.name.lower() in SPLIT_FOLDERS for child in folder.iterdir()):
        return False
    return any(folder.glob("*.parquet")) or any(folder.glob("data/*.parquet"))
