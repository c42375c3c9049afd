"""graft report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.output import (
    Debug,
    Json,
    OpenOption,
    Overwrite,
    Quiet,
    Seed,
    open_page,
    print_json,
    say,
    say_page,
    say_robustness,
)
from graft.cli.outright import refuse_without
from graft.cli.process import imported


def report(
    run: Annotated[str, typer.Argument(help="Run folder.")],
    other: Annotated[str | None, typer.Argument(help="Second run to compare it with.", metavar="RUN_B")] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write the page to (default: report.html in the run).")
    ] = None,
    overwrite: Overwrite = False,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Also measure on images corrupted in twelve ways at five severities."),
    ] = False,
    robustness_time: Annotated[
        str, typer.Option(help="Time limit for --robustness, such as 2m; determines how many images it uses.")
    ] = "1m",
    open_it: OpenOption = False,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    context: typer.Context = None,  # type: ignore[assignment]  # typer gives it, by its type
) -> None:
    """Rewrite the page of a run, or compare two runs side by side on one page."""
    from graft.evaluation.report.label_page import LabelReport
    from graft.evaluation.report.values import Beside, Report
    from graft.workflows.report import report as run_report

    imported()
    if not robustness:
        refuse_without("--robustness", {"robustness_time": "--robustness-time"}, context)

    made = run_report(
        run,
        other,
        out=out,
        overwrite=overwrite,
        robustness=robustness,
        robustness_time=robustness_time,
        quiet=quiet,
    )
    if json:
        print_json(made.to_dict())
    else:
        reports = [made.values.one, made.values.other] if isinstance(made.values, Beside) else []
        if isinstance(made.values, LabelReport):
            for said in made.values.sentences:
                say(said)
        for each in [made.values] if isinstance(made.values, Report) else reports:
            if each is not made.values:
                say(f"{each.title}:")
            for sentence in each.verdict.sentences:
                say(sentence)
            if robustness:
                say_robustness(each.robustness)
        say_page(made.page)
    if open_it:
        open_page(made.page, quiet)
