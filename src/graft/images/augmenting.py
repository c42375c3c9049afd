"""Random augmentation of images.

Random numbers come from a NumPy generator per image, never from a global one: an image and its seed give the same
pixels in any thread, order and process, so they can be recomputed instead of stored.

torchvision does what graft has no faster way to do (hue, blur, most of RandAugment), and is imported only for that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from graft.errors import InputError
from graft.images.preprocessing import Preprocessing
from graft.images.randaugment import MAGNITUDES, randaugment
from graft.images.resizing import match_channels, mean_colour, to_square
from graft.images.warping import warp


@dataclass(frozen=True)
class Augmentation:
    """How much an image may differ from the result of `to_square`. The defaults change nothing.

    A flip suits most photographs; it is wrong for digits, text and anything else that differs from its mirror image:
    `replace(augmentation, flip=0.0)`. Amounts are drawn uniformly, factors of shape and size log-uniformly. A random
    crop already scales and moves the image, so `scale` and `translation` apply only to images that are not cropped at
    random.
    """

    crop: float | None = None  # least area of a random crop, as a share of the largest that fits; None: as `to_square`
    aspect: float = 1.0  # largest ratio of width to height of a random crop, and of height to width
    flip: float = 0.0  # probability of the mirror image
    rotation: float = 0.0  # largest angle either way, in degrees
    scale: float = 0.0  # 0.1: from 1 / 1.1 to 1.1 times the size
    translation: float = 0.0  # largest shift along each axis, either way, as a share of the side
    brightness: float = 0.0  # 0.2: from 0.8 to 1.2 times; likewise for the next two
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # largest turn of the colour circle, either way; 0.5 is half a turn
    pca: float = 0.0  # standard deviation of AlexNet's colour noise (0.1 there); see `_shift_colours`
    blur: float = 0.0  # probability of a Gaussian blur
    blur_sigma: float = 0.0  # largest standard deviation of the blur, as a share of the side
    erasing: float = 0.0  # probability of an erased rectangle; see `_erase`
    operations: int = 0  # number of RandAugment operations in sequence; see `randaugment`
    magnitude: float = 0.0  # of each operation, 0 to 30

    def __post_init__(self) -> None:
        for least, most, names in LIMITS:
            for name in names:
                value = getattr(self, name)
                # Written so that NaN is rejected, too.
                if value is not None and not least <= value <= most:
                    raise InputError(
                        f"expected {name} of an augmentation to be from {least} to {most}, got {value!r}: choose a "
                        f"number in that range, or one of the strengths {', '.join(STRENGTHS)}"
                    )


# The ranges of the numbers of an Augmentation.
LIMITS = (
    (0, 1, ("flip", "scale", "translation", "brightness", "contrast", "saturation", "pca", "blur", "erasing")),
    (0, 0.1, ("blur_sigma",)),
    (0, 0.5, ("hue",)),
    (0, 14, ("operations",)),
    (0, MAGNITUDES, ("magnitude",)),
    (0, 180, ("rotation",)),
    (0.01, 1, ("crop",)),
    (1, 10, ("aspect",)),
)

# Light is harmless nearly everywhere. Its crops are on average as large as the central crop of 0.875 of the side (0.766
# of the area), so that objects have the same size as in prediction (Touvron et al. 2019, arXiv 1906.06423). Crops down
# to 0.08, usual for training on ImageNet, often miss the object in smaller datasets.
STRENGTHS = {
    "none": Augmentation(),
    "light": Augmentation(crop=0.55, aspect=1.1, flip=0.5, scale=0.1, translation=0.05),
    "medium": Augmentation(
        crop=0.5,
        aspect=4 / 3,
        flip=0.5,
        scale=0.2,
        translation=0.1,
        brightness=0.2,
        contrast=0.2,
        saturation=0.2,
    ),
    "heavy": Augmentation(
        crop=0.2,
        aspect=4 / 3,
        flip=0.5,
        rotation=20.0,
        scale=0.4,
        translation=0.2,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.05,
        pca=0.1,
        blur=0.2,
        blur_sigma=0.01,
        erasing=0.25,
        operations=2,
        magnitude=9.0,
    ),
}


@dataclass(frozen=True)
class View:
    """One random version of each image of a dataset: the same view of an image always has the same pixels.

    `number` counts the views: the epoch, or the epoch modulo the number of views kept.
    """

    augmentation: Augmentation
    seed: int
    number: int

    def of(self, pixels: np.ndarray, index: int, preprocessing: Preprocessing) -> Tensor:
        """Augment the image at `index` of its dataset to uint8 (C, size, size); see `augment`."""
        return augment(pixels, preprocessing, self.augmentation, (self.seed, self.number, index))


def augment(
    pixels: np.ndarray,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    seed: int | tuple[int, ...] | np.random.Generator,
) -> Tensor:
    """Apply `to_square` with random changes: uint8 (H, W, 3), (H, W, 1) or (H, W) to uint8 (C, size, size).

    Where `to_square` crops, a random crop is taken from the original image, so that a small crop keeps its detail.
    Where it letterboxes or squashes, the whole image is kept, and `scale` and `translation` replace the crop. The
    result is contiguous and shares no memory with `pixels`. Numbers in `seed` must not be negative. Raises InputError
    as `to_square` does.
    """
    if preprocessing.channels not in (1, 3):
        # Augment as color or gray; the remaining channels are made from the result.
        shown = slice(0, 3 if preprocessing.channels > 3 else 1)
        seen = replace(preprocessing, mean=preprocessing.mean[shown], std=preprocessing.std[shown])
        return match_channels(augment(pixels, seen, augmentation, seed), preprocessing.channels)
    random = np.random.default_rng(seed)
    cropped = augmentation.crop is not None and preprocessing.resize_mode == "crop"
    if cropped:
        pixels = _crop(pixels, augmentation, random)
        preprocessing = replace(preprocessing, resize_mode="squash")
    image = to_square(pixels, preprocessing)
    if random.random() < augmentation.flip:
        image = image.flip(-1)
    turn, growth, right, down = random.uniform(-1, 1, 4).tolist()
    angle, scale, shift = augmentation.rotation * turn, 1.0, (0.0, 0.0)
    if not cropped:
        scale = (1 + augmentation.scale) ** growth
        shift = (augmentation.translation * right, augmentation.translation * down)
    if (angle, scale, shift) != (0.0, 1.0, (0.0, 0.0)):
        image = warp(image, angle=angle, scale=scale, shift=shift)
    functional = import_functional(augmentation)
    if functional is not None:
        image = randaugment(image, augmentation.operations, augmentation.magnitude, random, functional)
    if augmentation.brightness or augmentation.contrast or augmentation.saturation:
        image = _jitter(image, augmentation, random)
    if functional is not None:
        turn = augmentation.hue * random.uniform(-1, 1)
        if turn:
            image = functional.adjust_hue(image, turn)
        if random.random() < augmentation.blur:
            sigma = max(preprocessing.size * augmentation.blur_sigma * random.random(), 0.1)
            image = functional.gaussian_blur(image, 2 * math.ceil(2 * sigma) + 1, sigma)
    if augmentation.pca:
        image = _shift_colours(image, random.normal(0, augmentation.pca, 3))
    if random.random() < augmentation.erasing:
        _erase(image, mean_colour(preprocessing), random)
    return image.contiguous()


def import_functional(augmentation: Augmentation) -> ModuleType | None:
    """Import torchvision's image operations, which takes over a second, or return None if `augmentation` needs none.

    Call it before starting threads that augment: the import passes through torch's compiler, a cycle of modules that
    two threads must not enter at different places.
    """
    if not (augmentation.hue or augmentation.blur or augmentation.operations):
        return None
    import torchvision.transforms.v2.functional as functional

    return functional


def _rectangle(
    within: tuple[int, ...], least: float, most: float, aspect: float, random: np.random.Generator
) -> tuple[slice, slice]:
    """Draw the rows and columns of a rectangle `within` (H, W), its width / height between 1 / `aspect` and `aspect`.

    Its area is between `least` and `most` of the largest rectangle of its shape that fits. Shares of the whole image,
    as in torchvision, would have to be redrawn when they do not fit, and then depend on the shape of the image.
    """
    height, width = within
    shape, share, down, right = random.random(4).tolist()
    ratio, share = aspect ** (2 * shape - 1), least + (most - least) * share
    columns = min(width, height * ratio) * math.sqrt(share)
    rows, columns = max(1, round(columns / ratio)), max(1, round(columns))
    # From zero to the remaining space, inclusive.
    top, left = int(down * (height - rows + 1)), int(right * (width - columns + 1))
    return slice(top, top + rows), slice(left, left + columns)


def _crop(pixels: np.ndarray, augmentation: Augmentation, random: np.random.Generator) -> np.ndarray:
    assert augmentation.crop is not None
    return pixels[_rectangle(pixels.shape[:2], augmentation.crop, 1.0, augmentation.aspect, random)]


# The weights of red, green and blue in luma: ITU-R BT.601, as in torchvision.
LUMA = (0.299, 0.587, 0.114)


def _jitter(image: Tensor, augmentation: Augmentation, random: np.random.Generator) -> Tensor:
    """Change brightness, contrast (from the mean grey) and saturation (from each pixel's grey), in this order.

    All three are linear, so they combine into one product, rounded and clamped once. A grey image has no saturation.
    """
    names = ("brightness", "contrast", "saturation")
    brightness, contrast, saturation = (1 + getattr(augmentation, name) * random.uniform(-1, 1) for name in names)
    x = image.flatten(1).float()  # (C, H W)
    luma = torch.ones(1) if len(image) == 1 else torch.tensor(LUMA)
    mixing = torch.eye(len(image)) if len(image) == 1 else saturation * torch.eye(3) + (1 - saturation) * luma
    lift = float(luma @ x.mean(1)) * brightness * (1 - contrast)
    x = torch.addmm(torch.tensor(lift), brightness * contrast * mixing, x)
    return x.round_().clamp_(0, 255).to(torch.uint8).view_as(image)


# Principal components of ImageNet's RGB values, from 0 to 1: eigenvalues, and eigenvectors as columns. The figures are
# from facebookarchive/fb.resnet.torch (datasets/imagenet.lua); most other implementations repeat them.
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def _shift_colours(image: Tensor, amounts: np.ndarray) -> Tensor:
    """Add the principal components, each scaled by its eigenvalue and its amount (3,), to every pixel.

    Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 4.1. A grey image
    has no such components and stays as it is.
    """
    if len(image) == 1:
        return image
    shift = np.rint(255 * EIGENVECTORS @ (EIGENVALUES * amounts)).astype(np.int16)  # (3,)
    return (image.to(torch.int16) + torch.from_numpy(shift)[:, None, None]).clamp_(0, 255).to(torch.uint8)


def _erase(image: Tensor, colour: Tensor, random: np.random.Generator) -> None:
    """Fill a rectangle with the mean colour, which is zero once normalised: Zhong et al. 2017, arXiv 1708.04896.

    Area and shape are as in the paper (0.02 to 0.4, 0.3 to 1 / 0.3), but the area is a share of what the shape allows.
    """
    rows, columns = _rectangle(tuple(image.shape[1:]), 0.02, 0.4, 1 / 0.3, random)
    image[:, rows, columns] = colour[:, None, None]
