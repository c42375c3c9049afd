"""Images of nothing but fine detail, whose thumbnails are flat."""

import io

import numpy as np
from PIL import Image


def pattern(seed: int, tint: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """Fine detail of its own, which averages to one grey over any few pixels."""
    random = np.random.default_rng(seed)
    signs = random.choice([-1, 1], (64, 64))
    fine = np.kron(signs, np.array([[1, 1, -1, -1], [1, 1, -1, -1], [-1, -1, 1, 1], [-1, -1, 1, 1]]))
    # The size of the steps varies slowly over the image, their mean does not.
    size = np.asarray(Image.fromarray(random.uniform(15, 70, (5, 5)).astype(np.float32)).resize((256, 256)))
    grey = 128 + size * fine
    return Image.fromarray(np.stack([grey + add for add in tint], 2).clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, quality: int = 95) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return content.getvalue()


PATTERNS: list[bytes | np.ndarray] = [saved(pattern(seed)) for seed in range(8)]
