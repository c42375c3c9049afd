"""Tables of images as they are published: how each must be understood, or the sentence that it must raise."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from graft.data.table_options import TableOptions

Labels = Mapping[str, str]


@dataclass(frozen=True)
class PublishedTable:
    """A table beside its images: either `understood`, the label of every image by its path by split, or `said`.

    `images` are empty but for their name; `files` are tables and what else lies there. `data` is what is opened, the
    folder by default. Each regular expression in `notes` must match a note, and `unsaid` must match none.
    """

    name: str
    images: tuple[str, ...]
    files: Mapping[str, str | bytes | Callable[[Path], None]]
    understood: Mapping[str, Labels] | None = None
    said: str = ""
    data: str = ""
    options: TableOptions = field(default_factory=TableOptions)
    notes: tuple[str, ...] = ()
    unsaid: str = ""


def build(table: PublishedTable, root: Path) -> Path:
    """Write a table and its images below `root`, and say what is to be opened."""
    for image in table.images:
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        (root / image).write_bytes(image.encode())
    for name, content in table.files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(root / name)
        else:
            (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root / table.data


def photo(number: int, form: str = "BMP") -> bytes:
    return _encoded(np.random.default_rng(number).integers(0, 256, (12, 12, 3), np.uint8), form)


def mask(number: int) -> bytes:
    return _encoded((np.random.default_rng(number).integers(0, 2, (12, 12)) * 255).astype(np.uint8), "PNG")


def _encoded(pixels: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def sheet(*rows: tuple[object, ...]) -> Callable[[Path], None]:
    """A spreadsheet with these rows."""

    def write(path: Path) -> None:
        from openpyxl import Workbook

        book = Workbook()
        for row in rows:
            book.active.append(row)
        book.save(path)

    return write


def sheets(of_name: Mapping[str, list[tuple[object, ...]]]) -> Callable[[Path], None]:
    """A spreadsheet with these rows in each of its sheets."""

    def write(path: Path) -> None:
        from openpyxl import Workbook

        book = Workbook()
        book.remove(book.active)
        for name, cells in of_name.items():
            page = book.create_sheet(name)
            for row in cells:
                page.append(row)
        book.save(path)

    return write


def line_of(line: str, *more: str) -> tuple[object, ...]:
    return (*line.split(","), *more)


def rows(header: str, *cells: str) -> str:
    return "\n".join([header, *cells, ""]) if header else "\n".join([*cells, ""])


FOUR = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
PETS = {"a.jpg": "cat", "b.jpg": "dog", "c.jpg": "cat", "d.jpg": "dog"}
IDS = ("images/a.jpg", "images/b.jpg", "images/c.jpg", "images/d.jpg")
BELOW = {f"images/{name}": label for name, label in PETS.items()}
LINES = tuple(f"{name},{label}" for name, label in PETS.items())
TWO_LABELS = ("a.jpg,cat,sun", "b.jpg,dog,sun", "c.jpg,cat,rain", "d.jpg,dog,rain")
PARTED = ("night1/a.jpg", "night1/b.jpg", "dusk2/c.jpg", "dusk2/d.jpg")
OF_PARTS = {path: PETS[path[-5:]] for path in PARTED}
STEMS = tuple(f"{name[0]},{label}" for name, label in PETS.items())
CELLS = {f"images/00{number}.bmp": photo(number) for number in range(1, 5)}
MASKS = {f"images/00{number}.png": mask(number) for number in range(1, 5)}
TRIMAPS = {f"annotations/trimaps/{name[0]}.png": mask(number) for number, name in enumerate(FOUR)}
BLOOD = {f"images/00{number}.bmp": label for number, label in zip(range(1, 5), "1212", strict=True)}
COCO = {
    "images": [{"id": number, "file_name": name} for number, name in enumerate(PETS)],
    "annotations": [{"image_id": number, "category_id": 1 + number % 2} for number in range(4)],
    "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
}
OF_TWO_SPLITS = tuple(f"{split}/{name}" for split in ("train", "val") for name in PETS)
TASKS: list[dict[str, Any]] = [
    {
        "id": number,
        "data": {"image": f"/data/upload/1/0f3e5c2a-{name}"},
        "annotations": [{"result": [{"type": "choices", "value": {"choices": [label]}}]}],
    }
    for number, (name, label) in enumerate(PETS.items())
]


def shapes(kind: str, more: str | None = None) -> str:
    """An export of Label Studio with two shapes in each image, of a kind and of one class, or the second of another."""
    tasks = []
    for task, label in zip(TASKS, PETS.values(), strict=True):
        results = [{"type": kind, "value": {"x": 1.5, kind: [each]}} for each in (label, more or label)]
        tasks.append({**task, "annotations": [{"result": results}]})
    return json.dumps(tasks)


def in_short(kind: str, more: str | None = None, choices: bool = False) -> str:
    """The short form of the same, or with shapes of another class beside choices."""
    records = []
    for number, (name, label) in enumerate(PETS.items()):
        named = ["eye"] if choices else [label, more or label]
        boxes = [{"x": 1.5 + number, "width": 2, kind: [each]} for each in named]
        record = {"image": f"/data/upload/1/{name}", "id": number, "label": boxes, "annotator": 1, "annotation_id": 1}
        records.append({**record, "choice": label} if choices else record)
    return json.dumps(records)


def with_eyes(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Annotations of Label Studio with a box of another class in each."""
    eye = {"type": "rectanglelabels", "value": {"x": 1, "rectanglelabels": ["eye"]}}
    return [{**each, "result": [eye, *each["result"]]} for each in annotations]


def of_boxes(labels: Mapping[str, Sequence[object]], called: str = "categories") -> str:
    """Lines of JSON as the Hub has them, with a box for each label of an image."""
    lines = (
        json.dumps({"file_name": name, "objects": {"bbox": [[n, 0, 9, 9] for n, _ in enumerate(own)], called: own}})
        for name, own in labels.items()
    )
    return "\n".join(lines)


def of_subsets(train: int, test: int) -> str:
    """An export of CVAT in which images of two subsets have the same names and other labels."""
    images = (
        f'<image name="{number}.jpg" subset="{subset}"><tag label="{("cat", "dog")[(number + shift) % 2]}"/></image>'
        for subset, count, shift in (("Train", train, 0), ("Test", test, 1))
        for number in range(count)
    )
    return f"<annotations>{''.join(images)}</annotations>"


def cvat(labels: Mapping[str, str], shape: str = "tag", more: str = "") -> str:
    """An export of CVAT for images."""
    images = (f'<image name="{name}"{more}><{shape} label="{label}"/></image>' for name, label in labels.items())
    return f'<?xml version="1.0"?>\n<annotations><version>1.1</version>{"".join(images)}</annotations>'


def said_again(task: dict[str, Any], label: str) -> dict[str, Any]:
    """A task that a second person has annotated as well."""
    more = {"result": [{"type": "choices", "value": {"choices": [label]}}]}
    return {**task, "annotations": [*task["annotations"], more]}


EIGHT = tuple(f"{letter}.jpg" for letter in "abcdefgh")
EIGHT_PETS = {name: ("cat", "dog")[number % 2] for number, name in enumerate(EIGHT)}


def with_column(name: str, cells: str | list[str]) -> str:
    """Eight images in a table with another column."""
    lines = (f"{image},{label},{cell}" for (image, label), cell in zip(EIGHT_PETS.items(), cells, strict=True))
    return rows(f"path,label,{name}", *lines)


TABLES = [
    # Names of columns, and none
    PublishedTable(
        "numbers that files of two splits are called, of which one has all",
        ("train/1.jpg", "train/2.jpg", "train/3.jpg", "test/1.jpg", "test/2.jpg"),
        {"labels.csv": rows("id,label", "1,cat", "2,dog", "3,cat")},
        {"train": {"train/1.jpg": "cat", "train/2.jpg": "dog", "train/3.jpg": "cat"}},
        notes=("of files that have the same name in several splits, those of train are used",),
    ),
    PublishedTable(
        "numbers that files of two splits are called",
        tuple(f"{split}/{number}.jpg" for split in ("train", "test") for number in (1, 2, 3)),
        {"labels.csv": rows("id,label", "1,cat", "2,dog", "3,cat")},
        said=r"one file for each cell of 'id' in labels\.csv .* several of the same name, as for '1': .*image.dir",
    ),
    PublishedTable("kaggle", IDS, {"labels.csv": rows("image_id,breed", *STEMS)}, {"all": BELOW}, notes=("'breed'",)),
    PublishedTable("blanks in names", FOUR, {"x.csv": rows("Image Path,Class Label", *LINES)}, {"all": PETS}),
    PublishedTable("headerless", FOUR, {"x.csv": rows("", *LINES)}, {"all": PETS}, data="x.csv", notes=("column 1",)),
    PublishedTable("headerless ids", IDS, {"x.csv": rows("", *STEMS)}, {"all": BELOW}, data="x.csv"),
    PublishedTable(
        "text list",
        ("my cat.jpg", "b.jpg"),
        {"train.txt": "my cat.jpg 0\nb.jpg 1\n"},
        {"all": {"my cat.jpg": "0", "b.jpg": "1"}},
        data="train.txt",
    ),
    PublishedTable(
        "list with numbers first",
        FOUR,
        {"x.lst": "0\t0\ta.jpg\n1\t1\tb.jpg\n2\t0\tc.jpg\n3\t1\td.jpg\n"},
        {"all": {"a.jpg": "0", "b.jpg": "1", "c.jpg": "0", "d.jpg": "1"}},
        data="x.lst",
    ),
    PublishedTable(
        "list with its names in a comment",
        IDS,
        {"list.txt": "# of pets\n#image breed\na cat\nb dog\nc cat\nd dog\n"},
        {"all": BELOW},
        data="list.txt",
    ),
    PublishedTable(
        "names and numbers of classes",
        FOUR,
        {"x.csv": rows("image_name,class_id,class_name", "a.jpg,0,cat", "b.jpg,1,dog", "c.jpg,0,cat", "d.jpg,1,dog")},
        {"all": PETS},
    ),
    PublishedTable(
        "a label that is the number of a name",
        FOUR,
        {
            "x.csv": rows(
                ",Filename,Label,ClassName",
                *(f"{n},{name},{n % 2},{label}" for n, (name, label) in enumerate(PETS.items())),
            )
        },
        {"all": PETS},
    ),
    PublishedTable(
        "attributes beside partitions",
        FOUR,
        {
            "attributes.csv": rows("image_id,male,young", "a.jpg,1,1", "b.jpg,-1,1", "c.jpg,1,1", "d.jpg,-1,1"),
            "partition.csv": rows("image_id,partition", "a.jpg,0", "b.jpg,0", "c.jpg,1", "d.jpg,1"),
        },
        said=r"several in 2 of 4 rows \(a\.jpg: male and young",
    ),
    PublishedTable(
        "labels that are no UTF-8",
        FOUR,
        {"x.csv": rows("Datei,Klasse", *(f"{name},B\x81r{n % 2}" for n, name in enumerate(FOUR))).encode("latin-1")},
        said="UTF-8 in the column 'Klasse' of x.csv, got other bytes",
    ),
    PublishedTable(
        "a table that Excel wrote in Windows-1252",
        FOUR,
        {
            "x.csv": "Datei;Pr\xfcfer;Klasse\n".encode("cp1252")
            + "".join(f"{name};M\xfcller;B\xe4r \u2013 {n % 2}\n" for n, name in enumerate(FOUR)).encode("cp1252")
        },
        {"all": {name: f"B\xe4r \u2013 {n % 2}" for n, name in enumerate(FOUR)}},
        options=TableOptions(label_column="Klasse"),
        notes=("^x.csv is not in UTF-8 and was read as Windows-1252: save it as UTF-8$",),
    ),
    PublishedTable(
        "many candidates for the labels, one with gaps",
        FOUR,
        {
            "x.csv": rows(
                "Datei,Patient,Geschlecht,Klinik,Befund",
                *(
                    f"{name},P1,m,K1,{word}" if n % 2 else f"{name},P2,w,K2,{word}"
                    for n, (name, word) in enumerate(zip(FOUR, ("gut", "", "n/a", "schlecht"), strict=True))
                ),
            )
        },
        said=r"`label_column='Befund'` or `label_column='Patient'`$",
    ),
    PublishedTable(
        "two columns of labels",
        FOUR,
        {"x.csv": rows("img,species,breed", "a.jpg,cat,x", "b.jpg,dog,y", "c.jpg,cat,z", "d.jpg,dog,y")},
        said=r"'species' and 'breed'|'breed' and 'species'.*label.column",
    ),
    PublishedTable(
        "two columns of labels, one named",
        FOUR,
        {"x.csv": rows("img,species,breed", "a.jpg,cat,x", "b.jpg,dog,y", "c.jpg,cat,z", "d.jpg,dog,y")},
        {"all": PETS},
        options=TableOptions(label_column="Species"),
    ),
    PublishedTable(
        "names that nobody knows",
        FOUR,
        {"x.csv": rows("was,wer,wo", "a.jpg,cat,x", "b.jpg,dog,x", "c.jpg,cat,x", "d.jpg,dog,x")},
        {"all": PETS},
        options=TableOptions(label_column="wer"),
        data="x.csv",
    ),
    PublishedTable(
        "names that nobody knows, not said",
        FOUR,
        {"x.csv": rows("was,wer,wo", "a.jpg,cat,x", "b.jpg,dog,x", "c.jpg,cat,x", "d.jpg,dog,x")},
        said="a column 'label'.*label.column.'wer'",
        data="x.csv",
    ),
    PublishedTable(
        "a column that is not there",
        FOUR,
        {"x.csv": rows("path,label", *LINES)},
        said=r"for .{1,2}label.column.?, got 'kind', which is not among 'path', 'label'",
        options=TableOptions(label_column="kind"),
        data="x.csv",
    ),
    # Files
    PublishedTable(
        "numbers and masks",
        (),
        {"Class Labels.csv": rows("image ID,class label", "1,1", "2,2", "3,1", "4,2"), **CELLS, **MASKS},
        {"all": BLOOD},
        notes=(r"\.png files .*look like masks.*--suffix", "image ID"),
    ),
    PublishedTable(
        "numbers and two kinds of photographs",
        (),
        {
            "x.csv": rows("id,label", "1,1", "2,2", "3,1", "4,2"),
            **CELLS,
            **{f"images/00{number}.png": photo(number, "PNG") for number in range(1, 5)},
        },
        said=r"got .*001\.(bmp|png) and .*001\.(bmp|png).*suffix",
    ),
    PublishedTable(
        "the ending is said",
        (),
        {"x.csv": rows("id,label", "001,1", "002,2", "003,1", "004,2"), **CELLS, **MASKS},
        {"all": BLOOD},
        options=TableOptions(suffix="bmp"),
    ),
    PublishedTable(
        "masks in a folder",
        (*IDS, *(f"masks/{name}" for name in PETS)),
        {"x.csv": rows("image_id,label", *LINES)},
        {"all": BELOW},
    ),
    *(
        PublishedTable(
            f"trimaps beside their list, the images in another folder, {name}",
            IDS,
            {**TRIMAPS, "annotations/list.txt": rows("", *(line.replace(",", " ") for line in STEMS))},
            said=r"only files that look like masks, such as 'trimaps/a\.png'.*image.dir.{1,2}/.*/data/images",
            data=data,
        )
        for name, data in (("of a list", "annotations/list.txt"), ("of their folder", "annotations"))
    ),
    PublishedTable(
        "trimaps beside their list, and where the images are",
        IDS,
        {**TRIMAPS, "annotations/list.txt": rows("", *(line.replace(",", " ") for line in STEMS))},
        {"all": PETS},
        data="annotations/list.txt",
        options=TableOptions(image_dir="../images"),
    ),
    PublishedTable(
        "trimaps and their list in a folder beside the images",
        IDS,
        {**TRIMAPS, "annotations/list.txt": rows("", *(line.replace(",", " ") for line in STEMS))},
        {"all": BELOW},
    ),
    PublishedTable("names below a folder", IDS, {"x.csv": rows("path,label", *LINES)}, {"all": BELOW}, data="x.csv"),
    PublishedTable(
        "other case",
        ("Images/A.JPG", "Images/B.JPG"),
        {"x.csv": rows("path,label", "images/a.jpg,cat", "images/b.jpeg,dog")},
        {"all": {"Images/A.JPG": "cat", "Images/B.JPG": "dog"}},
        data="x.csv",
    ),
    PublishedTable(
        "percent",
        ("a b.jpg",),
        {"x.csv": rows("path,label", "a%20b.jpg,cat")},
        {"all": {"a b.jpg": "cat"}},
        data="x.csv",
    ),
    PublishedTable(
        "windows paths of another machine",
        ("cats/1.jpg", "dogs/1.jpg"),
        {"x.csv": rows("path,label", "C:\\Users\\me\\cats\\1.jpg,cat", "C:\\Users\\me\\dogs\\1.jpg,dog")},
        {"all": {"cats/1.jpg": "cat", "dogs/1.jpg": "dog"}},
        data="x.csv",
    ),
    PublishedTable(
        "absolute paths of another machine",
        ("data/a/1.jpg", "data/b/1.jpg"),
        {"lists/x.csv": rows("path,label", "/home/you/data/a/1.jpg,cat", "/home/you/data/b/1.jpg,dog")},
        {"all": {"a/1.jpg": "cat", "b/1.jpg": "dog"}},
        data="lists/x.csv",
        options=TableOptions(image_dir="../data"),
    ),
    PublishedTable(
        "one name in two folders",
        ("x/1.jpg", "y/1.jpg"),
        {"x.csv": rows("path,label", "1.jpg,cat")},
        said="several files have that name.*image.dir",
        data="x.csv",
    ),
    PublishedTable(
        "two rows that lead to one file",
        ("images/1.jpg",),
        {"x.csv": rows("path,label", "cats/1.jpg,cat", "dogs/1.jpg,dog")},
        said="several rows that differ lead to one file",
        data="x.csv",
    ),
    PublishedTable(
        "parts of an archive",
        ("part_1/a.jpg", "part_1/b.jpg", "part_2/c.jpg", "part_2/d.jpg"),
        {"metadata2.csv": rows("image_id,dx,age", "a,nv,1", "b,mel,2", "c,mel,3", "d,nv,4")},
        {"all": {"part_1/a.jpg": "nv", "part_1/b.jpg": "mel", "part_2/c.jpg": "mel", "part_2/d.jpg": "nv"}},
        notes=("labels are those of metadata2.csv, not the folders",),
    ),
    *(
        PublishedTable(f"parts of a data set and a table {name}", PARTED, {file: content}, {"all": OF_PARTS})
        for name, file, content in (
            ("with bars", "x.csv", rows("path|label", *(line.replace(",", "|") for line in LINES))),
            ("in .tab", "x.tab", rows("path\tlabel", *(line.replace(",", "\t") for line in LINES))),
            ("without ending", "metadata", rows("image_id,dx,age", *(f"{line},5" for line in STEMS))),
            ("without ending, a list", "labels", rows("", *(line.replace(",", " ") for line in LINES))),
            ("in .txt with bars", "x.txt", rows("", *(line.replace(",", "|") for line in LINES))),
        )
    ),
    PublishedTable("a list without ending", FOUR, {"x": rows("path,label", *LINES)}, {"all": PETS}, data="x"),
    PublishedTable(
        "bars within a cell",
        FOUR,
        {"x.csv": rows("", *(f"{line}|a|b" for line in LINES))},
        {"all": {name: f"{label}|a|b" for name, label in PETS.items()}},
        data="x.csv",
    ),
    *(
        PublishedTable(
            f"parts of a data set and a table {name}",
            PARTED,
            {"x.csv": content},
            said=rf"{said}.*, or read the folders as classes with .{{1,2}}label.from.{{1,2}}folder",
        )
        for name, content, said in (
            (
                "of two labels",
                rows("file,animal,sky", *TWO_LABELS),
                "animal.*label.column.*animal",
            ),
            ("of several labels", rows("file,label", *LINES[:3], "d.jpg,cat|dog"), "several in a cell"),
            ("that is ragged", rows("file,label", *LINES[:3], "d.jpg,dog,blurry"), "as many cells in every row"),
        )
    ),
    PublishedTable(
        "parts of a data set that are classes for all that a table of two labels says",
        PARTED,
        {"x.csv": rows("file,animal,sky", *TWO_LABELS)},
        {"all": {path: path[:-6] for path in PARTED}},
        options=TableOptions(label_from="folder"),
    ),
    *(
        PublishedTable(
            f"classes and a table {name}",
            ("cat/a.jpg", "dog/b.jpg", "cat/c.jpg", "dog/d.jpg"),
            {"x.csv": content},
            {"all": {"cat/a.jpg": "cat", "dog/b.jpg": "dog", "cat/c.jpg": "cat", "dog/d.jpg": "dog"}},
        )
        for name, content in (
            ("of two labels, one of them theirs", rows("file,animal,sky", *TWO_LABELS)),
            ("of several labels, theirs among them", rows("file,tags", *LINES[:3], "d.jpg,dog|cat")),
            ("of sizes", rows("file,width,height", "a.jpg,1,5", "b.jpg,2,6", "c.jpg,3,7", "d.jpg,4,8")),
            ("of paths", rows("file,camera,sky", "cat/a.jpg,x,1", "dog/b.jpg,y,1", "cat/c.jpg,y,2", "dog/d.jpg,x,2")),
        )
    ),
    # Several tables
    PublishedTable(
        "a table for each split",
        FOUR,
        {"train.csv": rows("path,label", *LINES[:2]), "test.csv": rows("path,label", *LINES[2:])},
        {"train": {"a.jpg": "cat", "b.jpg": "dog"}, "test": {"c.jpg": "cat", "d.jpg": "dog"}},
    ),
    PublishedTable(
        "kaggle's train and test",
        ("train/1.jpg", "train/2.jpg", "test/1.jpg", "test/2.jpg"),
        {
            "train.csv": rows("id,species", "1,cat", "2,dog"),
            "test.csv": rows("id", "1", "2"),
            "sample_submission.csv": rows("id,species", "1,cat", "2,cat"),
        },
        {"train": {"train/1.jpg": "cat", "train/2.jpg": "dog"}},
        notes=("sample_submission.csv was not used", "test.csv was not used"),
    ),
    PublishedTable(
        "roboflow",
        ("train/a.jpg", "train/b.jpg", "valid/a.jpg"),
        {
            "train/_classes.csv": rows("filename, cat, dog", "a.jpg, 1, 0", "b.jpg, 0, 1"),
            "valid/_classes.csv": rows("filename, cat, dog", "a.jpg, 0, 1"),
        },
        {"train": {"train/a.jpg": "cat", "train/b.jpg": "dog"}, "val": {"valid/a.jpg": "dog"}},
    ),
    PublishedTable(
        "two tables",
        FOUR,
        {"x.csv": rows("path,label", *LINES), "y.csv": rows("path,label", "a.jpg,1", "b.jpg,2")},
        said=r"x\.csv and y\.csv",
    ),
    PublishedTable(
        "a table and folders that say the same",
        ("cat/a.jpg", "cat/b.jpg", "dog/c.jpg", "dog/d.jpg"),
        {"x.csv": rows("path,label", "a.jpg,cat", "b.jpg,cat", "c.jpg,dog", "d.jpg,dog")},
        {"all": {"cat/a.jpg": "cat", "cat/b.jpg": "cat", "dog/c.jpg": "dog", "dog/d.jpg": "dog"}},
    ),
    PublishedTable(
        "a table and folders that are parts of each other",
        ("cat/a.jpg", "cat/b.jpg", "dog/c.jpg", "dog/d.jpg"),
        {"x.csv": rows("path,breed", "a.jpg,siam", "b.jpg,siam", "c.jpg,pug", "d.jpg,beagle")},
        said=r"x\.csv.*folders \(cat, dog\).*label.from.{1,2}folder",
    ),
    PublishedTable(
        "a table and folders, of which the folders are meant",
        ("cat/a.jpg", "dog/c.jpg", "dog/d.jpg"),
        {"x.csv": rows("path,breed", "a.jpg,siam", "c.jpg,pug", "d.jpg,beagle")},
        {"all": {"cat/a.jpg": "cat", "dog/c.jpg": "dog", "dog/d.jpg": "dog"}},
        options=TableOptions(label_from="folder"),
    ),
    PublishedTable(
        "boxes without names of files beside folders",
        ("data/train/cat/a.jpg", "data/train/dog/b.jpg"),
        {"boxes.csv": rows("", "1,39,116,569", "2,36,116,868")},
        {"train": {"data/train/cat/a.jpg": "cat", "data/train/dog/b.jpg": "dog"}},
        notes=("boxes.csv was not used",),
    ),
    PublishedTable(
        "a table in which several files have each name",
        ("s1/1.jpg", "s1/2.jpg", "s2/1.jpg", "s2/2.jpg"),
        {"labels.csv": rows("filename,label", "1.jpg,cat", "2.jpg,dog")},
        {"all": {f"{name}/{number}.jpg": name for name in ("s1", "s2") for number in (1, 2)}},
        notes=("labels.csv was not used: .*several files have that name",),
    ),
    PublishedTable(
        "a list of classes beside their folders",
        ("cat/a.jpg", "dog/c.jpg"),
        {"classes.json": '{"cat": 0, "dog": 1}', "classes.txt": "cat\ndog\n", "README.txt": "cats and dogs\nof mine\n"},
        {"all": {"cat/a.jpg": "cat", "dog/c.jpg": "dog"}},
    ),
    PublishedTable(
        "metadata with another column of labels",
        FOUR,
        {"metadata.csv": rows("file_name,label,size", "a.jpg,x,cat", "b.jpg,x,dog", "c.jpg,x,cat", "d.jpg,x,dog")},
        {"all": PETS},
        options=TableOptions(label_column="size"),
    ),
    PublishedTable(
        "options for a table where there is none",
        ("cat/a.jpg", "dog/c.jpg"),
        {},
        said=r"a table of images with .{1,2}label.column.?, got",
        options=TableOptions(label_column="size"),
    ),
    # Formats
    PublishedTable(
        "records",
        FOUR,
        {"x.json": json.dumps([{"image": name, "label": label} for name, label in PETS.items()])},
        {"all": PETS},
        data="x.json",
    ),
    PublishedTable("object of labels", FOUR, {"x.json": json.dumps(PETS)}, {"all": PETS}, data="x.json"),
    PublishedTable("coco", IDS, {"annotations.json": json.dumps(COCO)}, {"all": BELOW}, data="annotations.json"),
    PublishedTable(
        "coco with two categories in an image",
        FOUR,
        {"x.json": json.dumps({**COCO, "annotations": [{"image_id": 0, "category_id": each} for each in (1, 2)]})},
        said=r"several in a cell .*cat.*dog",
        data="x.json",
    ),
    PublishedTable(
        "coco with a category that it does not define",
        FOUR,
        {"x.json": json.dumps({**COCO, "annotations": [{"image_id": 3, "category_id": 9}]})},
        said=r"category_id among those of COCO's categories \(1, 2\), got 9 of image 3: ",
        data="x.json",
    ),
    PublishedTable(
        "boxes of ImageNet, as Kaggle has them",
        IDS,
        {
            "LOC_val_solution.csv": rows(
                "ImageId,PredictionString",
                "a,n02121808 240 170 260 240 n02121808 1 2 3 4 ",
                "b,n02084071 1 2 3 4",
                "c,n02121808 1 2 3 4",
                "d,n02084071 5.5 2 3 4 ",
            )
        },
        {"val": {name: {"cat": "n02121808", "dog": "n02084071"}[label] for name, label in BELOW.items()}},
    ),
    PublishedTable(
        "cells that are nearly boxes",
        EIGHT,
        # A regular expression that tries every way of splitting such a line takes minutes.
        {
            "x.csv": rows(
                "path,PredictionString", *(f"{name},{'100 ' * 100}{label}!" for name, label in EIGHT_PETS.items())
            )
        },
        {"all": {name: f"{'100 ' * 100}{label}!" for name, label in EIGHT_PETS.items()}},
    ),
    PublishedTable(
        "coco's other tasks beside its objects",
        OF_TWO_SPLITS,
        {
            f"annotations/{task}_{split}2017.json": json.dumps({**COCO, **more})
            for split in ("train", "val")
            for task, more in (
                ("instances", {}),
                ("person_keypoints", {"categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "rider"}]}),
                ("captions", {"annotations": [{"image_id": 0, "caption": "a cat"}]}),
            )
        },
        {split: {f"{split}/{name}": label for name, label in PETS.items()} for split in ("train", "val")},
        notes=(
            "captions_train2017.json, person_keypoints_train2017.json were not used beside instances_train2017.json",
        ),
    ),
    PublishedTable(
        "coco's captions alone",
        OF_TWO_SPLITS,
        {"captions_train2017.json": json.dumps({**COCO, "annotations": [{"image_id": 0, "caption": "a cat"}]})},
        said="records of images and labels in captions_train2017.json",
        data="captions_train2017.json",
    ),
    *(
        PublishedTable(
            f"the boxes of an image on the Hub, {called}",
            FOUR,
            {"metadata.jsonl": of_boxes({name: [label, label] for name, label in PETS.items()}, called)},
            {"all": PETS},
            options=TableOptions(label_column="objects"),
        )
        for called in ("categories", "category", "Label", "names", "classes")
    ),
    PublishedTable(
        "boxes on the Hub of two classes",
        FOUR,
        {"metadata.jsonl": of_boxes({name: [label, "sun"] for name, label in PETS.items()})},
        said=r"several in a cell \('\[.cat., .sun.\]'.*or train on all of them with `multi_label`",
        options=TableOptions(label_column="objects"),
    ),
    PublishedTable(
        "boxes on the Hub of two classes, several labels",
        FOUR,
        {"metadata.jsonl": of_boxes({name: [label, "sun"] for name, label in PETS.items()})},
        {"all": {name: f"{label}|sun" for name, label in PETS.items()}},
        options=TableOptions(label_column="objects", multi_label=True),
    ),
    *(
        PublishedTable(
            f"boxes without classes{', several labels' * several}",
            FOUR,
            {"metadata.jsonl": of_boxes({name: [1, 2] for name in PETS}, "area")},
            said="names of classes in 'objects' of metadata.jsonl, got a structure in which no list is called labels",
            options=TableOptions(label_column="objects", multi_label=several),
        )
        for several in (False, True)
    ),
    PublishedTable("cvat", FOUR, {"annotations.xml": cvat(PETS)}, {"all": PETS}),
    PublishedTable(
        "cvat's shapes", FOUR, {"x.xml": cvat(PETS, "box", ' subset="Train"')}, {"train": PETS}, data="x.xml"
    ),
    PublishedTable(
        "cvat with definitions of entities",
        FOUR,
        {"x.xml": '<!DOCTYPE a [<!ENTITY b "b">]>' + cvat(PETS)},
        said=r"CVAT's annotations of images in x\.xml, got another file",
        data="x.xml",
    ),
    *(
        PublishedTable(
            f"cvat's subsets, {train} and {test} images of the same names, {folder or 'in folders'}",
            tuple(
                f"{folder}{split}/{number}.jpg"
                for split, count in (("train", train), ("test", test))
                for number in range(count)
            ),
            {"annotations.xml": of_subsets(train, test)},
            {
                split: {
                    f"{folder}{split}/{number}.jpg": ("cat", "dog")[(number + shift) % 2] for number in range(count)
                }
                for split, count, shift in (("train", train, 0), ("test", test, 1))
            },
            notes=(r"same name in several splits, \d rows of (train|test) mean those in a folder of",),
            unsaid="are used",
        )
        for train, test in ((3, 3), (5, 3), (3, 5))
        for folder in ("", "images/")
        if train >= test or folder
    ),
    PublishedTable(
        "a split column decides between files of the same names",
        ("images/train/a.jpg", "images/train/b.jpg", "images/test/a.jpg", "images/test/b.jpg", "images/b2.jpg"),
        {
            "x.csv": rows(
                "file,label,split", "a,cat,train", "b,dog,train", "a,dog,test", "b,cat,test", "test/b.jpg,cat,test"
            )
        },
        {
            "train": {"images/train/a.jpg": "cat", "images/train/b.jpg": "dog"},
            "test": {"images/test/a.jpg": "dog", "images/test/b.jpg": "cat"},
        },
        data="x.csv",
    ),
    *(
        PublishedTable(f"label studio's {kind}", FOUR, {"x.json": shapes(kind)}, {"all": PETS}, data="x.json")
        for kind in ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "keypointlabels")
    ),
    *(
        PublishedTable(
            f"label studio's {kind}, in short", FOUR, {"x.json": in_short(kind)}, {"all": PETS}, data="x.json"
        )
        for kind in ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "keypointlabels")
    ),
    PublishedTable(
        "label studio's boxes of two classes",
        FOUR,
        {"x.json": shapes("rectanglelabels", "sun")},
        said=r"several in a cell \('\[.cat., .sun.\]'",
        data="x.json",
    ),
    PublishedTable(
        "label studio's boxes of two classes, several labels",
        FOUR,
        {"x.json": in_short("rectanglelabels", "sun")},
        {"all": {name: f"{label}|sun" for name, label in PETS.items()}},
        data="x.json",
        options=TableOptions(multi_label=True),
    ),
    PublishedTable(
        "label studio's choices beside its boxes",
        FOUR,
        {"x.json": json.dumps([{**task, "annotations": with_eyes(task["annotations"])} for task in TASKS])},
        {"all": PETS},
        data="x.json",
    ),
    PublishedTable(
        "label studio's choices beside its boxes, in short",
        FOUR,
        {"x.json": in_short("rectanglelabels", choices=True)},
        {"all": PETS},
        data="x.json",
    ),
    PublishedTable("label studio", FOUR, {"x.json": json.dumps(TASKS)}, {"all": PETS}, data="x.json"),
    PublishedTable(
        "label studio, two annotators who agree about one image and disagree about another",
        FOUR,
        {"x.json": json.dumps([said_again(TASKS[0], "dog"), said_again(TASKS[1], PETS[FOUR[1]]), *TASKS[2:]])},
        {"all": PETS},
        notes=(r"1 row of x contradicts the label of an earlier one, which was kept \(.*a\.jpg: 'cat' and 'dog'\)",),
        unsaid="repeat",
        data="x.json",
    ),
    PublishedTable(
        "label studio's csv",
        FOUR,
        {
            "x.csv": rows(
                "annotation_id,choice,id,image,lead_time",
                *(
                    f"1{n},{label},{n},/data/local-files/?d={name},{n}.5"
                    for n, (name, label) in enumerate(PETS.items())
                ),
            )
        },
        {"all": PETS},
        data="x.csv",
    ),
    PublishedTable(
        "spreadsheet",
        ("images/1.jpg", "images/2.jpg"),
        {"x.xlsx": sheet(("id", "species"), (1, "cat"), (2.0, "dog"))},
        {"all": {"images/1.jpg": "cat", "images/2.jpg": "dog"}},
        data="x.xlsx",
    ),
    PublishedTable("a damaged spreadsheet", FOUR, {"x.xlsx": b"x"}, said="a spreadsheet in", data="x.xlsx"),
    PublishedTable("json of numbers", FOUR, {"x.json": "[1, 2]"}, said="records of images and labels", data="x.json"),
    *(
        PublishedTable(
            f"a title above the names of columns, {name}",
            FOUR,
            {"x.csv": above + rows("file,label,sky", *(f"{line},sun" for line in LINES))},
            {"all": PETS},
            data="x.csv",
        )
        for name, above in (
            ("in cells", "Pets 2024,,\n"),
            ("alone", "Pets 2024\n"),
            ("quoted", '"Pets, 2024",,\n'),
            ("in two rows", "Pets 2024,,\nby me,,\n"),
            ("and a blank row", "Pets 2024,,\n,,\n"),
            ("and a blank line", "Pets 2024\n\n"),
        )
    ),
    PublishedTable(
        "a spreadsheet with a title",
        FOUR,
        {"x.xlsx": sheet(("Pets 2024",), (), ("file", "species", "sky"), *(line_of(each, "sun") for each in LINES))},
        {"all": PETS},
        data="x.xlsx",
    ),
    PublishedTable(
        "a spreadsheet with its table in the second sheet",
        FOUR,
        {
            "x.xlsx": sheets(
                {
                    "about": [("Pets",), ("made by", "me"), ("on", "Monday")],
                    "data": [("file", "species"), *map(line_of, LINES)],
                }
            )
        },
        {"all": PETS},
        data="x.xlsx",
    ),
    *(
        PublishedTable(f"a row with {name}", FOUR, {"x.csv": content}, said=said, data="x.csv")
        for name, content, said in (
            (
                "a separator in its last cell",
                rows("file,label,says", *(f"{line},good" for line in LINES[:3]), "d.jpg,dog,good, but blurry"),
                r"as in its first, 3, got 4 in line 5 \(d\.jpg,dog,good, .*: put ",
            ),
            (
                "a cell less, below a title",
                rows("Pets 2024", "file,label,says", *(f"{line},good" for line in LINES[:3]), "d.jpg,dog"),
                r"as in its first, 3, got 2 in line 6 \(d\.jpg,dog\): write ",
            ),
        )
    ),
    # Several labels
    PublishedTable(
        "one-hot columns",
        FOUR,
        {"x.csv": rows("image,cat,dog", "a.jpg,1.0,0.0", "b.jpg,0.0,1.0", "c.jpg,1.0,0.0", "d.jpg,0.0,1.0")},
        {"all": PETS},
        data="x.csv",
    ),
    PublishedTable(
        "one-hot columns with two ones",
        FOUR,
        {"x.csv": rows("image,cat,dog", "a.jpg,1,1", "b.jpg,0,1", "c.jpg,1,0", "d.jpg,0,1")},
        said=r"several in 1 of 4 rows \(a\.jpg: cat and dog\)",
        data="x.csv",
    ),
    *(
        PublishedTable(
            f"several labels {name}",
            FOUR,
            {"x.csv": rows("path,label", f'a.jpg,"{cell}"', "b.jpg,dog", "c.jpg,cat", "d.jpg,dog")},
            said=r"one label for each image in 'label' of x\.csv, got several in a cell \(.*cat",
            data="x.csv",
        )
        for name, cell in (
            ("with blanks", "cat dog"),
            ("with bars", "cat|dog"),
            ("with commas", "cat, dog"),
            ("in a list", "['cat', 'dog']"),
            ("in JSON", '[""cat"", ""dog""]'),
        )
    ),
    PublishedTable(
        "lists of one",
        FOUR,
        {"x.csv": rows("path,label", "a.jpg,['cat']", "b.jpg,['dog']", "c.jpg,['cat']", "d.jpg,['dog']")},
        {"all": PETS},
        data="x.csv",
    ),
    PublishedTable(
        "classes of two words",
        FOUR,
        {"x.csv": rows("path,label", "a.jpg,polar bear", "b.jpg,brown bear", "c.jpg,polar fox", "d.jpg,fox")},
        {"all": {"a.jpg": "polar bear", "b.jpg": "brown bear", "c.jpg": "polar fox", "d.jpg": "fox"}},
        data="x.csv",
    ),
    # Columns that decide more
    PublishedTable(
        "is_valid",
        EIGHT,
        {"x.csv": with_column("is_valid", ["False"] * 6 + ["True"] * 2)},
        {
            "train": {name: EIGHT_PETS[name] for name in EIGHT[:6]},
            "val": {name: EIGHT_PETS[name] for name in EIGHT[6:]},
        },
        data="x.csv",
        notes=("split from 'is_valid'",),
    ),
    PublishedTable(
        "usage",
        EIGHT,
        {"x.csv": with_column("Usage", ["Training"] * 4 + ["PublicTest"] * 2 + ["PrivateTest"] * 2)},
        {
            "train": {name: EIGHT_PETS[name] for name in EIGHT[:4]},
            "val": {name: EIGHT_PETS[name] for name in EIGHT[4:6]},
            "test": {name: EIGHT_PETS[name] for name in EIGHT[6:]},
        },
        data="x.csv",
        notes=("split from 'Usage'",),
    ),
    PublishedTable(
        "folds",
        EIGHT,
        {"x.csv": with_column("fold", "01230123")},
        {"all": EIGHT_PETS},
        data="x.csv",
        notes=("'fold' was not used.*--group-column 'fold'",),
    ),
    PublishedTable(
        "folds taken for splits",
        EIGHT,
        {"x.csv": with_column("fold", "01230123")},
        said=r"train, val and test.*'fold' of .{1,2}split.column.?, got '0', '1'",
        options=TableOptions(split_column="fold"),
        data="x.csv",
    ),
    PublishedTable(
        "kilograms",
        EIGHT,
        {"x.csv": with_column("weight", ["61", "70.5", "82", "55", "90", "48.5", "77", "66"])},
        {"all": EIGHT_PETS},
        data="x.csv",
        notes=("'weight' was not used.*weight.column",),
    ),
    PublishedTable(
        "halves of a trial",
        EIGHT,
        {"x.csv": with_column("group", ["treatment"] * 4 + ["control"] * 4)},
        {"all": EIGHT_PETS},
        data="x.csv",
        notes=("'group' was not used.*group.column",),
    ),
    PublishedTable(
        "patients",
        EIGHT,
        {"x.csv": with_column("patient_id", "11223344")},
        {"all": EIGHT_PETS},
        data="x.csv",
        notes=("'patient_id' was not used.*group.column.'patient_id'",),
    ),
    # Labels in the names of files
    PublishedTable(
        "cats and dogs",
        ("train/cat.0.jpg", "train/dog.0.jpg", "test1/1.jpg"),
        {},
        {"train": {"train/cat.0.jpg": "cat", "train/dog.0.jpg": "dog"}},
        options=TableOptions(label_from=r"(cat|dog)\.\d+"),
        notes=("no label",),
    ),
    PublishedTable(
        "weather",
        ("cloudy292.jpg", "rain12.jpg"),
        {},
        {"all": {"cloudy292.jpg": "cloudy", "rain12.jpg": "rain"}},
        options=TableOptions(label_from=r"([a-z]+)\d+\.jpg"),
    ),
    PublishedTable(
        "labels in the names of a table's files",
        ("cloudy292.jpg", "rain12.jpg"),
        {"x.txt": "cloudy292.jpg\nrain12.jpg\n"},
        {"all": {"cloudy292.jpg": "cloudy", "rain12.jpg": "rain"}},
        options=TableOptions(label_from=r"([a-z]+)\d+\.jpg"),
        data="x.txt",
    ),
    PublishedTable(
        "an expression that finds nothing",
        FOUR,
        {},
        said=r"label.from.? to find a label .* got none",
        options=TableOptions(label_from=r"([0-9]+)\.jpg"),
    ),
]
