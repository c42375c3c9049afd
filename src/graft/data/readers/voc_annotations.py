"""Images with an XML file each, as Pascal VOC has them and LabelImg and Roboflow write them.

The label of an image is the class of its objects. With objects of several classes it has several labels, as with COCO.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace

from graft.data.dataset import Dataset
from graft.data.label_sets import as_cell
from graft.data.readers.finding_files import FileFinder
from graft.data.readers.folder_tree import are_no_images
from graft.data.readers.place import Place
from graft.data.readers.records import root_of
from graft.data.readers.table import arrange_table
from graft.data.readers.tables_or_folders import with_strangers
from graft.data.table_options import TableOptions
from graft.endings import IMAGE_ENDING
from graft.errors import DataError

# Larger files describe more than the objects of one image.
_MOST_BYTES = 2**20


def read_voc(place: Place, options: TableOptions) -> Dataset | None:
    """Read a Dataset of images that are described by XML files of the same names; None if fewer than half are.

    Raises DataError for images with objects of several classes, unless `options` allow several labels.
    """
    import pyarrow

    described = {re.sub(r"^.*/|\.xml$", "", name): name for name in place.names(r"(?i)\.xml$")}
    if not described:
        return None
    listed, no_images = place.listing.files, are_no_images(place.listing.files)
    images = [os.fsdecode(each.as_py()) for each in listed.filter(pyarrow.array(~no_images))]
    found = {}
    for path in images:
        name = described.get(re.sub(IMAGE_ENDING, "", path.rpartition("/")[2]))
        classes = None if name is None else _classes_in(place, name)
        if classes is not None:
            found[path] = classes
    if 2 * len(found) < len(images) or not any(found.values()):
        return None
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
    table = pyarrow.table({role: pyarrow.chunked_array([column]) for role, column in columns.items()})
    finder = FileFinder(place.root, replace(options, image_dir=None), place=place)
    note = "labels are the classes of the objects in XML files that are named after the images"
    dataset = arrange_table(place.listing.name, finder, table, (note,))
    files = [os.fsencode(name) for name in described.values()]
    return with_strangers(dataset, place, pyarrow.array([*paths, *files], pyarrow.large_binary()))


def _classes_in(place: Place, name: str) -> list[str] | None:
    """The distinct classes of the objects in an XML file, in order; None for a file that describes no image."""
    root = root_of(place.file(name), _MOST_BYTES)
    if root is None or root.tag != "annotation":
        return None
    names = ((each.findtext("name") or "").strip() for each in root.iter("object"))
    return list(dict.fromkeys(name for name in names if name))
