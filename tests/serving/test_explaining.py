"""A request may ask where the evidence for the class of an image lies."""

import asyncio
import io
import json
from base64 import b64decode, b64encode

import numpy as np
import pytest
from PIL import Image
from tests.explanation.models import spots
from tests.explanation.test_class_maps import orange_square

from graft.features.engine import Choice
from graft.serving.batching import Given
from graft.serving.intake import Body, Room, Wanted, read_images
from graft.serving.page import FILE
from graft.serving.predictor import Classifier
from graft.serving.refusal import Refusal
from graft.serving.settings import Limits
from graft.serving.worker import answers

BYTES = "application/octet-stream"


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(orange_square(24, 8)[0].permute(1, 2, 0).numpy()).save(file, "PNG")
    return file.getvalue()


async def nothing(address: str, most: int, body: Body) -> bytes:
    raise AssertionError(address)


def asked(kind: str, body: bytes, query: list[tuple[str, str]]) -> list[bool]:
    async def read() -> tuple[list[Given], Wanted]:
        whole = Body(Room(1_000), 1.0)
        whole.data = body
        return await read_images(kind, whole, query, Limits(), nothing)

    images, wanted = asyncio.run(read())
    assert wanted.top == 5
    return [image.explain for image in images]


def test_it_is_asked_for_in_the_query_in_a_field_and_in_json():
    parts = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc\r\n'
    field = b'--x\r\nContent-Disposition: form-data; name="explain"\r\n\r\nTrue\r\n'
    kind = "multipart/form-data; boundary=x"
    assert asked(BYTES, b"abc", []) == [False]
    assert asked(BYTES, b"abc", [("explain", "true")]) == [True]
    assert asked(kind, parts + field + b"--x--\r\n", []) == [True]
    assert asked(kind, parts + b"--x--\r\n", [("explain", "0")]) == [False]
    images = {"images": [{"base64": b64encode(b"abc").decode()}] * 2, "explain": True}
    assert asked("application/json", json.dumps(images).encode(), []) == [True, True]
    for wrong in ([("explain", "perhaps")], [("explian", "true")]):
        with pytest.raises(Refusal, match="'explain'"):
            asked(BYTES, b"abc", wrong)


def test_a_worker_answers_with_a_map_where_it_was_asked_for():
    classifier = Classifier(spots(), Choice("torch", "float32", "cpu", "a test"))
    images = [{"shape": None, "top": 2, "explain": explain} for explain in (True, False, True)]
    with_map, without, broken = answers(classifier, {"orange": 0, "blue": 1}, images, [png(), png(), b"no"], None)
    assert "explanation" not in without and set(broken) == {"error"}
    found = with_map["explanation"]
    assert found["class"] == "orange" and found["method"] == "exact" and with_map["top"] == without["top"]
    assert np.unravel_index(np.array(found["cells"]).argmax(), (7, 7)) == (3, 1)
    with Image.open(io.BytesIO(b64decode(found["overlay"].removeprefix("data:image/jpeg;base64,")))) as shown:
        assert shown.size == (56, 56)


def test_the_page_stays_small():
    assert FILE.stat().st_size < 60_000
