"""Explain one image for the service: where the evidence for its class lies."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any

import numpy as np

from graft.data.dataset import Images
from graft.explanation.explaining import MapOptions, explain_images
from graft.explanation.faithfulness import in_cells
from graft.explanation.overlay import overlay
from graft.names import plain
from graft.serving.handed import Given

if TYPE_CHECKING:
    from graft.serving.predictor import Classifier

# JPEG quality of the overlay, which takes about 8 KB.
QUALITY = 85


def explain_one(classifier: Classifier, image: bytes | np.ndarray) -> dict[str, Any]:
    """Return the explained class, the method, the map as means over 7 x 7 cells, and the map laid over the image.

    `overlay` is a JPEG as a `data:` URL, showing the square that the network sees. The map is not tested, which would
    take as long as 160 answers; `graft explain` tests it.
    """
    import simplejpeg

    one = Images(Given([image], 0), np.arange(1), np.full(1, -1, dtype=np.int64))
    explained = explain_images(classifier.saved, one, MapOptions(test=False)).explanations
    if not explained:
        return {"error": "expected an image that can be decoded, got none: send another"}
    (found,) = explained
    drawn = simplejpeg.encode_jpeg(np.ascontiguousarray(overlay(found.pixels, found.map)), quality=QUALITY)
    return {
        "class": plain(found.explained),
        "method": found.map.method,
        "stage": found.map.stage,
        "cells": in_cells(found.map.values).tolist(),
        "overlay": f"data:image/jpeg;base64,{b64encode(drawn).decode()}",
    }
