"""Fetch images by URL, only from hosts that the operator named.

Redirects are not followed: one at a named host could lead anywhere, for example to a service that only this machine may
reach.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from graft.serving.intake import Body
from graft.serving.refusal import Refusal
from graft.serving.settings import Limits

# No user, password or fragment; anything beyond ASCII has to arrive escaped.
_ADDRESS = re.compile(r"(https?)://([A-Za-z0-9.-]+)(?::(\d{1,5}))?(/[!-\"$-~]*)?")
_PORTS = {"http": 80, "https": 443}
BLOCK = 2**16
# How many fetches run at once; further ones wait.
AT_ONCE = 8


class Fetcher:
    """Fetches images from `hosts`, each a host name, optionally with a port as in `images.example:8080`."""

    def __init__(self, hosts: tuple[str, ...], limits: Limits) -> None:
        self.hosts = frozenset(host.lower() for host in hosts)
        self.limits = limits
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")

    async def fetch(self, address: str, most: int, body: Body) -> bytes:
        """Return the image at a URL, of at most `most` bytes, which are counted in `body` and are due with it.

        Raises Refusal for a host that was not named, and for what cannot be fetched.
        """
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise Refusal(400, "expected an address such as https://host/image.jpg for 'url', got another: rewrite it")
        scheme, host, port = match[1], match[2].lower(), int(match[3] or _PORTS[match[1]])
        if (host if port == _PORTS[scheme] else f"{host}:{port}") not in self.hosts:
            raise Refusal(
                403,
                f"expected an address at a host that this service may fetch from, got {match[2][:100]!r}: send the "
                "image itself, or have the host named with --url-host",
            )
        loop = asyncio.get_running_loop()
        until = time.monotonic() + body.until - loop.time()
        place = (scheme, host, port, match[4] or "/")
        working = loop.run_in_executor(self._threads, self._fetch, place, most, until, body.take)
        try:
            async with asyncio.timeout_at(body.until):
                return await working
        except TimeoutError:
            raise self._too_slow(host) from None

    def _fetch(self, place: tuple[str, str, int, str], most: int, until: float, take: Callable[[int], None]) -> bytes:
        scheme, host, port, path = place
        if (left := until - time.monotonic()) <= 0:
            raise self._too_slow(host)
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        connection = kind(host, port, timeout=left)
        try:
            connection.request("GET", path, headers={"User-Agent": "graft", "Accept": "image/*"})
            # Closed on its own: where the host closes the connection, the connection lets go of it.
            with connection.getresponse() as response:
                if response.status != 200:
                    raise _not_fetched(host, f"status {response.status}")
                data = bytearray()
                # `read1` returns what has come, where `read` would wait for a whole block, however slowly it comes.
                while part := response.read1(BLOCK):
                    if len(data) + len(part) > most:
                        allowed = f"{self.limits.bytes:,} bytes in all"
                        raise Refusal(413, f"expected images of at most {allowed}, got more from {host}: send fewer")
                    take(len(part))
                    data += part
                    if time.monotonic() > until:
                        raise self._too_slow(host)
                return bytes(data)
        except (OSError, http.client.HTTPException) as error:
            raise _not_fetched(host, type(error).__name__) from None
        finally:
            connection.close()

    def _too_slow(self, host: str) -> Refusal:
        return _not_fetched(host, f"not all of it within {self.limits.seconds:g} s of the request")


def _not_fetched(host: str, reason: str) -> Refusal:
    return Refusal(502, f"expected an image from {host}, got {reason}: send the image itself")
