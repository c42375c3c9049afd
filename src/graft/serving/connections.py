"""Connections that wait: each has some seconds to send the head of a request and to read its answer, and all together
have a bound."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from graft.serving.settings import Limits
from graft.serving.web import H11Protocol

log = logging.getLogger("graft.serving")

# Files that are open beside the connections.
OTHER_FILES = 200


def connection_class(limits: Limits) -> type[H11Protocol]:
    """The server's protocol with bounds on what has sent no request yet, which it does not have itself."""
    most = _allowed(limits.connections)
    # Those without a whole head, that which waits longest first.
    waiting: dict[Connection, asyncio.TimerHandle] = {}

    class Connection(H11Protocol):
        # Until when a client that lets its answer pile up has to read some of it.
        _reading: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait()
            if len(self.connections) > most:
                oldest = next(iter(waiting))
                oldest._stop_waiting()
                oldest.transport.abort()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            # After the head of a request it is the body's turn, or ours, which have bounds of their own.
            if self.conn.their_state.__name__ != "IDLE":
                self._stop_waiting()
            elif self not in waiting and not self.transport.is_closing():
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            if self._reading is not None:
                self._reading.cancel()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._reading = asyncio.get_running_loop().call_later(limits.seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._reading is not None:
                self._reading.cancel()

        def _wait(self) -> None:
            waiting[self] = asyncio.get_running_loop().call_later(limits.head_seconds, self.transport.abort)

        def _stop_waiting(self) -> None:
            timer = waiting.pop(self, None)
            if timer is not None:
                timer.cancel()

    return Connection


def _allowed(most: int) -> int:
    """As many connections as files may be open, after asking the system for that many."""
    try:
        import resource
    except ImportError:
        return most
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most + OTHER_FILES
    if soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    return max(1, min(most, soft - OTHER_FILES))
