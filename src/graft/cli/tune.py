"""graft tune"""

from __future__ import annotations

from typing import Annotated

import typer

from graft.cli.output import (
    BaseOption,
    Debug,
    EngineOption,
    GroupOption,
    Json,
    PrecisionOption,
    Quiet,
    Seed,
    SplitFileOption,
    TestOption,
    ValOption,
    print_json,
    say,
    show,
)
from graft.cli.process import imported
from graft.cli.tables import NOTHING_SAID, reads_tables
from graft.data.table_options import TableOptions
from graft.progress import Table
from graft.weights.packaged import DEFAULT_BASE

SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Recipe field to set, as KEY=VALUE; may be repeated.")
]


@reads_tables
def tune(
    data: Annotated[str, typer.Argument(help="Labelled images, as for graft train.")],
    base: BaseOption = DEFAULT_BASE,
    trials: Annotated[
        int, typer.Option(help="Total number of trials; the first is what graft train does by default.")
    ] = 20,
    time: Annotated[str | None, typer.Option(help="Start no further trial after this long, such as 30m.")] = None,
    levels: Annotated[
        str, typer.Option(help="Comma-separated levels to search.")
    ] = "head,head:stages,stages:1,frozen:0.4,all",
    settings: SetOption = None,
    out: Annotated[str | None, typer.Option(help="Search folder; a search that is already in it is continued.")] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    group: GroupOption = None,
    split_file: SplitFileOption = None,
    val: ValOption = None,
    test: TestOption = None,
    table: TableOptions = NOTHING_SAID,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Search levels and recipes for these images and save the best as a recipe for graft train."""
    from graft.training.recipe_file import settings_of
    from graft.workflows.prepare import DataOptions
    from graft.workflows.run import near
    from graft.workflows.tune import tune as run_search

    imported()

    found = run_search(
        DataOptions(data, group, split_file, table, val, test),
        base,
        trials=trials,
        time_limit=time,
        levels=levels,
        settings=settings_of(settings or ()),
        out=out,
        engine=engine,
        precision=precision,
        seed=seed,
        quiet=quiet,
    )
    if json:
        print_json(found.to_dict())
        return
    ranked = sorted(found.trials, key=lambda each: -each.value)
    rows = tuple(
        (
            str(each.number),
            each.level,
            "failed" if each.top1 is None else f"{each.top1:.1%}",
            f"{each.seconds:.1f} s",
            ", ".join(f"{name} {value:.3g}" for name, value in each.settings.items()),
        )
        for each in ranked[:10]
    )
    show(Table("", ("trial", "level", "val", "time", "settings"), rows, texts=(1, 4)))
    say(f"trial {found.best.number}, {found.best.level}: {found.verdict}")
    say(f"saved in {near(found.recipe)}: `{found.command}`")
