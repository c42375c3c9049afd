"""Messages between the service and its workers: a JSON header followed by raw blobs of bytes.

Pickle is avoided on purpose: a worker decodes bytes from strangers, and one that was taken over could make its parent
run anything.
"""

import json
import struct
from asyncio import StreamReader
from collections.abc import Sequence
from typing import IO, Any

_LENGTH = struct.Struct("<I")
Message = tuple[dict[str, Any], list[bytes]]


def pack(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> list[bytes]:
    """Return a message as pieces to write one after another."""
    text = json.dumps({**header, "blobs": [len(blob) for blob in blobs]}).encode()
    return [_LENGTH.pack(len(text)), text, *blobs]


async def receive(stream: StreamReader) -> Message:
    """Return the next message. Raises asyncio.IncompleteReadError at the end."""
    (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    header = json.loads(await stream.readexactly(length))
    return header, [await stream.readexactly(size) for size in header.pop("blobs")]


def read(file: IO[bytes]) -> Message | None:
    """Return the next message of a blocking file; None at the end."""
    try:
        (length,) = _LENGTH.unpack(_exactly(file, _LENGTH.size))
        header = json.loads(_exactly(file, length))
        return header, [_exactly(file, size) for size in header.pop("blobs")]
    except EOFError:
        return None


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data
