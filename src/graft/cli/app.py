"""The command line: one file per command, each of which reads arguments, calls one function and prints its value."""

import sys

import typer

from graft.cli import advise, audit, compare, demo, evaluate, models, predict, train
from graft.errors import GraftError

# What the command line library exits with when the user stops it.
INTERRUPTED = 130

app = typer.Typer(
    name="graft",
    help="Images to a classifier: how much of a pretrained CNN to keep, and no more work than that.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (
    train.train,
    audit.audit,
    advise.advise,
    compare.compare,
    evaluate.evaluate,
    predict.predict,
    models.models,
    demo.demo,
):
    app.command()(command)


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
    try:
        app()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _end("stopped; what was finished is kept, and `graft train --resume` goes on with a training", INTERRUPTED)
        raise
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _end(*_explained(error))


def _explained(error: Exception) -> tuple[str, int]:
    """A sentence and an exit code for an error."""
    if isinstance(error, GraftError):
        return str(error), error.exit_code
    if isinstance(error, MemoryError):
        return "expected the work to fit in memory, got no more of it: lower --image-size or --batch-size", 1
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return f"expected to read and write files, got {error.strerror or error}{where}: mend that and run it again", 1
    reason = (str(error).splitlines() or [""])[0]
    return (
        f"expected no such failure, got {type(error).__name__}: {reason}: run it with --debug and report what it says",
        1,
    )


def _end(sentence: str, code: int) -> None:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)
