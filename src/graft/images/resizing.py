"""From an image of any size to the square that a network takes."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graft.errors import InputError
from graft.images.preprocessing import Preprocessing


def to_square(pixels: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    """uint8 (H, W, 3), (H, W, 1) or (H, W) to uint8 (C, size, size), where C is `preprocessing.channels`.

    `crop` keeps the central square whose side is `crop_fraction` of the shorter side, `squash` the whole image with
    changed proportions, `letterbox` the whole image with the rest of the square in the mean colour. A region that
    already has the right size is copied as it is. The result is contiguous and shares no memory with `pixels`. Raises
    InputError for `pixels` of any other shape or type.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or not pixels.size:
        raise InputError(
            "expected an image as a uint8 array of shape (H, W, 3), (H, W, 1) or (H, W), "
            f"got {pixels.dtype} of shape {pixels.shape}: convert it first"
        )
    size = preprocessing.size
    if preprocessing.resize_mode == "letterbox":
        return _letterbox(pixels, preprocessing)
    if preprocessing.resize_mode == "crop":
        pixels = _crop(pixels, preprocessing.crop_fraction)
    return match_channels(_resize(pixels, size, size), preprocessing.channels)


def mean_colour(preprocessing: Preprocessing) -> Tensor:
    """The colour that becomes zero when normalised, uint8 (C,)."""
    return torch.tensor([round(255 * mean) for mean in preprocessing.mean]).clamp(0, 255).to(torch.uint8)


# Of the values of a byte.
MIDDLE = 128


def _crop(pixels: np.ndarray, fraction: float) -> np.ndarray:
    # Before resizing, not after: the pixels outside are not filtered, and the result is the same except at the edge.
    height, width, _ = pixels.shape
    side = max(1, round(fraction * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _letterbox(pixels: np.ndarray, preprocessing: Preprocessing) -> Tensor:
    size, (height, width, _) = preprocessing.size, pixels.shape
    scale = size / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - rows) // 2, (size - columns) // 2
    square = mean_colour(preprocessing)[:, None, None].repeat(1, size, size)  # (C,) -> (C, size, size)
    image = match_channels(_resize(pixels, rows, columns), preprocessing.channels)
    square[:, top : top + rows, left : left + columns] = image
    return square


def _resize(pixels: np.ndarray, rows: int, columns: int) -> Tensor:
    """uint8 (H, W, C) to uint8 (C, rows, columns), antialiased bilinear."""
    # numpy copies the region without starting threads: one image is work for the thread that asked for it.
    contiguous = np.require(pixels, requirements=["C", "W"])
    if min(contiguous.strides) < 0:
        # A side of one pixel that was turned around is contiguous to numpy, but nothing to torch.
        contiguous = contiguous.copy()
    region = torch.from_numpy(contiguous).permute(2, 0, 1)  # (H, W, C) -> (C, H, W)
    if region.shape[1:] == (rows, columns):
        return region.clone(memory_format=torch.contiguous_format)
    # Channels last, as decoded, is the layout with a fast path for bytes in torch.
    resized = F.interpolate(region[None], size=(rows, columns), mode="bilinear", antialias=True)[0]
    return torch.from_numpy(np.ascontiguousarray(resized.numpy()))


def match_channels(image: Tensor, channels: int) -> Tensor:
    """uint8 (1 or 3, H, W) to uint8 (channels, H, W): what a network wants beyond color is the middle of the range."""
    if len(image) == channels:
        return image
    if channels >= 3:
        color = image.expand(3, -1, -1)
        return torch.cat([color, color.new_full((channels - 3, *color.shape[1:]), MIDDLE)])
    if channels == 2:
        return match_channels(image, 1).repeat(2, 1, 1)
    # Luma of ITU-R BT.601 in 16-bit fixed point, rounded as in Pillow's "L": equal channels keep their value.
    red, green, blue = image.to(torch.int32)
    return (red.mul(19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(0x8000) >> 16).to(torch.uint8)[None]
