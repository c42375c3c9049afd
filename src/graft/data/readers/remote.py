"""Images at addresses, `https://…` or `s3://…`, read through fsspec when needed and not kept."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.data.readers.folder import Files
from graft.errors import DataError

if TYPE_CHECKING:
    import pyarrow

# A letter before a colon may be a drive, so a scheme has at least two.
SCHEME = r"^[A-Za-z][A-Za-z0-9+.-]+://"
_HTTP = ("http", "https")
# How long to wait for a web server; after that, its image is skipped and named.
SECONDS = 60


def is_address(path: str) -> bool:
    return re.match(SCHEME, path) is not None


class Addresses(Files):
    """Images at addresses, and in files at absolute paths or paths relative to a folder: large_binary (N,).

    Raises DataError for a scheme that fsspec does not know or whose package is not installed.
    """

    def __init__(self, root: Path, paths: pyarrow.LargeBinaryArray) -> None:
        import pyarrow.compute

        super().__init__(root, paths)
        # One per host or bucket, created here, since fsspec would create another for each thread that asks.
        hosts = pyarrow.compute.extract_regex(paths, f"(?P<host>{SCHEME}[^/]*)").field("host").unique().to_pylist()
        self.systems = {_system_key(host): _file_system(host) for host in map(os.fsdecode, filter(None, hosts))}

    def name(self, row: int) -> str:
        key = self.key(row)
        return key if _system_key(key) in self.systems else super().name(row)

    def read(self, row: int) -> bytes:
        from graft.images.decoding import MAX_BYTES

        address = self.key(row)
        system = self.systems.get(_system_key(address))
        if system is None:
            return super().read(row)
        try:
            data = _fetch(system, address, MAX_BYTES + 1)
        except Exception as error:  # each scheme raises errors of its own, few of which are OSError
            reason = f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0]
            raise OSError(f"{address} could not be fetched ({reason})") from None
        if len(data) > MAX_BYTES:
            raise OSError(f"expected an image of at most {MAX_BYTES:,} bytes, got more from {address}")
        return data

    def stamp(self, row: int) -> str:
        # Asking for size and time would take as long as fetching the image.
        key = self.key(row)
        return key if _system_key(key) in self.systems else super().stamp(row)


def _system_key(address: str) -> str:
    """What addresses in one file system share: scheme and host, or for the web the scheme alone."""
    scheme, _, rest = address.partition("://")
    scheme = scheme.lower()
    return f"{scheme}://" if scheme in _HTTP else f"{scheme}://{rest.partition('/')[0]}"


def _file_system(host: str) -> Any:
    scheme = host.partition("://")[0].lower()
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(f"{host}/", **_options(scheme))[0]
    except ImportError as error:
        raise DataError(
            f"expected a package that reads {scheme}:// addresses, got none ({error}): install it, or fetch the "
            "images and give the paths of their files"
        ) from None
    except ValueError as error:
        raise DataError(
            f"expected addresses such as https:// or s3://, got {host} ({error}): fetch the images and give the paths "
            "of their files"
        ) from None
    except Exception as error:
        raise DataError(
            f"expected to reach {host}, got {type(error).__name__} ({error}): check the address and the connection"
        ) from None


def _options(scheme: str) -> dict[str, Any]:
    if scheme not in _HTTP:
        return {}
    from aiohttp import ClientTimeout

    return {"client_kwargs": {"timeout": ClientTimeout(total=SECONDS)}}


def _fetch(system: Any, address: str, most: int) -> bytes:
    """Fetch the first `most` bytes at an address, or all if there are fewer."""
    if address.lower().startswith(_HTTP):
        # As a stream: servers need not honour a range, and asking for the size first would be a second request.
        data = bytearray()
        with system.open(address, "rb", block_size=0, size=most) as stream:
            while len(data) < most and (part := stream.read(most - len(data))):
                data += part
        return bytes(data)
    return bytes(system.cat_file(system._strip_protocol(address), start=0, end=most))
