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
from graft.cli.other_names import for_places, in_graft
from graft.cli.output import say, writing_result
from graft.errors import GraftError
from graft.names import readable
from graft.words import in_options

# The exit codes by which shells report Ctrl-C and SIGTERM: 128 plus the number of the signal.
INTERRUPTED, TERMINATED = 130, 143
NAME = "graft"
# The variable through which a shell asks for completions of its command line.
COMPLETION = f"_{NAME.upper()}_COMPLETE"
# The base of everything that typer raises for a wrong call; only its subclasses have public names.
WRONG_CALL: Any = typer.BadParameter.__base__
# What torch, its kernels and threads report where Python would raise MemoryError.
OUT_OF_MEMORY = re.compile(
    "not enough memory|can(no|')t allocate memory|out of memory|bad_alloc|can't start new thread|failed to map segment",
    re.IGNORECASE,
)

HELP = """Turn labelled images into a classifier that keeps as much of a pretrained network as suits them.

A level says how much to keep: head, head:stages, stages:K, frozen:F, all, scratch, or auto, which measures.

A cut is where a level divides the network: stages before it are frozen, stages after it are trained.

Shift is how far your images are from those the network was trained on, measured stage by stage.
"""

SETTINGS: dict[str, Any] = {
    "name": NAME,
    "help": HELP,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
app = typer.Typer(**SETTINGS)

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
        # With Rich, this prints the help.
        context.get_help()


@in_options()
def main() -> NoReturn:
    """Run the command and exit.

    An error becomes one sentence on stderr and an exit code, preceded by the traceback under --debug.
    """
    prepare_streams()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        try:
            _run()
        finally:
            # Flushes buffered output now, while a full disk can still be reported.
            with writing_result():
                sys.stdout.flush()
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, _Terminated) or isinstance(stop.__cause__, _Terminated)
        from graft.training.joining import follows

        # Of several processes, only the first reports.
        sentence = "" if follows() else str(stop) or "stopped; all finished work is kept"
        _end(sentence, TERMINATED if terminated else INTERRUPTED, "")
    except BrokenPipeError:
        # The reader has closed the pipe. The rest of the output must not fail again as the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        _end(*_explained(error))
    sys.exit(0)


def _run() -> None:
    """Find the command that the arguments name, and call it.

    Called directly, since `app()` would end the process itself on an interruption, a closed pipe or a wrong call.
    """
    if COMPLETION in os.environ:
        app(prog_name=NAME)
    group = typer.main.get_command(_with_named(sys.argv[1:2]))
    with group.make_context(NAME, sys.argv[1:]) as context:
        group.invoke(context)


def _with_named(words: list[str]) -> typer.Typer:
    """Return the app with only the command that the first word names: to make them all takes a twentieth of a second.

    With any other word, such as an option or a misspelt name, the app has all commands.
    """
    named = [each for each in app.registered_commands if [getattr(each.callback, "__name__", "")] == words]
    if not named:
        return app
    alone = typer.Typer(**SETTINGS)
    alone.registered_callback, alone.registered_commands = app.registered_callback, named
    return alone


def prepare_streams() -> None:
    """Make the standard streams usable, whatever the process was started with.

    Closed streams (`<&-`, `>&-`) are replaced by an empty file that accepts everything. Otherwise the next opened file,
    perhaps a model, would get the stream's number, and with it whatever libraries print. Characters that stdout or
    stderr cannot encode are escaped.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            # This is the lowest free number, since those below it are open.
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
    """Return a sentence and an exit code for an error."""
    if isinstance(error, GraftError):
        return str(error), error.exit_code
    reason = (str(error).splitlines() or [""])[0]
    if isinstance(error, WRONG_CALL):
        called = error.ctx.command_path if error.ctx else NAME
        message = _with_hint(error).removeprefix("Got ").rstrip(".")
        return f"expected a call as `{called} -h` describes it, got: {message[:1].lower()}{message[1:]}", 2
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | ImportError | OSError) and OUT_OF_MEMORY.search(str(error))
    ):
        return "expected the work to fit in memory, got an out-of-memory error: lower --image-size or --batch-size", 1
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return (
            f"expected to read and write files, got {error.strerror or error}{where}: fix that and run it again",
            1,
        )
    return (
        f"unexpected {type(error).__name__}: {reason}. This is a bug in graft; rerun with --debug and report the "
        "traceback",
        1,
    )


def _with_hint(error: Any) -> str:
    """Return the message of a wrong call, and what to use here for an option of another tool, or for two places."""
    option = getattr(error, "option_name", None)
    if option and error.ctx:
        hint = in_graft(option, {name for each in error.ctx.command.params for name in each.opts})
        if hint:
            return f"no such option: {option} ({hint})"
    message = str(error.format_message())
    if error.ctx and message.startswith("Got unexpected extra argument"):
        hint = for_places(error.ctx.command.name, "--resume" in sys.argv)
        return f"{message.rstrip('.')}: {hint}" if hint else message
    return message


def _end(sentence: str, code: int, kind: str = "error: ") -> NoReturn:
    with suppress(OSError):
        print(f"{kind}{readable(sentence)}\n" * bool(sentence), end="", file=sys.stderr)
    sys.exit(code)
