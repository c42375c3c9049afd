"""graft advise"""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from graft.cli.output import Debug, Json, Quiet, Seed, bars, print_json


def advise(
    data: Annotated[str, typer.Argument(help="Labelled pictures, as for graft train.")],
    base: Annotated[
        str, typer.Option(help="An architecture, a file of weights, a run, hf:owner/name or timm:name.")
    ] = "mobilenet_v2",
    arch: Annotated[str | None, typer.Option(help="The architecture of a file of weights.")] = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure how far pictures are from a base's own, and say by the textbook's rule how much of it to keep."""
    from graft.training.advising import advise as measure

    with bars(quiet) as bar:
        advice = measure(
            data,
            base,
            arch=arch,
            seed=seed,
            progress=not quiet,
            told=lambda done, total: bar.update("measuring", done, total),
        )
    if json:
        print_json(advice.to_dict())
        return
    table = Table(box=None, pad_edge=False)
    for column in ("stage", "shift", "linear probe", "95 % interval"):
        table.add_column(column, justify="left" if column == "stage" else "right", no_wrap=True)
    probes = {row.stage: row for row in advice.evidence.probe}
    for row in advice.evidence.shift.stages:
        probe = probes.get(row.stage)
        interval = f"{probe.ci95[0]:.1%} to {probe.ci95[1]:.1%}" if probe else ""
        shift = "–" if row.value is None else f"{row.value:.3f}"
        table.add_row(row.stage, shift, f"{probe.accuracy:.1%}" if probe else "", interval)
    Console().print(table)
    typer.echo(f"\nlevel {advice.plan.level}, cut {advice.plan.cut}")
    for reason in (*advice.plan.reasons, *advice.evidence.notes):
        typer.echo(f"- {reason}")
