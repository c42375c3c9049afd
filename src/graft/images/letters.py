"""Typed letters, drawn from fonts: the images of the demo and of the base that comes with graft.

A network trained on Latin letters is a good start for Cyrillic ones: the strokes are the same, and a third of the
capitals look the same. An image is 32 x 32 px, grey, dark ink on light paper as on a typed page, with one letter in the
centre, distorted at random.

The same seed gives the same images wherever FreeType draws the same outlines. Images with different seeds share fonts
but no distortion, so use two seeds for a training set and a test set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from graft.errors import DataError

# Side of an image and size of the type, in px. A capital is then about 15 px high, and the widest letter (Ж in bold
# italic) 28 px wide: the central 28 px, which LeNet-5 sees, hold nearly all the ink of every image.
SIDE = 32
TYPE_SIZE = 20

# Fine pixels per pixel along each axis: letters are drawn, thickened and turned at this resolution, then reduced.
FINE = 4

# The 52 letters in 43 classes, each named by its letters. A small letter that looks like its capital at another size
# (c, o, p, s, v, w, x, z) shares the capital's class, since images differ in size and position; so do I and l, which
# are the same stroke in many fonts. All others differ in shape.
LATIN = tuple(
    "A a B b Cc D d E e F f G g H h Il i J j K k L M m N n Oo Pp Q q R r Ss T t U u Vv Ww Xx Y y Zz".split()  # noqa: SIM905
)
CYRILLIC = tuple("АБВГДЕЁЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ")


@dataclass(frozen=True)
class Distortion:
    """The largest changes to an image; each amount is drawn uniformly, the first four on both sides of zero.

    `shift` in px along each axis; `rotation` in degrees; `scale` as a fraction of the size; `thickness` in px of ink
    added to (or taken from) each side of a stroke, in steps of 1 / FINE px; `blur`, the standard deviation of a
    Gaussian in px; `noise`, the standard deviation of a Gaussian in grey levels of 255.
    """

    shift: float = 2.0
    rotation: float = 10.0
    scale: float = 0.15
    thickness: float = 0.35
    blur: float = 1.0
    noise: float = 20.0


TYPED = Distortion()


def dejavu_fonts() -> list[Path]:
    """Return the twelve DejaVu text fonts (sans, mono, serif) that come with matplotlib, sorted by name.

    Every machine with graft has these fonts, and the bundled base was not trained on them. Raises DataError if
    matplotlib or its fonts are missing.
    """
    # Importing matplotlib just to find the folder would take half a second.
    spec = find_spec("matplotlib")
    folder = Path(spec.origin if spec and spec.origin else "matplotlib").parent / "mpl-data" / "fonts" / "ttf"
    fonts = sorted(path for path in folder.glob("DejaVuSans*.ttf") if "Display" not in path.name)
    fonts += sorted(path for path in folder.glob("DejaVuSerif*.ttf") if "Display" not in path.name)
    if not fonts:
        raise DataError(f"expected the DejaVu fonts of matplotlib in {folder}, got none: install matplotlib again")
    return fonts


def render(letter: str, font: Path, size: int, distortion: Distortion, random: np.random.Generator) -> np.ndarray:
    """Render a letter in type of `size` px, centred by its bounding box, then distorted: uint8 (32, 32), dark on light.

    Every image takes the same draws from `random` in the same order, whatever the distortion.
    """
    right, down, turn, growth, thicker = random.uniform(-1, 1, 5).tolist()
    blur, noise = random.uniform(0, 1, 2).tolist()
    grain = random.standard_normal((SIDE, SIDE))
    ink = _thicken(_draw(letter, font, size), round(FINE * distortion.thickness * thicker))
    ink = _move(
        ink,
        shift=(FINE * distortion.shift * right, FINE * distortion.shift * down),
        angle=math.radians(distortion.rotation * turn),
        scale=1 + distortion.scale * growth,
    )
    ink = ink.reduce(FINE).filter(ImageFilter.GaussianBlur(distortion.blur * blur))
    grey = 255 - np.asarray(ink, dtype=np.float64) + distortion.noise * noise * grain
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def render_letters(
    letters: Sequence[str], fonts: Sequence[Path], per_letter: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Render `per_letter` images of each class, uint8 (N, 32, 32, 1), and their classes, int64 (N,), class by class.

    An entry of `letters` is a class: one letter, or several of which each image shows one. A class uses all fonts
    before repeating one. An image does not depend on how many follow it, in its class or in others.
    """
    if not fonts:
        raise DataError("expected fonts to draw letters with, got none: pass dejavu_fonts() or a list of font files")
    images = np.empty((len(letters), per_letter, SIDE, SIDE, 1), dtype=np.uint8)
    for label, alike in enumerate(letters):
        random = np.random.default_rng((seed, label))
        for number in range(per_letter):
            turn = number % len(fonts)
            if turn == 0:
                order = random.permutation(len(fonts))
            letter = alike[int(random.integers(len(alike)))]
            images[label, number, :, :, 0] = render(letter, fonts[order[turn]], TYPE_SIZE, TYPED, random)
    labels = np.repeat(np.arange(len(letters), dtype=np.int64), per_letter)
    return images.reshape(-1, SIDE, SIDE, 1), labels  # (classes, per_letter, H, W, 1) -> (N, H, W, 1)


@lru_cache(maxsize=512)
def _draw(letter: str, font: Path, size: int) -> Image.Image:
    """Draw the letter at fine resolution, white on black, centred by its bounding box."""
    side = FINE * SIDE
    face = _face(font, FINE * size)
    left, top, right, bottom = face.getbbox(letter)
    canvas = Image.new("L", (side, side))
    corner = (round((side - left - right) / 2), round((side - top - bottom) / 2))
    ImageDraw.Draw(canvas).text(corner, letter, fill=255, font=face)
    return canvas


@lru_cache(maxsize=256)
def _face(font: Path, size: int) -> ImageFont.FreeTypeFont:
    # Basic layout: a single letter needs no shaping, and not every build of Pillow supports it.
    try:
        return ImageFont.truetype(str(font), size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise DataError(f"expected a TrueType or OpenType font, got {font} ({error}): check the path") from None


def _thicken(ink: Image.Image, steps: int) -> Image.Image:
    """Make strokes thicker by `steps` fine pixels on each side, or thinner if negative."""
    if not steps:
        return ink
    kind = ImageFilter.MaxFilter if steps > 0 else ImageFilter.MinFilter
    return ink.filter(kind(2 * abs(steps) + 1))


def _move(ink: Image.Image, shift: tuple[float, float], angle: float, scale: float) -> Image.Image:
    """Scale and turn clockwise about the centre, then shift right and down by fine pixels."""
    middle = FINE * SIDE / 2
    # Pillow takes the inverse map, from points of the new image to points of the old one.
    cosine, sine = math.cos(angle) / scale, math.sin(angle) / scale
    x, y = middle + shift[0], middle + shift[1]
    back = (cosine, sine, middle - cosine * x - sine * y, -sine, cosine, middle + sine * x - cosine * y)
    return ink.transform(ink.size, Image.Transform.AFFINE, back, Image.Resampling.BILINEAR)
