"""Columns of pyarrow by their buffers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image

from graft.arrow import as_numpy, binary_array


@pytest.mark.parametrize("kind", [pyarrow.int8(), pyarrow.int32(), pyarrow.uint64(), pyarrow.float32()])
def test_numbers_are_those_of_the_column_in_its_own_type_and_from_where_a_part_begins(kind: pyarrow.DataType) -> None:
    column = pyarrow.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3], kind)
    for part in (column, column[3:8], column[:0]):
        assert as_numpy(part).tolist() == part.to_pylist()
        assert as_numpy(part).dtype == np.dtype(kind.to_pandas_dtype())


def test_truth_is_unpacked_from_its_bits_wherever_a_part_begins() -> None:
    column = pyarrow.array([number % 3 == 0 for number in range(40)])
    for part in (column, column[5:31], column[:0]):
        assert as_numpy(part).tolist() == part.to_pylist() and as_numpy(part).dtype == bool


def test_a_column_with_gaps_is_refused() -> None:
    with pytest.raises(ValueError, match="without nulls, got 1"):
        as_numpy(pyarrow.array([1, None, 3]))


def test_bytes_are_kept_as_they_are() -> None:
    values = [b"ants/1.jpg", b"", b"\xff\x00/2.jpg"]
    assert binary_array(iter(values)).to_pylist() == values and len(binary_array([])) == 0


def test_folders_are_read_without_pandas(tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    for name in ("ants", "bees"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.png")
    read = "import sys; from graft.data.opening import open_dataset; open_dataset(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", read, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "pyarrow" in done.stdout.split() and "pandas" not in done.stdout.split()
