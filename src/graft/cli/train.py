"""graft train"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from graft.cli.output import (
    ClassesOption,
    Debug,
    EngineOption,
    Json,
    PrecisionOption,
    Quiet,
    Seed,
    bars,
    print_json,
    summarise_skipped,
)


def _in_recipe(text: str) -> Any:
    """An option of the panel on how stages are trained."""
    return typer.Option(help=text, rich_help_panel="Recipe (for levels that train stages)")


def train(
    data: Annotated[str, typer.Argument(help="A folder per class, Parquet with embedded pictures, or IDX files.")],
    base: Annotated[
        str, typer.Option(help="An architecture, a file of weights, a run, hf:owner/name or timm:name.")
    ] = "mobilenet_v2",
    level: Annotated[str, typer.Option(help="as-is, head, stages:K, frozen:F, all, scratch or auto.")] = "auto",
    out: Annotated[str | None, typer.Option(help="The run folder; runs/<data name> by default.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Side of the network's input, pixels.")] = None,
    fit: Annotated[str | None, typer.Option(help="How a picture becomes square: crop, letterbox or squash.")] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    arch: Annotated[str | None, typer.Option(help="The architecture of a file that does not say it.")] = None,
    classes: ClassesOption = None,
    strict: Annotated[bool, typer.Option("--strict", help="A picture that cannot be decoded is an error.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")] = False,
    epochs: Annotated[int | None, _in_recipe("Passes over the pictures.")] = None,
    batch_size: Annotated[int, _in_recipe("Pictures per batch.")] = 32,
    rate: Annotated[float | None, _in_recipe("Peak learning rate, of the head.")] = None,
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
    )
    with bars(quiet) as shown:

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
            seed=seed,
            strict=strict,
            resume=resume,
            progress=not quiet,
            reporter=Reporter(step=shown.update, epoch=on_epoch, note=shown.note),
        )
    summarise_skipped(run.skipped, quiet)
    if json:
        print_json(run.to_dict())
        return
    for name, split in (("val", run.val), ("test", run.test)):
        if split is not None:
            low, high = split.top1_ci95
            typer.echo(f"{name:5} {split.top1:.1%} of {split.n:,} pictures (95 % interval {low:.1%} to {high:.1%})")
    typer.echo(f"always the commonest class: {run.majority:.1%}")
    seconds = run.seconds
    typer.echo(
        f"{run.images:,} pictures, level {run.level}, cut {run.cut}, {seconds['total']:.1f} s "
        f"({seconds['features']:.1f} s features, {seconds['training']:.1f} s training)"
    )
    typer.echo(f"saved in {run.folder}: `graft predict {run.folder} PICTURES…`, report.html")
