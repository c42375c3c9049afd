"""The open inference protocol, version 2, of KServe: https://kserve.github.io/website/docs/concepts/architecture.

Images arrive as the tensor `image`, UINT8 (N, H, W, 3) or (N, H, W, 1), or as the tensor `file`, BYTES (N), encoded
files: either base64 in the JSON, or after the JSON as in the protocol's binary tensor extension.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from graft.names import plain
from graft.serving.batching import Given
from graft.serving.intake import Body, check_field, from_base64, read_json, too_many, whole_number_in
from graft.serving.pool import Model
from graft.serving.refusal import Refusal
from graft.serving.service import Answers
from graft.serving.settings import Limits

IMAGE, FILE = "image", "file"
PROBABILITIES, LABEL = "probabilities", "label"
# The header with the length of the JSON that precedes binary tensors.
JSON_LENGTH = "inference-header-content-length"
EXTENSIONS = ("binary_tensor_data",)
_SIZE = struct.Struct("<I")


@dataclass(frozen=True)
class Inference:
    """A request: its images, its id, and the outputs it wants, each either binary or in JSON."""

    images: list[Given]
    id: str | None
    outputs: dict[str, bool]


def metadata(name: str, model: Model) -> dict[str, Any]:
    """Return the protocol's metadata of a model."""
    classes = len(model.classes)
    return {
        "name": name,
        "versions": [model.version],
        "platform": "graft",
        "inputs": [
            {"name": IMAGE, "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
            {"name": FILE, "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [
            {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, classes]},
            {"name": LABEL, "datatype": "BYTES", "shape": [-1]},
        ],
        "parameters": {"classes": list(model.classes), "engine": model.engine, **model.made_from},
    }


def read_inference(headers: Mapping[str, str], body: Body, limits: Limits) -> Inference:
    """Return the images and wishes of a request that was read. Raises Refusal."""
    length = headers.get(JSON_LENGTH)
    split = len(body.data) if length is None else whole_number_in(length)
    if split is None or split > len(body.data):
        got = f"{length or ''}"[:40]
        raise Refusal(
            400,
            f"expected the length of the JSON in Inference-Header-Content-Length, got {got!r}: leave the "
            "header out if all is JSON",
        )
    value = read_json(body.data[:split])
    _check(value, ("id", "parameters", "inputs", "outputs"), "a request")
    _check(value.get("parameters", {}), ("binary_data_output",), "its parameters")
    if not isinstance(value.get("inputs"), list) or len(value["inputs"]) != 1:
        raise Refusal(400, f"expected one tensor in 'inputs', {IMAGE!r} or {FILE!r}, got something else: send one")
    tensor = value["inputs"][0]
    _check(tensor, ("name", "shape", "datatype", "parameters", "data"), "a tensor")
    _check(tensor.get("parameters", {}), ("binary_data_size",), "the parameters of a tensor")
    images = _images(tensor, body.data[split:], limits, body)
    id = value.get("id")
    if id is not None and not isinstance(id, str):
        raise Refusal(400, "expected a string for 'id', got something else: put it in quotes")
    return Inference(images, id, _outputs(value))


def _check(value: Any, known: tuple[str, ...], where: str) -> None:
    if not isinstance(value, dict):
        raise Refusal(400, f"expected an object as {where}, got something else: see /openapi.json for examples")
    for name in value:
        check_field(name, known, where)


def _outputs(value: dict[str, Any]) -> dict[str, bool]:
    binary = value.get("parameters", {}).get("binary_data_output", False) is True
    asked = value.get("outputs") or [{"name": PROBABILITIES}, {"name": LABEL}]
    if not isinstance(asked, list):
        raise Refusal(400, "expected a list for 'outputs', got something else: leave it out for all")
    found = {}
    for output in asked:
        _check(output, ("name", "parameters"), "an output")
        _check(output.get("parameters", {}), ("binary_data",), "the parameters of an output")
        if output.get("name") not in (PROBABILITIES, LABEL):
            raise Refusal(
                400,
                f"expected {PROBABILITIES!r} or {LABEL!r} as an output, got {str(output.get('name'))[:40]!r}: leave "
                "'outputs' out for both",
            )
        found[output["name"]] = output.get("parameters", {}).get("binary_data", binary) is True
    return found


def _images(tensor: dict[str, Any], binary: bytes, limits: Limits, body: Body) -> list[Given]:
    name, shape, datatype = (tensor.get(each) for each in ("name", "shape", "datatype"))
    if (name, datatype) not in ((IMAGE, "UINT8"), (FILE, "BYTES")):
        raise Refusal(
            400,
            f"expected the tensor {IMAGE!r} of UINT8 or {FILE!r} of BYTES, got {str(name)[:40]!r} of "
            f"{str(datatype)[:40]}: see the model's metadata",
        )
    if not isinstance(shape, list) or not all(type(side) is int and 0 < side < 2**31 for side in shape):
        raise Refusal(
            400, f"expected a shape of whole numbers above zero for {name!r}, got {str(shape)[:80]}: see its metadata"
        )
    size = tensor.get("parameters", {}).get("binary_data_size")
    if (size is None) == ("data" not in tensor) or (size is not None and size != len(binary)):
        raise Refusal(
            400,
            f"expected 'data' or the parameter 'binary_data_size' with the {len(binary):,} bytes after the JSON, got "
            "something else: send one of them",
        )
    if shape[0] > limits.files:
        raise Refusal(413, too_many(limits))
    if name == FILE:
        if len(shape) != 1:
            raise Refusal(400, f"expected the shape [N] for {FILE!r}, got {shape[:8]}: send one element per image")
        files = _elements(binary) if size is not None else _texts(tensor["data"], body)
        if len(files) != shape[0]:
            raise Refusal(400, f"expected {shape[0]} elements as the shape says, got {len(files)}: correct the shape")
        return [Given(f"image {place}", data) for place, data in enumerate(files)]
    if len(shape) != 4 or shape[3] not in (1, 3):
        raise Refusal(
            400, f"expected the shape [N, H, W, 3] or [N, H, W, 1] for {IMAGE!r}, got {shape[:8]}: reshape it"
        )
    if prod(shape) > limits.bytes:
        raise Refusal(
            413, f"expected a tensor of at most {limits.bytes:,} bytes, got {prod(shape):,}: send fewer images"
        )
    pixels = binary if size is not None else _bytes(tensor["data"])
    if len(pixels) != prod(shape):
        raise Refusal(400, f"expected {prod(shape):,} values as the shape says, got {len(pixels):,}: correct the shape")
    one = prod(shape[1:])
    return [
        Given(f"image {place}", pixels[place * one : (place + 1) * one], tuple(shape[1:])) for place in range(shape[0])
    ]


def _texts(data: Any, body: Body) -> list[bytes]:
    if not isinstance(data, list) or not all(isinstance(text, str) for text in data):
        raise Refusal(
            400, f"expected a list of strings in base64 as the data of {FILE!r}, got something else: encode files so"
        )
    return [from_base64(text, f"image {place}", body) for place, text in enumerate(data)]


def _elements(binary: bytes) -> list[bytes]:
    """Return the elements of a binary tensor of BYTES: each is its length, 4 bytes, little-endian, then its bytes."""
    found, at = [], 0
    while at < len(binary):
        start = at + _SIZE.size
        end = start + _SIZE.unpack_from(binary, at)[0] if start <= len(binary) else len(binary) + 1
        if end > len(binary):
            raise Refusal(
                400,
                f"expected complete elements in the tensor {FILE!r}, got one that ends too early: start each with "
                "its length in 4 bytes",
            )
        found.append(binary[start:end])
        at = end
    return found


def _bytes(data: Any) -> bytes:
    """Return the bytes of JSON values, nested as the shape is or flat."""
    try:
        values = np.asarray(data)
    except (ValueError, OverflowError):
        values = np.asarray(None)
    if values.dtype.kind != "i" or (values.size and not 0 <= values.min() <= values.max() <= 255):
        raise Refusal(
            400, f"expected whole numbers from 0 to 255 as the data of {IMAGE!r}, got others: do not scale the pixels"
        )
    return values.astype(np.uint8).tobytes()


def write_inference(name: str, asked: Inference, answers: Answers) -> tuple[bytes, dict[str, str]]:
    """Return the body of the answer and its headers. Raises Refusal for an image that cannot be decoded."""
    model, count = answers.model, len(answers.of_images)
    probabilities = np.zeros((count, len(model.classes)), np.float32)
    for row, answer in enumerate(answers.of_images):
        if "error" in answer:
            raise Refusal(400, f"image {row}: {answer['error']}")
        for number, probability in answer["top"]:
            probabilities[row, number] = probability
    labels = [model.classes[answer["top"][0][0]] for answer in answers.of_images]
    outputs, blobs = [], []
    for output, binary in asked.outputs.items():
        of_labels = output == LABEL
        tensor: dict[str, Any] = {
            "name": output,
            "datatype": "BYTES" if of_labels else "FP32",
            "shape": [count] if of_labels else list(probabilities.shape),
        }
        if not binary:
            tensor["data"] = labels if of_labels else probabilities.ravel().tolist()
        else:
            encoded = [label.encode() for label in labels]
            elements = b"".join(_SIZE.pack(len(each)) + each for each in encoded)
            blobs.append(elements if of_labels else probabilities.astype("<f4").tobytes())
            tensor["parameters"] = {"binary_data_size": len(blobs[-1])}
        outputs.append(tensor)
    id = {} if asked.id is None else {"id": plain(asked.id)}
    head = {"model_name": name, "model_version": model.version, **id, "outputs": outputs}
    text = json.dumps(head, ensure_ascii=False).encode()
    if not blobs:
        return text, {"content-type": "application/json"}
    return b"".join([text, *blobs]), {"content-type": "application/octet-stream", JSON_LENGTH: str(len(text))}
