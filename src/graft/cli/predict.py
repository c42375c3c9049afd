"""graft predict"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graft.cli.output import Debug, EngineOption, Json, Overwrite, PrecisionOption, Quiet, Seed, check_new, note
from graft.errors import GraftError, InputError
from graft.words import counted

if TYPE_CHECKING:
    from graft.progress import Reporter
    from graft.serving.predictor import Prediction


def predict(
    run: Annotated[str, typer.Argument(help="A run folder or its model folder.")],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, patterns, addresses, archives, manifests or Parquet with images, "
            "or - for names on stdin."
        ),
    ],
    top: Annotated[int, typer.Option(help="Classes to report per image, likeliest first.", min=1)] = 5,
    format: Annotated[
        str | None, typer.Option(help="table, csv, tsv, jsonl, json or parquet. By default what --out ends in.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of stdout.")] = None,
    overwrite: Overwrite = False,
    null: Annotated[
        bool, typer.Option("--null", "-0", help="Names on stdin end in NUL, as those of find -print0, not in newlines.")
    ] = False,
    error_budget: Annotated[
        str | None,
        typer.Option(help="Answer only where at most this part of the answers is wrong, such as 2%."),
    ] = None,
    sets: Annotated[
        str | None, typer.Option(help="Add the classes among which the right one is with this chance, such as 90%.")
    ] = None,
    sets_per_class: Annotated[
        bool, typer.Option("--sets-per-class", help="The chance of --sets holds within every class.")
    ] = False,
    abstain: Annotated[
        bool, typer.Option("--abstain", help="Do not answer for images unlike those trained on.")
    ] = False,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Classify images, in the order given; one that cannot be decoded gets an error in its place."""
    from graft.progress import reporting
    from graft.serving.abstaining import rule_for
    from graft.serving.gathering import STDIN, gather, read_names
    from graft.serving.predictor import load
    from graft.serving.writing import MORE, choose_format, write_predictions

    if json and format not in (None, "json"):
        raise InputError(f"expected --json or --format, got both (--format {format}): leave one of them out")
    out = None if out is None else out.expanduser()
    chosen = choose_format("json" if json else format, out)
    if out is not None:
        check_new(out, "--out", overwrite)
        _check_outside(out, images)
    if null and STDIN not in images:
        raise InputError("expected - among the images with --null, got none: leave --null out, or add -")
    classifier = load(run, engine=engine, precision=precision)
    rule = rule_for(
        classifier.calibration, error_budget=error_budget, sets=sets, sets_per_class=sets_per_class, abstain=abstain
    )
    asked = (error_budget is not None or abstain, sets is not None, abstain)
    more = tuple(name for name, wanted in zip(MORE, asked, strict=True) if wanted)
    given = gather(images, read_names(sys.stdin.buffer, null))
    top, target = min(top, len(classifier.classes)), out or sys.stdout
    done = failed = with_nul = unanswered = 0

    def watched(reporter: Reporter) -> Iterator[Prediction]:
        nonlocal done, failed, with_nul, unanswered
        for prediction in classifier.stream(given, top, rule):
            yield prediction
            unanswered += prediction.abstained is not None
            done, failed = done + 1, failed + (prediction.error is not None)
            with_nul += "\0" in prediction.path
            if given.count is not None:
                reporter.step("images", done, given.count)

    # Predictions that go to the terminal show themselves how far it is, and a bar would stand among them.
    with reporting(quiet=quiet or (out is None and sys.stdout.isatty())) as reporter:
        write_predictions(watched(reporter), chosen, target, top, more)
    if with_nul:
        note("names on stdin have NUL in them, as those of find -print0: add -0 to read each up to there", quiet)
    if done and failed == done:
        raise GraftError(
            f"expected images, got {counted(failed, 'file')} of which none could be decoded: see the output for the "
            "reasons"
        )
    if not done:
        note("no images were named on stdin", quiet)
    if unanswered:
        note(f"{unanswered:,} of {counted(done, 'image')} have no answer, as asked; the output says why", quiet)
    if failed:
        note(f"{failed:,} of {counted(done, 'image')} could not be decoded; the output says why", quiet)


def _check_outside(out: Path, images: list[str]) -> None:
    """Refuse to write into a folder that is classified: what is there is only read. Raises InputError."""
    for name in images:
        folder = Path(name)
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"expected --out outside the images, got {str(out)!r}, inside {folder}: give another")
