"""Send a model folder to the Hugging Face Hub, where `hf:owner/name` names it as a base and as a run.

Environment: the Hub's own HF_ENDPOINT and HF_TOKEN, else the token that `hf auth login` stored.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.errors import FetchError, GraftError, InputError
from graft.progress import NOBODY, Reporter
from graft.weights.card import stated_licence
from graft.weights.hub import HUB_ADDRESS, repository_name
from graft.weights.model_files import (
    CALIBRATION_FILE,
    CARD_FILE,
    CONFIG_FILE,
    DOMAIN_FILE,
    HUB,
    LABELS_FILE,
    PREPROCESSING_FILE,
    TENSORS_FILE,
    model_folder,
)
from graft.words import counted

# In the order in which they are listed.
SENT = (CARD_FILE, CONFIG_FILE, TENSORS_FILE, LABELS_FILE, PREPROCESSING_FILE, CALIBRATION_FILE, DOMAIN_FILE)
NEEDED = SENT[:5]
# Files that people read on the Hub, and that might name a place on this machine.
IN_WORDS = (CARD_FILE, CONFIG_FILE)
_PATH = re.compile(r"(?<![\w:/.~])~?(?:/[\w.@+ -]+){2,}|\b[A-Za-z]:\\[\w.@+\\ -]+")
# The line in the card of a folder, and in that of a repository.
USE_HERE = re.compile(r'graft\.load\("FOLDER"\) +# this folder')
USE_THERE = 'graft.load("hf:{name}")'


@dataclass(frozen=True)
class Push:
    """Files that were sent or, with `dry_run`, would be: by name, with their content or location."""

    repository: str
    address: str
    private: bool
    dry_run: bool
    files: dict[str, bytes | Path]
    # As the card states it, None if it does not.
    licence: str | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes by name."""
        return {
            name: len(content) if isinstance(content, bytes) else content.stat().st_size
            for name, content in self.files.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return what `graft push --json` prints."""
        return {
            "repository": self.repository,
            "address": self.address,
            "private": self.private,
            "dry_run": self.dry_run,
            "licence": self.licence,
            "bytes": sum(self.sizes.values()),
            "files": [{"name": name, "bytes": size} for name, size in self.sizes.items()],
        }


def push(
    run: str, repository: str, *, private: bool = False, dry_run: bool = False, reporter: Reporter = NOBODY
) -> Push:
    """Send the model of `run`, a run folder or its `model/`, to `repository`, "owner/name", created if needed.

    All files go in one commit, so that nobody ever finds half of them. With `private`, the repository is hidden from
    others, and one already visible to them is refused. With `dry_run`, nothing is sent and the Hub is not contacted.
    Raises InputError for an invalid name or folder, and for a card or a configuration that names a place on this
    machine; FetchError when the Hub refuses or cannot be reached.
    """
    name, revision = repository_name(repository.removeprefix(HUB))
    if revision is not None:
        raise InputError(f"expected a repository as owner/name to push to, got {repository!r}: leave @{revision} out")
    endpoint = (os.environ.get("HF_ENDPOINT") or HUB_ADDRESS).rstrip("/")
    folder = model_folder(Path(run).expanduser())
    files = _files(folder, name)
    licence = stated_licence((folder / CARD_FILE).read_text(encoding="utf-8"))
    found = Push(name, f"{endpoint}/{name}", private, dry_run, files, licence)
    if licence is None:
        reporter.note(
            f"licence of the base: not known; set `license:` at the head of {folder / CARD_FILE} to one that permits "
            "publishing what was made from its weights, such as apache-2.0"
        )
    if not dry_run:
        _send(found, endpoint, reporter)
    return found


def _files(folder: Path, name: str) -> dict[str, bytes | Path]:
    missing = [each for each in NEEDED if not (folder / each).is_file()]
    if missing:
        raise InputError(
            f"expected a model folder to push, got {str(folder)!r} without {', '.join(missing)}: save the model again"
        )
    files: dict[str, bytes | Path] = {each: folder / each for each in SENT if (folder / each).is_file()}
    for each in IN_WORDS:
        text = (folder / each).read_text(encoding="utf-8")
        text = USE_HERE.sub(USE_THERE.format(name=name), text)
        local = _local(text)
        if local is not None:
            raise InputError(
                f"expected a {each} without paths of this machine, got {local!r} in {str(folder / each)!r}: write "
                "something else there, and push again"
            )
        files[each] = text.encode()
    return files


def _local(text: str) -> str | None:
    """Return a path in `text` that exists on this machine, or that is in somebody's home."""
    home = str(Path("~").expanduser())
    for found in _PATH.findall(text):
        path = found.strip()
        if path.startswith(("~", "/home/", "/Users/")) or (len(home) > 1 and path.startswith(home)):
            return str(path)
        if Path(path).exists():
            return str(path)
    return None


def _send(push: Push, endpoint: str, reporter: Reporter) -> None:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    api, drawn = HfApi(endpoint=endpoint), not are_progress_bars_disabled()
    size = sum(push.sizes.values()) / 1e6
    reporter.note(f"sending {counted(len(push.files), 'file')}, {size:.1f} MB, to {push.address}")
    disable_progress_bars()
    try:
        _make(api, push)
        if push.private and api.model_info(push.repository).private is False:
            raise InputError(
                f"expected a private repository, got {push.repository}, which everybody can see: make it private at "
                f"{push.address}/settings, leave --private out, or choose another name"
            )
        api.create_commit(
            push.repository,
            [CommitOperationAdd(name, content) for name, content in push.files.items()],
            commit_message="An image classifier, saved by graft",
        )
    except GraftError:
        raise
    except Exception as error:  # the library has changed its HTTP client, and with it its exceptions, twice
        raise _refusal(error, push) from error
    finally:
        if drawn:
            enable_progress_bars()


def _make(api: Any, push: Push) -> None:
    """Create the repository only if it is missing: some tokens may write to one that they may not create."""
    try:
        api.create_repo(push.repository, private=push.private)
    except Exception as error:
        if _status(error) not in (401, 403, 409) or not api.repo_exists(push.repository):
            raise


def _status(error: Exception) -> int | None:
    """Return the HTTP status of the Hub's answer, if there was one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _refusal(error: Exception, push: Push) -> GraftError:
    status = _status(error)
    if status in (401, 403) or type(error).__name__ == "LocalTokenNotFoundError":
        came = "none or one that may not" if status is None else f"the answer {status}"
        return FetchError(
            f"expected an access token that may write to {push.repository}, got {came}: run `hf auth login`, or set "
            "HF_TOKEN to one with permission to write"
        )
    reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".rstrip(": ")
    return FetchError(
        f"expected to send the model to {push.address}, got {reason}: check the network and the name, and push again"
    )
