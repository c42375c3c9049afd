"""graft report"""

from __future__ import annotations

from typing import Annotated

import typer

from graft.cli.output import Debug, Json, Quiet, print_json, say


def report(
    run: Annotated[str, typer.Argument(help="A run folder.")],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the page of a run again."""
    from graft.workflows.report import report as run_report

    made = run_report(run)
    if json:
        print_json(made.to_dict())
        return
    for sentence in made.report.verdict.sentences:
        say(sentence)
    say(str(made.page))
