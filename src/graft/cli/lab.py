"""graft lab"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from graft.cli.output import Debug, Json, Quiet, Seed, print_json, say, show
from graft.cli.outright import refuse_without
from graft.cli.process import at_work
from graft.errors import InputError
from graft.progress import Table
from graft.words import program

ALL = "all"


def lab(
    name: Annotated[str | None, typer.Argument(help="Experiment to run, or all; without one, list them.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run the short form: fewer seeds, images and steps, in 90 s or less.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for NAME.json and the drawing NAME.svg; the list reads it too.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Images to use instead of those graft draws, where the list says so.")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    context: typer.Context = None,  # type: ignore[assignment]  # typer gives it, by its type
) -> None:
    """Test a claim of the textbook in an experiment and see whether it holds."""
    from graft.lab.catalog import EXPERIMENTS, experiment
    from graft.lab.experiment import Conditions
    from graft.lab.record import perform, write

    out, data = (None if path is None else path.expanduser() for path in (out, data))
    if name is None:
        refuse_without("the name of an experiment", {"quick": "--quick", "data": "--data"}, context)
        _list(out, json)
        return
    if name == ALL and data is not None:
        raise InputError(f"expected the name of one experiment with --data, got {name}: name it, or leave --data out")
    chosen = list(EXPERIMENTS.values()) if name == ALL else [experiment(name)]
    if name == ALL:
        chosen = [each for each in chosen if not each.needs_data]
    told = []
    for each in chosen:
        with at_work(quiet) as reporter:
            record = perform(each, Conditions(quick, seed, data, reporter))
        paths = () if out is None else write(record, out)
        told.append({**record.to_dict(), **({"files": [str(path) for path in paths]} if paths else {})})
        if not json:
            tell(told[-1])
            if len(chosen) > 1:
                say()
    if json:
        print_json(told if name == ALL else told[0])


def _list(out: Path | None, json: bool) -> None:
    from graft.lab.catalog import EXPERIMENTS
    from graft.lab.record import recorded

    kept = {name: recorded(out, name) if out is not None else None for name in EXPERIMENTS}
    if json:
        print_json(
            [
                {
                    "name": each.name,
                    "claims": list(each.claims),
                    "claim": each.claim,
                    "quick_seconds": each.seconds,
                    "seconds": each.full_seconds,
                    "data": each.data,
                    "needs_data": each.needs_data,
                    **({"recorded": kept[each.name]} if kept[each.name] else {}),
                }
                for each in EXPERIMENTS.values()
            ]
        )
        return
    columns = ("experiment", "of", "claim", "about, s", *(("recorded",) if out is not None else ()))
    rows = []
    for each in EXPERIMENTS.values():
        found = kept[each.name]
        last = () if out is None else ("–" if found is None else str(found["verdict"]),)
        rows.append((each.name, " ".join(each.claims), each.claim, f"{each.seconds:g}", *last))
    show(Table("", columns, tuple(rows), texts=(1, 2)))
    say(f"`{program()} lab NAME` runs one, `--quick` its short form")


def tell(told: Mapping[str, Any]) -> None:
    """Print what `Record.to_dict` holds, as the command does: claim, measured figures, verdict."""
    say(f"{told['name']} ({', '.join(told['claims'])}): {told['claim']}")
    say(told["found"])
    rows = tuple((each["name"], each["shown"], each["verdict"] or "") for each in told["measures"])
    show(Table("", ("measured", "", "the claim"), rows, texts=(0, 1, 2)))
    say(f"The claim {'is undecided' if told['verdict'] == 'undecided' else told['verdict']}.")
    say(f"images: {told['data']}; {'quick form' if told['quick'] else 'full form'}, {told['seconds']:.0f} s")
    if "files" in told:
        say(f"figures in {told['files'][0]}, drawn in {told['files'][1]}")
