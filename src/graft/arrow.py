"""Convert pyarrow columns from and to Python through their buffers.

`pyarrow.array` and `to_numpy` import pandas wherever it is installed, which takes longer than listing ten thousand
files.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow


def as_numpy(column: pyarrow.Array) -> np.ndarray:
    """Return a column (N,) of integers, floats or booleans without nulls in numpy's type of the same name.

    Raises ValueError for a column with nulls.
    """
    import pyarrow

    if column.null_count:
        raise ValueError(f"expected a column without nulls, got {column.null_count}: fill them first")
    truth = pyarrow.types.is_boolean(column.type)
    # Eight booleans share a byte.
    whole = column.cast(pyarrow.uint8()) if truth else column
    _, values = whole.buffers()
    if not len(whole) or values is None:
        return np.empty(0, bool if truth else whole.type.to_pandas_dtype())
    found = np.frombuffer(values, whole.type.to_pandas_dtype())[whole.offset : whole.offset + len(whole)]
    return found.astype(bool) if truth else found


def binary_array(values: Iterable[bytes]) -> pyarrow.LargeBinaryArray:
    """Build a large_binary array (N,)."""
    import pyarrow

    values = list(values)
    offsets = np.cumsum([0, *map(len, values)], dtype=np.int64)
    buffers = [None, pyarrow.py_buffer(offsets), pyarrow.py_buffer(b"".join(values))]
    return pyarrow.LargeBinaryArray.from_buffers(pyarrow.large_binary(), len(values), buffers)
