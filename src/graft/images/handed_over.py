"""One image as the caller holds it: the bytes of a file, an open file, a PIL image, an array, a tensor."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from graft.errors import ImageError
from graft.images.rgb import is_deep, to_rgb

ACCEPTED = (
    "a path, the bytes of a file, pixels (H, W), (H, W, 3) or (H, W, 4) that are uint8 or floats from 0 to 1, a "
    "tensor (3, H, W) of these, gray pixels (H, W) of uint16, an open file or a PIL image"
)
# File formats, by Pillow's mode, that keep samples deeper than 8 bits unchanged; TIFF for the other modes.
_DEEP_FORMS = {"I;16": "PNG"}


def as_read(thing: Any) -> bytes | np.ndarray:
    """Read an image that is not a path: return the bytes of a file, or pixels uint8 (H, W), (H, W, 1) or (H, W, 3).

    `thing` is bytes, a PIL image, an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a tensor (C, H, W), of uint8
    or of floats from 0 to 1, which are rounded to the nearest of 255 steps. Transparency is composited over white. PIL
    images deeper than 8 bits, and gray images of uint16, become the bytes of a file, so that their black and white
    levels are decided as for files.
    Raises ImageError for anything else, and no other error, whatever `thing` itself raises.
    """
    try:
        return _as_read(thing)
    except ImageError:
        raise
    except Exception as error:
        # For example a sparse tensor, a tensor without data, a released memoryview, or a type of the caller's own.
        raise ImageError(
            f"expected an image that gives its values, got {named(thing)} that does not ({said_by(error)}): make an "
            "array or a tensor of its pixels, or give its path"
        ) from None


def _as_read(thing: Any) -> bytes | np.ndarray:
    if isinstance(thing, bytes | bytearray | memoryview):
        return bytes(thing)
    if isinstance(thing, Image.Image):
        return _of_pil(thing)
    if is_tensor(thing):
        return _of_array(_channels_last(thing), "a tensor (3, H, W)")
    if isinstance(thing, np.ndarray):
        # NumPy's matrix class keeps two axes under any indexing; a plain array behaves as expected.
        return _of_array(np.asarray(_without_mask(thing)), "an array (H, W), (H, W, 3) or (H, W, 4)")
    raise ImageError(f"expected {ACCEPTED}, got {named(thing)}: give one of these")


def taken_in(thing: Any) -> Any:
    """Read an open file at once, from its current position; return anything else unchanged.

    Raises ImageError for a file that cannot be read, or that was opened as text.
    """
    try:
        if not is_open_file(thing):
            return thing
        data = thing.read()
    except Exception as error:  # an object that reads may raise anything
        reason = str(error) or type(error).__name__
        raise ImageError(f"expected an open file that can be read, got {reason}: open it again") from None
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ImageError(
            f'expected a file that was opened with "rb", got one that gives {named(data)}: open it that way'
        )
    return bytes(data)


def is_open_file(thing: Any) -> bool:
    return callable(getattr(thing, "read", None)) and not isinstance(thing, type | Image.Image)


def is_tensor(thing: Any) -> bool:
    """Return whether `thing` is a torch tensor, without importing torch."""
    # Another thread may be in the middle of importing torch.
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(thing, tensor)


def named(thing: object) -> str:
    """Name the type of a thing for messages: `a list`, `an ndarray`."""
    name = type(thing).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def said_by(error: Exception) -> str:
    """Return the type of an error that the caller's object raised, and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])


def _without_mask(array: np.ndarray) -> np.ndarray:
    """Drop the mask of an array. Raises ImageError if it hides any value."""
    if not isinstance(array, np.ma.MaskedArray):
        return array
    hidden = int(np.ma.count_masked(array))
    if hidden:
        raise ImageError(
            f"expected every value of an image, got a masked array of shape {array.shape} that hides {hidden:,} of "
            "them: fill them in, such as with array.filled(0)"
        )
    return array.data


def _of_array(array: np.ndarray, wanted: str) -> bytes | np.ndarray:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or not array.size:
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        raise ImageError(
            f"expected an image as {wanted} of uint8, or of floats from 0 to 1, got {array.dtype} of shape "
            f"{array.shape}: {'put the channels last' if first else 'convert it first'}"
        )
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= 0 and high <= 1):
            raise ImageError(
                f"expected an image of uint8, or of floats from 0 to 1, got {array.dtype} from {low:g} to {high:g}: "
                f"{'convert it to uint8' if high > 3 and low >= 0 else 'undo what normalised it'}"
            )
        array = np.rint(array.astype(np.float64) * 255).astype(np.uint8)
    elif array.dtype.newbyteorder("=") == np.uint16 and (array.ndim == 2 or array.shape[2] == 1):
        # Its black and white levels are decided as for a file of these samples.
        return _of_pil(Image.fromarray(np.ascontiguousarray(array.reshape(array.shape[:2]), np.uint16)))
    elif array.dtype != np.uint8:
        raise ImageError(
            f"expected an image of uint8, or of floats from 0 to 1, got {array.dtype}: convert it to uint8 first"
        )
    if array.ndim == 3 and array.shape[2] == 4:
        return to_rgb(Image.fromarray(np.ascontiguousarray(array), "RGBA"))
    return array


def _channels_last(tensor: Any) -> np.ndarray:
    # Resolve torch's lazy conjugation and negation, which NumPy cannot represent.
    values = tensor.detach().cpu().resolve_conj().resolve_neg()
    if values.is_floating_point():
        values = values.float()
    array: np.ndarray = values.numpy()
    if array.ndim == 3 and array.shape[0] in (1, 3, 4):
        return array.transpose(1, 2, 0)  # (C, H, W) -> (H, W, C)
    # Without a channel axis it is not an image: flattened, its shape is rejected.
    return array if array.ndim == 2 else array.reshape(-1)


def _of_pil(image: Image.Image) -> bytes | np.ndarray:
    if not all(image.size):
        raise ImageError(f"expected a PIL image with pixels, got {image.width} x {image.height}: leave it out")
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if not is_deep(upright):
            return to_rgb(upright)
        file = io.BytesIO()
        upright.save(file, _DEEP_FORMS.get(upright.mode, "TIFF"))
        return file.getvalue()
    except Exception as error:
        # Pillow has no single error type for a file that is damaged, or was closed before it was read.
        raise ImageError(
            f"expected a PIL image that can be read, got {type(error).__name__}{f' ({error})' if str(error) else ''}: "
            "open it again, or give its path"
        ) from None
