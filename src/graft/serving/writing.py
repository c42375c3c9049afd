"""Predictions as text for people, as CSV, as JSON lines or as Parquet; written as they come."""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from graft.errors import GraftError, InputError
from graft.serving.predictor import Prediction

ROWS_PER_GROUP = 10_000


def write_predictions(predictions: Iterator[Prediction], format: str, out: Path | None) -> None:
    """Write to `out` (aside, then renamed) or stdout. `format` is table, csv, jsonl, json or parquet.

    Raises InputError for Parquet without a file, GraftError for a file that cannot be written.
    """
    if format == "parquet" and out is None:
        raise InputError("expected a file for Parquet, got stdout: give --out FILE")
    if out is None:
        _WRITERS[format](predictions, sys.stdout)
        sys.stdout.flush()
        return
    aside = out.with_name(f".{out.name}.{uuid4().hex[:8]}.partial")
    try:
        if format == "parquet":
            _write_parquet(predictions, aside)
        else:
            with aside.open("w", encoding="utf-8", newline="") as file:
                _WRITERS[format](predictions, file)
        aside.replace(out)
    except OSError as error:
        raise GraftError(f"expected to write {out}, got {error.strerror or error}: give another --out") from None
    finally:
        aside.unlink(missing_ok=True)


def _write_table(predictions: Iterator[Prediction], file: IO[str]) -> None:
    for prediction in predictions:
        if prediction.error is not None:
            file.write(f"{prediction.path}  error: {prediction.error}\n")
        else:
            names = "  ".join(f"{name} {probability:.1%}" for name, probability in prediction.top)
            file.write(f"{prediction.path}  {names}\n")


def _write_csv(predictions: Iterator[Prediction], file: IO[str]) -> None:
    writer = csv.writer(file)
    writer.writerow(["path", "label", "probability", "error"])
    for prediction in predictions:
        writer.writerow([prediction.path, prediction.label, prediction.probability, prediction.error])


def _write_jsonl(predictions: Iterator[Prediction], file: IO[str]) -> None:
    for prediction in predictions:
        file.write(json.dumps(prediction.to_dict(), ensure_ascii=False) + "\n")


def _write_json(predictions: Iterator[Prediction], file: IO[str]) -> None:
    rows = [prediction.to_dict() for prediction in predictions]
    file.write(json.dumps(rows, indent=2, ensure_ascii=False) + "\n")


_WRITERS = {"table": _write_table, "csv": _write_csv, "jsonl": _write_jsonl, "json": _write_json}


def _write_parquet(predictions: Iterator[Prediction], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    top = pyarrow.list_(pyarrow.struct([("label", pyarrow.string()), ("probability", pyarrow.float64())]))
    fields = [("path", pyarrow.string()), ("label", pyarrow.string()), ("probability", pyarrow.float64())]
    schema = pyarrow.schema([*fields, ("top", top), ("error", pyarrow.string())])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        rows: list[dict[str, Any]] = []
        for prediction in predictions:
            likeliest = [{"label": name, "probability": probability} for name, probability in prediction.top]
            rows.append(
                {
                    "path": prediction.path,
                    "label": prediction.label,
                    "probability": prediction.probability,
                    "top": likeliest,
                    "error": prediction.error,
                }
            )
            if len(rows) == ROWS_PER_GROUP:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
                rows = []
        writer.write_table(pyarrow.Table.from_pylist(rows, schema))
