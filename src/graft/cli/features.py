"""graft features"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.output import (
    ArchOption,
    AuditOption,
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
    show,
    summarise_skipped,
)
from graft.cli.process import at_work
from graft.cli.tables import NOTHING_SAID, reads_tables
from graft.data.table_options import TableOptions
from graft.progress import Table
from graft.weights.packaged import DEFAULT_BASE
from graft.words import counted


@reads_tables
def features(
    data: Annotated[str, typer.Argument(help="Labelled images, as for graft train.")],
    base: Annotated[str, typer.Option(help="Network that computes the features, as for graft train.")] = DEFAULT_BASE,
    arch: ArchOption = None,
    cut: Annotated[
        str | None,
        typer.Option(help="Last stage to run, as listed by `graft models NAME` (default: the one before the head)."),
    ] = None,
    processes: Annotated[int, typer.Option(help="Number of processes, which share the images and the cores.")] = 1,
    share: Annotated[
        bool,
        typer.Option(
            "--share",
            help="Share the images with other calls like this one, here or on machines with the same GRAFT_CACHE.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Also write the features to this Parquet file, one row per image.")
    ] = None,
    overwrite: Overwrite = False,
    image_size: ImageSizeOption = None,
    resize: ResizeOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
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
    """Compute a base's features of the images once, with any number of processes, for later runs or a file."""
    from graft.features.table import write_vectors
    from graft.workflows.contact_sheet import check_outside
    from graft.workflows.features import features as compute
    from graft.workflows.prepare import BaseOptions, DataOptions

    if out is not None:
        out = out.expanduser()
        check_outside(out, (data, val, test), "--out", ".parquet")
        check_new(out, "--out", overwrite)
    with at_work(quiet) as reporter:
        found = compute(
            DataOptions(data, group, split_file, table, val, test),
            BaseOptions(base, arch, image_size=image_size, resize_mode=resize, mean=mean, std=std),  # type: ignore[arg-type]  # refused there
            cut=cut,
            processes=processes,
            share=share,
            audit=audit,
            engine=engine,
            precision=precision,
            seed=seed,
            reporter=reporter,
        )
    told = found.to_dict()
    if json:
        print_json(told)
    else:
        rows = tuple(
            (
                name,
                f"{split['images']:,}",
                " × ".join(map(str, split["shape"])),
                f"{split['bytes'] / 2**20:,.1f} MiB",
                "cache" if split["cached"] else "computed",
            )
            for name, split in told["splits"].items()
        )
        show(Table("", ("split", "images", "each", "size", "from"), rows, texts=(0, 4)))
    summarise_skipped({name: why for split in told["splits"].values() for name, why in split["failed"].items()}, quiet)
    if out is not None:
        note(f"{out} has {counted(write_vectors(found.dataset, found.splits, out), 'row')}", quiet)
