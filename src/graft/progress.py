"""Progress reports: how much of a step is done, a sentence, a table. Independent of any other room's types."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from graft.given import truth
from graft.names import readable
from graft.words import as_called

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; columns numbered in `texts` hold words, the others figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footer: tuple[str, ...] = ()
    texts: tuple[int, ...] = (0,)


class Step(Protocol):
    """Called when `done` of `total` parts of the step `name` are done; `text` adds a comment."""

    def __call__(self, name: str, done: int, total: int, text: str = "") -> None: ...


def _no_step(name: str, done: int, total: int, text: str = "") -> None: ...


@dataclass(frozen=True)
class Reporter:
    """Callbacks for progress, sentences, tables, and each epoch as a row of `Run.logs`.

    By default nobody is told.
    """

    step: Step = _no_step
    note: Callable[[str], None] = lambda sentence: None
    table: Callable[[Table], None] = lambda table: None
    row: Callable[[Mapping[str, Any]], None] = lambda row: None
    _said: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def note_once(self, sentence: str) -> None:
        """Note a sentence the first time only, since several steps may repeat it."""
        if sentence not in self._said:
            self._said.add(sentence)
            self.note(sentence)


NOBODY = Reporter()


class Stderr:
    """The current stderr, for messages beside a result.

    On a full disk, a pipe without a reader or a lost terminal, messages are dropped and the work goes on: its result is
    what counts.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr

    def write(self, text: str) -> int:
        # A program without a console has no stderr at all; a closed one raises ValueError.
        with suppress(OSError, ValueError, AttributeError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def reporting(reporter: Reporter | None = None, quiet: bool = False) -> Iterator[Reporter]:
    """Yield `reporter`, or if None one that writes to stderr while the block runs.

    On a terminal and in a notebook, steps are progress bars with the time left; elsewhere only notes and tables are
    written. With `quiet`, nothing is. Names are written as in `graft.names`.
    """
    if truth(quiet, "--quiet") or reporter is not None:
        yield reporter or Reporter()
        return
    from rich.console import Console

    stderr: Any = Stderr()
    console = Console(file=stderr)
    if not (console.is_terminal or console.is_jupyter):
        yield Reporter(
            note=lambda sentence: print(readable(as_called(sentence)), file=stderr, flush=True),
            table=lambda table: console.print(drawn(table)),
        )
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        yield Reporter(
            _Bars(progress),
            lambda sentence: console.print(readable(as_called(sentence)), markup=False, highlight=False),
            lambda table: console.print(drawn(table)),
        )


class _Bars:
    """Progress bars by name."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, name: str, done: int, total: int, text: str = "") -> None:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=total, text="")
        self._progress.update(self._tasks[name], completed=done, total=total, text=readable(text))


def drawn(table: Table) -> RichTable:
    """Return the table for a terminal: figures right-aligned and never broken, words folded where space is short."""
    from rich.table import Table as RichTable
    from rich.text import Text

    # With many columns a single space separates them, so that they fit 80 characters.
    close = len(table.columns) > 6
    shown = RichTable(
        title=table.title or None, box=None, pad_edge=False, collapse_padding=close, show_footer=bool(table.footer)
    )
    footers = table.footer or ("",) * len(table.columns)
    for number, (column, footer) in enumerate(zip(table.columns, footers, strict=True)):
        words = number in table.texts
        shown.add_column(
            Text(readable(column)),
            Text(readable(footer)),
            justify="left" if words else "right",
            no_wrap=not words,
            overflow="fold",
        )
    for row in table.rows:
        shown.add_row(*(Text(readable(cell)) for cell in row))
    return shown
