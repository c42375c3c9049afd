"""graft train"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from graft.cli import BEGAN
from graft.cli.output import (
    ArchOption,
    AuditOption,
    BaseOption,
    ClassesOption,
    ClassMapOption,
    Debug,
    EngineOption,
    GroupOption,
    ImageSizeOption,
    Json,
    MeanOption,
    OpenOption,
    PrecisionOption,
    Quiet,
    ResizeOption,
    Seed,
    SplitFileOption,
    StdOption,
    TestOption,
    ValOption,
    open_page,
    print_json,
    say,
    say_page,
    summarise_skipped,
)
from graft.cli.outright import given_outright, refuse_without
from graft.cli.process import at_work
from graft.cli.tables import NOTHING_SAID, reads_tables
from graft.data.table_options import TableOptions
from graft.errors import InputError
from graft.weights.packaged import DEFAULT_BASE
from graft.words import counted, program

# Options whose name differs from the run's argument.
CALLED = {"classes": "classes_file", "time": "time_limit"}


def _in_recipe(text: str, *names: str) -> Any:
    """Return an option in the panel on how stages are trained."""
    return typer.Option(*names, help=text, rich_help_panel="Recipe (for levels that train stages)")


@reads_tables
def train(
    data: Annotated[
        str,
        typer.Argument(
            help="Labelled images: a folder per class, an archive of these, a table of paths and labels (CSV, TSV, "
            "TXT, JSON, XLSX, Parquet) or a folder with one, Parquet with images, WebDataset shards, IDX, NPZ or "
            "hf:OWNER/NAME."
        ),
    ],
    base: BaseOption = DEFAULT_BASE,
    level: Annotated[
        str,
        typer.Option(
            help="How much of the base to keep: as-is, head, head:stages, stages:K, frozen:F, all, scratch or auto."
        ),
    ] = "auto",
    out: Annotated[str | None, typer.Option(help="Run folder (default: runs/<name of the data>).")] = None,
    image_size: ImageSizeOption = None,
    resize: ResizeOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Make training reproducible bit for bit; slower on a GPU."),
    ] = False,
    threads: Annotated[int | None, typer.Option(help="Number of compute threads, with --deterministic.")] = None,
    arch: ArchOption = None,
    classes: ClassesOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    class_map: ClassMapOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if an image cannot be decoded, instead of skipping it.")
    ] = False,
    time: Annotated[str | None, typer.Option(help="Time limit for the whole command, such as 90s, 10m or 2h.")] = None,
    processes: Annotated[
        int | None, typer.Option(help="Train stages with this many processes on this machine, one per GPU.")
    ] = None,
    max_restarts: Annotated[
        int, typer.Option(help="How many times to restart all --processes when one of them dies.")
    ] = 0,
    checkpoint_every: Annotated[
        str | None, typer.Option(help="Also save the training state within epochs, at an interval such as 10m.")
    ] = None,
    logger: Annotated[
        str | None, typer.Option(help="Also log the training to tensorboard, mlflow or wandb (optional extras).")
    ] = None,
    contact_sheet: Annotated[Path | None, typer.Option(help="Write a PNG of augmented images before training.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted run: graft train --resume RUN.")
    ] = False,
    recipe_file: Annotated[
        str | None, _in_recipe("Recipe in YAML, such as graft tune writes; explicit options override it.", "--recipe")
    ] = None,
    settings: Annotated[
        list[str] | None, _in_recipe("Recipe field to set, as KEY=VALUE; may be repeated.", "--set")
    ] = None,
    epochs: Annotated[int | None, _in_recipe("Passes over the training images.")] = None,
    batch_size: Annotated[int, _in_recipe("Images per batch.")] = 32,
    learning_rate: Annotated[float | None, _in_recipe("Peak learning rate of the head.", "--lr")] = None,
    find_learning_rate: Annotated[
        bool, _in_recipe("Choose the learning rate by a range test before training.", "--find-lr")
    ] = False,
    optimizer: Annotated[str, _in_recipe("Optimizer: adamw, sgd (Nesterov) or rmsprop.")] = "adamw",
    schedule: Annotated[
        str, _in_recipe("Learning-rate schedule: cosine, one-cycle, step, plateau, constant or lenet (1998).")
    ] = "cosine",
    weight_decay: Annotated[float | None, _in_recipe("Weight decay, not applied to biases and norm layers.")] = None,
    layer_decay: Annotated[float, _in_recipe("Learning rate of each stage relative to that of the next.")] = 1.0,
    label_smoothing: Annotated[float | None, _in_recipe("Share of each label to spread over all classes.")] = None,
    class_weights: Annotated[
        str, _in_recipe("Class weights in the loss, also of a head: none, or balanced (rare classes count more).")
    ] = "none",
    clip_grad_norm: Annotated[float | None, _in_recipe("Maximum norm of the gradient.")] = None,
    accumulate_steps: Annotated[int, _in_recipe("Batches per optimizer step.")] = 1,
    patience: Annotated[int | None, _in_recipe("Stop after this many epochs without improvement.")] = None,
    ema_decay: Annotated[
        float | None, _in_recipe("Decay of a moving average of the weights, which is used in their place.")
    ] = None,
    dropout: Annotated[float | None, _in_recipe("Share of the head's inputs to drop in training.")] = None,
    sampling: Annotated[
        str, _in_recipe("Sampling of images: uniform, or balanced, which draws rare classes more often.")
    ] = "uniform",
    augment: Annotated[str | None, _in_recipe("Strength of augmentation: none, light, medium or heavy.")] = None,
    flip: Annotated[
        bool | None,
        _in_recipe("Allow augmentation to mirror images (default: decided by a trial).", "--flip/--no-flip"),
    ] = None,
    batch_norm: Annotated[
        str | None, _in_recipe("Statistics that batch norm uses: stored, or batch for those of each batch.")
    ] = None,
    start_share: Annotated[float | None, _in_recipe("Share of the initial weights in the final ones.")] = None,
    head: Annotated[
        str | None,
        _in_recipe("Trained stages that feed the head: last, or stages for all (default: decided by a trial)."),
    ] = None,
    views: Annotated[int | None, _in_recipe("Augmented views of each image to cache and use in turn.")] = None,
    mixup: Annotated[
        float, _in_recipe("Alpha of mixup, which blends pairs of images; usually 0.2, 0 turns it off.")
    ] = 0.0,
    cutmix: Annotated[
        float, _in_recipe("Alpha of CutMix, which swaps patches within pairs; usually 1, 0 turns it off.")
    ] = 0.0,
    group: GroupOption = None,
    split_file: SplitFileOption = None,
    val: ValOption = None,
    test: TestOption = None,
    table: TableOptions = NOTHING_SAID,
    audit: AuditOption = True,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit/--no-refit",
            help="After measuring, train again on all images if graft set val aside itself.",
        ),
    ] = True,
    seed: Seed = 0,
    open_it: OpenOption = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    context: typer.Context = None,  # type: ignore[assignment]  # typer gives it, by its type
) -> None:
    """Train a classifier on labelled images and save it in a run folder."""
    from dataclasses import asdict

    from graft.cli.launching import begun_with, launch, launched, taking_part

    if resume and contact_sheet is not None:
        raise InputError(
            f"expected no --contact-sheet with --resume, got {contact_sheet}: it is drawn when a run begins, so leave "
            "it out"
        )
    if not launched():
        processes = begun_with(data, out) if resume and processes is None else processes
        if processes is not None:
            launch(processes, max_restarts)
        refuse_without("--processes", {"max_restarts": "--max-restarts"}, context)

    from graft.workflows.ahead import looking_ahead

    # A program that calls this function has no context.
    if audit and not resume and context is not None:
        context.with_resource(looking_ahead(data, group, split_file, table, val, test))
    from graft.training.joining import follows
    from graft.training.recipe import Recipe
    from graft.training.recipe_file import read_recipe, settings_of, with_settings
    from graft.training.time_budget import counted_from
    from graft.workflows.arguments import stated
    from graft.workflows.prepare import DataOptions
    from graft.workflows.report import PAGE_FILE, verdict_of
    from graft.workflows.run import near
    from graft.workflows.train import train as run_training

    recipe = Recipe(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        optimizer=optimizer,
        schedule=schedule,
        weight_decay=weight_decay,
        layer_decay=layer_decay,
        label_smoothing=label_smoothing,
        class_weights=class_weights,
        clip_grad_norm=clip_grad_norm,
        accumulate_steps=accumulate_steps,
        patience=patience,
        ema_decay=ema_decay,
        dropout=dropout,
        sampling=sampling,
        augment=augment,
        flip=flip,
        batch_norm=batch_norm,
        start_share=start_share,
        head=head,
        views=views,
        mixup=mixup,
        cutmix=cutmix,
        find_learning_rate=find_learning_rate,
    )
    given = given_outright(context)
    if recipe_file is not None:
        found = read_recipe(recipe_file)
        recipe = with_settings(found.recipe, {name: value for name, value in asdict(recipe).items() if name in given})
        level = level if "level" in given else found.level or level
        base = base if "base" in given else found.base or base
    set_apart = settings_of(settings or ())
    recipe = with_settings(recipe, set_apart)
    quiet = quiet or follows()
    outright = {CALLED.get(name, name) for name in given} | set(set_apart)
    with at_work(quiet) as reporter, taking_part(), counted_from(BEGAN), stated(outright):
        run = run_training(
            DataOptions(data, group, split_file, table, val, test),
            base,
            level,
            out=out,
            recipe=recipe,
            image_size=image_size,
            resize=resize,  # type: ignore[arg-type]
            engine=engine,
            precision=precision,
            deterministic=deterministic,
            threads=threads,
            arch=arch,
            classes_file=classes,
            mean=mean,
            std=std,
            class_map=class_map,
            audit=audit,
            refit=refit,
            seed=seed,
            strict=strict,
            resume=resume,
            time_limit=time,
            contact_sheet=contact_sheet,
            checkpoint_every=checkpoint_every,
            logger=logger,
            reporter=reporter,
        )
    if follows():
        return
    summarise_skipped(run.skipped, quiet)
    page = run.folder / PAGE_FILE
    if open_it:
        open_page(page, quiet)
    if json:
        print_json(run.to_dict())
        return
    for name, accuracy in (("val", run.val), ("test", run.test)):
        if accuracy is not None:
            say(f"{name:5} {accuracy}")
    if run.expected is not None:
        say(f"expected {run.expected}")
    if run.multi_label:
        say(f"baseline (random order): {run.to_dict()['baseline']['mean_average_precision'] or 0.0:.1%}")
    else:
        say(f"majority-class baseline on val: {run.majority:.1%}")
    seconds = run.seconds
    tried = f", including {seconds['levels']:.1f} s for trying levels" if "levels" in seconds else ""
    say(
        f"{counted(run.images, 'image')}, level {run.level}, cut {run.cut}, {seconds['total']:.1f} s{tried} "
        f"({seconds['features']:.1f} s features, {seconds['training']:.1f} s training)"
    )
    folder = near(run.folder)
    for sentence in verdict_of(run.folder):
        say(sentence)
    say(f"saved in {folder}: `{program()} predict {quote(folder)} IMAGES…`")
    say_page(page, "report: ")
