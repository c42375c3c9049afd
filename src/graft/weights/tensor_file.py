"""Write safetensors so that the same tensors give the same bytes.

The library writes metadata in random order, and files that only their owner may read. The format is small: eight bytes
with the length of a JSON header, little-endian, the header, then the tensors one after the other, without gaps.
https://huggingface.co/docs/safetensors, "Format".
"""

import json
from collections.abc import Mapping
from typing import IO

import torch
from torch import Tensor
from xxhash import xxh3_128

NAMES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
# Tensors begin at a multiple of this many bytes, the widest number, so that they can be memory-mapped in place.
ALIGNMENT = 8
# The metadata key for the digest of the tensors as they were written.
DIGEST = "graft.digest"


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a hexadecimal digest of names, shapes, dtypes and bytes of CPU tensors, against accidental damage."""
    digest = xxh3_128()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def write_tensors(file: IO[bytes], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write CPU tensors, wider dtypes first and then by name, with metadata sorted by key."""
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    start = 0
    for name, tensor in ordered:
        end = start + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for _, tensor in ordered:
        file.write(_bytes(tensor))
