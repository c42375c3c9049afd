"""Report training to an experiment tracker: parameters, metrics by epoch, the report and the model.

A logger works in a thread of its own, so that a slow or unreachable one does not hold up training.
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

# For each name, the package it needs and the extra that installs it.
LOGGERS = {"tensorboard": "tensorboard", "mlflow": "mlflow", "wandb": "wandb"}
# Seconds a logger may take to finish after training; after that, the run is reported as complete without it.
SECONDS_TO_END = 120.0


class Logger(Protocol):
    """An experiment tracker. All methods are called in one thread, in this order, and may raise."""

    def begin(self, folder: Path, parameters: Mapping[str, Any]) -> None:
        """Begin training into `folder` with these parameters: integers, floats, strings, booleans or None."""
        ...

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Record an epoch: a row of `Run.logs`."""
        ...

    def end(self, run: Run) -> None:
        """Record the finished run: its scores, its report and its model."""
        ...

    def fail(self) -> None:
        """Record that training ended before it was finished."""
        ...


class Logging:
    """Feeds a logger alongside training; does nothing without one."""

    def __init__(self, logger: str | Logger | None, reporter: Reporter) -> None:
        self._reporter = reporter
        self._logger, self._name = _found(logger)
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._failure: str | None = None
        self._said = False
        self._last_epoch = -1
        self._thread: threading.Thread | None = None
        # Rows go to the reporter as well as to the logger.
        self.reporter = reporter if logger is None else replace(reporter, row=self._told_of)

    def begin(self, folder: Path, arguments: Arguments) -> None:
        if self._logger is None:
            return
        self._thread = threading.Thread(target=self._work, name=f"logger {self._name}", daemon=True)
        self._thread.start()
        logger, parameters = self._logger, parameters_of(arguments)
        self._tell(lambda: logger.begin(folder, parameters))

    def end(self, run: Run | None) -> None:
        """Log the result, or the failure if `run` is None, and wait for pending calls."""
        if self._logger is None or self._thread is None:
            return
        logger = self._logger
        if run is None:
            self._tell(logger.fail)
        else:
            # Includes epochs from before an interruption, which this logger has not received.
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
                f"the logger {self._name} failed ({self._failure}): training continues, and the run folder holds the "
                "full record"
            )

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            if self._failure is not None:
                continue
            try:
                call()
            except Exception as error:  # trackers, and what they call, raise their own kinds
                reason = (str(error).splitlines() or [""])[0][:200]
                self._failure = f"{type(error).__name__}: {reason}".rstrip(": ")


def parameters_of(arguments: Arguments) -> dict[str, Any]:
    """Return the run's arguments as logger parameters, without those left open."""
    return {name: value for name, value in arguments.to_dict().items() if value is not None}


def _found(logger: str | Logger | None) -> tuple[Logger | None, str]:
    """Return the logger of a name. Raises InputError if it is unknown or its package is not installed."""
    if logger is None:
        return None, ""
    if not isinstance(logger, str):
        missing = [name for name in ("begin", "epoch", "end", "fail") if not callable(getattr(logger, name, None))]
        if missing:
            raise InputError(
                f"expected one of {', '.join(LOGGERS)} for --logger, or an object with begin, epoch, end and fail, "
                f"got {logger!r}: name one"
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
