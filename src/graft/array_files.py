"""Named arrays from files of NumPy (`.npz`, `.npy`), MATLAB (`.mat`) and HDF5 (`.h5`), read without executing anything.

Pickled NumPy objects are refused, MATLAB objects and functions are read as plain data, and HDF5 links are not followed.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from struct import unpack
from typing import Any

import numpy as np

from graft.bombs import bomb, bomb_limit
from graft.errors import DataError

ENDINGS = (".npz", ".npy", ".mat", ".h5", ".hdf5")
# The MATLAB element type for compressed data, and the header of a MATLAB file that is HDF5 inside.
_COMPRESSED, _MATLAB_7_3 = 15, b"MATLAB 7.3"
# Larger files hold more than image numbers.
_MOST_OF_NUMBERS = 2**24


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays in a file by name. Raises DataError for an unsupported or unreadable file, and for a bomb."""
    loaders = {".npz": _npz, ".npy": _npy, ".mat": _mat}
    if not path.is_file():
        # Reading a pipe or a device would never end.
        raise DataError(f"expected a file of arrays, got {path.name}, which is not one: replace or remove it")
    try:
        return loaders.get(path.suffix.lower(), _hdf5)(path)
    except DataError:
        raise
    except Exception as error:  # zip, zlib and the array readers raise errors of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(
            f"expected arrays of numbers in {path.name}, got what cannot be read or would have to be unpickled "
            f"({reason}): save it again with numpy.savez, without objects"
        ) from None


def _npz(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as opened:
        if sum(each.file_size for each in opened.infolist()) > bomb_limit(path):
            raise bomb(path)
    with np.load(path, allow_pickle=False) as found:
        return {name: found[name] for name in found.files}


def _npy(path: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, allow_pickle=False)}


def _mat(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat

    with path.open("rb") as file:
        beginning = file.read(len(_MATLAB_7_3))
    if beginning == _MATLAB_7_3:
        # MATLAB 7.3 stores the axes in the opposite order.
        return {name: array.T for name, array in _hdf5(path).items()}
    if beginning.startswith(b"MATLAB 5"):
        _refuse_bomb(path)
    values: dict[str, Any] = loadmat(path)
    return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}


def _refuse_bomb(path: Path) -> None:
    """Raise DataError if the compressed parts of a MATLAB file expand beyond the bomb limit."""
    size, most = 0, bomb_limit(path)
    with path.open("rb") as file:
        file.seek(126)
        order = "<" if file.read(2) == b"IM" else ">"
        while len(head := file.read(8)) == 8:
            kind, left = unpack(f"{order}II", head)
            if kind != _COMPRESSED:
                file.seek(left, 1)
                continue
            inflating, block = zlib.decompressobj(), b""
            while left > 0 and (block := file.read(min(left, 2**20))):
                left -= len(block)
                while block:
                    size += len(inflating.decompress(block, 2**20))
                    block = inflating.unconsumed_tail
                    if size > most:
                        raise bomb(path)


def _hdf5(path: Path) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError:
        raise DataError(
            f"expected the package 'h5py' to read {path.name}, which is HDF5{' (MATLAB 7.3)' * (path.suffix == '.mat')}"
            ", and it is not installed: pip install 'graft-vision[hdf5]', or save the arrays with numpy.savez"
        ) from None
    with h5py.File(path, "r") as file:
        # Links, virtual data sets and external data may lead to other files on this machine.
        own = [file[name] for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        found = [each for each in own if isinstance(each, h5py.Dataset) and not each.external and not each.is_virtual]
        if sum(each.nbytes for each in found) > bomb_limit(path):
            raise bomb(path)
        return {each.name.strip("/"): np.asarray(each[()]) for each in found}


def vectors(path: Path) -> dict[str, np.ndarray]:
    """Return the integer vectors in a MATLAB file by name, int64 (N,); empty for a large file."""
    if path.suffix.lower() != ".mat" or path.stat().st_size > _MOST_OF_NUMBERS:
        return {}
    try:
        arrays = load_arrays(path)
    except DataError:
        return {}
    numbers = {
        name: array.ravel()
        for name, array in arrays.items()
        if array.dtype.kind in "iuf" and max(array.shape, default=0) == array.size > 1
    }
    whole = {name: array for name, array in numbers.items() if np.isfinite(array).all()}
    return {name: array.astype(np.int64) for name, array in whole.items() if (array == np.rint(array)).all()}


def matlab_columns(path: Path) -> dict[str, list[str]]:
    """Return the lists in a MATLAB file by name, as in Stanford's Cars and Dogs: the longest columns of equal length.

    One-based class numbers are replaced by the names listed beside them. Raises DataError for an unreadable file.
    """
    found: dict[str, list[str]] = {}
    for name, value in load_arrays(path).items():
        if value.dtype.names:
            found |= {field: [_text(each) for each in value[field].ravel()] for field in value.dtype.names}
        elif value.ndim == 1 or (value.ndim == 2 and 1 in value.shape):
            found[name] = [_text(each) for each in value.ravel()]
    lengths = [len(cells) for cells in found.values() if any(not cell.replace(".", "").isdigit() for cell in cells)]
    columns = {name: cells for name, cells in found.items() if len(cells) == max(lengths, default=-1)}
    for name, cells in columns.items():
        for names in (other for called, other in found.items() if called not in columns and "name" in called):
            numbers = [int(cell) if cell.isdigit() else 0 for cell in cells]
            if "class" in name.lower() or "label" in name.lower():
                fitting = min(numbers) > 0 and max(numbers) <= len(names)
                columns[name] = [names[number - 1] for number in numbers] if fitting else columns[name]
    return columns


def _text(value: Any) -> str:
    while isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int | float | np.number) else ""
