"""graft demo"""

from __future__ import annotations

from typing import Annotated

import typer

from graft.cli.output import Debug, Json, Quiet, Seed, print_json


def demo(
    out: Annotated[str, typer.Option(help="Where the curves are drawn, a PNG.")] = "demo.png",
    seeds: Annotated[int, typer.Option(help="Repeats, each with images and a start of its own.", min=2)] = 3,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show transfer at work: Latin letters help with Cyrillic ones. Offline, under a minute."""
    from graft.progress import reporting
    from graft.workflows.demo import draw, run_demo

    with reporting(quiet=quiet) as reporter:
        result = run_demo(seed=seed, repeats=seeds, step=reporter.step)
        draw(result, out)
    if json:
        print_json({**result.to_dict(), "curves": out})
        return
    typer.echo(result.table())
    typer.echo(result.conclusion())
    typer.echo(f"curves drawn in {out}")
