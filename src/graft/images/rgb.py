"""Convert an image of any mode that Pillow has loaded to RGB, or to samples where it is deeper than 8 bits."""

import numpy as np
from PIL import Image

from graft.images.levels import Levels, Range, Samples, samples_to_rgb

# About this many pixels are converted at a time, by rows: intermediate images stay so small that each reuses the memory
# of the previous one. Four times as many pixels take four times as long, almost all of it for fresh memory.
BAND_PIXELS = 2**18


def to_rgb(image: Image.Image, levels: Levels = ()) -> np.ndarray:
    """Convert an image to uint8 (H, W, 3), with transparency over white and deeper greys read by `levels`."""
    if is_deep(image):
        return samples_to_rgb(to_samples(image), levels)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for band in _bands(image):
        pixels[band] = _convert(_rows(image, band))
    return pixels


def is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def to_samples(image: Image.Image, certain: Range | None = None, stated: Range | None = None) -> Samples:
    """Return the samples of a deep image, with the range that its file declares, if any."""
    kinds = {"I": "int32", "F": "float32"}
    values = np.empty((image.height, image.width), kinds.get(image.mode, "uint16"))
    for band in _bands(image):
        values[band] = np.asarray(_rows(image, band))
    nothing = image.info.get("transparency")  # the one sample value of a 16-bit PNG that means transparent
    alpha = None if nothing is None else np.where(values == nothing, 0, 255).astype(np.uint8)
    return Samples(values, certain, stated, alpha)


def _bands(image: Image.Image) -> list[slice]:
    rows = max(1, BAND_PIXELS // max(1, image.width))
    return [slice(top, min(top + rows, image.height)) for top in range(0, image.height, rows)]


def _rows(image: Image.Image, band: slice) -> Image.Image:
    whole = band.stop - band.start == image.height
    return image if whole else image.crop((0, band.start, image.width, band.stop))


def _convert(image: Image.Image) -> np.ndarray:
    if image.mode == "La":  # premultiplied grey, which Pillow converts to nothing else
        image = image.convert("LA")
    if image.mode in ("P", "PA", "LA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        alpha = image.getchannel("A").histogram()  # how many pixels have each of 256 opacities
        # Most images with an alpha channel are opaque, and a fully transparent one needs no compositing.
        if any(alpha[:255]):
            canvas = Image.new("RGB", image.size, "white")
            if any(alpha[1:]):
                canvas.paste(image, mask=image)  # the result of `alpha_composite` in a third of the time
            image = canvas
    if image.mode not in ("RGB", "RGBA"):
        image = image.convert("RGB")
    # Pillow drops the alpha channel while copying, which saves converting to RGB first.
    return np.frombuffer(image.tobytes("raw", "RGB"), np.uint8).reshape(image.height, image.width, 3)
