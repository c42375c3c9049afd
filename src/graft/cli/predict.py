"""graft predict"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graft.cli.output import Debug, EngineOption, Json, PrecisionOption, Quiet, Seed, note
from graft.errors import InputError

if TYPE_CHECKING:
    from graft.serving.predictor import Prediction

FORMATS = ("table", "csv", "jsonl", "parquet")


def predict(
    run: Annotated[str, typer.Argument(help="A run folder or its model/.")],
    paths: Annotated[list[str], typer.Argument(help="Files, folders, patterns, or - for paths on stdin.")],
    top: Annotated[int, typer.Option(help="How many classes to give for each image.", min=1)] = 5,
    format: Annotated[str | None, typer.Option(help="table, csv, jsonl or parquet.")] = None,
    out: Annotated[str | None, typer.Option(help="Write there instead of to stdout.")] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Name images, in the order given; one that cannot be decoded gets an error in its place."""
    from graft.serving.predictor import expand, load
    from graft.serving.writing import write_predictions

    name = format or ("json" if json else "table")
    if format is not None and format not in FORMATS:
        raise InputError(f"expected one of {', '.join(FORMATS)} for --format, got {format!r}: choose one of them")
    classifier = load(run, engine=engine, precision=precision)
    failures = 0

    def counted() -> Iterator[Prediction]:
        nonlocal failures
        for prediction in classifier.stream(expand(paths, sys.stdin), top):
            failures += prediction.error is not None
            yield prediction

    write_predictions(counted(), name, Path(out) if out else None)
    if failures:
        note(f"{failures} image(s) could not be decoded; they carry an error in the output", quiet)
