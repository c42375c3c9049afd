"""Fetching models of the Hugging Face Hub, from a server on this machine that answers as the Hub does."""

import errno
import hashlib
import json
import logging
import warnings
from pathlib import Path

import pytest
from local_server import BODY, Handler, Server, is_one_sentence, unused_address

from graft.errors import FetchError, GraftError, InputError, WeightsError
from graft.progress import Reporter
from graft.weights.hub import fetch_from_hub

COMMIT = "c0ffee" + "0" * 34

pytestmark = pytest.mark.usefixtures("own_machine")

FILES = {
    "config.json": b'{"architecture": "resnet18"}',
    "model.safetensors": BODY,
    "labels.json": b'["ant", "bee"]',
    "README.md": b"# Ants and bees",
    "pytorch_model.bin": b"pickle",
    "training/optimizer.pt": b"pickle",
}


@pytest.fixture
def repository(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files of `someone/insects`, served as the Hub does; change them before the first call."""
    from huggingface_hub import constants

    files = dict(FILES)

    def answer(request: Handler, path: str) -> None:
        if path == "/api/models/someone/insects/revision/main":
            listing = [{"rfilename": name} for name in files]
            request.send(json.dumps({"id": "someone/insects", "sha": COMMIT, "siblings": listing}).encode())
        elif path == f"/api/models/someone/insects/tree/{COMMIT}":
            rows = [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                for name, body in files.items()
            ]
            request.send(json.dumps(rows).encode(), headers={"Content-Type": "application/json"})
        elif path.startswith(f"/someone/insects/resolve/{COMMIT}/"):
            body = files[path.split("/", 5)[5]]
            etag = hashlib.sha1(body).hexdigest()
            request.send(body, headers={"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        elif path.startswith("/api/models/someone/insects/"):
            request.send(status=404, headers={"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("/api/models/someone/gated"):
            request.send(status=403, headers={"X-Error-Code": "GatedRepo"})
        elif path.startswith("/api/models/someone/forbidden"):
            request.send(status=403)
        elif path.startswith("/api/models/someone/login-page"):
            request.send(b"<html>Welcome to the airport</html>")
        else:
            request.send(status=401, headers={"X-Error-Code": "RepoNotFound"})

    server.answer = answer
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    # The library reads its environment on import, which may have happened long ago.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    return files


def test_a_repository_comes_as_a_folder_without_anything_pickled(
    server: Server, repository: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fetch_from_hub("someone/insects")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "labels.json",
        "model.safetensors",
    ]
    assert (folder / "model.safetensors").read_bytes() == BODY
    assert folder.is_relative_to(tmp_path / "hub")
    assert not any("pytorch_model" in request or "optimizer" in request for request in server.requests)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")

    server.requests.clear()
    assert fetch_from_hub("someone/insects@main") == folder
    assert not any("/resolve/" in request for request in server.requests)


def test_a_commit_names_a_revision(server: Server, repository: dict[str, bytes]) -> None:
    ask_main = server.answer
    server.answer = lambda request, path: ask_main(request, path.replace(f"revision/{COMMIT}", "revision/main"))
    assert fetch_from_hub(f"someone/insects@{COMMIT}").name == COMMIT


def test_the_cached_folder_serves_when_the_hub_cannot_be_reached_or_fails(
    server: Server, repository: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetch_from_hub("someone/insects")
    monkeypatch.setenv("HF_ENDPOINT", unused_address())
    assert fetch_from_hub("someone/insects") == folder
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    server.answer = lambda request, path: request.send(status=503)
    assert fetch_from_hub("someone/insects") == folder


def test_a_cached_folder_without_its_weights_does_not_serve(
    repository: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # As left by a tool that fetched only the configuration.
    model = tmp_path / "hub" / "models--someone--insects"
    (model / "snapshots" / COMMIT).mkdir(parents=True)
    (model / "snapshots" / COMMIT / "config.json").write_bytes(FILES["config.json"])
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    monkeypatch.setenv("HF_ENDPOINT", unused_address())
    with pytest.raises(FetchError, match=r"model\.safetensors"):
        fetch_from_hub("someone/insects")


def test_without_network_or_cache_one_sentence_names_the_files_and_the_argument(
    repository: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = unused_address()
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(FetchError) as caught:
        fetch_from_hub("someone/insects")
    assert is_one_sentence(caught.value)
    for part in ("config.json", "model.safetensors", "`base=FOLDER` or FILE", f"{address}/someone/insects/tree/main"):
        assert part in str(caught.value)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_repository_without_safetensors_is_refused_before_anything_is_downloaded(
    server: Server, repository: dict[str, bytes]
) -> None:
    del repository["model.safetensors"]
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin") as caught:
        fetch_from_hub("someone/insects")
    assert is_one_sentence(caught.value)
    assert "model.safetensors" in str(caught.value) and "`base=FILE`" in str(caught.value)
    assert server.requests == ["GET /api/models/someone/insects/revision/main"]


def test_weights_in_shards_come_with_their_index(repository: dict[str, bytes]) -> None:
    repository["model.safetensors.index.json"] = b"{}"
    repository["model-00001-of-00002.safetensors"] = repository.pop("model.safetensors")
    names = {path.name for path in fetch_from_hub("someone/insects").iterdir()}
    assert {"model.safetensors.index.json", "model-00001-of-00002.safetensors"} <= names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("someone/unknown", "HF_TOKEN"),
        ("someone/gated", "agree to terms"),
        ("someone/forbidden", "answered 403"),
        ("someone/insects@v9", "'v9'"),
        ("someone/login-page", "JSONDecodeError"),
    ],
)
def test_what_the_hub_refuses_is_told_in_one_sentence(repository: dict[str, bytes], name: str, expected: str) -> None:
    with pytest.raises(FetchError, match=expected) as caught:
        fetch_from_hub(name)
    assert is_one_sentence(caught.value)
    assert name.partition("@")[0] in str(caught.value)


def test_a_full_disk_under_the_hubs_cache_is_told(
    repository: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    def full(*words: object, **named: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(GraftError, match="HF_HOME") as caught:
        fetch_from_hub("someone/insects")
    assert not isinstance(caught.value, FetchError)
    assert is_one_sentence(caught.value)
    assert str(tmp_path / "hub") in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "insects",
        "a/b/c",
        "hf:a/b",
        "a/b@",
        "a/b@../../x",
        "a/b@x/../../y",
        "../b",
        "a b/c",
        "a/b\n",
        "a/-b",
        "a/b--c",
    ],
)
def test_a_malformed_name_is_refused_without_asking(server: Server, repository: dict[str, bytes], name: str) -> None:
    with pytest.raises(InputError, match="owner/name") as caught:
        fetch_from_hub(name)
    assert is_one_sentence(caught.value)
    assert server.requests == []


def test_the_reporter_is_told_how_many_megabytes_came(repository: dict[str, bytes]) -> None:
    repository["model.safetensors"] = bytes(12_500_000)
    steps: list[tuple[str, int, int]] = []
    reporter = Reporter(step=lambda name, done, total, text="": steps.append((name, done, total)))
    fetch_from_hub("someone/insects", reporter)
    assert {name for name, _, _ in steps} == {"fetching someone/insects (MB)"}
    assert steps[-1][1:] == (13, 13)


def test_the_library_is_left_as_talkative_as_it_was(repository: dict[str, bytes]) -> None:
    from huggingface_hub import HfApi  # noqa: F401 (sets the level of its log when first imported)

    log = logging.getLogger("huggingface_hub")
    before = (log.level, list(warnings.filters))
    fetch_from_hub("someone/insects")
    with pytest.raises(FetchError):
        fetch_from_hub("someone/unknown")
    assert (log.level, list(warnings.filters)) == before
