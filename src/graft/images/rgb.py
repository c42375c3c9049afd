"""From an image of any mode that Pillow has loaded to RGB, or to samples where it is deeper than 8 bits."""

import numpy as np
from PIL import Image

from graft.images.levels import Levels, Range, Samples, samples_to_rgb

# About this many pixels are converted at a time, by rows: intermediate images stay so small that their memory is taken
# from what the one before has left. Four times as many take four times as long, almost all of it for fresh memory.
BAND_PIXELS = 2**18


def to_rgb(image: Image.Image, levels: Levels = ()) -> np.ndarray:
    """uint8 (H, W, 3); transparency is laid over white, and deeper greys are read by `levels`."""
    if is_deep(image):
        return samples_to_rgb(to_samples(image), levels)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for band in _bands(image):
        pixels[band] = _convert(_rows(image, band))
    return pixels


def is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def to_samples(image: Image.Image, certain: Range | None = None, stated: Range | None = None) -> Samples:
    """The samples of an image that is deep; what the file says of their range is passed on."""
    kinds = {"I": "int32", "F": "float32"}
    values = np.empty((image.height, image.width), kinds.get(image.mode, "uint16"))
    for band in _bands(image):
        values[band] = np.asarray(_rows(image, band))
    nothing = image.info.get("transparency")  # the one value of a 16-bit PNG that stands for "nothing here"
    alpha = None if nothing is None else np.where(values == nothing, 0, 255).astype(np.uint8)
    return Samples(values, certain, stated, alpha)


def _bands(image: Image.Image) -> list[slice]:
    rows = max(1, BAND_PIXELS // max(1, image.width))
    return [slice(top, min(top + rows, image.height)) for top in range(0, image.height, rows)]


def _rows(image: Image.Image, band: slice) -> Image.Image:
    whole = band.stop - band.start == image.height
    return image if whole else image.crop((0, band.start, image.width, band.stop))


def _convert(image: Image.Image) -> np.ndarray:
    if image.mode in ("P", "PA", "LA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        alpha = image.getchannel("A").histogram()  # how many pixels have each of 256 opacities
        # Most images with transparency have none, and those that hide everything need no look at what they hide.
        if any(alpha[:255]):
            canvas = Image.new("RGB", image.size, "white")
            if any(alpha[1:]):
                canvas.paste(image, mask=image)  # the same as `alpha_composite` in a third of the time
            image = canvas
    if image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGB")
    # Pillow leaves the opacity out while it copies, which spares converting to RGB first.
    return np.frombuffer(image.tobytes("raw", "RGB"), np.uint8).reshape(image.height, image.width, 3)
