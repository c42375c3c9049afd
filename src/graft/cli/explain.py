"""graft explain"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.output import (
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


def explain(
    run: Annotated[str, typer.Argument(help="A run folder or its model folder.")],
    images: Annotated[list[str], typer.Argument(help="Files, folders, patterns, addresses or archives.")],
    out: Annotated[
        Path | None, typer.Option(help="A new folder to write to. By default explanations/1 in the run, and so on.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="auto, exact (by position, where the head allows it), grad-cam or rise.")
    ] = "auto",
    stage: Annotated[str | None, typer.Option(help="The stage that grad-cam looks at. By default the last.")] = None,
    of_class: Annotated[
        str | None, typer.Option("--class", help="The class to explain. By default the one that the model names.")
    ] = None,
    test: Annotated[bool, typer.Option("--test/--no-test", help="Test whether each map tells anything.")] = True,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show where the evidence for a class lies in each image, and test whether the map tells."""
    from graft.progress import reporting
    from graft.workflows.explain import PAGE_FILE
    from graft.workflows.explain import explain as run_explanation

    with reporting(quiet=quiet) as reporter:
        made = run_explanation(
            run,
            images,
            out=out,
            method=method,
            stage=stage,
            of_class=of_class,
            test=test,
            engine=engine,
            precision=precision,
            seed=seed,
            reporter=reporter,
        )
        for sentence in made.notes:
            reporter.note(sentence)
    summarise_skipped(made.skipped, quiet)
    values = made.to_dict()
    if json:
        print_json(values)
        return
    for each in made.explanations:
        of = "" if each.label == each.explained else f", explained as {each.explained}"
        say(f"{each.path}: {each.label} {each.probability:.1%}{of}; {each.verdict}")
    say(f"maps are in {values['folder']}, {PAGE_FILE} shows them")
