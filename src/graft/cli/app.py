"""The command line: one file per command, each of which reads arguments, calls one function and prints its value."""

import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any

import typer

from graft.cli import advise, audit, cache, compare, demo, evaluate, models, predict, train
from graft.errors import GraftError
from graft.names import readable

# As shells tell of a process that Ctrl-C or SIGTERM ended: 128 and the number of the signal.
INTERRUPTED, TERMINATED = 130, 143
# What torch, its kernels and threads say where Python would raise MemoryError.
OUT_OF_MEMORY = re.compile(
    "not enough memory|can(no|')t allocate memory|out of memory|bad_alloc|can't start new thread|failed to map segment",
    re.IGNORECASE,
)

HELP = """Turn labelled images into a classifier, keeping as much of a pretrained network as suits them.

A level says how much is kept: head, stages:K, frozen:F, all, scratch, or auto, which measures.

A cut is where a level splits the network: frozen before it, trained after it.

Shift is how far your images are from those the network was trained on, stage by stage.
"""

app = typer.Typer(
    name="graft",
    help=HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: tuple[Callable[..., None], ...] = (
    train.train,
    audit.audit,
    advise.advise,
    compare.compare,
    evaluate.evaluate,
    predict.predict,
    models.models,
    demo.demo,
)


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and end."),
) -> None:
    if version:
        from graft import __version__

        typer.echo(f"graft {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command; what goes wrong becomes one sentence on stderr and an exit code, or a traceback with --debug."""
    open_closed_streams()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        try:
            app()
        finally:
            # What the library keeps back is written now, while a full disk can still be told of.
            sys.stdout.flush()
    except _Stopped as stopped:
        _end(str(stopped), stopped.exit_code, "")
    except BrokenPipeError:
        # Whoever read the output has seen enough. What is left of it must not fail again as the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _end(*_explained(error))


def open_closed_streams() -> None:
    """Put a file that is empty and takes everything in the place of standard streams that are closed (`<&-`, `>&-`).

    Otherwise the next file that is opened, maybe a model, gets the number of the stream, and what libraries print.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one, as those below it are open.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


class _Stopped(Exception):
    """The user, or whoever ends processes, stopped the command. Not a KeyboardInterrupt, which typer would catch."""

    def __init__(self, interruption: KeyboardInterrupt) -> None:
        super().__init__(str(interruption) or "stopped; nothing was lost that was finished")
        terminated = isinstance(interruption, _Terminated) or isinstance(interruption.__cause__, _Terminated)
        self.exit_code = TERMINATED if terminated else INTERRUPTED


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


def _terminate(*_: object) -> None:
    raise _Terminated


def _stoppable(command: Callable[..., None]) -> Callable[..., None]:
    """The command, whose interruption comes out as an error that says how to go on."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt as interruption:
            raise _Stopped(interruption) from None

    return run


for command in COMMANDS:
    app.command()(_stoppable(command))
app.add_typer(cache.cache, name="cache")


def _explained(error: Exception) -> tuple[str, int]:
    """A sentence and an exit code for an error."""
    if isinstance(error, GraftError):
        return str(error), error.exit_code
    reason = (str(error).splitlines() or [""])[0]
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError) and OUT_OF_MEMORY.search(str(error))
    ):
        return "expected the work to fit in memory, got no more of it: lower --image-size or --batch-size", 1
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return (
            f"expected to read and write files, got {error.strerror or error}{where}: see to that and run it again",
            1,
        )
    return (
        f"unexpected {type(error).__name__}: {reason}. This is a bug in graft; rerun with --debug and report the "
        "traceback",
        1,
    )


def _end(sentence: str, code: int, kind: str = "error: ") -> None:
    with suppress(OSError):
        print(f"{kind}{readable(sentence)}", file=sys.stderr)
    sys.exit(code)
