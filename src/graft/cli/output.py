"""What all commands share: options, progress and notes on stderr, results on stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graft.errors import GraftError, InputError
from graft.files import json_text
from graft.names import readable
from graft.progress import Stderr, Table, drawn
from graft.words import counted, in_percent

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only errors on stderr.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed for everything random.", min=0)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]
Debug = Annotated[bool, typer.Option("--debug", help="Also show the traceback of an error.")]
BaseOption = Annotated[
    str,
    typer.Option(
        "--base", help="Network to start from: an architecture, a weight file, a run, hf:owner/name or timm:name."
    ),
]
ArchOption = Annotated[str | None, typer.Option("--arch", help="Architecture of a weight file that does not name it.")]
ImageSizeOption = Annotated[int | None, typer.Option("--image-size", help="Side of the network's input in pixels.")]
MeanOption = Annotated[
    str | None,
    typer.Option(
        "--mean", help="Pixel mean, on a scale from 0 to 1, that a weight file was trained with, such as 0.5,0.5,0.5."
    ),
]
StdOption = Annotated[
    str | None, typer.Option("--std", help="Standard deviation of these pixels, such as 0.5,0.5,0.5.")
]
ResizeOption = Annotated[
    str | None, typer.Option("--resize", help="How to make images square: crop, letterbox or squash.")
]
EngineOption = Annotated[
    str, typer.Option("--engine", help="Engine for everything that is not being trained: auto, torch or openvino.")
]
PrecisionOption = Annotated[
    str, typer.Option("--precision", help="Number format the engine computes in: auto, float32 or bfloat16.")
]
ClassesOption = Annotated[
    str | None, typer.Option("--classes", help="File listing the class names, for weights that have none.")
]
ClassMapOption = Annotated[
    str | None,
    typer.Option("--class-map", help="JSON file that maps your classes to those of the base (--level as-is)."),
]


GroupOption = Annotated[
    str | None,
    typer.Option(
        "--group",
        help="Which images belong together: by a manifest column, 'folder' or a regular expression on paths.",
    ),
]
SplitFileOption = Annotated[
    str | None,
    typer.Option(
        "--split-file",
        help="Split to use: the split.csv of a run, a list in DATA (such as labels/train1.txt), or none.",
    ),
]
ValOption = Annotated[
    str | None, typer.Option("--val", help="Validation images, in any form DATA may take, if DATA has none.")
]
TestOption = Annotated[
    str | None, typer.Option("--test", help="Test images, in any form DATA may take, if DATA has none.")
]
AuditOption = Annotated[
    bool, typer.Option("--audit/--no-audit", help="Check all images first and keep copies of an image in one split.")
]


def check_new(path: Path, option: str, overwrite: bool) -> None:
    """Refuse to overwrite an existing file. Raises InputError that names the option."""
    if path.is_dir():
        raise InputError(f"expected the name of a file for {option}, got the folder {path}: name a file in it")
    # Anything but a regular file, such as a pipe or /dev/null, is not replaced.
    if path.is_file() and not overwrite:
        raise InputError(
            f"expected a new file for {option}, got {path}, which exists: give another name, or --overwrite"
        )


@contextmanager
def writing_result() -> Iterator[None]:
    """Within the block, raise GraftError if stdout cannot be written, or BrokenPipeError if its reader is gone."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise GraftError(
            f"expected to write the result to stdout, got {error.strerror or error}: free space there; files that "
            "were written are kept"
        ) from None


def say(sentence: str = "") -> None:
    """Print a line of a result. Only this function and those below print: names appear as `graft.names` says."""
    with writing_result():
        sys.stdout.write(f"{readable(sentence)}\n")


def say_page(page: Path, before: str = "") -> None:
    """Print a line of a result that ends with a page's path, which a terminal that supports links can open."""
    shown = readable(str(page))
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        # OSC 8; terminals that do not support it show the path alone.
        shown = f"\x1b]8;;{page.absolute().as_uri()}\x1b\\{shown}\x1b]8;;\x1b\\"
    with writing_result():
        sys.stdout.write(f"{readable(before)}{shown}\n")


def say_robustness(held: dict[str, Any]) -> None:
    """Print how a classifier holds up on corrupted images, from the values of `Robustness.to_dict`."""
    of, clean = counted(held["n"], "image"), in_percent(held["clean"])
    say(f"corrupted: {in_percent(held['mean'])} of {of}, uncorrupted {clean}; worst first")
    for name, mean in held["by_corruption"].items():
        rows = [in_percent(row["top1"], 0) for row in held["rows"] if row["corruption"] == name]
        say(f"  {name}: {in_percent(mean)} (by severity {', '.join(rows)})")


def open_page(page: Path, quiet: bool = False) -> None:
    """Open a page in the user's browser, if there is one."""
    import webbrowser

    with suppress(OSError, webbrowser.Error):
        if webbrowser.open(page.absolute().as_uri()):
            return
    note(f"no browser was found to open {page}", quiet)


def show(table: Table | RichTable) -> None:
    """Print a table of a result, fitted to the 80 characters of a narrow terminal where necessary."""
    from rich.console import Console

    with writing_result():
        Console().print(drawn(table) if isinstance(table, Table) else table)


def print_json(value: Any) -> None:
    with writing_result():
        sys.stdout.write(f"{json_text(value)}\n")


def note(sentence: str, quiet: bool = False) -> None:
    """Print a line on stderr beside the result, if stderr can be written."""
    if not quiet:
        print(readable(sentence), file=Stderr(), flush=True)


def summarise_skipped(skipped: dict[str, str], quiet: bool) -> None:
    """Name the images that could not be decoded: the first few, and how many more there are."""
    for name, reason in list(skipped.items())[:10]:
        note(f"skipped {name}: {reason}", quiet)
    if len(skipped) > 10:
        note(f"skipped {counted(len(skipped) - 10, 'more image')}; --json names them all", quiet)
