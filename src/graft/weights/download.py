"""Download pretrained weights by URL and digest.

Environment: GRAFT_CACHE (where fetched files stay), GRAFT_WEIGHTS_URL (a mirror used in place of each file's own URL,
as `<GRAFT_WEIGHTS_URL>/<file name>`; http, https or file) and the usual proxy variables.
"""

import hashlib
import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from graft.errors import FetchError, GraftError, InputError
from graft.files import cache_folder, remove_abandoned, write_aside
from graft.progress import NOBODY, Reporter

TIMEOUT_SECONDS = 30.0
# To get any answer at all: where packets are dropped, nothing reports that there is no network.
CONNECT_SECONDS = 10.0
# Before the second and the third attempt, after a failure that may be temporary.
PAUSES_SECONDS = (0.5, 2.0)


@dataclass(frozen=True)
class Download:
    """A file by URL; `sha256` is its digest in hexadecimal, whole or its first 8 digits or more."""

    url: str
    sha256: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-fA-F]{8,64}", self.sha256):
            raise InputError(
                f"expected 8 to 64 hexadecimal digits of {self.url}'s sha256, got {self.sha256!r}: "
                "give at least the first 8 that its publisher states"
            )
        _check_scheme(self.url)
        if self.file_name in ("", ".", "..") or "\\" in self.file_name:
            raise InputError(f"expected an address that ends in a file name, got {self.url!r}: give the whole address")

    @property
    def file_name(self) -> str:
        return urlsplit(self.url).path.rpartition("/")[2]


class _LostError(Exception):
    """The server failed, in words; `passing` if another attempt may succeed."""

    def __init__(self, reason: str, passing: bool) -> None:
        super().__init__(" ".join(reason.split()))
        self.passing = passing


def weights_folder() -> Path:
    """Return where fetched files are stored, outside the cache's budget; not created yet."""
    return cache_folder() / "weights"


def fetch(download: Download, reporter: Reporter = NOBODY) -> Path:
    """Return the file on this machine: from the cache, from torch.hub's cache, or downloaded into the cache.

    The result always matches the digest. A file appears under its name only when it is complete. `reporter` receives
    the number of bytes downloaded. Raises FetchError when the file cannot be obtained, GraftError when it cannot be
    written.
    """
    folder = weights_folder()
    target = folder / download.file_name
    for held in (target, _torch_hub_folder() / download.file_name):
        if _matches(held, download.sha256):
            return held
    url = _address(download)
    remove_abandoned(folder)
    try:
        write_aside(target, lambda file: _receive(url, file, download, reporter))
    except _LostError as lost:
        wrong = "; the file of that name there now is not the right one" if target.exists() else ""
        raise FetchError(
            f"{download.file_name} is not on this machine and could not be downloaded from {url} ({lost}): fetch "
            f"{download.url} where there is a network and put the file in {folder}{wrong}"
        ) from lost
    except OSError as error:
        raise GraftError(
            f"expected to write weights in {folder}, but that failed ({error.strerror or error}): free space there, "
            "or set GRAFT_CACHE to a folder that can be written"
        ) from error
    return target


def tell_bytes(reporter: Reporter, name: str, received: int, total: int | None) -> None:
    """Report how much of the file or model `name` has arrived; `total` is None or less if unknown."""
    done, whole = (math.ceil(count / 10**6) for count in (received, max(received, total or 0)))
    reporter.step(f"fetching {name} (MB)", done, whole)


def _receive(url: str, file: IO[bytes], download: Download, reporter: Reporter) -> None:
    """Write the content of `url` to `file`, in up to three attempts.

    Raises _LostError, OSError, and FetchError for a file with another digest.
    """
    for pause in (*PAUSES_SECONDS, None):
        try:
            _copy(url, file, download.file_name, reporter)
            break
        except _LostError as lost:
            if pause is None or not lost.passing:
                raise
        time.sleep(pause)
        file.seek(0)
        file.truncate()
    file.flush()
    digest = _digest(Path(file.name))
    if not digest.startswith(download.sha256.lower()):
        raise FetchError(
            f"expected {download.file_name} with a sha256 of {download.sha256.lower()}, but the {file.tell():,} bytes "
            f"that came from {url} have {digest[: max(8, len(download.sha256))]}: see whether a proxy or login "
            f"page answers at that address, or get the file elsewhere and put it in {weights_folder()}"
        )


def _copy(url: str, file: IO[bytes], name: str, reporter: Reporter) -> None:
    """Make one attempt."""
    from aiohttp import ClientConnectorError, ClientError, ClientPayloadError, ClientTimeout, ConnectionTimeoutError
    from fsspec.callbacks import Callback
    from fsspec.core import url_to_fs
    from fsspec.exceptions import FSTimeoutError

    timeout = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=TIMEOUT_SECONDS)
    # Some servers refuse Python's default user agent.
    client = {"timeout": timeout, "trust_env": True, "headers": {"User-Agent": "graft-vision"}}
    options = {} if url.startswith("file:") else {"client_kwargs": client}
    came = Callback(hooks={"tell": lambda size, value, **_: tell_bytes(reporter, name, value, size)})
    try:
        system, path = url_to_fs(url, skip_instance_cache=True, **options)
        system.get_file(path, file, callback=came)
    except FileNotFoundError as error:
        raise _LostError("404 Not Found", passing=False) from error
    except (ClientError, TimeoutError) as error:
        reason, status = str(error) or "timed out", getattr(error, "status", 500)
        if isinstance(error, ClientPayloadError):
            reason = f"the connection was cut after {came.value:,} of {came.size or 0:,} bytes"
        # Without any connection, retrying would only keep the user waiting. fsspec has one error for all timeouts; the
        # cause tells which step timed out.
        cause = error.__cause__ if isinstance(error, FSTimeoutError) else error
        unreached = isinstance(cause, ClientConnectorError | ConnectionTimeoutError)
        passing = not unreached and (status >= 500 or status == 429)
        raise _LostError(reason, passing) from error


def _check_scheme(url: str) -> None:
    try:
        scheme = urlsplit(url).scheme
    except ValueError as error:
        raise InputError(f"expected an address, got {url!r} ({error}): correct it") from error
    if scheme not in ("http", "https", "file"):
        raise InputError(
            f"expected an address that begins with https://, http:// or file://, got {url!r}: "
            "write a folder as file:///its/path"
        )


def _address(download: Download) -> str:
    mirror = os.environ.get("GRAFT_WEIGHTS_URL")
    if not mirror:
        return download.url
    _check_scheme(mirror)
    return f"{mirror.rstrip('/')}/{download.file_name}"


def _torch_hub_folder() -> Path:
    folder = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    # Path.expanduser raises for a user without a home; here that only means that nothing is found.
    return Path(os.path.expanduser(folder), "hub", "checkpoints")  # noqa: PTH111


def _matches(path: Path, sha256: str) -> bool:
    try:
        return _digest(path).startswith(sha256.lower())
    except OSError:
        return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
