"""The command line: one file per command, each of which reads arguments, calls one function and prints its value."""

import sys

import typer

from graft.cli import demo, evaluate, models, predict, train
from graft.errors import GraftError

app = typer.Typer(
    name="graft",
    help="Pictures to a classifier: how much of a pretrained CNN to keep, and no more work than that.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (train.train, evaluate.evaluate, predict.predict, models.models, demo.demo):
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
    """Run the command; whatever graft raises on purpose becomes one sentence on stderr and its exit code."""
    debug = "--debug" in sys.argv
    try:
        app()
    except GraftError as error:
        if debug:
            raise
        _end(str(error), error.exit_code)
    except KeyboardInterrupt:
        if debug:
            raise
        _end("stopped; what was finished is kept, and `graft train --resume` goes on with a training", 130)
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        sys.stderr.close()
        sys.exit(0)
    except MemoryError:
        if debug:
            raise
        _end("expected the work to fit in memory, got no more of it: lower --image-size or --batch-size", 1)
    except OSError as error:
        if debug:
            raise
        where = f" ({error.filename})" if error.filename else ""
        _end(f"expected to read and write files, got {error.strerror or error}{where}: mend that and run it again", 1)


def _end(sentence: str, code: int) -> None:
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)
