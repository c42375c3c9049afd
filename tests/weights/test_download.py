"""Fetching files of weights by address, from a server on this machine."""

import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from local_server import BODY, DIGEST, Handler, Server, is_one_sentence, unused_address

from graft.errors import FetchError, GraftError, InputError
from graft.progress import Reporter
from graft.weights import download
from graft.weights.download import Download, fetch, weights_folder
from graft.weights.torchvision_catalog import TORCHVISION

pytestmark = pytest.mark.usefixtures("own_machine")


def left_in_cache() -> list[str]:
    return sorted(path.name for path in weights_folder().iterdir()) if weights_folder().is_dir() else []


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


@pytest.mark.skipif(sys.platform != "linux", reason="other systems answer where nobody listens any more")
def test_an_address_that_swallows_all_is_given_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "CONNECT_SECONDS", 0.3)
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # once the backlog is full, further connections are not answered
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        monkeypatch.setattr(download.time, "sleep", lambda seconds: pytest.fail("it was going to ask again"))
        with pytest.raises(FetchError, match="could not be downloaded from http"):
            fetch(Download(f"http://127.0.0.1:{silent.getsockname()[1]}/net.pth", DIGEST))


def test_a_server_that_falls_silent_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def stall(request: Handler, path: str) -> None:
        request.send(BODY[:1000], length=len(BODY))
        server.over.wait(10)

    server.answer = stall
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.1)
    with pytest.raises(FetchError, match="timed out") as caught:
        fetch(server.download())
    assert is_one_sentence(caught.value)
    assert len(server.requests) == 3
    assert left_in_cache() == []


def test_without_network_one_sentence_says_what_to_fetch_and_where_to_put_it() -> None:
    asked = Download(f"{unused_address()}/models/net.pth", DIGEST)
    with pytest.raises(FetchError, match="Cannot connect") as caught:
        fetch(asked)
    assert is_one_sentence(caught.value)
    assert asked.url in str(caught.value)
    assert str(weights_folder()) in str(caught.value)
    assert "not the right one" not in str(caught.value)
    # Follow the advice, with the wrong file and then with the right one.
    (weights_folder() / "net.pth").write_bytes(b"something else")
    with pytest.raises(FetchError, match="not the right one"):
        fetch(asked)
    (weights_folder() / "net.pth").write_bytes(BODY)
    assert fetch(asked).read_bytes() == BODY


def test_a_process_killed_while_downloading_leaves_no_file_under_the_final_name(server: Server) -> None:
    def stall(request: Handler, path: str) -> None:
        request.send(BODY, length=2 * len(BODY))
        server.over.wait(20)

    server.answer = stall
    asked = f"Download({server.download().url!r}, {DIGEST!r})"
    script = f"from graft.weights.download import Download, fetch; fetch({asked})"
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
    assert left_in_cache() == [left, "net.pth"]
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
    asked = Download(f"{unused_address()}/models/net.pth?version=2", DIGEST)
    assert fetch(asked).read_bytes() == BODY
    assert server.requests == ["GET /mirror/of/weights/net.pth"]


def test_a_mirror_may_be_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "net.pth").write_bytes(BODY)
    monkeypatch.setenv("GRAFT_WEIGHTS_URL", (tmp_path / "mirror").as_uri())
    assert fetch(Download("https://weights.invalid/net.pth", DIGEST)).read_bytes() == BODY
    # What the mirror lacks comes from where it was published.
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


def test_the_reporter_is_told_how_many_megabytes_came(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    body = bytes(12_500_000)
    server.answer = lambda request, path: request.send(body)
    steps: list[tuple[str, int, int]] = []
    reporter = Reporter(step=lambda name, done, total, text="": steps.append((name, done, total)))
    fetch(server.download(sha256=hashlib.sha256(body).hexdigest()), reporter)
    assert {(name, total) for name, _, total in steps} == {("fetching net.pth (MB)", 13)}
    came = [done for _, done, _ in steps]
    assert came == sorted(came) and came[0] < 13 and came[-1] == 13
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_table_is_what_torchvision_publishes() -> None:
    models = pytest.importorskip("torchvision.models")
    for name, published in TORCHVISION.items():
        assert published.url == models.get_model_weights(name)["IMAGENET1K_V1"].url
        assert published.file_name.endswith(f"-{published.sha256}.pth")


def test_importing_the_file_is_light() -> None:
    script = (
        "import sys, graft.weights.download, graft.weights.hub\n"
        "print([m for m in ('torch', 'huggingface_hub', 'aiohttp', 'fsspec', 'tqdm', 'rich') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
