"""graft demo"""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from graft.cli.output import (
    Debug,
    Json,
    Quiet,
    Seed,
    print_json,
    say,
)
from graft.cli.process import at_work
from graft.words import counted, program


def demo(
    out: Annotated[str, typer.Option(help="PNG file to draw the curves to.")] = "demo.png",
    images: Annotated[
        Path | None, typer.Option(help="Also write images of this kind to this folder, as a dataset to try graft on.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="Repetitions, each with its own images and random start.", min=2)] = 3,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show transfer learning at work, from Latin to Cyrillic letters: offline, in under a minute."""
    from graft.workflows.demo import BASE, draw, run_demo, write_images

    written = 0 if images is None else write_images(images, seed)
    with at_work(quiet) as reporter:
        result = run_demo(seed=seed, repeats=seeds, step=reporter.step)
        draw(result, out)
    if json:
        print_json({**result.to_dict(), "curves": out, **({} if images is None else {"images": str(images)})})
        return
    for line in result.table().splitlines():
        say(line)
    say(result.conclusion())
    say(f"curves drawn in {out}")
    if images is not None:
        training = f"{program()} train {quote(str(images))} --base {BASE}"
        say(f"{counted(written, 'image')} to try graft on in {images}: `{training}`")
    say(f"photographs of your own, in a folder per class: `{program()} train photos/`")
