"""Images at addresses are fetched when they are read; one that cannot be is a failure of its own."""

import builtins
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from graft.data.loading import batches
from graft.data.opening import open_dataset
from graft.data.readers.remote import Addresses
from graft.errors import DataError
from graft.images import decoding
from graft.images.preprocessing import Preprocessing


class Answers(BaseHTTPRequestHandler):
    """Serves each path as its own content, but some paths differently."""

    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        if self.path.startswith("/broken"):
            self.send_error(500)
            return
        content = b"x" * 3_000_000 if self.path.startswith("/large") else self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + (10 if self.path.startswith("/short") else 0)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Answers.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_address[1]}"
        served.shutdown()
        thread.join()


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()


def addresses(*paths: str, root: Path | None = None) -> Addresses:
    return Addresses(root or Path(), pa.array([path.encode() for path in paths], pa.large_binary()))


def test_a_manifest_of_addresses_and_files(tmp_path: Path, server: str, memory: Any) -> None:
    memory.pipe("/photos/2.jpg", b"in memory")
    (tmp_path / "3.jpg").write_bytes(b"on the disk")
    text = f"path,label\n{server}/1.jpg?size=2&a=%20,a\nmemory://photos/2.jpg,b\n3.jpg,a\ngone.jpg,b\n"
    (tmp_path / "x.csv").write_text(text)
    dataset = open_dataset(tmp_path / "x.csv")
    images = dataset.splits["all"]
    assert not Answers.asked, "nothing is fetched before it is read"
    assert [images.read(row) for row in range(3)] == [b"/1.jpg?size=2&a=%20", b"in memory", b"on the disk"]
    assert Answers.asked == ["/1.jpg?size=2&a=%20"], "one request for each image"
    assert [images.name(row) for row in range(3)] == [
        f"{server}/1.jpg?size=2&a=%20",
        "memory://photos/2.jpg",
        str(tmp_path / "3.jpg"),
    ]
    first, second, third = images.stamps()
    assert (first, second) == (images.name(0), images.name(1)) and third.startswith("3.jpg:")
    assert dataset.left_out == {str(tmp_path / "gone.jpg"): "no such file"}


def test_many_threads_share_one_connection_pool(server: str) -> None:
    names = [f"/{number}" for number in range(200)]
    source = addresses(*(server + name for name in names))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.read, range(200))) == [name.encode() for name in names]
    assert len(source.systems) == 1


@pytest.mark.parametrize("path", ["missing.jpg", "broken.jpg", "short.jpg"])
def test_an_answer_that_is_no_image_is_an_os_error(server: str, path: str) -> None:
    with pytest.raises(OSError, match=f"{path} could not be fetched"):
        addresses(f"{server}/{path}").read(0)


def test_a_server_that_is_not_there_and_a_file_that_is_not(memory: Any) -> None:
    source = addresses("http://127.0.0.1:9/1.jpg", "memory://photos/nothing.jpg")
    for row in (0, 1):
        with pytest.raises(OSError, match="could not be fetched"):
            source.read(row)


def test_an_image_that_cannot_be_fetched_is_skipped_and_named(tmp_path: Path, server: str, memory: Any) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "x.png")
    memory.pipe("/x.png", (tmp_path / "x.png").read_bytes())
    source_of = tmp_path / "x.csv"
    source_of.write_text(f"path,label\n{server}/missing.png,a\nmemory://x.png,a\n")
    images = open_dataset(source_of).splits["all"]
    (batch,) = batches(images, Preprocessing(8, (0.5,), (0.5,)), 8, threads=2)
    assert batch.indices.tolist() == [1] and "missing.png could not be fetched" in batch.failures[0]


def test_more_bytes_than_an_image_may_have_are_not_fetched(
    server: str, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", 1000)
    memory.pipe("/large", b"x" * 1001)
    memory.pipe("/right", b"x" * 1000)
    source = addresses(f"{server}/large", "memory://large", "memory://right")
    for row in (0, 1):
        with pytest.raises(OSError, match="at most 1,000 bytes, got more from"):
            source.read(row)
    assert len(source.read(2)) == 1000


def test_a_file_by_its_address(tmp_path: Path) -> None:
    (tmp_path / "a b.jpg").write_bytes(b"x")
    assert addresses(f"file://{tmp_path}/a b.jpg").read(0) == b"x"


def test_a_scheme_that_nobody_knows_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("path,label\nnonsense://a/1.jpg,a\n")
    with pytest.raises(DataError, match="got nonsense://a "):
        open_dataset(tmp_path / "x.csv")


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def refuse(name: str, *arguments: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "gcsfs":
            raise ImportError(f"No module named {name!r}")
        return plain(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    (tmp_path / "x.csv").write_text("path,label\ngs://bucket/1.jpg,a\n")
    with pytest.raises(DataError, match=r"(?s)gs:// addresses.*gcsfs.*install it"):
        open_dataset(tmp_path / "x.csv")
