"""graft predict"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graft.cli.output import Debug, EngineOption, Json, Overwrite, PrecisionOption, Quiet, Seed, check_new, note
from graft.errors import InputError
from graft.words import counted

if TYPE_CHECKING:
    from graft.serving.predictor import Prediction


def predict(
    run: Annotated[str, typer.Argument(help="A run folder or its model/.")],
    paths: Annotated[list[str], typer.Argument(help="Files, folders, patterns, or - for paths on stdin.")],
    top: Annotated[int, typer.Option(help="How many classes to give for each image.", min=1)] = 5,
    format: Annotated[
        str | None, typer.Option(help="table, csv, tsv, jsonl, json or parquet; what --out ends in by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write there instead of to stdout.")] = None,
    overwrite: Overwrite = False,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Classify images, in the order given; one that cannot be decoded gets an error in its place."""
    from graft.serving.predictor import expand, load
    from graft.serving.writing import choose_format, write_predictions

    if json and format not in (None, "json"):
        raise InputError(f"expected --json or --format, got both (--format {format}): leave one of them out")
    out = None if out is None else out.expanduser()
    chosen = choose_format("json" if json else format, out)
    if out is not None:
        check_new(out, "--out", overwrite)
    classifier = load(run, engine=engine, precision=precision)
    top = min(top, len(classifier.classes))
    failures = 0

    def watched() -> Iterator[Prediction]:
        nonlocal failures
        for prediction in classifier.stream(expand(paths, sys.stdin), top):
            failures += prediction.error is not None
            yield prediction

    write_predictions(watched(), chosen, out or sys.stdout, top)
    if failures:
        note(f"{counted(failures, 'image')} could not be decoded; the output says why", quiet)
