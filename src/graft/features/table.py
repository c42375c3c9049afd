"""Export activations as a table: one row per image, with its path and label."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import IO

from graft.data.dataset import Dataset
from graft.features.cache import Activations
from graft.files import write_aside

# Rows written at a time.
ROWS_PER_GROUP = 4096


def write_vectors(dataset: Dataset, splits: Mapping[str, Activations], out: Path) -> int:
    """Write split, path, label and features of each image to a Parquet file; return the number of rows.

    Several labels of an image share one cell, separated by bars; no labels give an empty text. Raises OSError.
    """
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema(
        [
            *((name, pyarrow.string()) for name in ("split", "path", "label")),
            ("features", pyarrow.list_(pyarrow.float32())),
        ]
    )

    def write(file: IO[bytes]) -> None:
        with pyarrow.parquet.ParquetWriter(file, schema) as writer:
            for split, activations in splits.items():
                rows = iter(range(len(activations.indices)))
                while group := [*islice(rows, ROWS_PER_GROUP)]:
                    items = [dataset.item(split, int(activations.indices[row])) for row in group]
                    values = activations.values[group[0] : group[-1] + 1].flatten(1).float().numpy()
                    columns = [[split] * len(group), [item.name for item in items], [item.label for item in items]]
                    writer.write_table(pyarrow.table([*columns, list(values)], schema=schema))

    write_aside(out, write)
    return sum(len(each.indices) for each in splits.values())
