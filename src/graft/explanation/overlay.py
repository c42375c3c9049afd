"""A class map laid over the image that it is of."""

import io

import numpy as np

from graft.explanation.class_maps import ClassMap, resized

# What speaks for the class and what speaks against it, RGB; told apart by people who confuse red and green.
FOR, AGAINST = (230, 85, 0), (0, 90, 200)
# How much of the image the strongest colour covers.
STRONGEST = 0.75
# Sides below this are enlarged by a whole factor, px.
SMALL = 224


def overlay(pixels: np.ndarray, of: ClassMap) -> np.ndarray:
    """uint8 (size, size, 3): the image in grey, under orange where it speaks for the class, blue where against.

    The strongest value of the map has the strongest colour.
    """
    values = resized(of.values, len(pixels))
    strength = STRONGEST * np.abs(values) / max(float(np.abs(values).max()), np.finfo(np.float32).tiny)
    colour = np.where(values[..., None] > 0, np.array(FOR), np.array(AGAINST))
    grey = pixels.mean(2, keepdims=True)
    mixed = grey + strength[..., None] * (colour - grey)
    return np.asarray(mixed.round().clip(0, 255).astype(np.uint8))


def enlarged(pixels: np.ndarray) -> np.ndarray:
    """Small images (H, W, 3) by a whole factor, so that they can be looked at."""
    factor = max(1, SMALL // max(pixels.shape[:2]))
    return pixels.repeat(factor, 0).repeat(factor, 1)


def as_png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W, 3) as the bytes of a PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
