"""What every command has in common: its options, progress and notes on stderr, results on stdout."""

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
from graft.words import counted

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors on stderr.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.", min=0)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")]
OpenOption = Annotated[bool, typer.Option("--open", help="Open the page in the browser.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error as well.")]
BaseOption = Annotated[
    str, typer.Option("--base", help="An architecture, a file of weights, a run, hf:owner/name or timm:name.")
]
ArchOption = Annotated[
    str | None, typer.Option("--arch", help="The architecture of a weight file that does not name it.")
]
ImageSizeOption = Annotated[int | None, typer.Option("--image-size", help="Side of the network's input in pixels.")]
ResizeOption = Annotated[
    str | None, typer.Option("--resize", help="How images are made square: crop, letterbox or squash.")
]
EngineOption = Annotated[str, typer.Option("--engine", help="What computes frozen layers: auto, torch or openvino.")]
PrecisionOption = Annotated[
    str, typer.Option("--precision", help="What they are computed in: auto, float32 or bfloat16.")
]
ClassesOption = Annotated[str | None, typer.Option("--classes", help="A list of class names, for weights without any.")]
ClassMapOption = Annotated[
    str | None,
    typer.Option("--class-map", help="For --level as-is: a JSON object from your classes to those of the base."),
]


GroupOption = Annotated[
    str | None,
    typer.Option(
        "--group",
        help="Images that must stay in one split: a manifest column, 'folder', or a regular expression on paths.",
    ),
]
SplitFileOption = Annotated[
    str | None,
    typer.Option("--split-file", help="The split.csv of a run, a list of DATA (labels/train1.txt), or none."),
]
ValOption = Annotated[
    str | None, typer.Option("--val", help="The images of val, of any kind as DATA is, where DATA does not hold them.")
]
TestOption = Annotated[str | None, typer.Option("--test", help="The images of test, likewise.")]
AuditOption = Annotated[
    bool, typer.Option("--audit/--no-audit", help="Check all images first, and keep copies of an image in one split.")
]


def check_new(path: Path, option: str, overwrite: bool) -> None:
    """Refuse a place for a file that holds something already. Raises InputError that names the option."""
    if path.is_dir():
        raise InputError(f"expected the name of a file for {option}, got the folder {path}: name a file in it")
    # What is no file, such as a pipe or /dev/null, is not replaced.
    if path.is_file() and not overwrite:
        raise InputError(
            f"expected a new file for {option}, got {path}, which exists: give another name, or --overwrite"
        )


@contextmanager
def writing_result() -> Iterator[None]:
    """Raise GraftError within the block where stdout cannot be written, but BrokenPipeError where nobody reads it."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise GraftError(
            f"expected to write the result to stdout, got {error.strerror or error}: make room there; what is kept in "
            "files is there"
        ) from None


def say(sentence: str = "") -> None:
    """A line of a result. This and the functions below are all that prints: names come out as `graft.names` says."""
    with writing_result():
        sys.stdout.write(f"{readable(sentence)}\n")


def say_page(page: Path, before: str = "") -> None:
    """A line of a result that ends with the path of a page, which a terminal that knows links opens."""
    shown = readable(str(page))
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        # OSC 8; terminals that do not know it show the path alone.
        shown = f"\x1b]8;;{page.absolute().as_uri()}\x1b\\{shown}\x1b]8;;\x1b\\"
    with writing_result():
        sys.stdout.write(f"{readable(before)}{shown}\n")


def say_robustness(held: dict[str, Any]) -> None:
    """How a classifier holds on corrupted images, from the values of `Robustness.to_dict`."""
    say(f"corrupted: {held['mean']:.1%} of {counted(held['n'], 'image')}, as they are {held['clean']:.1%}; worst first")
    for name, mean in held["by_corruption"].items():
        rows = [f"{row['top1']:.0%}" for row in held["rows"] if row["corruption"] == name]
        say(f"  {name}: {mean:.1%} (by severity {', '.join(rows)})")


def open_page(page: Path, quiet: bool = False) -> None:
    """Open a page in the browser of whoever calls, if there is one."""
    import webbrowser

    with suppress(OSError, webbrowser.Error):
        if webbrowser.open(page.absolute().as_uri()):
            return
    note(f"no browser was found to open {page} with", quiet)


def show(table: Table | RichTable) -> None:
    """A table of a result, where need be in the 80 letters of a narrow terminal."""
    from rich.console import Console

    with writing_result():
        Console().print(drawn(table) if isinstance(table, Table) else table)


def print_json(value: Any) -> None:
    with writing_result():
        sys.stdout.write(f"{json_text(value)}\n")


def note(sentence: str, quiet: bool = False) -> None:
    """A line on stderr beside the result, if it can be written there."""
    if not quiet:
        print(readable(sentence), file=Stderr(), flush=True)


def summarise_skipped(skipped: dict[str, str], quiet: bool) -> None:
    """Name the images that could not be decoded: the first few, and how many more."""
    for name, reason in list(skipped.items())[:10]:
        note(f"skipped {name}: {reason}", quiet)
    if len(skipped) > 10:
        note(f"skipped {counted(len(skipped) - 10, 'more image')}; --json names them all", quiet)
