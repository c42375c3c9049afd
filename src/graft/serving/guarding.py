"""What every request passes through: the guard, for ids, logs and headers; then the door, which asks for the key."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from graft.serving.metrics import Metrics
from graft.serving.refusal import Gone, Refusal
from graft.serving.settings import Access, is_loopback

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = logging.getLogger("graft.serving")

_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
# Open without a key: what an orchestrator asks, and pages that reveal nothing about the model.
OPEN = frozenset(("/", "/openapi.json", "/v2/health/live", "/v2/health/ready"))
UNEXPECTED = "expected to answer, got an internal error, which the log has under this id: report it"
# The status that nginx logs for a client that did not wait for its answer.
CLIENT_GONE = 499
# Seconds to read and drop the rest of a refused body. Closing at once would reset the connection before the client has
# read the answer.
LINGER = 0.5
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
# For all answers but the page, which brings its own.
POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
UNSTORED = (b"cache-control", b"no-store")


class Guard:
    """Gives requests ids, adds headers to answers, logs both in one line, and answers failures in a sentence."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        exchange = _Exchange(scope, receive, send)
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except Gone:
            exchange.status = CLIENT_GONE
        except Refusal as refusal:
            await _refuse(exchange.send, refusal, exchange.id)
        except Exception as error:
            log.error("unexpected %s", type(error).__name__, exc_info=error, extra={"id": exchange.id})
            if not exchange.status:
                await _refuse(exchange.send, Refusal(500, UNEXPECTED), exchange.id)
        finally:
            self._tell(exchange)

    def _tell(self, exchange: _Exchange) -> None:
        scope, seconds = exchange.scope, time.monotonic() - exchange.began
        # The pattern of the path, not the path itself, which a client can fill with anything.
        route = getattr(scope.get("route"), "path", None) or "other"
        status = exchange.status or CLIENT_GONE
        self._metrics.request(route, status, seconds)
        log.info(
            "request",
            extra={
                "id": exchange.id,
                "method": exchange.method,
                "route": route,
                "status": status,
                "milliseconds": round(1000 * seconds, 1),
                "bytes": exchange.received,
                **scope["state"].get("told", {}),
            },
        )


class _Exchange:
    """A request and its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope, self._receive, self._send = _as_routed(scope), receive, send
        self.method = scope["method"]
        self.began = time.monotonic()
        self.id = _id(scope)
        self.scope.setdefault("state", {})["id"] = self.id
        self.status = 0
        self.received = 0
        self._whole = False

    async def receive(self) -> Event:
        message = await self._receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            self._whole = self._whole or not message.get("more_body", False)
        return message

    async def send(self, message: Event) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", []))
            named = {name for name, _ in headers}
            headers += [pair for pair in (*HEADERS, POLICY, UNSTORED) if pair[0] not in named]
            headers.append((b"x-request-id", self.id.encode()))
            if not self._whole and _has_body(self.scope):
                headers.append((b"connection", b"close"))
            await self._send({**message, "headers": headers})
        elif message.get("more_body", False) or self._whole or not _has_body(self.scope):
            await self._send(message)
        else:
            await self._send({**message, "more_body": True})
            await self._drop_the_rest()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drop_the_rest(self) -> None:
        until = asyncio.get_running_loop().time() + LINGER
        while not self._whole:
            try:
                async with asyncio.timeout_at(until):
                    if (await self.receive())["type"] == "http.disconnect":
                        return
            except TimeoutError:
                return


def _as_routed(scope: Scope) -> Scope:
    """Return a request as the routes know it: HEAD becomes GET, whose body the server then omits."""
    return {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"]}


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _id(scope: Scope) -> str:
    """Return the id that the client gave, if it is valid, else a new one."""
    given = header(scope, b"x-request-id")
    return given if _ID.fullmatch(given) else uuid.uuid4().hex


def header(scope: Scope, name: bytes) -> str:
    """Return the first header of a name, or an empty string."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def as_answer(refusal: Refusal, id: str) -> tuple[bytes, dict[str, str]]:
    """Return a JSON body with one sentence, as in the open inference protocol, and the headers that belong to it."""
    body = json.dumps({"error": str(refusal), "id": id}, ensure_ascii=False).encode("utf-8", "replace")
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    return body, headers


async def _refuse(send: Send, refusal: Refusal, id: str) -> None:
    body, headers = as_answer(refusal, id)
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def as_message(refusal: Refusal) -> bytes:
    """Return the complete answer, in bytes, to input that is not an HTTP request and so never reaches the guard."""
    id = uuid.uuid4().hex
    body, headers = as_answer(refusal, id)
    headers |= {"x-request-id": id, "connection": "close"}
    pairs = [*((name.encode(), value.encode()) for name, value in headers.items()), *HEADERS, POLICY, UNSTORED]
    lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}".encode()]
    return b"\r\n".join([*lines, *(b": ".join(pair) for pair in pairs), b"", body])


class Door:
    """Lets in requests with the key, if one is set; without a key, only those addressed to this machine's own name."""

    def __init__(self, app: App, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._check(scope)
        # Only after the check, which compares open paths literally.
        scope["path"] = scope["path"].removesuffix("/") or "/"
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        access = self._access
        if access.key is not None:
            if scope["path"] not in OPEN and not self.has_key(scope):
                raise Refusal(
                    401,
                    "expected the key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY', got no valid one: ask who "
                    "runs this service for it",
                )
        elif access.is_loopback and not access.insecure:
            # DNS rebinding: otherwise a stranger's page whose host name resolves to this machine would be answered as
            # our own page.
            host = header(scope, b"host")
            if not is_loopback(re.sub(r":\d+$", "", host)):
                raise Refusal(
                    421,
                    f"expected a request for localhost or 127.0.0.1, got one for {host[:100]!r}: set a key to serve it",
                )
        # Browsers say where a request comes from; other clients do not.
        strange = header(scope, b"sec-fetch-site") == "cross-site" and header(scope, b"origin") not in access.origins
        if strange and scope["path"] not in OPEN:
            raise Refusal(
                403,
                "expected a request from this service's own page, got one from another: allow its origin with --cors",
            )

    def has_key(self, scope: Scope) -> bool:
        """Whether a request has the key, compared in constant time."""
        if self._access.key is None:
            return False
        scheme, _, bearer = header(scope, b"authorization").partition(" ")
        given = bearer if scheme.lower() == "bearer" else header(scope, b"x-api-key")
        return hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._access.key.encode())
