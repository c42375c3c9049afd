"""The service's answers: to images sent in every supported way, and a sentence for everything else."""

import asyncio
import json
import shutil
import socket
import subprocess
import time
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from crafted import encode as encoded
from crafted import png, scene
from running import Served, client_of, served

from graft.serving import intake
from graft.serving.intake import read_json
from graft.serving.refusal import Refusal

httpx = pytest.importorskip("httpx")

PNG = encoded(scene(), "PNG")
BOMB = png(30_000, 30_000, 8, 2, b"")


@pytest.fixture(scope="module")
def client(service: Served) -> Iterator["httpx.Client"]:
    with client_of(service) as client:
        yield client


@pytest.fixture(scope="module")
def stand_in(extra: None) -> Iterator[Served]:
    """A service without a model that requires a key, has tight limits, and fetches from this machine."""
    options = ("--max-bytes", "100kB", "--max-files", "4", "--max-waiting", "4", "--max-batch", "1", "--timeout", "1s")
    with served("none", *options, "--cors", "https://a.example", model=False, GRAFT_API_KEY="0123456789") as running:
        yield running


KEY = {"Authorization": "Bearer 0123456789"}


def test_several_images_are_answered_in_order_under_their_own_names(client: "httpx.Client") -> None:
    names = ["a.png", "../../etc/passwd", "C:\\images\\b.png", "line\nfeed\x1b[31m.png", "Ж é.png", ""]
    files = [("images", (name or "x", PNG)) for name in names]
    found = client.post("/predict", files=files, data={"top": "2"}).raise_for_status().json()
    paths = [each["path"] for each in found["predictions"]]
    assert paths[:3] == ["a.png", "passwd", "b.png"] and paths[4] == "Ж é.png"
    assert "\n" not in paths[3] and "\x1b" not in paths[3]
    assert {len(each["top"]) for each in found["predictions"]} == {2}
    assert [found["predictions"][0]["label"], found["predictions"][0]["probability"]] == found["predictions"][0]["top"][
        0
    ]
    assert found["model"] == {"name": "letters", "version": found["model"]["version"]}


def test_raw_bytes_and_base64_are_the_same_image_as_a_file(client: "httpx.Client") -> None:
    by_file = client.post("/predict?top=3", files={"image": ("a.png", PNG)}).json()["predictions"][0]
    raw = client.post("/predict?top=3", content=PNG, headers={"content-type": "image/png"}).json()["predictions"][0]
    text = b64encode(PNG).decode()
    in_lines, for_addresses = encodebytes(PNG).decode(), urlsafe_b64encode(PNG).decode().rstrip("=")
    assert "\n" in in_lines and set("-_") & set(for_addresses)
    images = [{"base64": text, "name": "a.png"}]
    images += [{"base64": each} for each in (f"data:image/png;base64,{text}", in_lines, for_addresses)]
    by_text = client.post("/predict", json={"images": images, "top": 3}).json()["predictions"]
    assert all(each["top"] == by_file["top"] for each in (raw, *by_text))
    assert [raw["path"], by_text[0]["path"], by_text[1]["path"]] == ["image 0", "a.png", "image 1"]


def test_what_cannot_be_decoded_has_an_error_in_its_place(client: "httpx.Client") -> None:
    given = {"a": PNG, "b": PNG[:100], "c": BOMB, "d": b"no image", "e": b""}
    files = [("image", (name, data)) for name, data in given.items()]
    answer = client.post("/predict", files=files)
    found = answer.json()["predictions"]
    assert answer.status_code == 200
    assert ["error" in each for each in found] == [False, True, True, True, True]
    assert "an empty file" in found[4]["error"]
    assert "30,000 x 30,000" in found[2]["error"]
    alone = client.post("/predict", files=files[1:])
    assert alone.status_code == 422 and alone.json()["error"] == alone.json()["predictions"][0]["error"]
    tensor = {"name": "file", "datatype": "BYTES", "shape": [2], "data": [b64encode(d).decode() for d in (PNG, BOMB)]}
    answer = client.post("/v2/models/letters/infer", json={"inputs": [tensor]})
    assert answer.status_code == 400 and answer.json()["error"].startswith("image 1: expected")


def test_an_error_budget_is_kept_however_it_is_asked_for(client: "httpx.Client") -> None:
    file, text = {"image": ("a.png", PNG)}, b64encode(PNG).decode()
    for asked, answered in (("5%", False), (0.07, False), (0.1, True), ("0.3", True)):
        found = [
            client.post("/predict", files=file, params={"error_budget": asked}),
            client.post("/predict", files=file, data={"error_budget": asked}),
            client.post("/predict", json={"images": [{"base64": text}], "error_budget": asked}),
        ]
        for answer in found:
            (each,) = answer.raise_for_status().json()["predictions"]
            assert each["label"] == (each["top"][0][0] if answered else None)
            assert ("abstained" in each) != answered and each["probability"] == each["top"][0][1]
    refused = client.post("/predict", files=file, params={"error_budget": "2%"})
    assert refused.status_code == 400 and "0.05 is the least" in refused.json()["error"]


FORM = {"content-type": "multipart/form-data; boundary=x"}
WRONG = {
    "no content type": (415, {"content": PNG}, "multipart/form-data"),
    "curl's content type": (
        415,
        {"content": PNG, "headers": {"content-type": "application/x-www-form-urlencoded"}},
        "-F image=@FILE",
    ),
    "text": (415, {"content": PNG, "headers": {"content-type": "text/plain"}}, "text/plain"),
    "control characters": (400, {"content": PNG, "headers": {"content-type": "image/png\x7f"}}, "control characters"),
    "compressed": (415, {"content": PNG, "headers": {"content-type": "image/png", "content-encoding": "gzip"}}, "gzip"),
    "empty": (400, {"content": b"", "headers": {"content-type": "image/png"}}, "got none"),
    "no boundary": (400, {"content": PNG, "headers": {"content-type": "multipart/form-data"}}, "boundary"),
    "no multipart": (400, {"content": PNG, "headers": FORM}, "multipart/form-data"),
    "cut": (
        400,
        {"content": b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc', "headers": FORM},
        "ends too early",
    ),
    "no name": (400, {"content": b"--x\r\nA: b\r\n\r\nabc\r\n--x--\r\n", "headers": FORM}, "Content-Disposition"),
    "no images": (400, {"data": {"top": "2"}, "files": {"image": ("a", b"")}}, "got none"),
    "image as a field": (400, {"data": {"image": "a" * 999}, "files": {"file": ("a", PNG)}}, "-F image=@FILE"),
    "field of another name": (400, {"data": {"tops": "2"}, "files": {"image": ("a", PNG)}}, "'tops' (did you mean"),
    "error budget": (400, {"data": {"error_budget": "1"}, "files": {"image": ("a", PNG)}}, "'error_budget'"),
    "file of another name": (400, {"files": {"picture\n": ("a", PNG)}}, "picture"),
    "unknown in the query": (
        400,
        {"files": {"image": ("a", PNG)}, "params": {"exlpain": "1"}},
        "did you mean 'explain'",
    ),
    "top of none": (400, {"files": {"image": ("a", PNG)}, "params": {"top": "0"}}, "'top'"),
    "top of words": (400, {"files": {"image": ("a", PNG)}, "data": {"top": "five"}}, "'five'"),
    "no JSON": (400, {"content": b"{", "headers": {"content-type": "application/json"}}, "JSON"),
    "deep JSON": (400, {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, "JSON"),
    "another JSON": (400, {"json": {"image": "a"}}, '"images"'),
    "unknown in JSON": (400, {"json": {"images": [], "best": True}}, "'best'"),
    "unknown in an image": (400, {"json": {"images": [{"base64": "", "path": "/etc/passwd"}]}}, "'path'"),
    "neither": (400, {"json": {"images": [{"name": "a"}]}}, "'base64' or 'url'"),
    "both": (400, {"json": {"images": [{"base64": "", "url": ""}]}}, "'base64' or 'url'"),
    "no base64": (400, {"json": {"images": [{"base64": "*"}]}}, "base64"),
    "no texts": (400, {"json": {"images": [{"base64": 5}]}}, "strings"),
    "no such host": (403, {"json": {"images": [{"url": "http://169.254.169.254/latest"}]}}, "169.254.169.254"),
    "a file as address": (400, {"json": {"images": [{"url": "file:///etc/passwd"}]}}, "https://"),
    "too many": (413, {"files": [("image", ("a", b"x"))] * 33}, "at most 32 images"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_request_is_refused_in_a_sentence(name: str, client: "httpx.Client") -> None:
    status, request, words = WRONG[name]
    answer = client.post("/predict", **request)
    told = answer.json()
    assert (answer.status_code, set(told)) == (status, {"error", "id"}), told
    assert told["error"].startswith("expected ") and words in told["error"] and "got" in told["error"], told
    assert told["id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"inputs": []}, "one tensor"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [0, 0]}]}, "3 values"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [0, 0, 256]}]}, "0 to 255"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [0, 0, 0.5]}]}, "0 to 255"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 4], "data": [0] * 4}]}, "[N, H, W, 3]"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 2**30, 9, 3], "data": []}]}, "at most"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 1, 1, 3], "data": []}]}, "above zero"),
        ({"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3]}]}, "'data'"),
        ({"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 1, 1, 3], "data": [0, 0, 0]}]}, "FP32"),
        ({"inputs": [{"name": "file", "datatype": "BYTES", "shape": [2], "data": [""]}]}, "2 elements"),
        ({"inputs": [{"name": "file", "datatype": "BYTES", "shape": [1], "data": ["*"]}]}, "base64"),
        ({"inputs": [{"name": "file", "datatype": "BYTES", "shape": [1], "data": [""], "dtype": 1}]}, "'dtype'"),
        ({"inputs": [{}], "input": []}, "'input' (did you mean 'inputs'?)"),
        (
            {"inputs": [{"name": "file", "datatype": "BYTES", "shape": [1], "data": [""]}], "outputs": [{"name": "x"}]},
            "x",
        ),
        ([], "an object"),
    ],
)
def test_a_wrong_tensor_is_refused_in_a_sentence(value: object, words: str, client: "httpx.Client") -> None:
    answer = client.post("/v2/models/letters/infer", json=value)
    assert answer.status_code in (400, 413) and set(answer.json()) == {"error", "id"}
    assert words in answer.json()["error"]


@pytest.mark.parametrize("length", ["9" * 5000, "x", "-1", "\u0663", "99"])
def test_a_length_of_the_json_that_is_none_is_refused(length: str, client: "httpx.Client") -> None:
    headers = {"Inference-Header-Content-Length": length.encode()}
    answer = client.post("/v2/models/letters/infer", content=b"{}", headers=headers)
    assert answer.status_code == 400 and "the length of the JSON" in answer.json()["error"]


def test_json_that_would_keep_everybody_waiting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_json(b"[1,2,3]") == [1, 2, 3]
    monkeypatch.setattr(intake, "MOST_VALUES", 1)
    with pytest.raises(Refusal, match="bytes of a tensor after the JSON") as refused:
        read_json(b"[1,2,3]")
    assert refused.value.status == 413


def test_the_open_inference_protocol_is_spoken(client: "httpx.Client") -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    told = client.get("/v2/models/letters").json()
    (version,) = told["versions"]
    assert client.get(f"/v2/models/letters/versions/{version}").json() == told
    assert client.get("/v2/models/letters/ready").json() == {"name": "letters", "ready": True}
    for path in ("/v2/models/other", "/v2/models/letters/versions/2", "/v2/models/..%2f..%2fetc", "/v2/models/a%00b"):
        assert client.get(path).status_code == 404
    pixels = {"name": "image", "datatype": "UINT8", "shape": [2, 2, 2, 1], "data": [[[[0]] * 2] * 2, [[[255]] * 2] * 2]}
    outputs = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "probabilities"}]
    answer = client.post("/v2/models/letters/infer", json={"id": "7", "inputs": [pixels], "outputs": outputs})
    length = int(answer.headers["inference-header-content-length"])
    head, binary = json.loads(answer.content[:length]), answer.content[length:]
    assert (head["id"], head["model_name"], head["model_version"]) == ("7", "letters", version)
    first = int.from_bytes(binary[:4], "little")
    classes = told["parameters"]["classes"]
    assert binary[4 : 4 + first].decode() in classes
    assert head["outputs"][0]["parameters"] == {"binary_data_size": len(binary)}
    assert head["outputs"][1]["shape"] == [2, len(classes)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_commands_of_the_docs_are_answered(service: Served, tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "deploy.md").read_text()
    commands = page.split("```sh\n")[1].split("```")[0].splitlines()
    assert len(commands) == 7
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(PNG)
    for command in commands:
        asked = command.replace("http://127.0.0.1:8000", service.url).replace("/photos", "/letters")
        asked = asked.replace("curl ", "curl --silent --show-error --fail ", 1)
        done = subprocess.run(asked, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        assert "metrics" in command or json.loads(done.stdout)


def test_every_example_that_openapi_shows_is_answered(client: "httpx.Client") -> None:
    told = client.get("/openapi.json").json()
    assert {"/predict", "/metrics", "/v2/models/{model}/infer", "/admin/reload"} <= set(told["paths"])
    tried = 0
    for path, methods in told["paths"].items():
        for content, body in methods.get("post", {}).get("requestBody", {}).get("content", {}).items():
            for name, example in body.get("examples", {}).items():
                answer = client.post(path.replace("{model}", "letters"), json=example["value"])
                # The address has a host that was not allowed.
                assert answer.status_code == (403 if name == "url" else 200), (path, content, name, answer.text)
                tried += 1
    assert tried == 4


def test_paths_and_methods_that_are_none_are_refused_in_a_sentence(client: "httpx.Client") -> None:
    assert client.get("/nothing").status_code == 404 and "expected a path" in client.get("/nothing").json()["error"]
    assert client.get("/predict").status_code == 405 and "POST" in client.get("/predict").json()["error"]
    assert client.post("/admin/reload").status_code == 403
    for path in ("/examples/0", "/examples/..%2f..%2fetc%2fpasswd", "/examples/-1", "/docs", "/redoc"):
        assert client.get(path).status_code == 404


def test_heads_and_paths_with_a_last_slash_are_answered(client: "httpx.Client") -> None:
    for path in ("/", "/v2/health/ready", "/metrics"):
        answer = client.head(path)
        assert answer.status_code == 200 and not answer.content and int(answer.headers["content-length"]) > 0
    assert client.head("/predict").status_code == 405
    answers = [client.post(path, files={"image": PNG}) for path in ("/predict", "/predict/")]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json()["predictions"] == answers[1].json()["predictions"]
    assert client.get("/v2/").json() == client.get("/v2").json()
    assert "expected a path" in client.post("/predict//", files={"image": PNG}).json()["error"]


def test_examples_are_given_by_their_number(extra: None) -> None:
    from graft.serving.metrics import Metrics
    from graft.serving.routes import Example, application
    from graft.serving.service import Service
    from graft.serving.settings import Access, Serving

    async def scenario() -> None:
        service = Service(Serving("none", "none"))
        app = application(service, Metrics(), Access(), [Example("Ж", b"first"), Example("a\nb", b"second")])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", verify=False) as client:
            told = (await client.get("/examples")).json()["examples"]
            assert told == [{"label": "Ж"}, {"label": "a\\x0ab"}]
            second = await client.get("/examples/1")
            assert (second.content, second.headers["content-type"]) == (b"second", "image/jpeg")
            assert (await client.get("/examples/2")).status_code == 404
            assert '"examples": 2' in (await client.get("/")).text

    asyncio.run(scenario())


def test_answers_have_ids_and_keep_browsers_from_guessing(service: Served, client: "httpx.Client") -> None:
    answer = client.get("/v2", headers={"x-request-id": "mine-1", "origin": "https://a.example"})
    assert answer.headers["x-request-id"] == "mine-1"
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert not [name for name in answer.headers if name.startswith("access-control")] and "server" not in answer.headers
    other = client.get("/v2", headers={"x-request-id": 'no"id\x01' + "x" * 99}).headers["x-request-id"]
    assert len(other) == 32 and other.isalnum()


def test_the_log_is_json_and_says_nothing_of_images(service: Served, client: "httpx.Client") -> None:
    client.post("/predict", files={"image": ("secret.png", PNG)}, headers={"x-request-id": "logged"})
    line = service.wait_for_log(lambda line: line.get("id") == "logged")
    assert line["route"] == "/predict" and line["status"] == 200 and line["images"] == 1 and line["milliseconds"] > 0
    assert "secret" not in service.log_file.read_text()


def test_metrics_count_requests_images_and_batches(client: "httpx.Client") -> None:
    def value(name: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))

    names = ('graft_images_total{outcome="answered"}', 'graft_requests_total{route="/predict",status="200"}')
    before = [value(name) for name in (*names, "graft_batch_images_sum")]
    client.post("/predict", files=[("image", ("a", PNG))] * 3)
    assert [value(name) for name in (*names, "graft_batch_images_sum")] == [before[0] + 3, before[1] + 1, before[2] + 3]
    assert value("graft_ready ") == value("graft_workers ") == 1


def test_only_this_machines_names_and_pages_are_answered_without_a_key(client: "httpx.Client") -> None:
    assert client.get("/v2", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/v2", headers={"host": "localhost:1"}).status_code == 200
    strange = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
    assert client.post("/predict", files={"image": ("a", PNG)}, headers=strange).status_code == 403


def test_a_key_is_asked_of_everyone_but_for_health_and_the_page(stand_in: Served) -> None:
    with client_of(stand_in) as client:
        for path in ("/", "/openapi.json", "/v2/health/live", "/v2/health/ready"):
            assert client.get(path, headers={"host": "any.example"}).status_code == 200, path
        for path in ("/v2", "/metrics", "/v2/models/none", "/openapi.json/", "/examples/0"):
            answer = client.get(path)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer", path
        for wrong in (
            {"x-api-key": "012345678"},
            {"authorization": "Basic 0123456789"},
            {"x-api-key": "é"},
            {"x-api-key": ""},
        ):
            assert client.get("/v2", headers={k: v.encode() for k, v in wrong.items()}).status_code == 401
        assert client.post("/predict", files={"image": ("a", b"echo")}).status_code == 401
        assert client.get("/v2", headers=KEY).status_code == 200
        assert client.get("/v2", headers={"x-api-key": "0123456789"}).status_code == 200
        assert client.post("/admin/reload").status_code == 401
        assert client.post("/admin/reload", headers=KEY).json() == {"name": "none", "version": "one"}


def test_only_pages_of_named_origins_may_read_answers(stand_in: Served) -> None:
    def asked(origin: str) -> tuple[int, str | None]:
        headers = {"origin": origin, "access-control-request-method": "POST", "sec-fetch-site": "cross-site"}
        answer = httpx.options(f"{stand_in.url}/predict", headers=headers)
        return answer.status_code, answer.headers.get("access-control-allow-origin")

    assert asked("https://a.example") == (200, "https://a.example")
    assert asked("https://evil.example") == (400, None)


def test_a_full_queue_says_when_to_come_back(stand_in: Served) -> None:
    with client_of(stand_in, headers=KEY) as client:
        statuses: list[int] = []

        def ask() -> None:
            answer = client.post("/predict", files=[("image", ("a", b"slow"))] * 3)
            statuses.append(answer.status_code)
            if answer.status_code == 429:
                assert int(answer.headers["retry-after"]) >= 1 and "full" in answer.json()["error"]

        threads = [Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # A stand-in answers with errors.
        assert set(statuses) == {422, 429}


def raw(served: Served, *parts: bytes, pause: float = 0.0) -> bytes:
    """Write the parts to a connection, and return what comes back until it is closed."""
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port), 20) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        answer = b""
        try:
            while part := connection.recv(2**16):
                answer += part
        except OSError:
            pass
        return answer


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX-API-Key: 0123456789\r\nContent-Type: image/png\r\n"


def test_a_body_of_ten_gigabytes_is_refused_by_what_it_states_and_by_counting(stand_in: Served) -> None:
    began = time.monotonic()
    answer = raw(stand_in, HEAD + b"Content-Length: 10000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413") and b"10,000,000,000" in answer and b"connection: close" in answer
    chunk = b"10000\r\n" + b"x" * 2**16 + b"\r\n"
    answer = raw(stand_in, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 20)
    assert answer.startswith(b"HTTP/1.1 413") and b"at most 100,000 bytes" in answer
    assert time.monotonic() - began < 8


def test_a_slow_body_is_given_up(stand_in: Served) -> None:
    answer = raw(stand_in, HEAD + b"Content-Length: 1000\r\n\r\n", *[b"x"] * 6, pause=0.2)
    assert answer.startswith(b"HTTP/1.1 408") and b"within 1 s" in answer


def test_what_is_no_http_is_refused(stand_in: Served) -> None:
    assert raw(stand_in, b"\x16\x03\x01 hello\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert raw(stand_in, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000).startswith(b"HTTP/1.1 431")
    # Like every refusal: with a sentence and an id.
    head, _, body = raw(stand_in, b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n").partition(b"\r\n\r\n")
    told = json.loads(body)
    assert told["error"].startswith("expected ") and f"x-request-id: {told['id']}".encode() in head


class Elsewhere(BaseHTTPRequestHandler):
    """A host with an image, a redirect to another host, an image too large, and no image."""

    def do_GET(self) -> None:
        self.send_response({"/moved": 302, "/none": 404}.get(self.path, 200))
        self.send_header("Location", "http://127.0.0.1:1/")
        self.end_headers()
        self.wfile.write(b"x" * 200_000 if self.path == "/large" else b"echo fetched")

    def log_message(self, *_: object) -> None: ...


def test_images_are_fetched_from_named_hosts_and_from_no_other(extra: None, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as elsewhere:
        Thread(target=elsewhere.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{elsewhere.server_port}"
        with served("none", "--url-host", host, "--max-bytes", "100kB", "--timeout", "1s", model=False) as running:

            def asked(url: str) -> tuple[int, str]:
                answer = httpx.post(f"{running.url}/predict", json={"images": [{"url": url}]})
                return answer.status_code, answer.json()["error"]

            status, answered = asked(f"http://{host}/image.png?size=1")
            assert (status, answered.split(" of ")[0]) == (422, "echo fetched")
            assert asked(f"http://{host}/moved") == (
                502,
                "expected an image from 127.0.0.1, got status 302: send the image itself",
            )
            assert asked(f"http://{host}/none")[0] == 502
            assert asked(f"http://{host}/large")[0] == 413
            for url in ("http://127.0.0.1:1/", f"http://{host}@evil.example/", f"https://{host}/", "http://localhost/"):
                assert asked(url)[0] in (400, 403, 502), url
        elsewhere.shutdown()
