"""Lay a class map over its image."""

import io

import numpy as np
import torch
import torch.nn.functional as F

from graft.explanation.class_maps import ClassMap, resized

# The colours of evidence for and against the class, RGB; distinguishable with red-green colour blindness.
FOR, AGAINST = (230, 85, 0), (0, 90, 200)
# How much of the image the strongest colour covers.
STRONGEST = 0.75
# Smaller images are enlarged by an integer factor up to this side; the side of thumbnails; both in px.
SMALL, IN_PASSING = 224, 112


def overlay(pixels: np.ndarray, of: ClassMap) -> np.ndarray:
    """Return uint8 (size, size, 3): the image in grey, orange over evidence for the class, blue over evidence against.

    The strongest value of the map has the strongest colour.
    """
    values = resized(of.values, len(pixels))
    strength = STRONGEST * np.abs(values) / max(float(np.abs(values).max()), np.finfo(np.float32).tiny)
    colour = np.where(values[..., None] > 0, np.array(FOR), np.array(AGAINST))
    grey = pixels.mean(2, keepdims=True)
    mixed = grey + strength[..., None] * (colour - grey)
    return np.asarray(mixed.round().clip(0, 255).astype(np.uint8))


def enlarged(pixels: np.ndarray, side: int = SMALL) -> np.ndarray:
    """Enlarge small images (H, W, 3) by an integer factor, up to `side` px, so that they can be looked at."""
    factor = max(1, side // max(pixels.shape[:2]))
    return pixels.repeat(factor, 0).repeat(factor, 1)


def tiled(images: np.ndarray, columns: int, least_side: int = 24) -> np.ndarray:
    """Tile small images uint8 (n, h, w, 3), enlarged, in rows of `columns`: uint8 (H, W, 3); gaps are grey."""
    factor = max(1, -(-least_side // max(images.shape[1:3])))
    large = images.repeat(factor, 1).repeat(factor, 2)
    padded = np.pad(large, ((0, -len(large) % columns), (1, 1), (1, 1), (0, 0)), constant_values=128)
    _, height, width, _ = padded.shape
    rows = padded.reshape(-1, columns, height, width, 3)
    # (rows, columns, h, w, 3) -> (rows, h, columns, w, 3)
    return rows.transpose(0, 2, 1, 3, 4).reshape(len(rows) * height, columns * width, 3)


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 (size, size, 3), at most `IN_PASSING` px wide."""
    if len(pixels) <= IN_PASSING:
        return pixels
    square = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]  # (S, S, 3) -> (1, 3, S, S)
    small = F.interpolate(square, (IN_PASSING, IN_PASSING), mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0).numpy()  # (3, s, s) -> (s, s, 3)


def as_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 (H, W, 3) as the bytes of a PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
