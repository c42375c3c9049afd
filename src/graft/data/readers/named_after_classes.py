"""What image files are named after, `cat.0.jpg`, and whether that can be their class.

Names that come from a camera, a program or the parts of a set are not: `IMG_0001.jpg`, `frame_1.png`, `train_1.jpg`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from unicodedata import normalize

from graft.data.readers.split_names import splits_of
from graft.endings import IMAGE_ENDING

# One word or several, and the number of the image: `cat.0`, `american_bulldog_7`, `rain12`, `cat (1)`.
_NUMBERED = re.compile(r"([^\W\d_](?:[^\d/]*[^\W\d_])?)[ _.(#-]*\d+\)?")
# File names that cameras, phones and programs use.
_OF_DEVICES = re.compile(
    r"(?i)im(g|age)s?|[cmp]?imgp?|dsc[nf]?|dcim|pict?s?|pictures?|photos?|pxl|gopr|mvi|mov|vid(eo)?s?|dji|sam|kic|hpim|sany"
    r"|sdc|pano|burst|camera|cam|frames?|screen|shot|screenshots?|scan|files?|untitled|unnamed|captures?|snap(shot)?s?|fb"
    r"|whatsapp|received|signal|telegram|wp|download|copy|of|new|tmp|temp|pages?|fig(ure)?s?|items?|samples?|data(set)?"
)
# Names of parts, views and forms of one set, or of whoever an image shows.
_OF_PARTS = re.compile(
    r"(?i)raw|orig(inal)?s?|inputs?|outputs?|results?|crop(ped)?|patch(es)?|tiles?|slices?|layers?|series|aug(mented)?|gt"
    r"|masks?|labels?|seg(mentation)?s?|rgb|depth|n?ir|thermal|left|right|front|back|top|bottom|side|before|after|colou?r"
    r"|gr[ae]y|small|large|thumb(nail)?s?|patients?|subjects?|cases?|persons?|participants?|users?|sites?|scanners?"
    r"|devices?|sessions?|plates?|slides?|visits?|scenes?|seq(uence)?s?|clips?|batch|parts?|groups?|objects?|obj|id|no"
)
# The file names that cameras must use: four characters and four digits.
OF_CAMERAS = re.compile(r"[A-Z0-9_]{4}\d{4}\.\w+")
# Each class has at least this many images.
_FEWEST = 2


def are_no_classes(words: Iterable[str]) -> bool:
    """Whether any of these file names is one that devices use, or means a split."""
    return any(_consists_of(_OF_DEVICES, word) or splits_of([word]) for word in words)


def _consists_of(words: re.Pattern[str], name: str) -> bool:
    own = re.findall(r"[^\W\d_]+", name)
    return bool(own) and all(map(words.fullmatch, own))


def class_in(name: str) -> str:
    """What an image file is named after, empty if its name is not just words and a number."""
    stem = re.sub(IMAGE_ENDING, "", normalize("NFC", name))
    found = _NUMBERED.fullmatch(stem)
    return found[1] if found and stem != name else ""


def are_classes(counts: Mapping[str, int]) -> bool:
    """Whether all names can be classes: several, each with several images, and none a single letter."""
    return (
        len(counts) > 1
        and min(counts.values()) >= _FEWEST
        and not are_no_classes(counts)
        and not any(_consists_of(_OF_PARTS, word) or (word.isascii() and len(word) < 2) for word in counts)
    )
