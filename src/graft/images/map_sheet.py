"""Feature maps as small images in a page: a sheet of tiles in one data URI, each tile stretched from black to white."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

# Larger maps are reduced to this side, px.
LARGEST_TILE = 112
# Sheets of at most this many pixels are stored losslessly.
LOSSLESS = 40_000
QUALITY = 72
COLUMNS = 8


def draw_sheet(maps: Sequence[Tensor], largest: int = LARGEST_TILE) -> dict[str, Any]:
    """Draw a sheet of maps, each (H, W), all of one size: return its URI, the size of a tile, the tiles per row.

    `ranges` holds the values that black and white stand for, tile by tile.
    """
    tiles: list[np.ndarray] = []
    ranges: list[tuple[float, float]] = []
    for each in maps:
        values: np.ndarray = np.nan_to_num(_reduced(each.detach().float().cpu(), largest).numpy())
        low, high = float(values.min()), float(values.max())
        tiles.append(np.round(255 * (values - low) / (high - low or 1)).astype(np.uint8))
        ranges.append((low, high))
    height, width = tiles[0].shape[:2]
    columns = min(COLUMNS, len(tiles))
    sheet = np.zeros((-(-len(tiles) // columns) * height, columns * width), np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height, left : left + width] = tile
    return {"uri": as_uri(sheet), "height": height, "width": width, "columns": columns, "ranges": ranges}


def _reduced(values: Tensor, largest: int) -> Tensor:
    height, width = values.shape
    if max(height, width) <= largest:
        return values
    scale = largest / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return F.adaptive_avg_pool2d(values[None, None], size)[0, 0]


def as_uri(pixels: np.ndarray) -> str:
    """Encode uint8 (H, W) or (H, W, 3) as a data URI: PNG if grey and small, otherwise JPEG."""
    file, image = io.BytesIO(), Image.fromarray(pixels)
    kind = "png" if pixels.ndim == 2 and pixels.size <= LOSSLESS else "jpeg"
    if kind == "png":
        image.save(file, "PNG", optimize=True)
    else:
        image.save(file, "JPEG", quality=QUALITY if pixels.ndim == 2 else 85)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"
