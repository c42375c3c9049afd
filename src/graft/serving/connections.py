"""Limits on waiting connections: a deadline to send a request head and to read the answer, and a maximum number."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from graft.serving.guarding import as_message
from graft.serving.refusal import Refusal
from graft.serving.settings import Limits
from graft.serving.web import HttpToolsProtocol

log = logging.getLogger("graft.serving")

# The most bytes of a request's method, path and headers.
MOST_HEAD = 2**16
NO_REQUEST = "expected a request in HTTP/1.1, got something else: check its headers for control characters"
# Files that are open besides the connections.
OTHER_FILES = 200


def connection_class(limits: Limits) -> type[HttpToolsProtocol]:
    """Return the server's protocol with limits, which it lacks, on connections that have not sent a request yet."""
    most = _allowed(limits.connections)
    # Connections without a complete head, the longest waiting first.
    waiting: dict[Connection, asyncio.TimerHandle] = {}

    class Connection(HttpToolsProtocol):
        # The deadline for a client with a backlog of unread answers to read some of it.
        _reading: asyncio.TimerHandle | None = None
        # Whether a head is incomplete, whether it began in the current data, and its bytes so far.
        _in_head, _began, _head_bytes = False, False, 0

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._wait()
            if len(self.connections) > most:
                oldest = next(iter(waiting))
                oldest._stop_waiting()
                oldest.transport.abort()

        def data_received(self, data: bytes) -> None:
            self._began = False
            super().data_received(data)
            if self.transport.is_closing():
                return
            busy = self._busy()
            # A head that begins behind the body of another request is counted from the next data on.
            if self._in_head and not (busy and self._began):
                self._head_bytes += len(data)
                if self._head_bytes > MOST_HEAD:
                    self._refuse(
                        Refusal(431, f"expected a request head of at most {MOST_HEAD:,} bytes, got more: send fewer")
                    )
            # After the head, the body or the answer is due; both have limits of their own.
            if busy:
                self._stop_waiting()
            elif self not in waiting and not self.transport.is_closing():
                self._wait()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._in_head, self._head_bytes, self._began = True, 0, True

        def on_headers_complete(self) -> None:
            self._in_head = False
            super().on_headers_complete()

        def send_400_response(self, msg: str) -> None:
            self._refuse(Refusal(400, NO_REQUEST))

        def _busy(self) -> bool:
            """Whether a request has a complete head and not yet its complete answer."""
            return self.cycle is not None and not self.cycle.response_complete

        def _refuse(self, refusal: Refusal) -> None:
            """Answer what is not a request, unless another answer is under way, and close."""
            if self._busy():
                self.transport.abort()
            else:
                self.transport.write(as_message(refusal))
                self.transport.close()

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
    """Raise the limit on open files as far as the system allows; return how many connections fit, at most `most`."""
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
