"""graft advise"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from graft.cli.output import (
    ArchOption,
    AuditOption,
    Debug,
    EngineOption,
    GroupOption,
    ImageSizeOption,
    Json,
    PrecisionOption,
    Quiet,
    ResizeOption,
    Seed,
    SplitFileOption,
    print_json,
)

if TYPE_CHECKING:
    from graft.transfer.advisor import Advice
    from graft.workflows.advise import BaseAdvice


def advise(
    data: Annotated[str, typer.Argument(help="Labelled images, as for graft train.")],
    base: Annotated[
        str, typer.Option(help="As for graft train; of several, with commas between them, the best is said.")
    ] = "mobilenet_v2",
    arch: ArchOption = None,
    image_size: ImageSizeOption = None,
    resize: ResizeOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    race: Annotated[bool, typer.Option(help="Whether the plausible levels are tried on the images.")] = True,
    plot: Annotated[Path | None, typer.Option(help="Where shift, probe and race are drawn, a PNG.")] = None,
    group: GroupOption = None,
    split_file: SplitFileOption = None,
    audit: AuditOption = True,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure how images and a base suit each other, and say how much of the base to keep; nothing is kept."""
    from graft.progress import reporting
    from graft.transfer.chart import draw_advice
    from graft.workflows.advise import advise_bases
    from graft.workflows.contact_sheet import check_png
    from graft.workflows.prepare import BaseOptions, DataOptions

    if plot is not None:
        check_png(plot, Path(data), "--plot")
    with reporting(quiet=quiet) as reporter:
        found = advise_bases(
            DataOptions(data, group, split_file),
            [
                BaseOptions(name.strip(), arch, image_size=image_size, resize_mode=resize)  # type: ignore[arg-type]
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
            Console().print(_bases(found))
            typer.echo("")
        _print(best)
    if plot is not None:
        draw_advice(best, plot)
        if not json:
            typer.echo(f"drawn in {plot}")


def _print(advice: Advice) -> None:
    console = Console()
    console.print(_stages(advice))
    if advice.race:
        typer.echo("")
        console.print(_race(advice))
    typer.echo(f"\nlevel {advice.plan.level}, cut {advice.plan.cut}")
    if advice.accuracy is not None and advice.accuracy_ci95 is not None:
        low, high = advice.accuracy_ci95
        typer.echo(f"expected on unseen images {advice.accuracy:.1%} ({low:.1%} to {high:.1%})")
    if advice.cost is not None:
        seconds = "" if advice.cost.seconds is None else f"about {advice.cost.seconds:.0f} s of training, "
        memory, disk = advice.cost.peak_bytes / 2**20, advice.cost.cache_bytes / 2**20
        typer.echo(f"takes {seconds}{memory:,.0f} MiB of memory, {disk:,.0f} MiB of cache")
    for reason in (*advice.plan.reasons, *advice.evidence.notes, *([advice.warning] if advice.warning else [])):
        typer.echo(f"- {reason}")


def _stages(advice: Advice) -> Table:
    table = _table("stage", "shift", "linear probe", "95 % interval")
    probes = {row.stage: row for row in advice.evidence.probe}
    for row in advice.evidence.shift.stages:
        probe = probes.get(row.stage)
        interval = f"{probe.ci95[0]:.1%} to {probe.ci95[1]:.1%}" if probe else ""
        shift = "–" if row.value is None else f"{row.value:.3f}"
        table.add_row(row.stage, shift, f"{probe.accuracy:.1%}" if probe else "", interval)
    return table


def _race(advice: Advice) -> Table:
    table = _table("level", "tried", "images", "over the head", "expected", "whole training")
    for row in advice.race:
        gain = "" if row.gain is None or row.error is None else f"{100 * row.gain:+.1f} ± {196 * row.error:.1f}"
        seconds = "" if row.whole_seconds is None else f"{row.whole_seconds:.0f} s"
        expected = f"{100 * row.expected:+.1f} ± {196 * row.deviation:.1f}"
        mark = " *" if row.level == advice.plan.level else ""
        table.add_row(f"{row.level}{mark}", f"{row.share:.0%}", f"{row.n:,}", gain, expected, seconds)
    return table


def _bases(found: list[BaseAdvice]) -> Table:
    table = _table("base", "level", "expected", "95 % interval", "shift")
    for each in found:
        advice = each.advice
        accuracy = "–" if advice.accuracy is None else f"{advice.accuracy:.1%}"
        interval = "" if advice.accuracy_ci95 is None else "{:.1%} to {:.1%}".format(*advice.accuracy_ci95)
        shift = advice.evidence.shift.mean
        table.add_row(each.base, advice.plan.level, accuracy, interval, "–" if shift is None else f"{shift:.3f}")
    return table


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
