"""graft walk"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from graft.cli.output import Debug, Json, Overwrite, Quiet, Seed, check_new, print_json, say
from graft.cli.process import at_work
from graft.errors import InputError


def walk(
    walked: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|NAME [RUN|NAME] IMAGE",
            help="One or two networks (runs, architectures or weight files), then an image file.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write the page to.")] = Path("walk.html"),
    overwrite: Overwrite = False,
    at: Annotated[
        list[str] | None,
        typer.Option(help="Pixel to explain on the page: STAGE:CHANNEL:ROW:COLUMN or STAGE:CHANNEL; may be repeated."),
    ] = None,
    random: Annotated[bool, typer.Option("--random", help="Use random weights for a named architecture.")] = False,
    seed: Seed = 0,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Follow one image through a network on an offline page: maps, kernels and the arithmetic of single numbers."""
    *networks, image = walked
    if not networks:
        raise InputError(
            f"expected a network and the file of an image, got only {image!r}: graft walk RUN IMAGE, or two networks "
            "and the image"
        )
    out = out.expanduser()
    check_new(out, "--out", overwrite)
    from graft.drawing.walk_page import draw_walk
    from graft.files import write_aside
    from graft.workflows.walk import LARGEST_PAGE
    from graft.workflows.walk import walk as follow

    with at_work(quiet) as reporter:
        found = follow(networks, image, at=at or (), random=random, seed=seed, reporter=reporter)
        names = " and ".join(str(each["name"]) for each in found.networks)
        page = draw_walk(found.to_dict(), f"{found.image} through {names}")
        write_aside(out, lambda file: file.write(page))
        if len(page) > LARGEST_PAGE:
            reporter.note(f"the page takes {len(page) / 1e6:.1f} MB, because of what --at asks for")
    if json:
        print_json({"page": str(out), "bytes": len(page), **found.summary()})
        return
    for each in found.networks:
        label, probability = each["top"][0]
        say(f"{each['name']}: {label}, {probability:.1%}")
    say(f"{out} ({len(page) / 1e6:.1f} MB) opens in any browser, offline")
