"""Digests that recognise the content of an image, wherever it lies and whatever it is called."""

import hashlib
from collections.abc import Iterable

import numpy as np

from graft.data.dataset import Images
from graft.errors import ImageError

DIGEST_BYTES = 16


def content_digest(data: bytes | np.ndarray) -> np.ndarray:
    """A digest, uint64 (2,), of an encoded image or of pixels."""
    if not isinstance(data, bytes):
        data = repr(data.shape).encode() + data.tobytes()
    return np.frombuffer(hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest(), np.uint64)


def content_digests(images: Images) -> np.ndarray:
    """The digest of each image, uint64 (N, 2), zero if it cannot be read; reads all images unless it is known."""
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
    """A digest, in hexadecimal, of the names, sizes and times of images: others are told by it without reading them."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for images in parts:
        for stamp in images.stamps():
            digest.update(stamp.encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


def unreadable(error: OSError) -> ImageError:
    """What is said of an image that a source cannot read: the system names the reason, a source has a sentence."""
    return ImageError(str(error) if error.strerror is None else f"expected a readable file, got {error.strerror}")


def digest_text(digest: np.ndarray) -> str:
    """A digest in hexadecimal, empty if it is not known."""
    return digest.tobytes().hex() if digest.any() else ""
