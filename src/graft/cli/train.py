"""graft train"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from graft.cli.output import (
    ArchOption,
    AuditOption,
    BaseOption,
    ClassesOption,
    ClassMapOption,
    Debug,
    EngineOption,
    FitOption,
    GroupOption,
    ImageSizeOption,
    Json,
    PrecisionOption,
    Quiet,
    Seed,
    SplitOption,
    bars,
    duration,
    print_json,
    summarise_skipped,
)

if TYPE_CHECKING:
    from graft.training.outlook import Outlook


def _in_recipe(text: str, *names: str) -> Any:
    """An option of the panel on how stages are trained."""
    return typer.Option(*names, help=text, rich_help_panel="Recipe (for levels that train stages)")


def train(
    data: Annotated[
        str,
        typer.Argument(
            help="A folder per class, a CSV, TSV or Parquet manifest, an archive, tar shards, IDX or hf:NAME."
        ),
    ],
    base: BaseOption = "mobilenet_v2",
    level: Annotated[str, typer.Option(help="as-is, head, stages:K, frozen:F, all, scratch or auto.")] = "auto",
    out: Annotated[str | None, typer.Option(help="The run folder; runs/<data name> by default.")] = None,
    image_size: ImageSizeOption = None,
    fit: FitOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    arch: ArchOption = None,
    classes: ClassesOption = None,
    class_map: ClassMapOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="A picture that cannot be decoded is an error.")] = False,
    time: Annotated[str | None, typer.Option(help="The most that it may take, such as 90s, 10m or 2h.")] = None,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Where augmented pictures are shown before training, a PNG.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")] = False,
    epochs: Annotated[int | None, _in_recipe("Passes over the pictures.")] = None,
    batch_size: Annotated[int, _in_recipe("Pictures per batch.")] = 32,
    rate: Annotated[float | None, _in_recipe("Peak learning rate, of the head.")] = None,
    find_rate: Annotated[bool, _in_recipe("Find the rate first, on a copy of the stages.", "--find-rate")] = False,
    optimiser: Annotated[str, _in_recipe("adamw, sgd (Nesterov) or rmsprop.")] = "adamw",
    schedule: Annotated[str, _in_recipe("cosine, one-cycle, step, plateau, constant or lenet (1998).")] = "cosine",
    weight_decay: Annotated[float | None, _in_recipe("Not on biases and norms.")] = None,
    rate_decay: Annotated[float, _in_recipe("Each earlier stage's rate as a part of the next one's.")] = 1.0,
    label_smoothing: Annotated[float, _in_recipe("Part of each label spread over all classes.")] = 0.0,
    class_weights: Annotated[str, _in_recipe("none, or balanced: rare classes count for more.")] = "none",
    clip: Annotated[float | None, _in_recipe("Longest gradient, by norm.")] = None,
    accumulate: Annotated[int, _in_recipe("Batches per step.")] = 1,
    patience: Annotated[int | None, _in_recipe("Stop after so many epochs without a better one.")] = None,
    ema: Annotated[float | None, _in_recipe("Keep a moving average of the weights with this decay.")] = None,
    dropout: Annotated[float | None, _in_recipe("Part of the head's inputs left out in training.")] = None,
    sampling: Annotated[str, _in_recipe("uniform, or balanced: rare classes are drawn more often.")] = "uniform",
    augment: Annotated[str, _in_recipe("none, light, medium or heavy changes of the pictures.")] = "none",
    flip: Annotated[bool, _in_recipe("Whether augmentation may mirror; wrong for digits and text.")] = True,
    views: Annotated[int, _in_recipe("Augmented views of a picture that are kept, and shown in turn.")] = 8,
    mixup: Annotated[float, _in_recipe("Alpha of pictures blended two by two; 0.2 is usual, 0 is off.")] = 0.0,
    cutmix: Annotated[float, _in_recipe("Alpha of patches swapped two by two; 1 is usual, 0 is off.")] = 0.0,
    group: GroupOption = None,
    split: SplitOption = None,
    audit: AuditOption = True,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Turn labelled pictures into a classifier in a run folder."""
    from graft.training.fitting import Reporter
    from graft.training.loop import Epoch
    from graft.training.optimisation import Recipe
    from graft.training.training import train as run_training

    recipe = Recipe(
        epochs=epochs,
        batch_size=batch_size,
        rate=rate,
        optimiser=optimiser,
        schedule=schedule,
        weight_decay=weight_decay,
        rate_decay=rate_decay,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        clip=clip,
        accumulate=accumulate,
        patience=patience,
        ema=ema,
        dropout=dropout,
        sampling=sampling,
        augment=augment,
        flip=flip,
        views=views,
        mixup=mixup,
        cutmix=cutmix,
    )
    with bars(quiet) as shown:

        def on_outlook(outlook: Outlook) -> None:
            if not quiet:
                shown.print(outlook_table(outlook))

        def on_epoch(epoch: Epoch, of: int) -> None:
            text = f"loss {epoch.val_loss:.3f}, val {epoch.val_top1:.1%}"
            shown.update("epochs", epoch.epoch, of, text)

        run = run_training(
            data,
            base,
            level,
            out=out,
            recipe=recipe,
            image_size=image_size,
            fit=fit,  # type: ignore[arg-type]
            engine=engine,
            precision=precision,
            arch=arch,
            classes_file=classes,
            class_map=class_map,
            group=group,
            split=split,
            audit=audit,
            seed=seed,
            strict=strict,
            resume=resume,
            seconds=None if time is None else duration(time),
            find_rate=find_rate,
            contact_sheet=contact_sheet,
            progress=not quiet,
            reporter=Reporter(on_outlook, shown.update, on_epoch, shown.note),
        )
    summarise_skipped(run.skipped, quiet)
    if json:
        print_json(run.to_dict())
        return
    for name, accuracy in (("val", run.val), ("test", run.test)):
        if accuracy is not None:
            low, high = accuracy.top1_ci95
            typer.echo(
                f"{name:5} {accuracy.top1:.1%} of {accuracy.n:,} pictures (95 % interval {low:.1%} to {high:.1%})"
            )
    typer.echo(f"always the commonest class: {run.majority:.1%}")
    seconds = run.seconds
    typer.echo(
        f"{run.images:,} pictures, level {run.level}, cut {run.cut}, {seconds['total']:.1f} s "
        f"({seconds['features']:.1f} s features, {seconds['training']:.1f} s training)"
    )
    typer.echo(f"saved in {run.folder}: `graft predict {run.folder} PICTURES…`, report.html")


def outlook_table(outlook: Outlook) -> Table:
    """By stage: what is frozen and what trains, at which rate, with how many parameters, for how many multiply-adds."""
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for column in ("", "peak rate", "parameters", "multiply-adds of the training", "share"):
        table.add_column(column, justify="right", no_wrap=True)
    total = sum(row.total_macs for row in outlook.stages) or 1
    for row in outlook.stages:
        rate = "solved" if row.trains and row.rate is None else "" if row.rate is None else f"{row.rate:.2g}"
        state = "trains" if row.trains else "frozen" if row.parameters else ""
        share = row.total_macs / total
        table.add_row(row.stage, state, rate, f"{row.parameters:,}", f"{row.total_macs:.2e}", f"{share:.0%}")
    return table
