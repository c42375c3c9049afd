"""OpenAPI descriptions, with examples, of the routes that read their bodies themselves."""

from typing import Any

from graft.serving.intake import JSON, MULTIPART, TOP

# A grey image of one pixel, as PNG.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
_TEXT = {"type": "string"}
_BINARY = {"type": "string", "format": "binary"}
_TOP = {"type": "integer", "minimum": 1, "default": TOP, "description": "Classes to report, likeliest first."}
_EXPLAIN = {
    "type": "boolean",
    "default": False,
    "description": "Whether each prediction comes with a map of where the evidence for its class lies.",
}
_EXPLANATION = {
    "type": "object",
    "description": "Where the evidence lies, if it was asked for; not tested, unlike the maps of `graft explain`.",
    "properties": {
        "class": _TEXT,
        "method": _TEXT,
        "stage": _TEXT,
        "cells": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        "overlay": {
            **_TEXT,
            "description": "A JPEG as a data: URL; orange marks evidence for the class, blue against it.",
        },
        "error": _TEXT,
    },
}
_BUDGET = {
    "type": "number",
    "exclusiveMinimum": 0,
    "exclusiveMaximum": 1,
    "description": "The share of answers that may be wrong; an image that would exceed it gets no label.",
}
# What a request may ask for, for all its images.
_WISHES = {"top": _TOP, "error_budget": _BUDGET, "explain": _EXPLAIN}
_ERROR = {
    "type": "object",
    "required": ["error", "id"],
    "properties": {"error": {**_TEXT, "description": "What was expected, what came, what to do."}, "id": _TEXT},
}
_PREDICTION = {
    "type": "object",
    "required": ["path"],
    "properties": {
        "path": {**_TEXT, "description": "The name of the file, or which image of the request it was."},
        "label": {"type": ["string", "null"]},
        "abstained": {**_TEXT, "description": "Why there is no label, if an error budget was asked for."},
        "probability": {"type": "number"},
        "top": {"type": "array", "items": {"type": "array", "description": "A class and its probability."}},
        "explanation": _EXPLANATION,
        "error": {**_TEXT, "description": "Why the image could not be decoded; then the rest is missing."},
    },
}
_PREDICTIONS = {
    "type": "object",
    "required": ["id", "model", "predictions"],
    "properties": {
        "id": _TEXT,
        "model": {"type": "object", "properties": {"name": _TEXT, "version": _TEXT}},
        "predictions": {"type": "array", "items": _PREDICTION},
    },
}
_PREDICTED = {
    "id": "4f0c…",
    "model": {"name": "letters", "version": "0123456789abcdef"},
    "predictions": [{"path": "a.png", "label": "Ж", "probability": 0.93, "top": [["Ж", 0.93], ["Х", 0.04]]}],
}
_WHY = {
    400: "The request is wrong, as the sentence says.",
    401: "The key is missing or wrong.",
    403: "An address at a host that is not allowed, or a page of another origin.",
    404: "No such model.",
    408: "The body did not come in time.",
    413: "Too many bytes or images.",
    415: "The content type is not known.",
    422: "No image of the request could be decoded.",
    429: "The queue is full, or all requests together hold too many bytes: ask again after Retry-After.",
    500: "The image could not be computed.",
    502: "An image could not be fetched from its address in time, or not at all.",
    503: "Not answered in time.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the answers with these statuses, for `responses` of a route."""
    return {status: {"description": _WHY[status], "content": {JSON: {"schema": _ERROR}}} for status in statuses}


def predict() -> dict[str, Any]:
    """Return the request body, query and answer of `POST /predict`, for `openapi_extra`."""
    image = {
        "type": "object",
        "properties": {"base64": _TEXT, "url": _TEXT, "name": _TEXT},
        "oneOf": [{"required": ["base64"]}, {"required": ["url"]}],
        "additionalProperties": False,
    }
    in_json = {
        "type": "object",
        "required": ["images"],
        "properties": {"images": {"type": "array", "items": image, "minItems": 1}, **_WISHES},
        "additionalProperties": False,
    }
    in_parts = {
        "type": "object",
        "required": ["image"],
        "properties": {"image": {"type": "array", "items": _BINARY}, **_WISHES},
    }
    examples = {
        "base64": {"value": {"images": [{"base64": PIXEL, "name": "pixel.png"}], "top": 2}},
        "url": {"value": {"images": [{"url": "https://images.example/a.jpg"}]}},
    }
    content = {
        MULTIPART: {"schema": in_parts},
        JSON: {"schema": in_json, "examples": examples},
        "application/octet-stream": {"schema": _BINARY},
        "image/*": {"schema": _BINARY},
    }
    return {
        "parameters": [
            *({"name": name, "in": "query", "schema": schema} for name, schema in _WISHES.items()),
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "A prediction for every image, in order.",
                "content": {JSON: {"schema": _PREDICTIONS, "example": _PREDICTED}},
            }
        },
    }


def infer() -> dict[str, Any]:
    """Return the request body of the open inference protocol, for `openapi_extra`."""
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": {"enum": ["image", "file"]},
            "datatype": {"enum": ["UINT8", "BYTES"]},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
            "data": {"type": "array", "items": {}},
            "parameters": {"type": "object"},
        },
    }
    schema = {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": _TEXT,
            "inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 1},
            "outputs": {"type": "array", "items": {"type": "object"}},
            "parameters": {"type": "object"},
        },
    }
    pixels = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 2, 3], "data": [255, 0, 0, 0, 0, 255]}
    file = {"name": "file", "datatype": "BYTES", "shape": [1], "data": [PIXEL]}
    examples = {
        "pixels": {"value": {"inputs": [pixels]}},
        "files": {"value": {"inputs": [file], "outputs": [{"name": "label"}]}},
    }
    return {
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": schema, "examples": examples},
                "application/octet-stream": {"schema": _BINARY},
            },
        }
    }
