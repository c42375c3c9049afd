"""A server on this machine that answers as a test says: weights are fetched from it, without a network."""

import hashlib
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from graft.weights.download import Download

BODY = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(BODY).hexdigest()


class Handler(BaseHTTPRequestHandler):
    server: "Server"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(f"{self.command} {path}")
        self.server.agents.append(self.headers["User-Agent"])
        self.server.answer(self, path)

    do_HEAD = do_POST = do_GET

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


def unused_address() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def is_one_sentence(error: BaseException) -> bool:
    text = str(error)
    return "\n" not in text and not text.endswith(".") and ": " in text and "Traceback" not in text
