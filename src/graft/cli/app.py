"""The command line: one file per command, each of which reads arguments, calls one function and prints its value."""

import io
import os
import re
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

import typer

from graft.cli import (
    advise,
    audit,
    cache,
    compare,
    demo,
    evaluate,
    explain,
    export,
    features,
    lab,
    models,
    predict,
    push,
    quiz,
    report,
    serve,
    train,
    tune,
    walk,
)
from graft.cli.output import say, writing_result
from graft.errors import GraftError
from graft.names import readable
from graft.words import in_options

# As shells tell of a process that Ctrl-C or SIGTERM ended: 128 and the number of the signal.
INTERRUPTED, TERMINATED = 130, 143
NAME = "graft"
# The variable in which a shell asks what could stand next on its command line.
COMPLETION = f"_{NAME.upper()}_COMPLETE"
# All that typer raises for a call: the base of the kinds that it names in public.
WRONG_CALL: Any = typer.BadParameter.__base__
# What torch, its kernels and threads say where Python would raise MemoryError.
OUT_OF_MEMORY = re.compile(
    "not enough memory|can(no|')t allocate memory|out of memory|bad_alloc|can't start new thread|failed to map segment",
    re.IGNORECASE,
)

HELP = """Turn labelled images into a classifier, keeping as much of a pretrained network as suits them.

A level says how much is kept: head, head:stages, stages:K, frozen:F, all, scratch, or auto, which measures.

A cut is where a level splits the network: frozen before it, trained after it.

Shift is how far your images are from those the network was trained on, stage by stage.
"""

app = typer.Typer(
    name=NAME,
    help=HELP,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    train.train,
    audit.audit,
    advise.advise,
    compare.compare,
    tune.tune,
    evaluate.evaluate,
    features.features,
    report.report,
    predict.predict,
    explain.explain,
    export.export,
    push.push,
    serve.serve,
    models.models,
    walk.walk,
    quiz.quiz,
    lab.lab,
    demo.demo,
):
    app.command()(command)
app.add_typer(cache.cache, name="cache")


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from graft import __version__

        say(f"graft {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        # With Rich, this prints it.
        context.get_help()


@in_options()
def main() -> NoReturn:
    """Run the command and exit.

    What goes wrong becomes one sentence on stderr and an exit code, with the traceback above it under --debug.
    """
    prepare_streams()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        try:
            _run()
        finally:
            # What the library keeps back is written now, while a full disk can still be told of.
            with writing_result():
                sys.stdout.flush()
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, _Terminated) or isinstance(stop.__cause__, _Terminated)
        from graft.training.joining import follows

        # Of several processes, the first speaks for all.
        sentence = "" if follows() else str(stop) or "stopped; nothing was lost that was finished"
        _end(sentence, TERMINATED if terminated else INTERRUPTED, "")
    except BrokenPipeError:
        # Whoever read the output has seen enough. What is left of it must not fail again as the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        _end(*_explained(error))
    sys.exit(0)


def _run() -> None:
    """Find the command that the arguments name, and call it.

    By hand, as `app()` would end the process itself on an interruption, a closed pipe or a wrong call.
    """
    if COMPLETION in os.environ:
        app(prog_name=NAME)
    group = typer.main.get_command(app)
    with group.make_context(NAME, sys.argv[1:]) as context:
        group.invoke(context)


def prepare_streams() -> None:
    """Make the standard streams usable, whatever the process was started with.

    Closed ones (`<&-`, `>&-`) are replaced by an empty file that accepts everything. Otherwise the next file to be
    opened, perhaps a model, would get the number of the stream, and with it what libraries print. Letters that stdout
    or stderr cannot encode are written as numbers.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is this one, as those below it are open.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Terminated(KeyboardInterrupt):
    """SIGTERM ends a command as Ctrl-C does."""


def _terminate(*_: object) -> None:
    raise _Terminated


def _explained(error: Exception) -> tuple[str, int]:
    """A sentence and an exit code for an error."""
    if isinstance(error, GraftError):
        return str(error), error.exit_code
    reason = (str(error).splitlines() or [""])[0]
    if isinstance(error, WRONG_CALL):
        called = error.ctx.command_path if error.ctx else NAME
        message = error.format_message().removeprefix("Got ").rstrip(".")
        return f"expected a call as `{called} -h` describes it, got: {message[:1].lower()}{message[1:]}", 2
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError | OSError) and OUT_OF_MEMORY.search(str(error))
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


def _end(sentence: str, code: int, kind: str = "error: ") -> NoReturn:
    with suppress(OSError):
        print(f"{kind}{readable(sentence)}\n" * bool(sentence), end="", file=sys.stderr)
    sys.exit(code)
