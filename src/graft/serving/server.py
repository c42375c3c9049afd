"""The server from start to end: its socket, its signals, and the order of startup and shutdown."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from graft.errors import GraftError, InputError
from graft.serving.connections import connection_class
from graft.serving.logs import log_as_json
from graft.serving.metrics import Metrics
from graft.serving.routes import Example, application
from graft.serving.service import Service
from graft.serving.settings import Access, Serving
from graft.serving.web import uvicorn

log = logging.getLogger("graft.serving")

# Seconds that a connection is kept open after an answer, for the next request.
KEEP_ALIVE = 15
BACKLOG = 2048


@dataclass(frozen=True)
class Listening:
    """A running service: its address and what it answers with."""

    url: str
    name: str
    version: str
    classes: tuple[str, ...]
    engine: str
    workers: int
    key: bool

    def to_dict(self) -> dict[str, Any]:
        """Return what `graft serve --json` prints."""
        return {**vars(self), "classes": list(self.classes)}


def serve(
    serving: Serving,
    access: Access,
    examples: Sequence[Example] = (),
    *,
    started: Callable[[Listening], None] = lambda listening: None,
    quiet: bool = False,
) -> None:
    """Answer until SIGTERM or SIGINT, finish the requests that have arrived, and return; SIGHUP loads the model again.

    `started` is called once requests are answered. Raises InputError for an address that cannot be listened on and a
    model that cannot be loaded.
    """
    log_as_json(quiet)
    with _listen(access) as listening:
        asyncio.run(_serve(serving, access, examples, listening, started))


async def _serve(
    serving: Serving,
    access: Access,
    examples: Sequence[Example],
    listening: socket.socket,
    started: Callable[[Listening], None],
) -> None:
    metrics = Metrics()
    service = Service(serving, metrics.batch)
    await service.start()
    config = uvicorn.Config(
        application(service, metrics, access, examples),
        http=connection_class(serving.limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=round(2 * serving.limits.seconds),
    )
    server = _Server(config, service)
    host, port = listening.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    model = service.model
    server.when_started = lambda: started(
        Listening(
            url, serving.name, model.version, model.classes, model.engine, serving.workers, access.key is not None
        )
    )
    try:
        await server.serve(sockets=[listening])
    finally:
        await service.close()


class _Server(uvicorn.Server):
    """Uvicorn's server with signal handlers of our own: uvicorn's raise signals again after the end, like a failure."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.when_started: Callable[[], None] = lambda: None
        self._service = service
        self._reloading: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.when_started()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        actions = {"SIGTERM": self._end, "SIGINT": self._end, "SIGHUP": self._reload}
        known = {getattr(signal, name): action for name, action in actions.items() if hasattr(signal, name)}
        before = {number: signal.getsignal(number) for number in known}
        # Some event loops do not support signals; there, shutdown is a KeyboardInterrupt.
        with suppress(NotImplementedError):
            for number, action in known.items():
                loop.add_signal_handler(number, action)
        try:
            yield
        finally:
            with suppress(NotImplementedError):
                for number, handler in before.items():
                    loop.remove_signal_handler(number)
                    signal.signal(number, handler)

    def _end(self) -> None:
        log.info(
            "stopping: requests already received are answered",
            extra={"connections": len(self.server_state.connections)},
        )
        self._service.draining = True
        self.force_exit = self.should_exit
        self.should_exit = True

    def _reload(self) -> None:
        task = asyncio.create_task(self._reloaded())
        self._reloading.add(task)
        task.add_done_callback(self._reloading.discard)

    async def _reloaded(self) -> None:
        try:
            await self._service.reload()
        except GraftError as error:
            log.error("the model that was loaded before still answers: %s", error)


@contextmanager
def _listen(access: Access) -> Iterator[socket.socket]:
    """Yield a socket bound to the address. Raises InputError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            access.host, access.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(
            f"expected an address of this machine for --host, got {access.host!r} ({error.strerror}): 127.0.0.1 "
            "is usual"
        ) from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind(address)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"expected a free address to listen on, got {access.host} port {access.port} "
                f"({getattr(error, 'strerror', error)}): give another --port, or stop what listens there"
            ) from None
        yield bound
    finally:
        bound.close()
