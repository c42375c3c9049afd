"""Digests that identify the content of an image, whatever its location and name."""

import hashlib
from collections.abc import Iterable

import numpy as np

from graft.data.dataset import Images
from graft.errors import ImageError

DIGEST_BYTES = 16


def content_digest(data: bytes | np.ndarray) -> np.ndarray:
    """Return a digest, uint64 (2,), of an encoded image or of pixels."""
    if not isinstance(data, bytes):
        data = repr(data.shape).encode() + data.tobytes()
    return np.frombuffer(hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest(), np.uint64)


def content_digests(images: Images) -> np.ndarray:
    """Return the digest of each image, uint64 (N, 2), zero if unreadable; reads all images unless digests are known."""
    if images.digests is not None:
        return images.digests
    found = np.zeros((len(images), 2), dtype=np.uint64)
    for index in range(len(images)):
        try:
            found[index] = content_digest(images.read(index))
        except OSError:
            continue
    return found


def stamps_digest(parts: Iterable[Images]) -> str:
    """Return a hexadecimal digest of image names, sizes and times, to tell images apart without reading them."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for images in parts:
        for stamp in images.stamps():
            digest.update(stamp.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def unreadable(error: OSError) -> ImageError:
    """Turn a read error into an ImageError: the system gives only a reason, a source a whole sentence."""
    return ImageError(str(error) if error.strerror is None else f"expected a readable file, got {error.strerror}")


def digest_text(digest: np.ndarray) -> str:
    """Return a digest in hexadecimal, empty if it is unknown (zero)."""
    return digest.tobytes().hex() if digest.any() else ""
