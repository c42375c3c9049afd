"""graft advise"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graft.cli.output import (
    ArchOption,
    AuditOption,
    Debug,
    EngineOption,
    GroupOption,
    ImageSizeOption,
    Json,
    MeanOption,
    PrecisionOption,
    Quiet,
    ResizeOption,
    Seed,
    SplitFileOption,
    StdOption,
    TestOption,
    ValOption,
    print_json,
    say,
    show,
)
from graft.cli.process import at_work
from graft.cli.tables import NOTHING_SAID, reads_tables
from graft.data.table_options import TableOptions
from graft.progress import Table
from graft.weights.packaged import DEFAULT_BASE

if TYPE_CHECKING:
    from graft.transfer.advisor import Advice
    from graft.workflows.advise import BaseAdvice


@reads_tables
def advise(
    data: Annotated[str, typer.Argument(help="Labelled images, as for graft train.")],
    base: Annotated[
        str, typer.Option(help="Network to assess, as for graft train; several, separated by commas, are compared.")
    ] = DEFAULT_BASE,
    arch: ArchOption = None,
    image_size: ImageSizeOption = None,
    resize: ResizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    race: Annotated[bool, typer.Option(help="Try the plausible levels on the images.")] = True,
    plot: Annotated[Path | None, typer.Option(help="Write a PNG chart of shift, probe and race.")] = None,
    group: GroupOption = None,
    split_file: SplitFileOption = None,
    val: ValOption = None,
    test: TestOption = None,
    table: TableOptions = NOTHING_SAID,
    audit: AuditOption = True,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure how well a base suits the images and recommend how much of it to keep, without a full training run."""
    from graft.transfer.chart import draw_advice
    from graft.workflows.advise import advise_bases
    from graft.workflows.contact_sheet import check_png
    from graft.workflows.prepare import BaseOptions, DataOptions

    if plot is not None:
        check_png(plot, (data, val, test), "--plot")
    with at_work(quiet) as reporter:
        found = advise_bases(
            DataOptions(data, group, split_file, table, val, test),
            [
                BaseOptions(name.strip(), arch, image_size=image_size, resize_mode=resize, mean=mean, std=std)  # type: ignore[arg-type]
                for name in base.split(",")
                if name.strip()
            ],
            engine=engine,
            precision=precision,
            audit=audit,
            seed=seed,
            with_race=race,
            reporter=reporter,
        )
    best = found[0].advice
    if json:
        others = {} if len(found) == 1 else {"base": found[0].base, "bases": [each.to_dict() for each in found]}
        print_json({**best.to_dict(), **others})
    else:
        if len(found) > 1:
            show(_bases(found))
            say()
        _print(best)
    if plot is not None:
        draw_advice(best, plot)
        if not json:
            say(f"drawn in {plot}")


def _print(advice: Advice) -> None:
    from graft.transfer.advice_table import RACE_COLUMNS, STAGE_COLUMNS, outcome, race_rows, reasons, stage_rows

    show(Table("", STAGE_COLUMNS, tuple(stage_rows(advice))))
    if advice.race:
        say()
        show(Table("", RACE_COLUMNS, tuple(race_rows(advice))))
    say()
    for line in outcome(advice):
        say(line)
    for reason in reasons(advice):
        say(f"- {reason}")


def _bases(found: list[BaseAdvice]) -> Table:
    rows = []
    for each in found:
        advice = each.advice
        accuracy = "–" if advice.accuracy is None else f"{advice.accuracy:.1%}"
        interval = "" if advice.accuracy_ci95 is None else "{:.1%} to {:.1%}".format(*advice.accuracy_ci95)
        shift = advice.evidence.shift.mean
        rows.append((each.base, advice.plan.level, accuracy, interval, "–" if shift is None else f"{shift:.3f}"))
    return Table("", ("base", "level", "expected", "95 % interval", "shift"), tuple(rows))
