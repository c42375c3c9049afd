"""Write predictions as text for people, CSV, TSV, JSON lines, JSON or Parquet, row by row as they arrive.

Every format has the path, the likeliest class with its probability, and the reason when an image could not be decoded.
CSV and TSV have one row per image, ready for pandas: `path, label, probability, label_2, probability_2, …, error`, with
one pair of columns per class asked for. Names are written as `graft.names` defines.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from textwrap import indent
from typing import IO, Any

from graft.errors import GraftError, InputError
from graft.files import write_aside
from graft.names import plain, readable
from graft.serving.prediction import Prediction

# The format that each file extension stands for.
ENDINGS = {
    ".txt": "table",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
FORMATS = tuple(dict.fromkeys(ENDINGS.values()))
# Extensions of files that hold something else than any of these formats, which no program would open.
OTHER_ENDINGS = (".xlsx", ".xls", ".ods", ".arrow", ".feather", ".xml", ".html", ".yaml", ".yml", ".npy", ".npz", ".db")
ROWS_PER_GROUP = 10_000
# Optional fields of a prediction; CSV, TSV and Parquet give each a column.
MORE = ("likeliest", "abstained", "set", "distance")


def columns_for(promises: Mapping[str, Any], several: bool) -> tuple[str, ...]:
    """Return those of `MORE` that a table has, by the promises asked of a classifier of `several` labels or one.

    `promises` are the arguments of `graft.serving.abstaining.rule_for`.
    """
    abstain = bool(promises.get("abstain"))
    unsure = promises.get("error_budget") is not None or abstain
    # With several labels, or none, or a class that is favoured, the likeliest one has to be named.
    asked = (unsure or several or promises.get("recall") is not None, unsure, promises.get("sets") is not None, abstain)
    return tuple(name for name, told in zip(MORE, asked, strict=True) if told)


def choose_format(asked: str | None, out: Path | None) -> str:
    """Return the format asked for, else the one that the extension of `out` stands for, else a table.

    Raises InputError for an unknown format, for an extension that contradicts the format, and for Parquet without a
    file.
    """
    if asked is not None and asked not in FORMATS:
        raise InputError(f"expected one of {', '.join(FORMATS)} for --format, got {asked!r}: choose one of them")
    if out is None:
        if asked == "parquet":
            raise InputError("expected a file for Parquet, got stdout: give --out FILE")
        return asked or "table"
    meant = ENDINGS.get(out.suffix.lower())
    if asked is None and meant is None:
        raise InputError(
            f"expected a name that ends in one of {', '.join(ENDINGS)} for --out, got {out.name!r}: rename it, or say "
            "what to write with --format"
        )
    if asked is not None and out.suffix.lower() in OTHER_ENDINGS:
        raise InputError(
            f"expected --out to end as its format does, got {out.name!r} for {asked}: name it "
            f"{out.with_suffix(next(ending for ending, each in ENDINGS.items() if each == asked)).name!r}"
        )
    if asked is not None and meant not in (None, asked):
        raise InputError(
            f"expected --out to end as its format does, got {out.name!r} for {asked}: rename it, or leave out --format"
        )
    return asked or str(meant)


def write_predictions(
    predictions: Iterator[Prediction],
    format: str,
    out: Path | IO[str],
    top: int,
    more: Sequence[str] = (),
    header: bool = True,
) -> None:
    """Write predictions with `top` classes each, in one of FORMATS, to a file or to a stream of text.

    Tables have a column for each of `more`, a subset of `MORE`; JSON includes these fields wherever they are known.
    Without `header`, CSV and TSV omit the column names, which the stream already has. A regular file is written aside
    and renamed; anything else, for example a named pipe, is written to directly. Raises GraftError when writing fails,
    and BrokenPipeError when nobody reads the stream any more.
    """
    rows = map(_as_written, predictions)

    def write(file: IO[bytes]) -> None:
        if format == "parquet":
            _write_parquet(rows, file, more)
            return
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        _TEXTS[format](rows, text, top, more)
        text.flush()
        text.detach()

    try:
        if not isinstance(out, Path):
            (_TEXTS if header else _TEXTS | _WITHOUT_HEADER)[format](rows, out, top, more)
            out.flush()
        elif out.exists() and not out.is_file():
            with out.open("wb") as file:
                write(file)
        else:
            write_aside(out, write)
    except BrokenPipeError:
        raise
    except OSError as error:
        place = out if isinstance(out, Path) else "the predictions to stdout"
        raise GraftError(
            f"expected to write {place}, got {error.strerror or error}: free space there, or give another --out"
        ) from None


def _as_written(prediction: Prediction) -> Prediction:
    return replace(
        prediction,
        path=plain(prediction.path),
        label=None if prediction.label is None else plain(prediction.label),
        top=tuple((plain(name), probability) for name, probability in prediction.top),
        set=None if prediction.set is None else tuple(map(plain, prediction.set)),
        labels=None if prediction.labels is None else tuple(map(plain, prediction.labels)),
        error=None if prediction.error is None else readable(prediction.error),
    )


def _write_table(predictions: Iterator[Prediction], file: IO[str], top: int, more: Sequence[str]) -> None:
    for prediction in predictions:
        if prediction.error is not None:
            file.write(f"{prediction.path}  error: {prediction.error}\n")
        else:
            names = "  ".join(f"{name} {probability:.1%}" for name, probability in prediction.top)
            names = names if prediction.labels is None else f"{prediction.label or 'no label'}  ({names})"
            names = names if prediction.set is None else f"{names}  set: {', '.join(prediction.set)}"
            names = names if prediction.abstained is None else f"no answer, {prediction.abstained}  ({names})"
            file.write(f"{prediction.path}  {names}\n")


def _write_rows(
    separator: str,
    predictions: Iterator[Prediction],
    file: IO[str],
    top: int,
    more: Sequence[str],
    header: bool = True,
) -> None:
    writer = csv.writer(file, delimiter=separator, lineterminator="\n")
    others = [f"{column}_{place}" for place in range(2, top + 1) for column in ("label", "probability")]
    if header:
        writer.writerow(["path", "label", "probability", *others, *more, "error"])
    for prediction in predictions:
        pairs: list[Any] = [cell for pair in prediction.top[:top] for cell in pair]
        pairs[:1] = [prediction.label] if pairs else []
        told = [_cell(getattr(prediction, name)) for name in more]
        writer.writerow([prediction.path, *pairs, *[None] * (2 * top - len(pairs)), *told, prediction.error])


def _cell(value: Any) -> Any:
    """Return a value as one cell; a set of names becomes JSON, since a name may contain any character."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, tuple) else value


def _write_jsonl(predictions: Iterator[Prediction], file: IO[str], top: int, more: Sequence[str]) -> None:
    for prediction in predictions:
        file.write(json.dumps(prediction.to_dict(), ensure_ascii=False) + "\n")


def _write_json(predictions: Iterator[Prediction], file: IO[str], top: int, more: Sequence[str]) -> None:
    before = "["
    for prediction in predictions:
        row = json.dumps(prediction.to_dict(), indent=2, ensure_ascii=False)
        file.write(f"{before}\n{indent(row, '  ')}")
        before = ","
    file.write("[]\n" if before == "[" else "\n]\n")


_TEXTS: dict[str, Callable[[Iterator[Prediction], IO[str], int, Sequence[str]], None]] = {
    "table": _write_table,
    "csv": partial(_write_rows, ","),
    "tsv": partial(_write_rows, "\t"),
    "jsonl": _write_jsonl,
    "json": _write_json,
}
_WITHOUT_HEADER = {
    "csv": partial(_write_rows, ",", header=False),
    "tsv": partial(_write_rows, "\t", header=False),
}


def _write_parquet(predictions: Iterator[Prediction], file: IO[bytes], more: Sequence[str]) -> None:
    import pyarrow
    import pyarrow.parquet

    top = pyarrow.list_(pyarrow.struct([("label", pyarrow.string()), ("probability", pyarrow.float64())]))
    fields = [("path", pyarrow.string()), ("label", pyarrow.string()), ("probability", pyarrow.float64())]
    kinds = (pyarrow.string(), pyarrow.string(), pyarrow.list_(pyarrow.string()), pyarrow.float64())
    told = [(name, kind) for name, kind in zip(MORE, kinds, strict=True) if name in more]
    schema = pyarrow.schema([*fields, ("top", top), *told, ("error", pyarrow.string())])
    with pyarrow.parquet.ParquetWriter(file, schema) as writer:
        while group := [_parquet_row(prediction) for prediction in islice(predictions, ROWS_PER_GROUP)]:
            writer.write_table(pyarrow.Table.from_pylist(group, schema))


def _parquet_row(prediction: Prediction) -> dict[str, Any]:
    return {
        "path": prediction.path,
        "label": prediction.label,
        "probability": prediction.probability,
        "top": [{"label": name, "probability": probability} for name, probability in prediction.top],
        "likeliest": prediction.likeliest,
        "abstained": prediction.abstained,
        "set": None if prediction.set is None else list(prediction.set),
        "distance": prediction.distance,
        "error": prediction.error,
    }
