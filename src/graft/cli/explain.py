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
from graft.cli.outright import refuse_without
from graft.cli.process import at_work
from graft.errors import InputError

# What is about maps of images, and means nothing for a network by itself.
OF_IMAGES = {"method": "--method", "stage": "--stage", "of_class": "--class", "test": "--test/--no-test"}
OF_IMAGES |= {"nearest": "--nearest", "engine": "--engine", "precision": "--precision"}


def explain(
    run: Annotated[str, typer.Argument(help="Run folder or its model folder.")],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders, glob patterns, URLs or archives; without any, the network itself is shown."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="New folder to write to (default: explanations/1 in the run, then 2, and so on)."),
    ] = None,
    method: Annotated[
        str, typer.Option(help="Method: auto, exact (by position, if the head allows it), grad-cam or rise.")
    ] = "auto",
    stage: Annotated[str | None, typer.Option(help="Stage that grad-cam looks at (default: the last).")] = None,
    of_class: Annotated[
        str | None, typer.Option("--class", help="Class to explain (default: the predicted one).")
    ] = None,
    test: Annotated[
        bool, typer.Option("--test/--no-test", help="Test whether the answer depends on what each map marks.")
    ] = True,
    nearest: Annotated[
        int, typer.Option(help="Training images to show beside each image, if the data still exist.", min=0)
    ] = 5,
    features: Annotated[
        str | None,
        typer.Option(
            help="Stage whose most active channels to show for each image; without images, what its channels respond "
            "to most."
        ),
    ] = None,
    channels: Annotated[
        str | None, typer.Option(help="Channels of --features to show, such as 3,17; only without images.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Base or run to compare with, only without images (default: the run's own base).")
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
    context: typer.Context = None,  # type: ignore[assignment]  # typer gives it, by its type
) -> None:
    """Show where in images the evidence for a class lies, as tested maps, or what a network has learned."""
    from graft.explanation.explaining import MapOptions
    from graft.workflows.explain import PAGE_FILE
    from graft.workflows.explain import explain as run_explanation

    if not images:
        refuse_without("images", OF_IMAGES, context)
        _explain_network(run, out, features, channels, against, seed, json, quiet)
        return
    if channels is not None or against is not None:
        option = "--channels" if channels is not None else "--against"
        raise InputError(f"expected no images with {option}, got {len(images)}: leave one of them out")
    with at_work(quiet) as reporter:
        made = run_explanation(
            run,
            images,
            out=out,
            maps=MapOptions(method, stage, of_class, test),
            nearest=nearest,
            features=features,
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
    say(f"maps are in {values['folder']}; open {PAGE_FILE} to see them")


def _explain_network(
    run: str,
    out: Path | None,
    features: str | None,
    channels: str | None,
    against: str | None,
    seed: int,
    json: bool,
    quiet: bool,
) -> None:
    from graft.workflows.explain import PAGE_FILE
    from graft.workflows.explain_network import explain_network

    with at_work(quiet) as reporter:
        made = explain_network(
            run,
            out=out,
            features=features,
            channels=None if channels is None else _numbers(channels),
            against=against,
            seed=seed,
            reporter=reporter,
        )
        for sentence in made.notes:
            reporter.note(sentence)
    values = made.to_dict()
    if json:
        print_json(values)
        return
    if made.filters_moved is not None:
        say(f"filters of the first layer: moved by {made.filters_moved:.1%} of their length")
    found = made.similarity
    if found is not None and found.stages == found.other_stages:
        say(f"similarity to {made.other} on {found.n:,} images, stage by stage:")
        for at, stage in enumerate(found.stages):
            say(f"  {stage}: {found.values[at, at]:.2f}")
    for each in made.favourites:
        say(
            f"channel {each.channel} of {each.stage} responds most to {', '.join(one.path for one in each.likings[:3])}"
        )
    say(f"everything is in {values['folder']}; open {PAGE_FILE} to see it")


def _numbers(given: str) -> list[int]:
    try:
        return [int(each) for each in given.split(",")]
    except ValueError:
        raise InputError(f"expected numbers such as 3,17 for --channels, got {given!r}: write it like that") from None
