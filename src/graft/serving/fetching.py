"""Fetch images by URL, only from hosts that the operator named.

Redirects are not followed: one at a named host could lead anywhere, for example to a service that only this machine may
reach.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import time
from concurrent.futures import ThreadPoolExecutor

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

    async def fetch(self, address: str) -> bytes:
        """Return the image at a URL. Raises Refusal for a host that was not named, and for what cannot be fetched."""
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
        working = asyncio.get_running_loop().run_in_executor(
            self._threads, self._fetch, scheme, host, port, match[4] or "/"
        )
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await working
        except TimeoutError:
            raise _not_fetched(host, f"no answer within {self.limits.seconds:g} s") from None

    def _fetch(self, scheme: str, host: str, port: int, path: str) -> bytes:
        until = time.monotonic() + self.limits.seconds
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        connection = kind(host, port, timeout=self.limits.seconds)
        try:
            connection.request("GET", path, headers={"User-Agent": "graft", "Accept": "image/*"})
            response = connection.getresponse()
            if response.status != 200:
                raise _not_fetched(host, f"status {response.status}")
            data = bytearray()
            while part := response.read(BLOCK):
                data += part
                if len(data) > self.limits.bytes:
                    raise Refusal(
                        413, f"expected an image of at most {self.limits.bytes:,} bytes, got more from {host}"
                    )
                if time.monotonic() > until:
                    raise _not_fetched(host, f"not all of it within {self.limits.seconds:g} s")
            return bytes(data)
        except (OSError, http.client.HTTPException) as error:
            raise _not_fetched(host, type(error).__name__) from None
        finally:
            connection.close()


def _not_fetched(host: str, reason: str) -> Refusal:
    return Refusal(502, f"expected an image from {host}, got {reason}: send the image itself")
