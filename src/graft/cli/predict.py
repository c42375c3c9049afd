"""graft predict"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graft.cli.output import Debug, Json, Overwrite, PrecisionOption, Quiet, Seed, check_new, note, print_json
from graft.cli.process import at_work
from graft.errors import GraftError, InputError
from graft.given import expanded
from graft.names import plain
from graft.words import counted, first_few

if TYPE_CHECKING:
    from graft.serving.predictor import Classifier
    from graft.serving.several_views import Views

# Labels whose number of images is told at the end, the most frequent first.
MOST_TOTALS = 6


def predict(
    run: Annotated[str, typer.Argument(help="Run folder, its model folder, or an exported .onnx or .xml file.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, glob patterns, URLs, archives, manifests or Parquet with images, "
            "or - to read names from stdin."
        ),
    ] = None,
    top: Annotated[int, typer.Option(help="Classes to report per image, most likely first.", min=1)] = 5,
    format: Annotated[
        str | None,
        typer.Option(
            help="Output format: table, csv, tsv, jsonl, json or parquet (default: by the extension of --out)."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead of stdout.")] = None,
    overwrite: Overwrite = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the --out file of an interrupted call.")] = False,
    watch: Annotated[
        Path | None,
        typer.Option(help="Classify the images in this folder, and new ones as they arrive, until interrupted."),
    ] = None,
    tta: Annotated[
        str | None, typer.Option(help="Average over several views of each image: flip, crops or flip,crops.")
    ] = None,
    null: Annotated[
        bool,
        typer.Option(
            "--null", "-0", help="Read NUL-terminated names from stdin, as find -print0 writes them, instead of lines."
        ),
    ] = False,
    error_budget: Annotated[
        str | None,
        typer.Option(help="Withhold unsure answers so that at most this share of the rest is wrong, such as 2%."),
    ] = None,
    sets: Annotated[
        str | None,
        typer.Option(help="Add a set of classes that includes the right one with this probability, such as 90%."),
    ] = None,
    sets_per_class: Annotated[
        bool, typer.Option("--sets-per-class", help="Make the probability of --sets hold within every class.")
    ] = False,
    abstain: Annotated[
        bool, typer.Option("--abstain", help="Give no answer for images unlike those trained on.")
    ] = False,
    recall: Annotated[
        str | None,
        typer.Option(
            help="Answer with a class as soon as its probability is high enough to find this share of its images, "
            "such as defect=95%.",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Engine: auto, torch, openvino, or ray for many processes, with a folder as --out.")
    ] = "auto",
    address: Annotated[
        str | None, typer.Option(help="Ray cluster for --engine ray, such as 10.0.0.1:6379 (default: this machine).")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Actors for --engine ray, one core each (default: all cores).", min=1)
    ] = None,
    precision: PrecisionOption = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Classify images in the order given; one that cannot be decoded gets an error in its place."""
    from graft.serving.gathering import STDIN, gather, read_names
    from graft.serving.job import check_remembered
    from graft.serving.predictor import load
    from graft.serving.several_views import Views
    from graft.serving.writing import choose_format, columns_for
    from graft.workflows import predict as work

    images = images or []
    promises: dict[str, Any] = {
        "error_budget": error_budget,
        "sets": sets,
        "sets_per_class": sets_per_class,
        "abstain": abstain,
        "recall": recall,
    }
    if engine == "ray":
        refused: dict[str, object] = {
            "--watch": watch,
            "--tta": tta,
            "--overwrite": overwrite or None,
            "--format": format,
        }
        _refuse_with_ray([name for name, given in refused.items() if given is not None], images, out)
        wanted_of_ray = {"top": top, "precision": precision, **promises}
        _predict_on_ray(run, images, out, wanted_of_ray, processes, address, null, json, quiet)
        return
    if address is not None or processes is not None:
        raise InputError(f"expected --engine ray with --address and --processes, got --engine {engine}: add it")
    if json and format not in (None, "json"):
        raise InputError(f"expected --json or --format, got both (--format {format}): leave one of them out")
    if bool(images) == (watch is not None):
        came = "both" if images else "neither"
        raise InputError(f"expected images, or a folder to --watch, got {came}: give one of them")
    if resume and (out is None or overwrite):
        came = "--overwrite as well" if overwrite else "none"
        raise InputError(f"expected --out with --resume, and no --overwrite, got {came}: give --out FILE --resume")
    out = None if out is None else out.expanduser()
    chosen = choose_format("json" if json else format, out)
    done = False
    if out is not None:
        _check_outside(out, [str(watch)] if watch else images)
        unfinished = watch is not None or work.is_begun(out)
        done = resume and out.is_file() and not unfinished
        check_new(out, "--out", overwrite or (resume and unfinished) or done)
    if null and STDIN not in images:
        raise InputError("expected - among the images with --null, got none: leave --null out, or add -")
    views = Views.named(tta)
    if len(views) > 1 and any(value not in (None, False) for value in promises.values()):
        raise InputError(
            "expected --error-budget, --sets, --recall and --abstain without --tta, got both: their promises were "
            "measured with one view of each image, so leave --tta out"
        )
    classifier = load(run, engine=engine, precision=precision, singles=watch is not None)
    rule = classifier.rule(**promises)
    more = columns_for(promises, classifier.multi_label)
    wanted = work.Wanted(chosen, out, min(top, len(classifier.classes)), views, rule, more)
    if out is not None and done:
        known = check_remembered(out, work.job_of(run, classifier, wanted))
        rows = work.check_finished(out, chosen, gather(images, read_names(sys.stdin.buffer, null), some_missing=True))
        unknown = "" if known else " (which model and options wrote them is not recorded)"
        note(f"{out} has a row for each of {counted(rows, 'image')}{unknown}: nothing is left to do", quiet)
        return
    # Predictions printed to the terminal show the progress themselves, and a bar would interleave with them.
    with at_work(quiet or (out is None and sys.stdout.isatty())) as reporter:
        if len(views) > 1 and not quiet:
            note(f"--tta {views}: {_gain(run, classifier, views)}")
        job = work.job_of(run, classifier, wanted)
        if watch is not None:
            folder = watch.expanduser()
            work.watch(classifier, folder, wanted, job, resume=resume, overwrite=overwrite, reporter=reporter)
            return
        given = gather(images, read_names(sys.stdin.buffer, null), reporter, some_missing=True)
        count = work.predict(classifier, given, wanted, job, resume=resume, overwrite=overwrite, reporter=reporter)
    if count.with_nul:
        note("names on stdin contain NUL characters, as find -print0 writes them: add -0 to split them there", quiet)
    if count.done and count.failed == count.done:
        raise GraftError(
            f"expected images, got {counted(count.failed, 'file')}, none of which could be decoded: see the output "
            "for the reasons"
        )
    if not count.done:
        note("no images were named on stdin", quiet)
    if out is not None and count.labels:
        every = (f"{number:,} {plain(label)}" for label, number in count.labels.most_common())
        note(f"{out} has the answers for {counted(count.done, 'image')}: {first_few(every, MOST_TOTALS)}", quiet)
    if count.unanswered:
        note(
            f"{count.unanswered:,} of {counted(count.done, 'image')} have no answer, as asked; the output says why",
            quiet,
        )
    if count.failed:
        note(f"{count.failed:,} of {counted(count.done, 'image')} could not be decoded; the output says why", quiet)


def _refuse_with_ray(options: list[str], images: list[str], out: Path | None) -> None:
    if options:
        raise InputError(f"expected --engine ray without {options[0]}, got both: leave one of them out")
    if not images or out is None:
        missing = "images" if not images else "--out"
        raise InputError(f"expected images and --out FOLDER with --engine ray, got no {missing}: name both")
    if out.is_file():
        raise InputError(f"expected a folder for --out with --engine ray, got the file {out}: name a folder")


def _predict_on_ray(
    run: str,
    images: list[str],
    out: Path | None,
    asked: dict[str, Any],
    processes: int | None,
    address: str | None,
    null: bool,
    json: bool,
    quiet: bool,
) -> None:
    """Write Parquet in parts; a repeated call resumes from the parts that an earlier one left."""
    from graft.serving.gathering import gather, read_names
    from graft.serving.on_ray import predict_on_ray

    assert out is not None
    out = out.expanduser()
    _check_outside(out, images)
    with at_work(quiet) as reporter:
        given = gather(images, read_names(sys.stdin.buffer, null), reporter, some_missing=True)
        done = predict_on_ray(run, given, out, asked, processes=processes, address=address, reporter=reporter)
    if json:
        print_json({"out": str(out), **asdict(done)})
    if done.before:
        note(f"{done.before:,} of {counted(done.rows, 'row')} were there before", quiet)
    note(f"{out} has a row for each of {counted(done.rows, 'image')}", quiet)
    if done.failed:
        note(f"{done.failed:,} of {counted(done.rows, 'image')} could not be decoded; the output says why", quiet)


def _gain(run: str, classifier: Classifier, views: Views) -> str:
    """Say what several views gain on the run's validation images, or why that is unknown."""
    from graft.workflows.predict import measured_gain

    try:
        return str(measured_gain(run, classifier, views))
    except GraftError as error:
        return f"its gain cannot be measured here ({error})"


def _check_outside(out: Path, images: list[str]) -> None:
    """Refuse to write into a folder that is being classified: input is only read. Raises InputError."""
    for name in images:
        folder = expanded(name)
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            raise InputError(f"expected --out outside the images, got {str(out)!r}, inside {folder}: give another")
