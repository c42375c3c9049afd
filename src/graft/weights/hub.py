"""Pretrained weights from elsewhere; the only file that reaches the network.

`fetch` gets one file by address and digest, `fetch_from_hub` the folder of a model on the Hugging Face Hub. Both look
on this machine first, and both say, when the network fails, which file to carry over by hand and where it goes.

Environment: GRAFT_CACHE (where fetched files stay), GRAFT_WEIGHTS_URL (a mirror to ask in place of each file's own
address, as `<GRAFT_WEIGHTS_URL>/<file name>`; http, https or file), the usual proxy variables, and for the Hub its own
HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and HF_TOKEN.
"""

import errno
import hashlib
import logging
import os
import re
import secrets
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from graft.errors import FetchError, GraftError, InputError, WeightsError

TIMEOUT_SECONDS = 30.0
# Before the second and the third attempt, when the first failed in a way that may pass.
PAUSES_SECONDS = (0.5, 2.0)
STALE_SECONDS = 24 * 60 * 60
CHUNK_BYTES = 1 << 20

# What a model folder may hold. Nothing that needs pickle is ever asked for.
HUB_WEIGHTS = "model.safetensors"
HUB_FILES = ("config.json", HUB_WEIGHTS, "labels.json", "preprocessing.json", "calibration.json", "README.md")
HUB_ADDRESS = "https://huggingface.co"
_WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".th", ".bin", ".ckpt", ".h5", ".msgpack", ".onnx", ".index.json")


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


@dataclass(frozen=True)
class Download:
    """A file by address; `sha256` is its digest in hexadecimal, whole or the first 8 digits and more."""

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


def weights_folder() -> Path:
    """Where fetched files stay: `weights` in $GRAFT_CACHE, $XDG_CACHE_HOME/graft or ~/.cache/graft; not created yet."""
    folder = Path(os.environ.get("GRAFT_CACHE") or _user_cache() / "graft")
    try:
        return folder.expanduser() / "weights"
    except RuntimeError as error:
        raise InputError(
            "expected a home folder to keep weights in, but this user has none: set GRAFT_CACHE to a folder"
        ) from error


def fetch(download: Download, progress: bool = True) -> Path:
    """The file on this machine: from the cache, from torch.hub's cache, or downloaded into the cache.

    What is returned fits the digest, whichever way it came. A file appears under its name only when it is complete.
    Raises FetchError when it cannot be had, GraftError when it cannot be written.
    """
    folder = weights_folder()
    target = folder / download.file_name
    for held in (target, _torch_hub_folder() / download.file_name):
        if _fits(held, download.sha256):
            return held
    url = _address(download)
    # A name of its own for each call, so that two processes never write into one file.
    partial = folder / f"{download.file_name}.{os.getpid()}-{secrets.token_hex(4)}.partial"
    with _writing_in(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
    try:
        size, digest = _receive_patiently(url, partial, progress and _on_terminal())
        if not digest.startswith(download.sha256.lower()):
            raise FetchError(
                f"expected {download.file_name} with a sha256 of {download.sha256.lower()}, but the {size:,} bytes "
                f"that came from {url} have {digest[: max(8, len(download.sha256))]}: see whether a proxy or login "
                f"page answers at that address, or get the file elsewhere and put it in {folder}"
            )
        with _writing_in(folder):
            partial.replace(target)
    except _LostError as lost:
        spoilt = "; the file of that name there now is not the right one" if target.exists() else ""
        raise FetchError(
            f"{download.file_name} is not on this machine and could not be downloaded from {url} ({lost}): fetch "
            f"{download.url} where there is a network and put the file in {folder}{spoilt}"
        ) from lost
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return target


def fetch_from_hub(repository: str, progress: bool = True) -> Path:
    """The local folder of "owner/name" or "owner/name@revision" on the Hub: model.safetensors, and of config.json,
    labels.json, preprocessing.json, calibration.json and README.md those it offers.

    It lies in the Hub's own cache (HF_HOME), shared with other tools; when the Hub cannot be asked, what is there
    serves. Raises InputError for a malformed name, WeightsError for a repository without model.safetensors, FetchError
    when neither the Hub nor the cache has it.
    """
    name, revision = _name_and_revision(repository)

    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import HFValidationError

    # The library reads the variable once, when first imported; whoever sets it later means it too.
    endpoint = (os.environ.get("HF_ENDPOINT") or HUB_ADDRESS).rstrip("/")
    with _quiet_hub(bars=progress and _on_terminal()):
        try:
            # The list first: a repository that cannot serve is refused before anything is downloaded.
            answer = HfApi(endpoint=endpoint).model_info(name, revision=revision, timeout=TIMEOUT_SECONDS)
            offered = [file.rfilename for file in answer.siblings or ()]
            if HUB_WEIGHTS not in offered:
                raise WeightsError(_without_safetensors(name, offered))
            # By the revision's name, not its commit: the cache remembers a name only when asked by it.
            folder = snapshot_download(name, revision=revision, endpoint=endpoint, allow_patterns=list(HUB_FILES))
            return Path(folder)
        except WeightsError:
            raise
        except HFValidationError as error:
            raise InputError(_malformed(repository)) from error
        except Exception as error:  # the library has changed its HTTP client, and with it its exceptions, twice
            cached = _cached_snapshot(name, revision)
            if cached is None:
                raise _hub_failure(error, name, revision, endpoint) from error
            return cached


# One file by address


class _LostError(Exception):
    """The other side failed, in words; `passing` when another attempt may do better."""

    def __init__(self, reason: object, passing: bool) -> None:
        super().__init__(" ".join(str(reason).split()))
        self.passing = passing


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


def _torch_hub_folder() -> Path:
    folder = os.environ.get("TORCH_HOME") or _user_cache() / "torch"
    # Path.expanduser raises for a user without a home; here that only means that nothing is found.
    return Path(os.path.expanduser(folder), "hub", "checkpoints")  # noqa: PTH111


def _fits(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256.lower())
    except OSError:
        return False


def _address(download: Download) -> str:
    mirror = os.environ.get("GRAFT_WEIGHTS_URL")
    if not mirror:
        return download.url
    _check_scheme(mirror)
    return f"{mirror.rstrip('/')}/{download.file_name}"


def _remove_stale(folder: Path) -> None:
    """What a killed process left behind. A day's grace: a younger one may still be growing."""
    for path in folder.glob("*.partial"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


@contextmanager
def _writing_in(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GraftError(
            f"expected to write weights in {folder}, but that failed ({error.strerror or error}): free space there, "
            "or set GRAFT_CACHE to a folder that can be written"
        ) from error


def _receive_patiently(url: str, partial: Path, shown: bool) -> tuple[int, str]:
    for pause in PAUSES_SECONDS:
        try:
            return _receive(url, partial, shown)
        except _LostError as lost:
            if not lost.passing:
                raise
        time.sleep(pause)
    return _receive(url, partial, shown)


def _receive(url: str, partial: Path, shown: bool) -> tuple[int, str]:
    """One attempt: what is at `url` into `partial`; its size in bytes and its sha256."""
    digest, received = hashlib.sha256(), 0
    with closing(_answer(url)) as response:
        length = response.headers.get("Content-Length") or ""
        expected = int(length) if length.isdigit() else None
        bar = _bar(urlsplit(url).path.rpartition("/")[2], expected, shown)
        with bar as advance, _writing_in(partial.parent), partial.open("wb") as file:
            for chunk in _chunks(response):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                advance(len(chunk))
            file.flush()
            os.fsync(file.fileno())
    # http.client ends a body that is cut short as if it were whole.
    if expected is not None and received != expected:
        raise _LostError(f"the connection was cut after {received:,} of {expected:,} bytes", passing=True)
    return received, digest.hexdigest()


def _answer(url: str) -> Any:
    try:
        # Some servers refuse Python's own name.
        return urlopen(Request(url, headers={"User-Agent": "graft-vision"}), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        passing = error.code >= 500 or error.code == 429
        raise _LostError(f"the server answered {error.code} {error.reason}", passing) from error
    except URLError as error:
        # No connection at all: asking again would only keep the user waiting.
        raise _LostError(error.reason, passing=False) from error
    except (OSError, HTTPException, ValueError) as error:
        raise _LostError(str(error) or type(error).__name__, passing=isinstance(error, OSError)) from error


def _chunks(response: Any) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read(CHUNK_BYTES)
        except (OSError, HTTPException) as error:
            raise _LostError(str(error) or type(error).__name__, passing=True) from error
        if not chunk:
            return
        yield chunk


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def _bar(name: str, total: int | None, shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, moved by the number of bytes that came."""
    if not shown:
        yield lambda received: None
        return

    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(name, total=total)
        yield lambda received: bars.advance(task, received)


# A model's folder from the Hub


def _name_and_revision(repository: str) -> tuple[str, str]:
    parts = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./+-]*))?", repository, re.ASCII)
    # Branches with ".." do not exist in git; in a path they would leave the cache.
    if parts is None or ".." in repository:
        raise InputError(_malformed(repository))
    return parts[1], parts[2] or "main"


def _malformed(repository: str) -> str:
    return (
        f"expected a repository as owner/name or owner/name@revision, got {repository!r}: "
        "copy the name from the top of the model's page"
    )


@contextmanager
def _quiet_hub(bars: bool) -> Iterator[None]:
    """The library without its warnings, and without its progress bars unless `bars`: failures come as exceptions."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    log = logging.getLogger("huggingface_hub")
    level = log.level
    hide = not bars and not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.CRITICAL)
        if hide:
            disable_progress_bars()
        try:
            yield
        finally:
            log.setLevel(level)
            if hide:
                enable_progress_bars()


def _cached_snapshot(name: str, revision: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=list(HUB_FILES), local_files_only=True)
    except OSError:
        return None
    # Another tool may have fetched only a part of the repository.
    return Path(folder) if (Path(folder) / HUB_WEIGHTS).is_file() else None


def _without_safetensors(name: str, offered: list[str]) -> str:
    sharded = any(file.endswith(".safetensors.index.json") for file in offered)
    held = [file for file in offered if file.endswith(_WEIGHT_SUFFIXES)] or offered
    more = f" and {len(held) - 6} more" if len(held) > 6 else ""
    return (
        f"expected {name} to offer {HUB_WEIGHTS}, got {', '.join(held[:6]) or 'no files'}{more}"
        f"{' (weights cut into several files are not supported)' if sharded else ''}: "
        "choose a repository with that file, or download a .safetensors or .pth of weights by hand and give that file "
        "as the base (--base FILE)"
    )


def _hub_failure(error: Exception, name: str, revision: str, endpoint: str) -> GraftError:
    from huggingface_hub import constants
    from huggingface_hub.utils import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    page = f"{endpoint}/{name}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return FetchError(
            f"expected leave to read {name}, but its owner asks readers to agree to terms first: agree at {page}, "
            "then set HF_TOKEN to your access token"
        )
    if isinstance(error, RepositoryNotFoundError):
        return FetchError(
            f"expected the model {name} at {endpoint}, but it is not there or it is private: check the spelling, and "
            "for a private one set HF_TOKEN to an access token that may read it"
        )
    if isinstance(error, RevisionNotFoundError):
        return FetchError(
            f"expected a branch, tag or commit {revision!r} of {name}, but it has none: choose one of those that "
            f"{page}/tree/main lists"
        )
    if status in (401, 403):
        return FetchError(
            f"expected leave to read {name}, but {endpoint} answered {status}: set HF_TOKEN to a valid access token "
            "that may read it, or unset it for a public model"
        )
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return GraftError(
            f"expected to write {name} in {constants.HF_HUB_CACHE}, but that failed ({error.strerror}): free space "
            "there, or set HF_HOME to a folder that can be written"
        )
    return FetchError(
        f"{name} is not whole in {constants.HF_HUB_CACHE} and could not be fetched ({said}): fetch config.json, "
        f"{HUB_WEIGHTS} and, if it has them, labels.json and preprocessing.json from {page}/tree/{revision} where "
        "there is a network, and give their folder or that file of weights as the base (--base FOLDER or FILE)"
    )
