"""Make small JPEGs of a run's images for its page, several at a time, within a byte budget."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import simplejpeg

from graft.data.dataset import Dataset, Images
from graft.data.loading import available_cores
from graft.errors import ImageError
from graft.images.levels import Levels
from graft.images.thumbnails import shrunk

# Longer side in px, JPEG quality, and the total bytes of a page's thumbnails, which base64 increases by a third.
SIDE, QUALITY = 112, 72
MOST_BYTES = 900_000


class Album:
    """Thumbnails of images, each made once, by split and index or by name; there are none without a dataset."""

    def __init__(self, dataset: Dataset | None, levels: Levels = ()) -> None:
        self._dataset, self._levels = dataset, levels
        self._made: dict[tuple[str, int], tuple[bytes, tuple[int, int]] | None] = {}
        self._places: dict[str, tuple[str, int]] | None = None
        self._left = MOST_BYTES

    def make(self, places: Iterable[tuple[str, int]]) -> None:
        """Make thumbnails of the images at these indices of splits, in the order given."""
        if self._dataset is None:
            return
        wanted = [place for place in dict.fromkeys(places) if place not in self._made]
        images = self._dataset.splits
        with ThreadPoolExecutor(available_cores(), thread_name_prefix="thumbnail") as pool:
            made = pool.map(lambda place: thumbnail(images[place[0]], place[1], self._levels), wanted)
            for place, found in zip(wanted, made, strict=True):
                self._made[place] = found

    def jpeg(self, place: tuple[str, int]) -> tuple[bytes | None, tuple[int, int]]:
        """Return the thumbnail and its size in px; None for an unreadable image, or once the page is full."""
        found = self._made.get(place)
        if found is None or len(found[0]) > self._left:
            return None, (0, 0)
        self._left -= len(found[0])
        return found

    def own(self, pixels: np.ndarray) -> tuple[bytes | None, tuple[int, int]]:
        """Encode other pixels, uint8 (H, W, 3), within the same byte budget."""
        made = as_jpeg(pixels)
        if len(made) > self._left:
            return None, (0, 0)
        self._left -= len(made)
        return made, (pixels.shape[1], pixels.shape[0])

    def place_of(self, name: str) -> tuple[str, int] | None:
        """Return the split and index of the image that messages call `name`."""
        if self._dataset is None:
            return None
        if self._places is None:
            self._places = {
                images.name(index): (split, index)
                for split, images in self._dataset.splits.items()
                for index in range(len(images))
            }
        return self._places.get(name)


def thumbnail(images: Images, index: int, levels: Levels) -> tuple[bytes, tuple[int, int]] | None:
    """Return an image as a small JPEG and its size in px; None if it cannot be read."""
    try:
        image = shrunk(images.read(index), SIDE, levels)
    except (ImageError, OSError):
        return None
    return None if image is None else (as_jpeg(np.asarray(image.convert("RGB"))), image.size)


def as_jpeg(pixels: np.ndarray) -> bytes:
    """Encode uint8 (H, W, 3) as a JPEG."""
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=QUALITY, colorsubsampling="420"))
