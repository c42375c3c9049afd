"""However an image arrives, its answer is the same as in Python."""

import io
import json
import struct
import sys
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import Served, client_of

import graft
from graft.cli.app import main
from graft.data.loading import least_side
from graft.images.decoding import decode
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.serving.prediction import Prediction
from graft.weights.saved import load_model

httpx = pytest.importorskip("httpx")

WITHIN = 1e-4
COUNT = 200
FORMS = (
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *(("TIFF", mode) for mode in ("1", "L", "RGB", "RGBA", "CMYK", "F")),
    *(("GIF", mode) for mode in ("L", "P")),
    *(("WEBP", mode) for mode in ("RGB", "RGBA")),
    ("BMP", "RGB"),
    ("PPM", "RGB"),
)
SIDES = (1, 2, 3, 7, 17, 28, 31, 32, 33, 64, 129, 300)


def awkward() -> Iterator[bytes]:
    """Letters in every format and mode, turned as Exif says, of sizes from one pixel on, and of odd shapes."""
    random = np.random.default_rng(0)
    pixels, _ = render_letters(LATIN, dejavu_fonts(), 5, seed=3)
    for number in range(COUNT):
        form, mode = FORMS[number % len(FORMS)]
        image = Image.fromarray(pixels[number % len(pixels)][:, :, 0])
        size = tuple(random.choice(SIDES, 2).tolist()) if number % 3 else (SIDES[number % len(SIDES)],) * 2
        image = image.resize(size)
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        elif mode == "F":
            image = Image.fromarray(np.asarray(image).astype(np.float32) / 255)
        elif mode in ("LA", "RGBA"):
            alpha = image.point(lambda value: 255 - value // 3)
            image = image.convert(mode)
            image.putalpha(alpha)
        elif mode == "RGB":
            image = Image.merge("RGB", (image, image.point(lambda value: 255 - value), image))
        else:
            image = image.convert(mode)
        options = {}
        if form in ("JPEG", "TIFF", "WEBP", "PNG"):
            exif = Image.Exif()
            exif[0x0112] = 1 + number % 8
            options["exif"] = exif
        file = io.BytesIO()
        image.save(file, form, **options)
        yield file.getvalue()


@pytest.fixture(scope="module")
def client(service: Served) -> Iterator["httpx.Client"]:
    with client_of(service) as client:
        yield client


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return list(awkward())


@pytest.fixture(scope="module")
def expected(letters_run: Path, images: list[bytes]) -> list[Prediction]:
    """Python's answers in float32, the service's default."""
    found = graft.load(letters_run, precision="float32").predict(images, top=len(LATIN))
    assert [each.error for each in found] == [None] * COUNT
    assert len({each.label for each in found}) > 15
    return found


def assert_same(expected: list[Prediction], found: list[tuple[str, float]]) -> None:
    assert len(found) == COUNT
    for place, (one, (label, probability)) in enumerate(zip(expected, found, strict=True)):
        assert one.probability == pytest.approx(probability, abs=WITHIN), place
        # The label may differ only where two classes are equally likely.
        assert label == one.label or one.top[0][1] - one.top[1][1] < 2 * WITHIN, place


def in_groups(images: list[bytes], size: int = 25) -> Iterator[list[bytes]]:
    for start in range(0, COUNT, size):
        yield images[start : start + size]


def test_by_the_command_line(
    letters_run: Path,
    images: list[bytes],
    expected: list[Prediction],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for number, data in enumerate(images):
        (tmp_path / f"{number:03}").write_bytes(data)
    arguments = ["graft", "predict", str(letters_run), str(tmp_path / "*"), "--precision", "float32", "--json"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit):
        main()
    found = json.loads(capsys.readouterr().out)
    assert_same(expected, [(each["label"], each["probability"]) for each in found])


def test_by_multipart(client: "httpx.Client", images: list[bytes], expected: list[Prediction]) -> None:
    found = []
    for group in in_groups(images):
        files = [("image", (f"{number}.bin", data)) for number, data in enumerate(group)]
        found += client.post("/predict", files=files).raise_for_status().json()["predictions"]
    assert_same(expected, [(each["label"], each["probability"]) for each in found])


def test_by_raw_bytes(client: "httpx.Client", images: list[bytes], expected: list[Prediction]) -> None:
    found = []
    headers = {"content-type": "application/octet-stream"}
    for data in images:
        found += client.post("/predict", content=data, headers=headers).raise_for_status().json()["predictions"]
    assert_same(expected, [(each["label"], each["probability"]) for each in found])


def of_outputs(answer: dict) -> list[tuple[str, float]]:
    outputs = {each["name"]: each for each in answer["outputs"]}
    rows = np.reshape(outputs["probabilities"]["data"], outputs["probabilities"]["shape"])
    assert rows.shape[1] == len(LATIN) and rows.sum(1) == pytest.approx(1, abs=1e-5)
    return list(zip(outputs["label"]["data"], rows.max(1).tolist(), strict=True))


def test_by_bytes_of_the_open_inference_protocol(
    client: "httpx.Client", images: list[bytes], expected: list[Prediction]
) -> None:
    found = []
    for number, group in enumerate(in_groups(images)):
        tensor = {"name": "file", "datatype": "BYTES", "shape": [len(group)]}
        binary = b"".join(struct.pack("<I", len(data)) + data for data in group)
        if number % 2:
            head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(binary)}}]}).encode()
            headers = {"Inference-Header-Content-Length": str(len(head))}
            answer = client.post("/v2/models/letters/infer", content=head + binary, headers=headers)
        else:
            body = {"inputs": [{**tensor, "data": [b64encode(data).decode() for data in group]}]}
            answer = client.post("/v2/models/letters/infer", json=body)
        found += of_outputs(answer.raise_for_status().json())
    assert_same(expected, found)


def test_by_pixels_of_the_open_inference_protocol(
    letters_run: Path, client: "httpx.Client", images: list[bytes], expected: list[Prediction]
) -> None:
    found = []
    # A JPEG of more than that is decoded at reduced scale, which shows in the pixels; for all others it is the whole.
    at_least = least_side(load_model(letters_run / "model").preprocessing)
    for number, data in enumerate(images):
        pixels = decode(data, at_least)[None]
        tensor = {"name": "image", "datatype": "UINT8", "shape": list(pixels.shape)}
        if number % 2 or pixels.size > 10_000:
            parameters = {"binary_data_size": pixels.size}
            head = json.dumps({"inputs": [{**tensor, "parameters": parameters}]}).encode()
            headers = {"Inference-Header-Content-Length": str(len(head))}
            answer = client.post("/v2/models/letters/infer", content=head + pixels.tobytes(), headers=headers)
        else:
            body = {"inputs": [{**tensor, "data": pixels.tolist() if number % 4 else pixels.ravel().tolist()}]}
            answer = client.post("/v2/models/letters/infer", json=body)
        found += of_outputs(answer.raise_for_status().json())
    assert_same(expected, found)
