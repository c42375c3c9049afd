"""Models on the Hugging Face Hub, as folders on this machine.

Environment: the Hub's own HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE and HF_TOKEN.
"""

import errno
import os
import re
from pathlib import Path
from typing import Any

from graft.errors import FetchError, GraftError, InputError, WeightsError
from graft.progress import NOBODY, Reporter
from graft.weights.download import tell_bytes

TIMEOUT_SECONDS = 30.0

# What a model folder may hold. Nothing that needs pickle is ever requested.
HUB_WEIGHTS = "model.safetensors"
# Large weights are split across files, which an index lists.
HUB_INDEX = f"{HUB_WEIGHTS}.index.json"
HUB_FILES = (
    "config.json",
    HUB_WEIGHTS,
    HUB_INDEX,
    "model-*-of-*.safetensors",
    "labels.json",
    "preprocessing.json",
    "preprocessor_config.json",
    "calibration.json",
    "domain.safetensors",
    "README.md",
)
HUB_ADDRESS = "https://huggingface.co"


def fetch_from_hub(repository: str, reporter: Reporter = NOBODY) -> Path:
    """Return the local folder of "owner/name" or "owner/name@revision" on the Hub.

    It holds model.safetensors or the files that its index lists, and whichever the repository offers of config.json,
    preprocessor_config.json, labels.json, preprocessing.json, calibration.json and README.md. It lies in the Hub's own
    cache (HF_HOME), shared with other tools; when the Hub cannot be reached, the cached copy is used. `reporter`
    receives the number of bytes downloaded. Raises InputError for a malformed name, WeightsError for a repository
    without model.safetensors, FetchError when neither the Hub nor the cache has it.
    """
    name, stated = repository_name(repository)
    revision = stated or "main"

    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.utils import HFValidationError

    # The library reads the variable once, when first imported; setting it later should work too.
    endpoint = (os.environ.get("HF_ENDPOINT") or HUB_ADDRESS).rstrip("/")
    # By the revision's name, not its commit: the cache remembers a name only when asked by it.
    wanted: dict[str, Any] = {"repo_id": name, "revision": revision, "allow_patterns": list(HUB_FILES)}
    try:
        # The list first: an unusable repository is refused before anything is downloaded.
        answer = HfApi(endpoint=endpoint).model_info(name, revision=revision, timeout=TIMEOUT_SECONDS)
        offered = [file.rfilename for file in answer.siblings or ()]
        if HUB_WEIGHTS not in offered and HUB_INDEX not in offered:
            raise WeightsError(_without_safetensors(name, offered))
        return Path(snapshot_download(**wanted, endpoint=endpoint, tqdm_class=_bars(name, reporter)))
    except WeightsError:
        raise
    except HFValidationError as error:
        raise InputError(_malformed(repository)) from error
    except Exception as error:  # the library has changed its HTTP client, and with it its exceptions, twice
        cached = _cached(wanted)
        if cached is None:
            raise _hub_failure(error, name, revision, endpoint) from error
        return cached


def repository_name(repository: str) -> tuple[str, str | None]:
    """Return the name, and the revision if stated, of "owner/name" or "owner/name@revision". Raises InputError."""
    parts = re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)(?:@(\w[\w./+-]*))?", repository, re.ASCII)
    # Branches with ".." do not exist in git; in a path they would leave the cache.
    if parts is None or ".." in repository:
        raise InputError(_malformed(repository))
    return parts[1], parts[2]


def _cached(wanted: dict[str, Any]) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(**wanted, local_files_only=True))
    except OSError:
        return None
    # Another tool may have fetched only a part of the repository.
    return folder if (folder / HUB_WEIGHTS).is_file() or (folder / HUB_INDEX).is_file() else None


def _bars(name: str, reporter: Reporter) -> type[Any]:
    """Return a progress bar class for the library that draws nothing and reports the downloaded bytes to `reporter`."""
    from tqdm import tqdm

    class Told(tqdm):  # type: ignore[type-arg]
        def __init__(self, *words: Any, **settings: Any) -> None:
            settings.pop("name", None)
            super().__init__(*words, **{**settings, "disable": True})
            self.counts_bytes = settings.get("unit") == "B"

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self.counts_bytes:
                tell_bytes(reporter, name, int(self.n), self.total)

    return Told


def _malformed(repository: str) -> str:
    return (
        f"expected a repository as owner/name or owner/name@revision, got {repository!r}: "
        "copy the name from the top of the model's page"
    )


def _without_safetensors(name: str, offered: list[str]) -> str:
    more = f" and {len(offered) - 8} more" if len(offered) > 8 else ""
    return (
        f"expected {name} to offer {HUB_WEIGHTS}, got {', '.join(offered[:8]) or 'no files'}{more}: "
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
            f"expected permission to read {name}, but its owner asks readers to agree to terms first: agree at {page}, "
            "then set HF_TOKEN to your access token"
        )
    if isinstance(error, RepositoryNotFoundError):
        return FetchError(
            f"expected the model {name} at {endpoint}, but it does not exist or is private: check the spelling, and "
            "for a private one set HF_TOKEN to an access token that may read it"
        )
    if isinstance(error, RevisionNotFoundError):
        return FetchError(
            f"expected a branch, tag or commit {revision!r} of {name}, but it has none: choose one of those that "
            f"{page}/tree/main lists"
        )
    if status in (401, 403):
        return FetchError(
            f"expected permission to read {name}, but {endpoint} answered {status}: set HF_TOKEN to a valid access "
            "token that may read it, or unset it for a public model"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return GraftError(
            f"expected to write {name} in {constants.HF_HUB_CACHE}, but that failed ({error.strerror}): free space "
            "there, or set HF_HOME to a folder that can be written"
        )
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
    return FetchError(
        f"{name} is not complete in {constants.HF_HUB_CACHE} and could not be fetched ({reason}): fetch config.json, "
        f"{HUB_WEIGHTS} and, if it has them, labels.json and preprocessing.json from {page}/tree/{revision} where "
        "there is a network, and give their folder or that file of weights as the base (--base FOLDER or FILE)"
    )
