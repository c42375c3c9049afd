"""Fetching weights, against servers on this machine: no test reaches further."""

import errno
import hashlib
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from graft.errors import FetchError, GraftError, InputError, WeightsError
from graft.weights import hub
from graft.weights.hub import Download, fetch, fetch_from_hub, weights_folder
from graft.weights.torchvision_catalog import TORCHVISION

BODY = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(BODY).hexdigest()
COMMIT = "c0ffee" + "0" * 34


class Handler(BaseHTTPRequestHandler):
    server: "Server"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        self.server.agents.append(self.headers["User-Agent"])
        self.server.answer(self, path)

    do_HEAD = do_GET

    def log_message(self, *words: object) -> None:
        pass

    def send(
        self, body: bytes = b"", status: int = 200, length: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Answers with `answer` and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[str] = []
        self.agents: list[str] = []
        self.over = threading.Event()
        self.answer: Callable[[Handler, str], None] = lambda request, path: request.send(BODY)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def download(self, name: str = "net.pth", sha256: str = DIGEST[:8]) -> Download:
        return Download(f"{self.address}/models/{name}", sha256)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.over.set()
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty caches, no proxy before 127.0.0.1, no long pauses."""
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("GRAFT_WEIGHTS_URL", raising=False)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr(hub, "PAUSES_SECONDS", (0.0, 0.0))


def unused_address() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def is_one_sentence(error: BaseException) -> bool:
    text = str(error)
    return "\n" not in text and not text.endswith(".") and ": " in text and "Traceback" not in text


def left_in_cache() -> list[str]:
    return sorted(path.name for path in weights_folder().iterdir()) if weights_folder().is_dir() else []


# One file by address


def test_the_folder_follows_the_environment_and_is_not_created(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert weights_folder() == tmp_path / "cache" / "weights"
    monkeypatch.delenv("GRAFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert weights_folder() == tmp_path / "xdg" / "graft" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert weights_folder() == tmp_path / "home" / ".cache" / "graft" / "weights"
    assert list(tmp_path.iterdir()) == []


def test_the_first_call_downloads_and_the_second_asks_nobody(server: Server) -> None:
    path = fetch(server.download())
    assert path == weights_folder() / "net.pth"
    assert path.read_bytes() == BODY
    assert server.requests == ["GET /models/net.pth"]
    assert server.agents == ["graft-vision"]
    assert fetch(server.download()) == path
    assert len(server.requests) == 1
    assert left_in_cache() == ["net.pth"]


def test_the_digest_may_be_whole_or_in_capitals(server: Server) -> None:
    fetch(server.download("a.pth", DIGEST))
    fetch(server.download("b.pth", DIGEST[:12].upper()))
    assert left_in_cache() == ["a.pth", "b.pth"]


def test_a_spoilt_file_in_the_cache_is_replaced(server: Server) -> None:
    path = fetch(server.download())
    path.write_bytes(BODY[:-1])
    assert fetch(server.download()).read_bytes() == BODY
    assert len(server.requests) == 2


def test_a_wrong_digest_is_refused_and_leaves_nothing(server: Server) -> None:
    wrong = "0123abcd"
    with pytest.raises(FetchError) as caught:
        fetch(server.download(sha256=wrong))
    assert is_one_sentence(caught.value)
    for part in ("net.pth", wrong, DIGEST[:8], f"{len(BODY):,} bytes", str(weights_folder())):
        assert part in str(caught.value)
    assert left_in_cache() == []
    assert len(server.requests) == 1


def test_a_cut_connection_is_tried_again_and_then_told(server: Server) -> None:
    server.answer = lambda request, path: request.send(BODY[:100_000], length=len(BODY))
    with pytest.raises(FetchError, match=f"cut after 100,000 of {len(BODY):,} bytes") as caught:
        fetch(server.download())
    assert is_one_sentence(caught.value)
    assert len(server.requests) == 3
    assert left_in_cache() == []


def test_a_second_attempt_starts_afresh(server: Server) -> None:
    def cut_once(request: Handler, path: str) -> None:
        request.send(BODY if len(server.requests) > 1 else BODY[:500_000], length=len(BODY))

    server.answer = cut_once
    assert fetch(server.download()).read_bytes() == BODY


def test_a_missing_file_is_told_at_once_with_where_to_put_it(server: Server) -> None:
    server.answer = lambda request, path: request.send(status=404)
    with pytest.raises(FetchError, match="404") as caught:
        fetch(server.download())
    assert is_one_sentence(caught.value)
    assert server.download().url in str(caught.value)
    assert str(weights_folder()) in str(caught.value)
    assert len(server.requests) == 1
    assert left_in_cache() == []


def test_a_busy_server_is_asked_three_times(server: Server) -> None:
    server.answer = lambda request, path: request.send(
        BODY if len(server.requests) == 3 else b"", status=200 if len(server.requests) == 3 else 503
    )
    assert fetch(server.download()).read_bytes() == BODY
    assert len(server.requests) == 3


def test_a_server_that_stays_busy_is_told(server: Server) -> None:
    server.answer = lambda request, path: request.send(status=503)
    with pytest.raises(FetchError, match="503"):
        fetch(server.download())
    assert len(server.requests) == 3


def test_a_server_that_falls_silent_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def stall(request: Handler, path: str) -> None:
        request.send(BODY[:1000], length=len(BODY))
        server.over.wait(10)

    server.answer = stall
    monkeypatch.setattr(hub, "TIMEOUT_SECONDS", 0.1)
    with pytest.raises(FetchError, match="timed out") as caught:
        fetch(server.download())
    assert is_one_sentence(caught.value)
    assert len(server.requests) == 3
    assert left_in_cache() == []


def test_without_network_one_sentence_says_what_to_fetch_and_where_to_put_it() -> None:
    download = Download(f"{unused_address()}/models/net.pth", DIGEST)
    with pytest.raises(FetchError, match="refused") as caught:
        fetch(download)
    assert is_one_sentence(caught.value)
    assert download.url in str(caught.value)
    assert str(weights_folder()) in str(caught.value)
    assert "not the right one" not in str(caught.value)
    # Doing as told, with the wrong file and then the right one.
    (weights_folder() / "net.pth").write_bytes(b"something else")
    with pytest.raises(FetchError, match="not the right one"):
        fetch(download)
    (weights_folder() / "net.pth").write_bytes(BODY)
    assert fetch(download).read_bytes() == BODY


def test_a_process_killed_while_downloading_leaves_no_file_under_the_final_name(server: Server) -> None:
    def stall(request: Handler, path: str) -> None:
        request.send(BODY, length=2 * len(BODY))
        server.over.wait(20)

    server.answer = stall
    script = f"from graft.weights.hub import Download, fetch; fetch(Download({server.download().url!r}, {DIGEST!r}))"
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        deadline = time.monotonic() + 20
        while not any(path.stat().st_size for path in weights_folder().glob("*.partial")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        process.wait()
    (left,) = left_in_cache()
    assert left != "net.pth"

    # The leftover is neither used nor in the way, and goes when it is a day old.
    server.answer = lambda request, path: request.send(BODY)
    assert fetch(server.download()).read_bytes() == BODY
    assert left_in_cache() == ["net.pth", left]
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(weights_folder() / left, (two_days_ago, two_days_ago))
    fetch(server.download("other.pth"))
    assert left_in_cache() == ["net.pth", "other.pth"]


def test_an_interrupted_download_removes_its_partial_file(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(server.download())
    assert left_in_cache() == []


def test_a_full_disk_is_told_and_leaves_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(GraftError, match="No space left on device") as caught:
        fetch(server.download())
    assert not isinstance(caught.value, FetchError)
    assert is_one_sentence(caught.value)
    assert len(server.requests) == 1
    assert left_in_cache() == []


def test_a_cache_that_cannot_be_a_folder_is_told(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(GraftError, match="GRAFT_CACHE") as caught:
        fetch(server.download())
    assert is_one_sentence(caught.value)


def test_a_mirror_is_asked_in_place_of_the_address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_WEIGHTS_URL", f"{server.address}/mirror/of/weights/")
    download = Download(f"{unused_address()}/models/net.pth?version=2", DIGEST)
    assert fetch(download).read_bytes() == BODY
    assert server.requests == ["GET /mirror/of/weights/net.pth"]


def test_a_mirror_may_be_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "net.pth").write_bytes(BODY)
    monkeypatch.setenv("GRAFT_WEIGHTS_URL", (tmp_path / "mirror").as_uri())
    assert fetch(Download("https://weights.invalid/net.pth", DIGEST)).read_bytes() == BODY
    # What the mirror lacks is to be had where it was published.
    with pytest.raises(FetchError, match=r"mirror/other\.pth .* fetch https://weights\.invalid/other\.pth"):
        fetch(Download("https://weights.invalid/other.pth", DIGEST))


def test_the_cache_of_torch_hub_is_read_and_left_alone(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "net.pth").write_bytes(BODY)
    (folder / "broken.pth").write_bytes(b"not it")
    assert fetch(server.download()) == folder / "net.pth"
    assert server.requests == []
    assert not weights_folder().exists()
    assert fetch(server.download("broken.pth")) == weights_folder() / "broken.pth"
    assert (folder / "broken.pth").read_bytes() == b"not it"


@pytest.mark.parametrize(
    ("url", "sha256"),
    [
        ("https://weights.invalid/net.pth", ""),
        ("https://weights.invalid/net.pth", "abc123"),
        ("https://weights.invalid/net.pth", "z" * 64),
        ("ftp://weights.invalid/net.pth", DIGEST),
        ("/folder/net.pth", DIGEST),
        ("https://weights.invalid/", DIGEST),
        ("https://weights.invalid/models/..", DIGEST),
        ("https://[broken/net.pth", DIGEST),
    ],
)
def test_an_address_or_digest_that_cannot_be_is_refused(url: str, sha256: str) -> None:
    with pytest.raises(InputError) as caught:
        Download(url, sha256)
    assert is_one_sentence(caught.value)


def test_a_mirror_that_is_no_address_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_WEIGHTS_URL", "/folder/of/weights")
    with pytest.raises(InputError, match="file:///its/path"):
        fetch(server.download())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_only(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(server.download("a.pth"))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    fetch(server.download("b.pth"), progress=False)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]
    fetch(server.download("c.pth"))
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "c.pth" in shown and "1.3 MB" in shown
    assert capsys.readouterr().out == ""


def test_the_table_is_what_torchvision_publishes() -> None:
    models = pytest.importorskip("torchvision.models")
    for name, download in TORCHVISION.items():
        assert download.url == models.get_model_weights(name)["IMAGENET1K_V1"].url
        assert download.file_name.endswith(f"-{download.sha256}.pth")


def test_importing_the_file_is_light() -> None:
    script = (
        "import sys, graft.weights.hub; print([m for m in ('torch', 'huggingface_hub', 'rich') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


# A model's folder from the Hub

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
    # The library reads its environment when it is imported, which may have been long ago.
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
    # As left by a tool that wanted the configuration alone.
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
    for part in ("config.json", "model.safetensors", "--base FOLDER or FILE", f"{address}/someone/insects/tree/main"):
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
    assert "model.safetensors" in str(caught.value) and "--base FILE" in str(caught.value)
    assert server.requests == ["GET /api/models/someone/insects/revision/main"]


def test_weights_in_shards_are_refused_by_name(repository: dict[str, bytes]) -> None:
    repository["model.safetensors.index.json"] = b"{}"
    repository["model-00001-of-00002.safetensors"] = repository.pop("model.safetensors")
    with pytest.raises(WeightsError, match="several files are not supported") as caught:
        fetch_from_hub("someone/insects")
    assert is_one_sentence(caught.value)


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


@pytest.mark.filterwarnings("ignore")  # the library warns when its own variable has switched the bars off
def test_the_library_is_left_as_talkative_as_it_was(repository: dict[str, bytes]) -> None:
    from huggingface_hub import HfApi  # noqa: F401 (sets the level of its log when first imported)
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    enable_progress_bars()
    log = logging.getLogger("huggingface_hub")
    before = (log.level, are_progress_bars_disabled())
    fetch_from_hub("someone/insects", progress=False)
    with pytest.raises(FetchError):
        fetch_from_hub("someone/unknown", progress=False)
    assert (log.level, are_progress_bars_disabled()) == before
