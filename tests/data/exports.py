"""Exports of annotation programs, and published data sets with layouts of their own; `tables` has others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tables import BELOW, FOUR, IDS, PETS, PublishedTable, rows

from graft.data.table_options import TableOptions

Record = dict[str, Any]


def createml(key: str, boxes: str = "annotations", more: str | None = None) -> str:
    """CreateML's list, in which the last image may have another box; the first has two of its class."""
    found = []
    for number, (name, label) in enumerate(PETS.items()):
        labels = [label] * (2 if number == 0 else 1) + [more] * (number == 3 and more is not None)
        found.append({key: name, boxes: [{"label": each, "coordinates": {"x": 1, "y": 2}} for each in labels]})
    return json.dumps(found)


def labelbox(said: Callable[[str], Record]) -> list[Record]:
    """Labelbox's current export, with an image's annotations by its label."""
    return [
        {
            "data_row": {"id": f"c{name}", "external_id": name, "row_data": f"https://x/{name}"},
            "media_attributes": {"height": 1},
            "projects": {"p": {"labels": [{"annotations": said(label)}]}},
        }
        for name, label in PETS.items()
    ]


def labelbox_before(said: Callable[[str], Any]) -> str:
    """Labelbox's earlier export."""
    keys = [("ID", "1"), ("Labeled Data", "https://x/y")]
    return json.dumps([{**dict(keys), "External ID": name, "Label": said(label)} for name, label in PETS.items()])


def answered(label: str, question: str = "kind") -> Record:
    answers = [{"name": question, "radio_answer": {"name": label, "value": label}}]
    return {"objects": [{"name": "eye"}], "classifications": answers}


def via(of_file: Callable[[str], Record], *of_regions: Callable[[str], Record], numbered: bool = False) -> Record:
    """The VGG Image Annotator's JSON, with the attributes of an image and of its regions."""
    found = {}
    for name, label in PETS.items():
        regions: Any = [{"shape_attributes": {"name": "rect"}, "region_attributes": each(label)} for each in of_regions]
        if numbered:
            regions = {str(number): each for number, each in enumerate(regions)}
        found[f"{name}123"] = {"filename": name, "size": 123, "regions": regions, "file_attributes": of_file(label)}
    return found


def via_csv(*attributes: Callable[[str], tuple[Record, Record]]) -> str:
    """Its CSV: a row for each region."""
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    lines = []
    for name, label in PETS.items():
        for number, each in enumerate(attributes):
            whole, region = (json.dumps(said).replace('"', '""') for said in each(label))
            lines.append(f'{name},123,"{whole}",{len(attributes)},{number},"{{""name"":""rect""}}","{region}"')
    return rows(header, *lines)


def nothing(label: str) -> Record:
    return {}


def kind(label: str) -> Record:
    return {"kind": label}


def colour(label: str) -> Record:
    return {"kind": label, "fur": {"cat": "grey", "dog": "red"}[label], "note": ""}


def read(name: str, file: str, content: str, *notes: str) -> PublishedTable:
    return PublishedTable(name, FOUR, {file: content}, {"all": PETS}, data=file, notes=notes)


def refused(name: str, file: str, content: str | bytes, said: str) -> PublishedTable:
    return PublishedTable(name, FOUR, {file: content}, said=said, data=file)


PROGRAMS = [
    read("createml", "_annotations.createml.json", createml("image")),
    read("createml's older names", "x.json", createml("imagefilename", "annotation")),
    PublishedTable("createml in a folder", FOUR, {"_annotations.createml.json": createml("image")}, {"all": PETS}),
    refused("createml with two classes in an image", "x.json", createml("image", more="sun"), r'cell \(.*dog", "sun"'),
    PublishedTable(
        "createml, several labels",
        FOUR,
        {"x.json": createml("image", more="sun")},
        {"all": {**PETS, "d.jpg": "dog|sun"}},
        data="x.json",
        options=TableOptions(multi_label=True),
    ),
    read("labelbox", "x.json", json.dumps(labelbox(answered)), "label from 'kind'"),
    read("labelbox in lines", "x.ndjson", "\n".join(map(json.dumps, labelbox(answered))), "label from 'kind'"),
    read("labelbox's objects", "x.json", json.dumps(labelbox(lambda label: {"objects": [{"name": label}] * 2}))),
    read(
        "labelbox's choices",
        "x.json",
        json.dumps(
            labelbox(lambda label: {"classifications": [{"name": "kind", "checklist_answers": [{"name": label}]}]})
        ),
    ),
    refused(
        "labelbox with two questions",
        "x.json",
        json.dumps(
            labelbox(
                lambda label: {
                    "classifications": [
                        *answered(label, "pet")["classifications"],
                        *answered(label[:1], "fur")["classifications"],
                    ]
                }
            )
        ).replace('"c"', '"grey"'),
        r"a column 'label' .*got 'path', 'pet', 'fur': .*label.column='pet'",
    ),
    read(
        "labelbox before",
        "x.json",
        labelbox_before(
            lambda label: {"objects": [], "classifications": [{"title": "kind", "answer": {"title": label}}]}
        ),
        "label from 'kind'",
    ),
    read("labelbox's boxes before", "x.json", labelbox_before(lambda label: {"objects": [{"title": label}]})),
    read("via", "x.json", json.dumps(via(nothing, kind, kind)), "label from 'kind'"),
    read("via of whole images", "x.json", json.dumps(via(lambda label: {**kind(label), "caption": ""}, colour))),
    read("via's boxes to tick", "x.json", json.dumps(via(nothing, lambda label: {"kind": {label: True, "x": False}}))),
    read("via at first", "x.json", json.dumps(via(nothing, kind, numbered=True))),
    read("a project of via", "x.json", json.dumps({"_via_settings": {}, "_via_img_metadata": via(nothing, kind)})),
    read("via's csv", "x.csv", via_csv(lambda label: ({}, kind(label)), lambda label: ({}, {})), "label from 'kind'"),
    read("via's csv of whole images", "x.csv", via_csv(lambda label: (kind(label), {"part": "eye"}))),
    refused(
        "via with two attributes",
        "x.json",
        json.dumps(via(nothing, colour)).replace("grey", "red", 1).replace("kind", "pet"),
        "'path', 'pet', 'fur': .*label.column='pet'",
    ),
    refused("via with two classes", "x.json", json.dumps(via(nothing, kind, lambda _: {"kind": "x"})), "several in a"),
    refused(
        "via's csv that is cut", "x.csv", via_csv(lambda _: ({}, {})).replace("{}", "{"), "attributes in JSON in VIA"
    ),
    refused(
        "a project of via 3",
        "x.json",
        json.dumps({"project": {}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}}),
        "as VIA 2 writes them, got a project of VIA 3",
    ),
    refused("what only looks like labelbox", "x.json", '[{"data_row": {}, "projects": {"p": 1}}]', "column 'path'"),
    refused("what only looks like via", "x.json", '{"a": {"filename": "a.jpg", "regions": [1]}}', "records of images"),
    read(
        "records with names as labelbox has them",
        "x.json",
        json.dumps([{"Label": label, "External ID": name} for name, label in PETS.items()]),
        "path from 'External ID', label from 'Label'",
    ),
    *(
        refused(f"a spreadsheet {ending}", f"x{ending}", b"\xd0\xcf\x11\xe0", rf"got x\{ending}, .*: save it as one of")
        for ending in (".xls", ".ods", ".xlsb")
    ),
    PublishedTable(
        "an old spreadsheet beside images", FOUR, {"x.xls": b"\xd0\xcf\x11\xe0"}, said=r"as \.xlsx .* got x\.xls"
    ),
]

EYES = tuple(f"Training Images/{number}_{side}.jpg" for number in range(4) for side in ("left", "right"))


def of_eyes(first: str, second: str) -> str:
    lines = (f"{number}_left.jpg,{number}_right.jpg,{label}" for number, label in enumerate(PETS.values()))
    return rows(f"{first},{second},label", *lines)


LEFT_EYES = {f"Training Images/{number}_left.jpg": label for number, label in enumerate(PETS.values())}
IN_TWO_COLUMNS = [
    *(
        PublishedTable(
            f"two columns of images, {first} and {second}",
            EYES,
            {"x.csv": of_eyes(first, second)},
            said=f"one column of paths in x.csv, got '{first}' and '{second}', .*as in .{{1,2}}path.column.*{first}",
        )
        for first, second in (
            ("Left-Fundus", "Right-Fundus"),
            ("image_path", "image_file"),
            ("image_path", "right_eye_image"),
        )
    ),
    PublishedTable(
        "two columns of images, of which one was named",
        EYES,
        {"x.csv": of_eyes("image_path", "right_image")},
        {"all": LEFT_EYES},
        options=TableOptions(path_column="image_path"),
    ),
    PublishedTable(
        "a column that is called as graft calls it beside another of images",
        EYES,
        {"x.csv": of_eyes("image", "image2")},
        {"all": LEFT_EYES},
        notes=("images are those in 'image', and others are in 'image2': --path-column chooses",),
    ),
    PublishedTable(
        "two columns of the same images",
        IDS,
        {"x.csv": rows("image_path,image_id,label", *(f"{name},{name[0]},{label}" for name, label in PETS.items()))},
        {"all": BELOW},
        unsaid="path-column",
    ),
    PublishedTable(
        "labels in words beside the same in lists of numbers, as in ODIR",
        FOUR,
        {
            "full_df.csv": rows(
                "filename,labels,target",
                *(f"{name},['{label}'],\"[{label == 'cat':d}, {label == 'dog':d}]\"" for name, label in PETS.items()),
            )
        },
        {"all": PETS},
    ),
]

GRADING = "B. Disease Grading"
GROUND, ORIGINAL = f"{GRADING}/2. Groundtruths", f"{GRADING}/1. Original Images"
GRADES = {
    split: {f"{ORIGINAL}/{folder}/IDRiD_{number:03}.jpg": str(number % 3) for number in range(1, 1 + count)}
    for split, folder, count in (("train", "a. Training Set", 6), ("test", "b. Testing Set", 3))
}


def graded(images: Mapping[str, str], more: str = "") -> str:
    lines = (f"{path[-13:-4]},{grade},{number % 2}" for number, (path, grade) in enumerate(images.items()))
    return rows(f"Image name,Retinopathy grade,Risk of macular edema {more}", *(f"{line}{more}" for line in lines))


IDRID = {
    f"{GROUND}/a. IDRiD_Disease Grading_Training Labels.csv": graded(GRADES["train"], ",,,"),
    f"{GROUND}/b. IDRiD_Disease Grading_Testing Labels.csv": graded(GRADES["test"]),
    f"{GRADING}/LICENSE": "words",
}
TRAINING = next(iter(IDRID))
BY_GRADE = TableOptions(label_column="Retinopathy grade")
LESIONS = [(f"PAT_{n // 2}_{n}_{100 + n}.png", ("BCC", "ACK", "NEV")[n // 3]) for n in range(9)]
OF_LESIONS = {f"images/imgs_part_{1 + n % 3}/{name}": label for n, (name, label) in enumerate(LESIONS)}
PRODUCTS = {
    "train": {f"train/{number}.jpg": str(number // 2) for number in range(8)},
    "test": {f"test/{number}.jpg": str(number % 3) for number in range(4)},
}
PUBLISHED = [
    PublishedTable(
        "IDRiD",
        (*GRADES["train"], *GRADES["test"]),
        IDRID,
        said="a column 'label' .* a. IDRiD.*label.column='Retinopathy grade'. or .*'Risk of macular edema'",
    ),
    PublishedTable("IDRiD by its grades", (*GRADES["train"], *GRADES["test"]), IDRID, GRADES, options=BY_GRADE),
    PublishedTable(
        "a table of IDRiD",
        (*GRADES["train"], *GRADES["test"]),
        IDRID,
        said="a column 'path' .*if 'Image name' names them, say with .{1,2}image.dir. where the images are",
        data=TRAINING,
        options=BY_GRADE,
    ),
    PublishedTable(
        "PAD-UFES-20",
        tuple(OF_LESIONS),
        {
            "metadata.csv": rows(
                "patient_id,lesion_id,smoke,drink,age,gender,region,diagnostic,itch,grew,img_id,biopsed",
                *(
                    f"PAT_{n // 2},{n // 2},{n % 2 == 1},False,{50 + n // 2},FEMALE,ARM,{label},True,False,{name},True"
                    for n, (name, label) in enumerate(LESIONS)
                ),
            )
        },
        {"all": OF_LESIONS},
        notes=("label from 'diagnostic'", "'patient_id' was not used, .*--group-column 'patient_id'"),
    ),
    PublishedTable(
        "Products-10K",
        (*PRODUCTS["train"], *PRODUCTS["test"]),
        {
            "train.csv": rows(
                "name,class,group",
                *(f"{path[6:]},{label},{int(label) // 2}" for path, label in PRODUCTS["train"].items()),
            ),
            "test_kaggletest.csv": rows(
                "name,class,group,Usage",
                *(
                    f"{path[5:]},{label},0,{('Public', 'Private')[int(label) % 2]}"
                    for path, label in PRODUCTS["test"].items()
                ),
            ),
        },
        PRODUCTS,
    ),
]

EXPORTS = [*PROGRAMS, *IN_TWO_COLUMNS, *PUBLISHED]
