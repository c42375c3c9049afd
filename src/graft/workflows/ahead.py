"""Look over the images in another process while this one imports the numerical libraries and loads the base.

Importing torch keeps one core busy for seconds, and the audit that starts every training run does not need it. What the
other process has looked at is in the cache, where the audit finds it; the audit looks at the rest as usual.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from graft.data.loading import available_cores
from graft.data.table_options import TableOptions

# Above this many images, copies and marks are not looked for ahead, since that could outlast the imports.
FEW = 5_000
# The process that looks ahead, while it does.
_lookers: list[int] = []


@contextmanager
def looking_ahead(
    data: str,
    group: str | None = None,
    split: str | None = None,
    table: TableOptions | None = None,
    val: str | None = None,
    test: str | None = None,
) -> Iterator[None]:
    """Look over the images in the folder `data` until `looked_ahead` or the end of the block; see `open_dataset`.

    This happens only where it gains time: in a command that has yet to import torch, on a second core, and not under
    torchrun. Only folders are looked at, since two processes would unpack or fetch anything else at once. Nothing is
    reported here: the audit names what cannot be read.
    """
    places = [Path(each).expanduser() for each in (data, val, test) if each is not None]
    gains = "torch" not in sys.modules and "TORCHELASTIC_RUN_ID" not in os.environ and available_cores() > 1
    if not (gains and hasattr(os, "fork") and all(place.is_dir() for place in places)):
        yield
        return
    waiting = os.getpid()
    looker = os.fork()
    if not looker:
        _look(waiting, data, group, split, table, val, test)
    _lookers.append(looker)
    try:
        yield
    finally:
        looked_ahead()


def looked_ahead() -> None:
    """Stop looking ahead, if another process does; return when what it has seen is in the cache."""
    while _lookers:
        looker = _lookers.pop()
        os.kill(looker, signal.SIGTERM)
        os.waitpid(looker, 0)


def _look(waiting: int, data: str, *options: object) -> NoReturn:
    """Fill the cache until every image is seen, or until the waiting process stops this one or is gone."""

    def go_on(name: str, done: int, total: int, text: str = "") -> None:
        if os.getppid() != waiting:
            raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGTERM, _stop)
        if hasattr(os, "sched_setaffinity"):
            # The other process keeps a core busy, which its imports would otherwise have to share.
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[1:])
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        from threadpoolctl import threadpool_limits

        from graft.audit.auditing import look_at, look_over
        from graft.data.depths import levels_of
        from graft.data.opening import open_dataset
        from graft.images.preprocessing import Preprocessing
        from graft.progress import Reporter

        # The other process keeps a core busy: threads that wait for each other's part would spin on this one.
        threadpool_limits(1, user_api="blas")
        dataset = open_dataset(data, *options)  # type: ignore[arg-type]
        levels, _ = levels_of(dataset)
        reporter = Reporter(step=go_on)
        looks = look_at(dataset, reporter, levels)
        if len(dataset) <= FEW:
            # The rest takes less than a second, and would be lost if it were stopped.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            look_over(dataset, Preprocessing(1, (0.0,) * 3, (1.0,) * 3, levels=levels), reporter, looks)
    finally:
        os._exit(0)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    # An interrupted look keeps what it has seen.
    raise KeyboardInterrupt
