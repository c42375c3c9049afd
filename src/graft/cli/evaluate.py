"""graft evaluate"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graft.cli.output import (
    ArchOption,
    ClassesOption,
    ClassMapOption,
    Debug,
    EngineOption,
    GroupOption,
    ImageSizeOption,
    Json,
    MeanOption,
    Overwrite,
    PrecisionOption,
    Quiet,
    Seed,
    StdOption,
    check_new,
    note,
    print_json,
    say,
    say_robustness,
    summarise_skipped,
)
from graft.cli.outright import refuse_without
from graft.cli.process import at_work
from graft.cli.tables import NOTHING_SAID, reads_tables
from graft.data.table_options import TableOptions
from graft.errors import InputError
from graft.names import plain
from graft.words import counted, in_percent, independent

# Folders and groups whose accuracy is printed, those that do worst.
MOST_PARTS = 20

if TYPE_CHECKING:
    from graft.evaluation.label_scores import LabelScores
    from graft.evaluation.scores import Scores
    from graft.workflows.promises import Promises


@reads_tables
def evaluate(
    run: Annotated[str, typer.Argument(help="Run folder, its model folder, or a weight file with a classifier.")],
    data: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN_B] DATA", help="Labelled images, as for graft train, optionally preceded by a second run."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to evaluate on (default: test, else val, else all images).")
    ] = None,
    group: GroupOption = None,
    known_only: Annotated[
        bool, typer.Option("--known-only", help="Leave out images of classes the classifier does not know.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the label, the answer and its probability for each image to this CSV file."),
    ] = None,
    overwrite: Overwrite = False,
    slices: Annotated[
        bool,
        typer.Option("--slices", help="Compare subsets of the images by size, brightness, blur, folder and group."),
    ] = False,
    unlike: Annotated[
        str | None,
        typer.Option(help="Other images, to measure how well the classifier tells them from those trained on."),
    ] = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Measure on images corrupted in twelve ways at five severities.")
    ] = False,
    robustness_time: Annotated[
        str, typer.Option(help="Time limit for --robustness, such as 2m; determines how many images it uses.")
    ] = "1m",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    arch: ArchOption = None,
    classes: ClassesOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    image_size: ImageSizeOption = None,
    class_map: ClassMapOption = None,
    table: TableOptions = NOTHING_SAID,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    context: typer.Context = None,  # type: ignore[assignment]  # typer gives it, by its type
) -> None:
    """Measure a classifier on labelled images, or find out which of two runs is better."""
    if not robustness:
        refuse_without("--robustness", {"robustness_time": "--robustness-time"}, context)
    if not data:
        raise InputError(
            f"expected labelled images to evaluate {run} on, got none: name them after it; `graft report {run}` tells "
            "of a run's own val and test"
        )
    if len(data) > 2:
        raise InputError(f"expected RUN DATA or RUN_A RUN_B DATA, got {len(data) + 1} paths: leave some out")
    if len(data) == 2:
        given: dict[str, object] = {"--classes": classes, "--class-map": class_map, "--unlike": unlike}
        given |= {"--arch": arch, "--mean": mean, "--std": std, "--image-size": image_size}
        given |= {"--slices": slices, "--robustness": robustness, "--out": out}
        wrong = [name for name, value in given.items() if value]
        if wrong:
            raise InputError(f"expected {wrong[0]} with one run, got two: leave it out, or evaluate each on its own")
        places = (run, data[0], data[1])
        _evaluate_two(places, group, split, known_only, engine, precision, table, json, quiet)
        return
    from graft.data.dataset import WHOLE
    from graft.files import write_table_aside
    from graft.weights.model_files import gives_several_labels
    from graft.workflows.answer_list import write_answer_list
    from graft.workflows.contact_sheet import check_outside
    from graft.workflows.evaluate import LabelEvaluation
    from graft.workflows.evaluate import evaluate as run_evaluation
    from graft.workflows.prepare import BaseOptions, DataOptions
    from graft.workflows.robustness import check_robustness, evaluate_robustness

    if robustness:
        check_robustness(gives_several_labels(run), robustness_time)
    if out is not None:
        check_outside(out, (data[0],), "--out", ".csv")
        check_new(out, "--out", overwrite)
    with at_work(quiet) as reporter:
        found = run_evaluation(
            BaseOptions(run, arch, image_size=image_size, mean=mean, std=std),
            DataOptions(data[0], group, table=table),
            split=split,
            known_only=known_only,
            slices=slices,
            unlike=unlike,
            engine=engine,
            precision=precision,
            classes_file=classes,
            class_map=class_map,
            reporter=reporter,
        )
        for sentence in found.notes:
            reporter.note(sentence)
        if out is not None:
            # The answers first: what is measured beside them may fail.
            write_table_aside(out, partial(write_answer_list, found.answered))
        held = None
        if robustness and (found.scores is not None or isinstance(found, LabelEvaluation)):
            held = evaluate_robustness(found, time_limit=robustness_time, reporter=reporter)
    summarise_skipped(found.skipped, quiet)
    if out is not None:
        note(f"{out} has the answers for {counted(len(found.answered.seen) + len(found.skipped), 'image')}", quiet)
    if json:
        print_json({**found.to_dict(), **({} if held is None else {"robustness": held.to_dict()})})
        return
    # For data without splits, the split would read `all`, which is also the name of a level.
    split = "all images" if found.split == WHOLE else found.split
    if isinstance(found, LabelEvaluation) and found.labels is not None:
        _print_labels(split, found.labels)
    elif found.scores is not None:
        _print(split, found.scores)
    else:
        say(f"{split}: not measured, since the classifier was trained on all of its images")
    if found.promises is not None:
        _print_promises(found.promises)
    for part in found.slices or ():
        if part.flagged:
            say(
                f"worse, {plain(part.name)}: {in_percent(part.top1)} of {counted(part.n, 'image')}, where "
                f"{in_percent(part.expected)} is expected of their classes (p = {part.p_value:.2g}, corrected for the "
                "number of slices)"
            )
    if found.slices is not None:
        from graft.evaluation.slices import why_no_parts

        for attribute in ("folder", "group"):
            parts = sorted((part for part in found.slices if part.attribute == attribute), key=lambda part: part.top1)
            for part in parts[:MOST_PARTS]:
                low, high = part.top1_ci95
                say(
                    f"{attribute} {plain(part.value)}: {in_percent(part.top1)} of {counted(part.n, 'image')} "
                    f"(95 % interval {in_percent(low)} to {in_percent(high)})"
                )
            if len(parts) > MOST_PARTS:
                say(f"{counted(len(parts) - MOST_PARTS, f'more {attribute}')} in --json")
        by = ", ".join(dict.fromkeys(part.attribute for part in found.slices))
        none = "" if any(part.flagged for part in found.slices) else "; none stands out"
        if by:
            say(f"compared {counted(len(found.slices), 'part')} of the images by {by}{none}")
        else:
            say(why_no_parts(0 if found.scores is None else found.scores.n))
    say(f"answered by {found.engine}")
    if found.unlike is not None:
        strange = found.unlike
        known = "" if strange.detected is None else f"; {in_percent(strange.detected)} of them are detected as unlike"
        say(
            f"images of {plain(strange.unlike)} are told from these with an area under the ROC curve of "
            f"{strange.roc_area:.3f}{known}"
        )
    if held is not None:
        say_robustness(held.to_dict())
    if isinstance(found, LabelEvaluation) and found.labels_seen is not None:
        figure = found.labels_seen.mean_average_precision
        shown = "not measured" if figure is None else f"mean average precision {in_percent(figure)}"
        say(f"trained on: {shown} of {counted(found.labels_seen.n, 'image')} (optimistic)")
    if found.seen is not None:
        say(f"trained on: {in_percent(found.seen.top1)} of {counted(found.seen.n, 'image')} (optimistic)")


def _evaluate_two(
    places: tuple[str, str, str],
    group: str | None,
    split: str | None,
    known_only: bool,
    engine: str,
    precision: str,
    table: TableOptions,
    json: bool,
    quiet: bool,
) -> None:
    from graft.workflows.contest import evaluate_two
    from graft.workflows.prepare import DataOptions

    with at_work(quiet) as reporter:
        found = evaluate_two(
            *places[:2],
            DataOptions(places[2], group, table=table),
            split=split,
            known_only=known_only,
            engine=engine,
            precision=precision,
            reporter=reporter,
        )
        for sentence in found.notes:
            reporter.note(sentence)
    if json:
        print_json(found.to_dict())
        return
    for name, scores in zip(found.models, found.scores, strict=True):
        say(f"{plain(name)}: {in_percent(scores.top1)} of {counted(scores.n, 'image')} ({scores.interval})")
    difference = found.difference
    low, high = (100 * bound for bound in difference.ci95)
    over = "" if difference.groups is None else f" over {counted(difference.groups, 'group')}"
    say(f"difference {100 * difference.difference:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}{over})")
    chance = "" if difference.p_value is None else f"; McNemar's exact test p = {difference.p_value:.2g}"
    say(f"only the first is right on {difference.first:,}, only the second on {difference.second:,}{chance}")


def _print_promises(promises: Promises) -> None:
    from graft.evaluation.error_budget import why_unreachable

    for row in promises.budgets:
        if not row["reachable"]:
            reason = why_unreachable(row["independent"], row["needed"])
            held_out = independent(row["independent"], row["held_out"])
            say(f"error budget {row['budget']:.0%}: not reachable with {held_out} held out: {reason}")
        else:
            broken = " (more than promised)" * (row["wrong"] > row["budget"] * row["answered"])
            say(f"error budget {row['budget']:.0%}: {row['wrong']:,} wrong of {row['answered']:,} answered{broken}")
    for row in promises.sets:
        say(
            f"sets of {row['coverage']:.0%}: contain the right class for {in_percent(row['held'])}, "
            f"{row['mean_size']:.2f} classes"
        )


def _print_labels(split: str, scores: LabelScores) -> None:
    figure = scores.mean_average_precision
    if figure is None:
        say(
            f"{split}: not measured, as no label is present on some of {counted(scores.n, 'image')} and absent from "
            "others"
        )
    else:
        say(
            f"{split}: mean average precision {in_percent(figure)} of {counted(scores.n, 'image')} "
            f"({scores.interval}); a random order gets {in_percent(scores.baseline or 0.0)}"
        )
    say(
        f"micro F1 {scores.micro_f1:.3f}, macro F1 {scores.macro_f1:.3f}; all labels correct for "
        f"{in_percent(scores.exact)}"
    )
    for row in sorted(scores.classes, key=lambda row: (row.average_precision is None, row.average_precision or 0.0))[
        :20
    ]:
        cells = [
            "–" if each is None else in_percent(each) for each in (row.average_precision, row.precision, row.recall)
        ]
        say(
            f"  {row.name}: average precision {cells[0]} (n={row.n:,}), from {row.threshold:.2f} on precision "
            f"{cells[1]}, recall {cells[2]}"
        )


def _print(split: str, scores: Scores) -> None:
    say(f"{split}: {in_percent(scores.top1)} of {counted(scores.n, 'image')} ({scores.interval})")
    more = "" if scores.top5 is None else f"; top-5 {in_percent(scores.top5)}"
    say(f"balanced accuracy {in_percent(scores.balanced_accuracy)}, macro F1 {scores.macro.f1:.3f}{more}")
    say(f"majority-class baseline: {in_percent(scores.majority)}; calibration error {scores.calibration_error:.3f}")
    rows = [row for row in scores.classes if row.recall is not None]
    for row in sorted(rows, key=lambda row: row.recall or 0.0)[:20]:
        precision_text = "–" if row.precision is None else in_percent(row.precision)
        say(f"  {row.name}: recall {in_percent(row.recall or 0.0)} (n={row.n:,}), precision {precision_text}")
