"""A training told to where a team keeps its experiments: parameters, metrics by epoch, the report and the model.

A logger works in a thread of its own, so that one that is slow or cannot be reached costs the training nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from graft.errors import InputError, did_you_mean
from graft.progress import Reporter

if TYPE_CHECKING:
    from graft.workflows.arguments import Arguments
    from graft.workflows.run import Run

# By name: the package that it takes, and the extra that installs it.
LOGGERS = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
# What a logger may take to end after the training has, in seconds; then the run is said to be there without it.
SECONDS_TO_END = 120.0


class Logger(Protocol):
    """Where a training is told to. All of its methods are called in one thread, in this order, and may raise."""

    def begin(self, folder: Path, parameters: Mapping[str, Any]) -> None:
        """Training into `folder` begins with these parameters: whole numbers, floats, texts, truths or None."""
        ...

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch is over: a row of `Run.logs`."""
        ...

    def end(self, run: Run) -> None:
        """The run is finished: its scores, its report and its model."""
        ...

    def fail(self) -> None:
        """The training ended before it was finished."""
        ...


class Logging:
    """A logger at work beside a training; without one, nothing."""

    def __init__(self, logger: str | Logger | None, reporter: Reporter) -> None:
        self._reporter = reporter
        self._logger, self._name = _found(logger)
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._failure: str | None = None
        self._said = False
        self._last_epoch = -1
        self._thread: threading.Thread | None = None
        # With everything that the reporter is told of besides.
        self.reporter = reporter if logger is None else replace(reporter, row=self._told_of)

    def begin(self, folder: Path, arguments: Arguments) -> None:
        if self._logger is None:
            return
        self._thread = threading.Thread(target=self._work, name=f"logger {self._name}", daemon=True)
        self._thread.start()
        logger, parameters = self._logger, parameters_of(arguments)
        self._tell(lambda: logger.begin(folder, parameters))

    def end(self, run: Run | None) -> None:
        """Tell of the result, or without one of a training that broke off, and wait for what is still to be told."""
        if self._logger is None or self._thread is None:
            return
        logger = self._logger
        if run is None:
            self._tell(logger.fail)
        else:
            # Those of before an interruption, which nobody was told of.
            for row in run.logs:
                self._row(row)
            self._tell(lambda: logger.end(run))
        self._calls.put(None)
        self._thread.join(SECONDS_TO_END if self._failure is None else 1.0)
        if self._thread.is_alive() and self._failure is None:
            self._failure = f"no answer in {SECONDS_TO_END:.0f} s"
        self._say()

    def _told_of(self, row: Mapping[str, Any]) -> None:
        self._reporter.row(row)
        self._row(row)

    def _row(self, row: Mapping[str, Any]) -> None:
        logger = self._logger
        if logger is not None and row["epoch"] > self._last_epoch:
            self._last_epoch = row["epoch"]
            self._tell(lambda: logger.epoch(row))

    def _tell(self, call: Callable[[], None]) -> None:
        self._calls.put(call)
        self._say()

    def _say(self) -> None:
        if self._failure is not None and not self._said:
            self._said = True
            self._reporter.note(
                f"the logger {self._name} could not be told of this training ({self._failure}): it goes on, and the "
                "run folder has all of it"
            )

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._failure is not None:
                continue
            try:
                call()
            except Exception as error:  # each has errors of its own, and of what it calls
                reason = (str(error).splitlines() or [""])[0][:200]
                self._failure = f"{type(error).__name__}: {reason}".rstrip(": ")


def parameters_of(arguments: Arguments) -> dict[str, Any]:
    """What a training was asked for and what loggers know as parameters, without what was left open."""
    return {name: value for name, value in arguments.to_dict().items() if value is not None}


def _found(logger: str | Logger | None) -> tuple[Logger | None, str]:
    """The logger of a name. Raises InputError for an unknown one, and for one whose package is not installed."""
    if logger is None:
        return None, ""
    if not isinstance(logger, str):
        missing = [name for name in ("begin", "epoch", "end", "fail") if not callable(getattr(logger, name, None))]
        if missing:
            raise InputError(
                f"expected one of {', '.join(LOGGERS)} for --logger, or what has begin, epoch, end and fail, got "
                f"{logger!r}: name one"
            )
        return logger, type(logger).__name__
    if logger not in LOGGERS:
        raise InputError(
            f"expected one of {', '.join(LOGGERS)} for --logger, got {logger!r}{did_you_mean(logger, LOGGERS)}: choose "
            "one of them"
        )
    if find_spec(LOGGERS[logger]) is None:
        raise InputError(
            f"expected {logger} for --logger {logger}, got none installed: install graft-vision[{logger}], or leave it "
            "out"
        )
    made: Logger = import_module(f"graft.workflows.loggers.to_{logger}").make()
    return made, logger
