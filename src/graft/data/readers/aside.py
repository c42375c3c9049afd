"""Folders beside class folders that are not classes: what a system, a training run or an annotator put there.

A name alone decides only if no class has such a name (`__MACOSX`). Otherwise the content must agree: `models` is left
out for the weights in it, `masks` because its files pair by name with images. A class may have either name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from graft.data.readers.folder_tree import Folder, Tree
from graft.endings import is_no_image

SYSTEM = re.compile(
    r"(?i)__macosx|@eadir|[@#]recycle|#snapshot|\$recycle\.bin|system volume information|lost\+found|__pycache__"
)
# What training programs write, perhaps with images beside it: charts, examples, confusion matrices.
_OUTPUTS = re.compile(
    r"(?i)(saved[ _-]?)?models?|runs?|checkpoints?|weights?|(lightning_)?logs?|outputs?|results?|experiments?|wandb"
    r"|mlruns|tensorboard"
)
_WRITTEN = re.compile(
    r"(?i)\.(pt|pth|ckpt|safetensors|h5|keras|onnx|tflite|pkl|log)$|^events\.out\.tfevents|^(args|hparams)\.ya?ml$"
)
_SIDE = re.compile(
    r"masks?|annotations?|labels?|segmentations?|segs?|groundtruth|gt|truth|trimaps?|bbox(es)?|box(es)?|xmls?|contours?"
    r"|heatmaps?"
)
_THUMBNAILS = re.compile(r"(?i)thumb(nail)?s?")
# Names of folders that hold all images rather than those of one class.
WHOLE_SETS = re.compile(
    r"(?i)(jpeg)?images?|imgs?|photos?|pictures?|data|dataset|originals?|raw|rgb|jpe?gs?|pngs?|inputs?|all|unknown|none"
    r"|unlabell?ed([ _-]?(data|images))?|no_label"
)
UNLABELLED = re.compile(r"(?i)unlabell?ed([ _-]?(data|images))?|unsupervised|extra|no_label")
# CVAT's name for the folder of images that nobody has labelled yet.
NO_LABEL = "no_label"
_MASK_OF = re.compile(
    r"(?i)[ _.-]*(masks?|segmentation|seg|gt|ground_?truth|labels?|annotations?|thumb(nail)?s?)?[ _.-]*\d?$"
)
NO_LABELS = "has no class folders, so its images have no labels"
# The share of files beside images that must be named after one.
_MOST = 0.9


@dataclass(frozen=True)
class Aside:
    """A folder that is not a class, and why: the end of a sentence that starts with its name."""

    folder: Folder
    reason: str


@dataclass(frozen=True)
class Sorted:
    """The folders in a folder: those that may be classes or splits, those that are neither, and those without files."""

    kept: tuple[Folder, ...]
    aside: tuple[Aside, ...]
    empty: tuple[Folder, ...]


def sort_folders(tree: Tree, folder: Folder) -> Sorted:
    """Sort out which folders in a folder may be classes or splits, by name and content."""
    kept, aside, empty = [], [], []
    for child in sorted(folder.folders.values(), key=lambda child: child.name):
        if SYSTEM.fullmatch(child.name):
            aside.append(Aside(child, "belongs to the system"))
        elif not child.all_files:
            empty.append(child)
        elif not child.all_images:
            aside.append(Aside(child, "holds no images"))
        elif _is_output(tree, child):
            aside.append(Aside(child, "was written by a training run"))
        else:
            kept.append(child)
    for child in [child for child in kept if any(map(_SIDE.fullmatch, _words(child.name)))]:
        others = [other for other in kept if other is not child]
        if _pairs(tree, child, others, folder):
            kept.remove(child)
            aside.append(Aside(child, "pairs by name with images, as masks and annotations do"))
    for child in [child for child in kept if _THUMBNAILS.fullmatch(child.name)]:
        # A class of thumbs lies beside other classes, not beside images of the same names.
        if _pairs(tree, child, [other for other in kept if other is not child], folder):
            kept.remove(child)
            aside.append(Aside(child, "pairs by name with images, as thumbnails do"))
    for child in [child for child in kept if UNLABELLED.fullmatch(child.name) and child.images]:
        of_classes = any(other.images for other in kept if other is not child)
        if len(kept) > 1 and (child.name.lower() == NO_LABEL or not of_classes):
            kept.remove(child)
            aside.append(Aside(child, NO_LABELS))
    for child in [child for child in kept if _repeats(child, kept)]:
        kept.remove(child)
        aside.append(Aside(child, "repeats the folders beside it"))
    return Sorted(tuple(kept), tuple(aside), tuple(empty))


def _is_output(tree: Tree, folder: Folder) -> bool:
    return bool(_OUTPUTS.fullmatch(folder.name)) and any(_WRITTEN.search(name) for name in tree.names_in(folder))


def _pairs(tree: Tree, folder: Folder, others: Sequence[Folder], parent: Folder) -> bool:
    """Whether a folder's files are named after images beside it, rather than numbered like those of a class."""
    own = _stems([name for name in tree.names_in(folder) if not is_no_image(name)])
    around = [_stems(tree.names_in(other)) for other in others]
    if parent.images:
        around.append(_stems(_own_names(tree, parent)))
    beside = set().union(*around)
    if not own or len(own & beside) < _MOST * len(own):
        return False
    alone = others[0] if len(others) == 1 else None
    if parent.images or (alone and (WHOLE_SETS.fullmatch(alone.name) or (folder.images and not alone.images))):
        return True
    if alone and _same_in_another_format(tree, folder, alone):
        return True
    # The images of each of several classes may be numbered from one, and masks along with them.
    apart = sum(map(len, around)) == len(beside) and sum(bool(own & stems) for stems in around) > 1
    whole = sum(other.all_images for other in others)
    return len(others) > 1 and (apart or folder.all_files >= _MOST * whole)


def _same_in_another_format(tree: Tree, folder: Folder, other: Folder) -> bool:
    """Whether `folder` repeats the subfolders and file names of `other` in another format, as masks do.

    Numbered files prove nothing: two classes may have them in folders of the same names.
    """

    def files(of: Folder) -> set[tuple[str, str, str]]:
        inner = [each for each in of.below() if each is not of and each.number >= 0]
        named = [(each.name, *name.lower().rpartition(".")[::2]) for each in inner for name in _own_names(tree, each)]
        return {each for each in named if re.search(r"[^\W\d]", each[1])}

    own, others = files(folder), files(other)
    if not own or {ending for *_, ending in own} & {ending for *_, ending in others}:
        return False
    known = {(within, stem) for within, stem, _ in others}
    return sum((within, stem) in known for within, stem, _ in own) >= _MOST * len(own)


def _own_names(tree: Tree, folder: Folder) -> list[str]:
    """The names of the files directly in a folder."""
    return tree.names_in(Folder(folder.path, folder.number))


def _repeats(folder: Folder, beside: Sequence[Folder]) -> bool:
    """Whether a folder repeats what lies beside it, as when a data set was unpacked into itself."""
    inner = {child.name for child in folder.folders.values() if child.all_images}
    return len(inner) > 1 and not folder.images and inner == {other.name for other in beside if other is not folder}


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _stems(names: Sequence[str]) -> set[str]:
    """Names without their endings and without a final word for a mask."""
    plain = (name.rpartition(".")[0] or name for name in names)
    return {_MASK_OF.sub("", stem).lower() if not stem[-1:].isdecimal() else stem.lower() for stem in plain}
