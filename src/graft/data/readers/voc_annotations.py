"""Images with an XML file each, as Pascal VOC has them and LabelImg and Roboflow write them.

The XML file of an image has its name and lies in its folder, or else in the closest folder, of the same split. The
label of an image is the class of its objects. With objects of several classes it has several labels, as with COCO.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from graft.closest_files import closest
from graft.data.dataset import TRAIN, Dataset
from graft.data.label_sets import as_cell
from graft.data.readers.finding_files import FileFinder
from graft.data.readers.folder_tree import are_no_images
from graft.data.readers.place import Place
from graft.data.readers.searched_places import ABOUT_IMAGES
from graft.data.readers.split_names import splits_of
from graft.data.readers.table import arrange_table
from graft.data.readers.tables_or_folders import with_strangers
from graft.data.table_options import TableOptions
from graft.endings import IMAGE_ENDING
from graft.errors import DataError
from graft.xml_files import root_of

# Larger files describe more than the objects of one image.
_MOST_BYTES = 2**20
_XML = r"(?i)\.xml$"
# The lists of a complete VOC tree: one per split for classification, and one per class and split in the same folder;
# other folders divide fewer images for other tasks.
_LISTS = re.compile(r"(?i)(?P<above>.*/)?ImageSets/(?P<task>[^/]+)/(?P<name>[^/]+)\.txt")
_OF_A_CLASS = re.compile(r"(?i).+_(train|val|trainval|test)")


def read_voc(place: Place, options: TableOptions) -> Dataset | None:
    """Read a Dataset of images that are described by XML files of the same names; None if fewer than half are.

    Raises DataError for images with objects of several classes, unless `options` allow several labels.
    """
    import pyarrow

    xml_files = place.names(_XML)
    if not xml_files:
        return None
    listed, no_images = place.listing.files, are_no_images(place.listing.files)
    images = [os.fsdecode(each.as_py()) for each in listed.filter(pyarrow.array(~no_images))]
    images = _without_masks(images)
    splits = _split_of_each([*images, *xml_files])
    pairs = closest(images, xml_files, splits)
    found = {path: classes for path, (name, *_) in pairs.items() if (classes := _classes_in(place, name)) is not None}
    if 2 * len(found) < len(images) or not any(found.values()):
        return None
    _refuse_shared({path: pairs[path] for path in found}, place.listing.name)
    several = next((path for path, classes in found.items() if len(classes) > 1), None)
    if several is not None and not options.multi_label:
        raise DataError(
            f"expected objects of one class in each image of {place.listing.name}, got "
            f"{' and '.join(map(repr, found[several][:3]))} in {several}: train on all of them with --multi-label"
        )
    labels = [as_cell(classes) if options.multi_label else "".join(classes) for classes in found.values()]
    paths = [os.fsencode(path) for path in found]
    columns = {
        "path": pyarrow.array(paths, pyarrow.large_binary()),
        "label": pyarrow.array(labels, pyarrow.large_string()),
    }
    of_images = [splits[path] for path in found]
    if any(of_images):
        # Beside a folder for test or val, the other images are for training.
        rest = "" if TRAIN in of_images else TRAIN
        columns["split"] = pyarrow.array([split or rest for split in of_images], pyarrow.large_string())
    table = pyarrow.table({role: pyarrow.chunked_array([column]) for role, column in columns.items()})
    finder = FileFinder(place.root, replace(options, image_dir=None), place=place)
    note = "labels are the classes of the objects in XML files that are named after the images"
    dataset = arrange_table(place.listing.name, finder, table, (note,))
    return with_strangers(dataset, place, pyarrow.array(paths, pyarrow.large_binary()))


def _without_masks(images: Sequence[str]) -> list[str]:
    """The images without those of the same name in folders of masks, trimaps or thumbnails."""
    about = {path for path in images if re.search(ABOUT_IMAGES, path)}
    outside = {_stem(path) for path in images if path not in about}
    return [path for path in images if path not in about or _stem(path) not in outside]


def _stem(path: str) -> str:
    return re.sub(IMAGE_ENDING, "", path.rpartition("/")[2])


def without_other_lists(names: Sequence[str], named: str | None = None) -> list[str]:
    """The paths of tables without the lists of VOC that say again, or for another task, what `ImageSets/Main` says.

    These are the lists of each class, those of other tasks, and `trainval` where there is `train`. If the user `named`
    a list, it takes precedence.
    """
    meant = _LISTS.fullmatch(named or "")
    task = meant["task"].lower() if meant else "main"
    whole = meant is not None and meant["name"].lower() == "trainval"
    # A list by the name of another that counts in its place.
    instead = {"train": "trainval", "val": "trainval"} if whole else {"trainval": "train"}
    listed = {name: each for name in names if (each := _LISTS.fullmatch(name))}
    of_task = defaultdict[str | None, set[str]](set)
    for each in listed.values():
        if each["task"].lower() == task:
            of_task[each["above"]].add(each["name"].lower())

    def says_again(each: re.Match[str]) -> bool:
        name, beside = each["name"].lower(), of_task[each["above"]]
        if each["task"].lower() != task:
            return bool(beside)
        return _OF_A_CLASS.fullmatch(name) is not None or instead.get(name) in beside

    return [name for name in names if name not in listed or not says_again(listed[name])]


def _split_of_each(paths: Sequence[str]) -> dict[str, str]:
    """The split that the folders of each file are named after, the innermost first; empty if none is."""
    folders = {path: path.split("/")[-2::-1] for path in paths}
    meant = splits_of({part for parts in folders.values() for part in parts})
    return {path: next((meant[part] for part in parts if part in meant), "") for path, parts in folders.items()}


def _refuse_shared(pairs: dict[str, list[str]], name: str) -> None:
    """Raise DataError for an image that several XML files may describe, and for an XML file of several images."""
    advice = "put each XML file beside its image, or in a folder with the same name as its image's folder"
    several = next((path for path, files in pairs.items() if len(files) > 1), None)
    if several is not None:
        raise DataError(
            f"expected one XML file for each image of {name}, got {' and '.join(pairs[several][:3])} for {several}: "
            f"{advice}"
        )
    of_file: dict[str, str] = {}
    for path, (file, *_) in pairs.items():
        other = of_file.setdefault(file, path)
        # Two files of one name in the folder of the XML file are the same image in two formats.
        if re.sub(IMAGE_ENDING, "", other) != re.sub(IMAGE_ENDING, "", path):
            raise DataError(
                f"expected one image for each XML file of {name}, got {other} and {path} for {file}: {advice}"
            )


def _classes_in(place: Place, name: str) -> list[str] | None:
    """The distinct classes of the objects in an XML file, in order; None for a file that describes no image."""
    root = root_of(place.file(name), _MOST_BYTES)
    if root is None or root.tag != "annotation":
        return None
    names = ((each.findtext("name") or "").strip() for each in root.iter("object"))
    return list(dict.fromkeys(name for name in names if name))
