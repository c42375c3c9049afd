"""graft evaluate"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from graft.cli.output import (
    ClassesOption,
    ClassMapOption,
    Debug,
    EngineOption,
    Json,
    PrecisionOption,
    Quiet,
    Seed,
    print_json,
    say,
    summarise_skipped,
)
from graft.cli.tables import NOTHING_SAID, reads_tables
from graft.data.table_options import TableOptions
from graft.words import counted

if TYPE_CHECKING:
    from graft.evaluation.scores import Scores


@reads_tables
def evaluate(
    run: Annotated[str, typer.Argument(help="A run folder, its model folder, or a file of weights with a classifier.")],
    data: Annotated[str, typer.Argument(help="Labelled images, as for graft train.")],
    split: Annotated[
        str | None, typer.Option(help="The split to evaluate on. By default test, else val, else all images.")
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    classes: ClassesOption = None,
    class_map: ClassMapOption = None,
    table: TableOptions = NOTHING_SAID,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure a classifier on labelled images."""
    from graft.data.dataset import WHOLE
    from graft.progress import reporting
    from graft.workflows.evaluate import evaluate as run_evaluation
    from graft.workflows.prepare import DataOptions

    with reporting(quiet=quiet) as reporter:
        found = run_evaluation(
            run,
            DataOptions(data, table=table),
            split=split,
            engine=engine,
            precision=precision,
            classes_file=classes,
            class_map=class_map,
            reporter=reporter,
        )
        for sentence in found.notes:
            reporter.note(sentence)
    summarise_skipped(found.skipped, quiet)
    if json:
        print_json(found.to_dict())
        return
    # Of data without splits all images are taken: not to be mistaken for the level of that name.
    split = "all images" if found.split == WHOLE else found.split
    if found.scores is not None:
        _print(split, found.scores)
    else:
        say(f"{split}: not measured, since the classifier was trained on all of its images")
    if found.seen is not None:
        say(f"trained on: {found.seen.top1:.1%} of {counted(found.seen.n, 'image')} (optimistic)")


def _print(split: str, scores: Scores) -> None:
    low, high = scores.top1_ci95
    say(f"{split}: {scores.top1:.1%} of {counted(scores.n, 'image')} (95 % interval {low:.1%} to {high:.1%})")
    say(f"majority-class baseline: {scores.majority:.1%}; calibration error {scores.calibration_error:.3f}")
    rows = [row for row in scores.classes if row.recall is not None]
    for row in sorted(rows, key=lambda row: row.recall or 0.0)[:20]:
        precision_text = "–" if row.precision is None else f"{row.precision:.1%}"
        say(f"  {row.name}: recall {row.recall:.1%} (n={row.n:,}), precision {precision_text}")
