"""graft compare"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graft.cli.output import (
    ArchOption,
    AuditOption,
    BaseOption,
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
    summarise_skipped,
)
from graft.cli.process import at_work
from graft.cli.tables import NOTHING_SAID, reads_tables
from graft.data.table_options import TableOptions
from graft.progress import Table
from graft.weights.packaged import DEFAULT_BASE
from graft.words import counted

if TYPE_CHECKING:
    from graft.training.comparison import Comparison


@reads_tables
def compare(
    data: Annotated[str, typer.Argument(help="Labelled images, as for graft train.")],
    base: BaseOption = DEFAULT_BASE,
    levels: Annotated[
        str,
        typer.Option(help="Comma-separated levels to compare: head, head:stages, stages:K, frozen:F, all, scratch."),
    ] = "head,stages:2,all,scratch",
    seeds: Annotated[int, typer.Option(help="Runs per level, each with its own seed.")] = 3,
    epochs: Annotated[
        int | None,
        typer.Option(help="Epochs for levels that train stages (default: what suits a pretrained start)."),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images per batch.")] = 32,
    image_size: ImageSizeOption = None,
    resize: ResizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    arch: ArchOption = None,
    plot: Annotated[Path | None, typer.Option(help="Write a PNG chart of the curves.")] = None,
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
    """Train several levels on the same images, seeds and epochs, and compare their curves and costs."""
    from graft.training.comparison import draw
    from graft.training.recipe import Recipe
    from graft.workflows.compare import compare as run_comparison
    from graft.workflows.contact_sheet import check_png
    from graft.workflows.prepare import BaseOptions, DataOptions

    if plot is not None:
        check_png(plot, (data, val, test), "--plot")
    with at_work(quiet) as reporter:
        found = run_comparison(
            DataOptions(data, group, split_file, table, val, test),
            BaseOptions(base, arch, image_size=image_size, resize_mode=resize, mean=mean, std=std),  # type: ignore[arg-type]  # refused there
            levels,
            seeds,
            recipe=Recipe(epochs=epochs, batch_size=batch_size),
            engine=engine,
            precision=precision,
            audit=audit,
            seed=seed,
            reporter=reporter,
        )
    summarise_skipped(found.skipped, quiet)
    # The figures first: they took long to compute, and drawing the chart may fail.
    if json:
        print_json(found.to_dict())
    else:
        _print(found)
    if plot is not None:
        draw(found, plot)
        if not json:
            say(f"curves drawn in {plot}")


def _print(found: Comparison) -> None:
    show(accuracy_table(found))
    say()
    show(curve_table(found))
    say()
    for sentence in found.conclusion():
        say(sentence)
    seeds = ", ".join(map(str, found.seeds))
    say(
        f"{counted(found.images, 'image')} of {found.split}, {'seeds' if found.seeds[1:] else 'seed'} {seeds}, "
        f"{counted(found.epochs, 'epoch')} in batches of {found.batch_size}, {found.seconds:.0f} s in all"
    )


def accuracy_table(found: Comparison) -> Table:
    """Return a table of accuracy, the gap to the best level, and the seconds of one training run, by level."""
    rows = []
    for each in found.levels:
        low, high = each.top1.ci95 or (0.0, 1.0)
        missing, interval = "", "best"
        if each.difference is not None and each.difference.ci95 is not None:
            missing = f"{100 * each.difference.value:+.1f}"
            interval = "{:+.1f} to {:+.1f}".format(*(100 * end for end in each.difference.ci95))
        accuracy, seconds = f"{each.top1.value:.1%}", f"{sum(each.seconds.values()):.1f}"
        rows.append((each.level, accuracy, f"{100 * low:.1f} to {100 * high:.1f}", missing, interval, seconds))
    columns = ("level", found.split, "95 % interval", "to the best", "95 % interval", "seconds")
    return Table("", columns, tuple(rows))


def curve_table(found: Comparison) -> Table:
    """Return a table of start, slope and asymptote of the val curves, and what is trained at which cost, by level."""
    rows = []
    for each in found.levels:
        shape = ("–", "–", "–")
        if each.start is not None and each.slope is not None and each.asymptote is not None:
            shape = (f"{each.start:.1%}", f"{100 * each.slope:+.1f}", f"{each.asymptote:.1%}")
        rows.append((each.level, *shape, f"{each.trained_parameters:,}", f"{each.multiply_adds:.1e}"))
    columns = ("level", "start", "points per epoch", "asymptote", "parameters", "multiply-adds")
    return Table("", columns, tuple(rows))
