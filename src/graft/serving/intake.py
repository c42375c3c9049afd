"""The images of a request: read its body within limits, then parse it as multipart, as JSON, or as one image."""

from __future__ import annotations

import asyncio
import binascii
import json
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, NamedTuple

from graft.errors import InputError, did_you_mean
from graft.given import share
from graft.names import plain
from graft.serving.batching import Given
from graft.serving.refusal import Gone, Refusal
from graft.serving.settings import Limits
from graft.serving.web import MultipartError, MultipartParser, parse_options_header

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
# Fetches the image at a URL, of at most so many bytes, which it counts in a body as they arrive. Raises Refusal.
Fetch = Callable[[str, int, "Body"], Awaitable[bytes]]

MULTIPART, JSON, FORM = "multipart/form-data", "application/json", "application/x-www-form-urlencoded"
FILE_FIELDS = ("image", "images", "file", "files")
# What a request may ask for, for all its images: see `Wanted`.
WISHES = ("top", "error_budget", "explain")
JSON_FIELDS, IMAGE_FIELDS = ("images", *WISHES), ("base64", "url", "name")
TOP = 5
MOST_NAME = 255
# Base64: maps the two characters of the URL-safe alphabet to the standard ones, and deletes whitespace.
_TO_STANDARD = str.maketrans("-_", "+/", " \t\r\n")
# The most values in a JSON body. Python parses it without pause: ten times as many kept a server from answering anybody
# else for two seconds.
MOST_VALUES = 4_000_000
# The most multipart parts that are not files, and the most bytes in each.
MOST_FIELDS, MOST_FIELD_BYTES = 8, 100


class Room:
    """A bound on the total bytes of all requests held at once, so that many large ones together are turned away.

    Threads that fetch images take from it as well.
    """

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0
        self._lock = Lock()

    def take(self, count: int) -> None:
        with self._lock:
            if self.held + count > self.most:
                raise Refusal(
                    429,
                    f"expected requests of at most {self.most:,} bytes in all at once, got more: try again later",
                    1,
                )
            self.held += count

    def give_back(self, count: int) -> None:
        with self._lock:
            self.held -= count


class Body:
    """The bytes of a request so far: its body, what it is decoded to, and the images fetched for it.

    All of it has to be there `until`, in the time of the event loop, and takes `room`, which `close` gives back.
    """

    def __init__(self, room: Room, seconds: float) -> None:
        self.room, self.until = room, asyncio.get_running_loop().time() + seconds
        self.data, self.taken = b"", 0
        self._closed = False
        self._lock = Lock()

    def take(self, count: int) -> None:
        """Take room for more bytes. Raises Refusal, and Gone in a thread that still fetches for a closed body."""
        with self._lock:
            if self._closed:
                raise Gone
            self.room.take(count)
            self.taken += count

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self.room.give_back(self.taken)
            self.taken = 0


async def read_body(headers: Mapping[str, str], receive: Receive, limits: Limits, body: Body) -> bytes:
    """Read the body of a request, counting bytes as they arrive.

    Raises Refusal if it is too long or too slow, and Gone.
    """
    stated = headers.get("content-length", "")
    if (number := whole_number_in(stated)) is not None and number > limits.bytes:
        raise _too_long(limits, f"{number:,}")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(
            415,
            f"expected an uncompressed body, got Content-Encoding {headers['content-encoding']!r}: send it "
            "uncompressed",
        )
    parts: list[bytes] = []
    try:
        async with asyncio.timeout_at(body.until):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                part = message.get("body", b"")
                if body.taken + len(part) > limits.bytes:
                    raise _too_long(limits, "more")
                body.take(len(part))
                parts.append(part)
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise Refusal(
            408, f"expected the whole body within {limits.seconds:g} s, got {body.taken:,} bytes of it: send it faster"
        ) from None
    body.data = b"".join(parts)
    return body.data


def _too_long(limits: Limits, got: str) -> Refusal:
    return Refusal(413, f"expected a body of at most {limits.bytes:,} bytes, got {got}: send fewer or smaller images")


async def read_images(
    content_type: str, body: Body, query: Iterable[tuple[str, str]], limits: Limits, fetch: Fetch
) -> tuple[list[Given], Wanted]:
    """Return the images of a body that was read, and what is wanted of each. Raises Refusal."""
    stated, options = parse_options_header(content_type)
    kind = stated.decode("latin-1").lower()
    wanted = Wanted()
    for name, value in query:
        check_field(name, WISHES, "the query")
        wanted = wanted.and_also(name, value)
    if kind == MULTIPART:
        images, wanted = _from_multipart(body.data, options.get(b"boundary", b""), limits, wanted)
    elif kind == JSON:
        images, wanted = await _from_json(body, limits, fetch, wanted)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        images = [Given("image 0", body.data)]
    else:
        raise Refusal(415, _wrong_type(kind))
    if not images:
        raise Refusal(400, "expected at least one image, got none: send one as the field 'image'")
    if not any(image.data for image in images):
        raise Refusal(400, f"expected the bytes of an image, got none for {images[0].name!r}: send the file itself")
    if wanted.explain:
        images = [replace(image, explain=True) for image in images]
    return images, wanted


def _wrong_type(kind: str) -> str:
    likely = "-F image=@FILE or " if kind == FORM else ""
    got = f"{plain(kind)[:100]!r}" if kind else "none"
    return (
        f"expected the Content-Type {MULTIPART}, {JSON}, image/* or application/octet-stream, got {got}: with curl, "
        f"use {likely}-H 'Content-Type: application/octet-stream' --data-binary @FILE"
    )


@dataclass(frozen=True)
class Wanted:
    """What a request wants of every image.

    `top` is how many classes to return, `error_budget` withholds answers that would not keep it, and `explain` asks for
    a map of where the evidence lies.
    """

    top: int = TOP
    error_budget: float | None = None
    explain: bool = False

    def and_also(self, name: str, value: Any) -> Wanted:
        """Return a copy with one of `WISHES` set to the value a client gave. Raises Refusal."""
        if name == "top":
            return replace(self, top=number_of_classes(value))
        if name == "explain":
            return replace(self, explain=_truth(value))
        try:
            return replace(self, error_budget=share(value, "'error_budget'"))
        except InputError:
            raise Refusal(
                400,
                f"expected a share such as 2% or 0.02 for 'error_budget', got {str(value)[:40]!r}: write it like that",
            ) from None


def whole_number_in(header: str) -> int | None:
    """Return the number that a header states; None if it is none, or has more digits than any number of bytes."""
    return int(header) if header.isascii() and header.isdecimal() and len(header) < 20 else None


def number_of_classes(value: Any) -> int:
    """Return `top` as a client gives it. Raises Refusal."""
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 7:
        value = int(value)
    if type(value) is not int or not 1 <= value < 10**6:
        raise Refusal(400, f"expected a whole number from 1 for 'top', got {str(value)[:40]!r}: 5 is usual")
    return value


def _truth(value: Any) -> bool:
    """Return `explain` as a client gives it. Raises Refusal."""
    found = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
    if found is None:
        raise Refusal(400, f"expected true or false for 'explain', got {str(value)[:40]!r}: give one of them")
    return found


def check_field(name: str, known: tuple[str, ...], where: str) -> None:
    """Refuse an unknown field rather than silently ignore what somebody asked for."""
    if name not in known:
        near = did_you_mean(name[:40], known)
        raise Refusal(
            400,
            f"expected {' or '.join(map(repr, known))} in {where}, got {plain(name[:40])!r}{near}: leave it out",
        )


def given_name(name: str | None, place: int) -> str:
    """Return the name of an image in answers: the last part of the name sent with it, on one line."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return plain(last)[:MOST_NAME] if last else f"image {place}"


class Part(NamedTuple):
    field: str
    file: str | None
    data: bytearray


class _Parts:
    """Splits a multipart body, and stops at the first part too many."""

    def __init__(self, boundary: bytes, limits: Limits) -> None:
        self.found: list[Part] = []
        self.whole = False
        self._limits = limits
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""
        calls: Any = {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }
        self.parser = MultipartParser(boundary, calls)

    def _begin(self) -> None:
        self._headers, self._name, self._value = {}, b"", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _headers_finished(self) -> None:
        disposition, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if disposition != b"form-data" or b"name" not in options:
            raise Refusal(400, "expected Content-Disposition: form-data with a name in every part, got none: add it")
        file = options.get(b"filename")
        name = options[b"name"].decode(errors="replace")
        self.found.append(Part(name, None if file is None else file.decode(errors="replace"), bytearray()))
        files = sum(part.file is not None for part in self.found)
        if files > self._limits.files:
            raise Refusal(413, too_many(self._limits))
        if len(self.found) - files > MOST_FIELDS:
            raise Refusal(400, f"expected at most {MOST_FIELDS} fields beside the files, got more: leave them out")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        part = self.found[-1]
        part.data.extend(memoryview(data)[start:end])
        if part.file is None and len(part.data) > MOST_FIELD_BYTES:
            # Checked before an unknown field name is reported, since curl's `-F image=<FILE` is the likelier mistake.
            raise Refusal(
                400,
                f"expected at most {MOST_FIELD_BYTES} bytes in the field {plain(part.field[:40])!r}, got more: send an "
                "image as a file (with curl, -F image=@FILE)",
            )

    def _end(self) -> None:
        self.whole = True


def too_many(limits: Limits) -> str:
    return f"expected at most {limits.files} images in a request, got more: send them in several"


def _from_multipart(body: bytes, boundary: bytes, limits: Limits, wanted: Wanted) -> tuple[list[Given], Wanted]:
    if not boundary:
        raise Refusal(400, f"expected a boundary in the Content-Type {MULTIPART}, got none: let the client set it")
    try:
        parts = _Parts(boundary, limits)
        parts.parser.write(body)
    except MultipartError as error:
        raise Refusal(400, f"expected a body of {MULTIPART}, got an invalid one ({error}): send it again") from None
    if not parts.whole:
        raise Refusal(400, f"expected a whole body of {MULTIPART}, got one that ends too early: send it again")
    images: list[Given] = []
    for part in parts.found:
        if part.file is not None or part.field in FILE_FIELDS:
            check_field(part.field, FILE_FIELDS, "a multipart body")
            images.append(Given(given_name(part.file, len(images)), bytes(part.data)))
        else:
            check_field(part.field, (*FILE_FIELDS, *WISHES), "a multipart body")
            wanted = wanted.and_also(part.field, part.data.decode(errors="replace").strip())
    return images, wanted


def read_json(body: bytes) -> Any:
    """Return the value of a JSON body. Raises Refusal."""
    if body.count(b",") > MOST_VALUES:
        raise Refusal(
            413,
            f"expected at most {MOST_VALUES:,} values in JSON, got more: send image files, or the bytes of a tensor "
            "after the JSON",
        )
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0][:100]
        raise Refusal(400, f"expected a body in JSON, got something else ({reason}): see /openapi.json") from None


async def _from_json(body: Body, limits: Limits, fetch: Fetch, wanted: Wanted) -> tuple[list[Given], Wanted]:
    value = read_json(body.data)
    if not isinstance(value, dict) or not isinstance(value.get("images"), list):
        raise Refusal(
            400,
            """expected {"images": [{"base64": "…"}]} as JSON, got something else: see /openapi.json for examples""",
        )
    for name in value:
        check_field(name, JSON_FIELDS, "the JSON")
    if len(value["images"]) > limits.files:
        raise Refusal(413, too_many(limits))
    images: list[Given] = []
    left = limits.bytes
    for place, image in enumerate(value["images"]):
        if not isinstance(image, dict) or ("base64" in image) == ("url" in image):
            raise Refusal(
                400,
                f"expected an object with either 'base64' or 'url' as image {place}, got something else: give "
                "one of them",
            )
        for name in image:
            check_field(name, IMAGE_FIELDS, f"image {place}")
        if not all(isinstance(each, str) for each in image.values()):
            raise Refusal(400, f"expected strings in image {place}, got other values: put them in quotes")
        name = given_name(image.get("name"), place)
        if "url" in image:
            data = await fetch(image["url"], left, body)
        else:
            data = from_base64(image["base64"], name, body)
        left -= len(data)
        if left < 0:
            raise Refusal(413, f"expected images of at most {limits.bytes:,} bytes in all, got more: send fewer")
        images.append(Given(name, data))
    for name in WISHES:
        wanted = wanted.and_also(name, value[name]) if name in value else wanted
    return images, wanted


def from_base64(text: str, name: str, body: Body) -> bytes:
    """Return the bytes of a base64 text, with or without a `data:` prefix, and count them in its body. Raises Refusal.

    Line breaks, as `base64` and MIME write them, the URL-safe alphabet and missing padding are accepted as well.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    text = text.translate(_TO_STANDARD).rstrip("=")
    body.take(3 * len(text) // 4)
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(
            400, f"expected base64 for {name!r}, got something else ({error}): encode the bytes of the file"
        ) from None
