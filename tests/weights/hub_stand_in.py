"""A repository of the Hub on this machine, which takes what is pushed and gives it back."""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

from local_server import Handler

COMMIT = "c0ffee" + "0" * 34


class HubStandIn:
    """Holds the `files` of `name`, records write requests and their JSON in `asked`, and answers with `status`."""

    def __init__(self, name: str, private: bool = False) -> None:
        self.name, self.private = name, private
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, Any]] = []
        self.status = 200

    def answer(self, request: Handler, path: str) -> None:
        if request.command == "POST":
            self._write(request, path)
        elif path.startswith(f"/api/models/{self.name}/tree/"):
            rows = [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                for name, body in self.files.items()
            ]
            _json(request, rows)
        elif path in (f"/api/models/{self.name}", f"/api/models/{self.name}/revision/main"):
            listing = [{"rfilename": name} for name in self.files]
            _json(request, {"id": self.name, "sha": COMMIT, "siblings": listing, "private": self.private})
        elif path.startswith(f"/{self.name}/resolve/"):
            body = self.files[path.split("/", 5)[5]]
            etag = hashlib.sha1(body).hexdigest()
            request.send(body, headers={"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            request.send(status=404, headers={"X-Error-Code": "EntryNotFound"})

    def _write(self, request: Handler, path: str) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"] or 0))
        rows = [json.loads(line) for line in body.splitlines() if line.strip()]
        self.asked.append((path, rows[0] if rows else None))
        answers: dict[str, Callable[[], Any]] = {
            "/api/validate-yaml": lambda: {"warnings": [], "errors": []},
            "/api/repos/create": lambda: {"url": f"http://{request.headers['Host']}/{self.name}"},
            f"/api/models/{self.name}/preupload/main": lambda: {
                "files": [
                    {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False} for each in rows[0]["files"]
                ]
            },
            f"/api/models/{self.name}/commit/main": lambda: self._commit(request, rows),
        }
        if path not in answers:
            request.send(status=404)
        elif self.status != 200 and path != "/api/validate-yaml":
            request.send(status=self.status)
        else:
            _json(request, answers[path]())

    def _commit(self, request: Handler, rows: list[dict[str, Any]]) -> dict[str, str]:
        for row in rows:
            if row["key"] == "file":
                self.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
        return {"commitUrl": f"http://{request.headers['Host']}/{self.name}/commit/{COMMIT}", "commitOid": COMMIT}


def _json(request: Handler, value: Any) -> None:
    request.send_response(200)
    body = json.dumps(value).encode()
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
