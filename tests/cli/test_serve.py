"""graft serve as a user meets it."""

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from running import client_of, served

from graft.cli.app import main

httpx = pytest.importorskip("httpx", reason="needs httpx")
for extra in ("fastapi", "uvicorn", "prometheus_client", "python_multipart"):
    pytest.importorskip(extra, reason="needs graft-vision[serve]")


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The exit code and stderr of a call that is refused, made in this process."""

    def called(*arguments: str) -> tuple[int, str]:
        monkeypatch.delenv("GRAFT_API_KEY", raising=False)
        monkeypatch.setattr(sys, "argv", ["graft", "serve", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, capsys.readouterr().err

    return called


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "GRAFT_API_KEY, or give --insecure"),
        (["--host", "0.0.0.0", "--api-key", "short"], "8 or more"),
        (["--port", "70000"], "--port"),
        (["--workers", "0"], "--workers"),
        (["--max-wait", "5 apples"], "--max-wait"),
        (["--max-batch", "0"], "--max-batch"),
        (["--max-files", "9999"], "--max-files"),
        (["--max-bytes", "0"], "--max-bytes"),
        (["--max-bytes", "1TB"], "--max-bytes"),
        (["--max-bytes", "many"], "many"),
        (["--host", "203.0.113.7", "--insecure", "--port", "0"], "203.0.113.7"),
        (["--examples"], "--examples"),
    ],
)
def test_a_wrong_call_is_one_sentence(arguments: list[str], words: str, serve, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model" / name).write_text("")
    code, told = serve(str(tmp_path), *arguments)
    assert code == 2 and words in told and told.startswith("error: expected ") and told.count("\n") == 1, told


def test_a_port_that_is_taken_is_told(serve, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, told = serve(str(tmp_path), "--port", str(taken.getsockname()[1]))
        assert code == 2 and "give another --port" in told


def test_without_the_extra_a_sentence_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys\nsys.modules['fastapi'] = None\nsys.argv = ['graft', 'serve', 'run']\n"
        "from graft.cli.app import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "pip install 'graft-vision[serve]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigterm_answers_what_has_come_and_ends_with_0() -> None:
    with served("none", "--max-batch", "1", model=False) as running, client_of(running) as client:
        answers: list[int] = []

        def ask() -> None:
            answers.append(client.post("/predict", files=[("image", ("a", b"slow"))] * 5).status_code)

        def waiting() -> float:
            lines = client.get("/metrics").text.splitlines()
            return next(float(line.split()[1]) for line in lines if line.startswith("graft_waiting_images "))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        until = time.monotonic() + 20
        # All requests have come, since more wait than three of them have.
        while waiting() < 16 - 1 and time.monotonic() < until:
            pass
        running.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        # Nobody takes a connection, or whoever still held one closes it.
        with pytest.raises(httpx.TransportError):
            client.get("/")
        # A stand-in answers with errors; none was cut off.
        assert answers == [422] * 4
        assert running.process.wait(20) == 0
        assert [line["message"] for line in running.log() if line["level"] != "info"] == []


def test_sighup_loads_the_model_again_and_a_broken_one_leaves_the_old(tmp_path: Path) -> None:
    version = tmp_path / "version"
    version.write_text("one")
    with served("none", model=False, STAND_IN_VERSION=str(version)) as running, client_of(running) as client:
        for loaded, message in (("two", "reloaded"), ("broken", "the model that was loaded before still answers")):
            version.write_text(loaded)
            running.process.send_signal(signal.SIGHUP)
            running.wait_for_log(lambda line, message=message: line["message"].startswith(message))
            assert client.get("/v2/models/none").json()["versions"] == ["two"]
        assert client.get("/v2/health/ready").status_code == 200
