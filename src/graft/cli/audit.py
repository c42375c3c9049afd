"""graft audit"""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from graft.cli.output import (
    ArchOption,
    Debug,
    EngineOption,
    GroupOption,
    ImageSizeOption,
    Json,
    MeanOption,
    Overwrite,
    PrecisionOption,
    Quiet,
    ResizeOption,
    Seed,
    SplitFileOption,
    StdOption,
    TestOption,
    ValOption,
    check_new,
    note,
    print_json,
    say,
    show,
)
from graft.cli.outright import refuse_without
from graft.cli.process import at_work
from graft.cli.tables import NOTHING_SAID, reads_tables
from graft.data.table_options import TableOptions
from graft.names import plain, readable
from graft.weights.packaged import DEFAULT_BASE
from graft.words import counted

if TYPE_CHECKING:
    from graft.audit.auditing import Audit
    from graft.audit.findings import Finding

# What is about the features of a base.
OF_FEATURES = {"base": "--base", "arch": "--arch", "image_size": "--image-size", "resize": "--resize"}
OF_FEATURES |= {"mean": "--mean", "std": "--std", "engine": "--engine", "precision": "--precision"}
STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


@reads_tables
def audit(
    data: Annotated[str, typer.Argument(help="Labelled images, as for graft train.")],
    base: Annotated[
        str, typer.Option(help="Network whose features reveal wrong labels and outliers, as for graft train.")
    ] = DEFAULT_BASE,
    arch: ArchOption = None,
    image_size: ImageSizeOption = None,
    resize: ResizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    group: GroupOption = None,
    split_file: SplitFileOption = None,
    val: ValOption = None,
    test: TestOption = None,
    table: TableOptions = NOTHING_SAID,
    features: Annotated[bool, typer.Option(help="Look for likely wrong labels and outliers.")] = True,
    out: Annotated[Path | None, typer.Option(help="Write an HTML page that shows the images of every finding.")] = None,
    fix_list: Annotated[
        Path | None, typer.Option(help="Write a CSV manifest of the images that have no faults.")
    ] = None,
    fix_split: Annotated[
        Path | None,
        typer.Option(help="Write the same as a file for --split-file, for archives and Parquet."),
    ] = None,
    overwrite: Overwrite = False,
    drop: Annotated[
        list[str] | None, typer.Option(help="Also leave out images with this kind of finding; may be repeated.")
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    context: typer.Context = None,  # type: ignore[assignment]  # typer gives it, by its type
) -> None:
    """Find problems in labelled images before training; the images are never changed."""
    from graft.workflows.ahead import looking_ahead

    with looking_ahead(data, group, split_file, table, val, test):
        from graft.audit.contact_sheets import audit_page
        from graft.audit.fix_list import check_kinds, without_faults, write_manifest, write_split_file
        from graft.files import write_aside, write_table_aside
        from graft.workflows.audit import audit as look_into
        from graft.workflows.contact_sheet import check_outside
        from graft.workflows.prepare import BaseOptions, DataOptions

    for path, option, ending in (
        (out, "--out", ".html"),
        (fix_list, "--fix-list", ".csv"),
        (fix_split, "--fix-split", ".csv"),
    ):
        if path is not None:
            check_outside(path, (data, val, test), option, ending)
            check_new(path, option, overwrite)
    check_kinds(drop or ())
    if fix_list is None and fix_split is None:
        refuse_without("--fix-list or --fix-split", {"drop": "--drop"}, context)
    if not features:
        refuse_without("--features", OF_FEATURES, context, "--no-features")
    with at_work(quiet) as reporter:
        found = look_into(
            DataOptions(data, group, split_file, table, val, test),
            BaseOptions(base, arch, image_size=image_size, resize_mode=resize, mean=mean, std=std),  # type: ignore[arg-type]  # refused there
            with_features=features,
            engine=engine,
            precision=precision,
            seed=seed,
            reporter=reporter,
        )
    if json:
        print_json(found.to_dict())
    else:
        _print(found, Path(data))
    if out is not None:
        page = audit_page(found)
        write_aside(out, lambda file: file.write(page))
        note(f"images of every finding are in {out}", quiet)
    for path, write in ((fix_list, write_manifest), (fix_split, write_split_file)):
        if path is not None:
            left = without_faults(found.dataset, found.findings, drop or ())
            write_table_aside(path, partial(write, left))
            note(f"{path} names {len(left):,} of {counted(len(found.dataset), 'image')}", quiet)


def _print(found: Audit, data: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 1, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for finding in found.findings:
        what = Text(f"{finding.severity}\n", STYLES[finding.severity])
        what.append(finding.kind.replace("_", " "), "bold default")
        message = Text(readable(finding.message))
        if finding.paths:
            message.append(f"\n{_first(finding, data)}", "dim")
        table.add_row(what, message)
    show(table)
    for sentence in found.notes:
        say(f"- {sentence}")
    severities = Counter(finding.severity for finding in found.findings)
    say(
        f"{counted(len(found.dataset), 'image')} of {counted(len(found.dataset.classes), 'class', 'classes')}: "
        f"{counted(severities['error'], 'error')}, {counted(severities['warning'], 'warning')} and "
        f"{counted(severities['info'], 'remark')} in {found.seconds:.0f} s"
    )


def _first(finding: Finding, data: Path, most: int = 3) -> str:
    """Name the first images, with paths relative to the data; of groups, name the first group."""
    count = len(finding.groups[0]) if finding.groups else len(finding.paths)
    root = plain(f"{data.expanduser().resolve()}{os.sep}")
    names = [path.removeprefix(root) for path in finding.paths[: min(most, count)]]
    more = len(finding.paths) - len(names)
    return (" = " if finding.groups else ", ").join(names) + (f" and {more:,} more" if more else "")
