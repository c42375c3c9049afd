"""Images that are described by XML files of their names: Pascal VOC, LabelImg, Roboflow."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.data.opening import open_dataset
from graft.data.table_options import TableOptions
from graft.errors import DataError

OBJECT = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"


def described(root: Path, images: str, annotations: str, labels: Sequence[Sequence[str]]) -> Path:
    for number, of_image in enumerate(labels):
        image_file, words = root / images / f"2007_{number:06}.jpg", root / annotations / f"2007_{number:06}.xml"
        image_file.parent.mkdir(parents=True, exist_ok=True)
        words.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 20 * number, np.uint8)).save(image_file)
        objects = "".join(map(OBJECT.format, of_image))
        words.write_text(f"<annotation><filename>{image_file.name}</filename>{objects}</annotation>")
    return root


def write(root: Path, images: Mapping[str, int], labels: Mapping[str, str]) -> Path:
    """Write images of a shade each, and XML files with an object of a class each."""
    for path, shade in images.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(root / path)
    for path, label in labels.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"<annotation>{OBJECT.format(label)}</annotation>")
    return root


def names(found, split: str) -> list[str]:
    images = found.splits[split]
    order = sorted(range(len(images)), key=images.name)
    return [found.classes[images.labels[row]] for row in order]


@pytest.mark.parametrize(
    ("images", "annotations"), [("JPEGImages", "Annotations"), ("images", "annotations"), ("", "")]
)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_the_class_of_the_objects_is_the_label(tmp_path: Path, images: str, annotations: str, form: str) -> None:
    place = described(tmp_path / "voc", images, annotations, [["cat", "cat"], ["dog"]] * 4)
    if form == "zip":
        place = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", place))
    found = open_dataset(place)
    assert found.classes == ("cat", "dog") and names(found, "all") == ["cat", "dog"] * 4
    assert any("XML" in note for note in found.notes) and not found.left_out


def test_its_lists_are_the_splits(tmp_path: Path) -> None:
    place = described(tmp_path / "voc", "JPEGImages", "Annotations", [["cat"], ["dog"]] * 4)
    lists = place / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"2007_{number:06}\n" for number in range(6)))
    (lists / "val.txt").write_text("2007_000006\n2007_000007\n")
    found = open_dataset(place)
    assert (names(found, "train"), names(found, "val")) == (["cat", "dog"] * 3, ["cat", "dog"])


def test_objects_of_several_classes_are_several_labels(tmp_path: Path) -> None:
    place = described(tmp_path / "voc", "JPEGImages", "Annotations", [["cat", "person"], ["dog"], ["cat"], []])
    with pytest.raises(DataError, match=r"'cat' and 'person' in JPEGImages/2007_000000.jpg: .*multi.label"):
        open_dataset(place)
    found = open_dataset(place, table=TableOptions(multi_label=True))
    sets = [tuple(found.classes[each] for each in found.label_sets[row]) for row in found.splits["all"].labels.tolist()]
    assert sets == [("cat", "person"), ("dog",), ("cat",), ()]


def test_what_is_not_described_is_left_out_by_name(tmp_path: Path) -> None:
    place = described(tmp_path / "voc", "JPEGImages", "Annotations", [["cat"], ["dog"]] * 3)
    (place / "Annotations" / "2007_000000.xml").write_text('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>')
    (place / "Annotations" / "2007_000001.xml").write_text("<annotation><object>")
    found = open_dataset(place)
    assert names(found, "all") == ["cat", "dog"] * 2
    assert {name.rpartition("/")[2] for name in found.left_out} == {"2007_000000.jpg", "2007_000001.jpg"}


def test_other_xml_beside_images_without_classes_is_no_description(tmp_path: Path) -> None:
    place = described(tmp_path / "voc", "JPEGImages", "Annotations", [["cat"], ["dog"]] * 3)
    for path in (place / "Annotations").iterdir():
        path.write_text("<metadata><name>cat</name></metadata>")
    with pytest.raises(DataError, match="expected a folder per class"):
        open_dataset(place)


def of_splits(found) -> dict[str, dict[str, str]]:
    """The class of every image by its path below the data, by split."""
    return {
        split: {images.key(row): found.classes[images.labels[row]] for row in range(len(images))}
        for split, images in found.splits.items()
    }


@pytest.mark.parametrize(
    ("images", "annotations"),
    [
        ("{}", "{}"),
        ("{}/images", "{}/annotations"),
        ("{}/images", "{}/images/xml"),
        ("images/{}", "annotations/{}"),
        ("JPEGImages/{}", "Annotations/{}"),
    ],
)
@pytest.mark.parametrize("form", ["folder", "zip"])
def test_each_split_has_the_xml_files_in_its_folders(tmp_path: Path, images: str, annotations: str, form: str) -> None:
    labels = {"train": ["cat", "dog"], "valid": ["dog", "dog"], "test": ["dog", "cat"]}
    place = tmp_path / "roboflow"
    wanted: dict[str, dict[str, str]] = {}
    for split, of_split in labels.items():
        for number, label in enumerate(of_split):
            path = f"{images.format(split)}/{number}.png"
            write(place, {path: 40 * number + len(split)}, {f"{annotations.format(split)}/{number}.xml": label})
            wanted.setdefault("val" if split == "valid" else split, {})[path] = label
    if form == "zip":
        place = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", place))
    assert of_splits(open_dataset(place)) == wanted
    several = open_dataset(place, table=TableOptions(multi_label=True))
    found = {
        images.key(row): [several.classes[each] for each in several.label_sets[images.labels[row]]]
        for images in several.splits.values()
        for row in range(len(images))
    }
    assert found == {path: [label] for of_split in wanted.values() for path, label in of_split.items()}


def test_images_beside_a_folder_for_test_are_for_training(tmp_path: Path) -> None:
    place = write(
        tmp_path / "voc",
        {"0.png": 0, "1.png": 50, "test/0.png": 90},
        {"0.xml": "cat", "1.xml": "dog", "test/0.xml": "dog"},
    )
    assert of_splits(open_dataset(place)) == {
        "train": {"0.png": "cat", "1.png": "dog"},
        "test": {"test/0.png": "dog"},
    }


def test_the_xml_file_of_another_split_describes_nothing(tmp_path: Path) -> None:
    images = {f"train/{number}.png": 30 * number for number in range(3)} | {"test/1.png": 200, "test/9.png": 220}
    labels = {f"train/{number}.xml": ("cat", "dog")[number % 2] for number in range(3)} | {"train/9.xml": "cat"}
    found = open_dataset(write(tmp_path / "voc", images, labels))
    assert list(found.splits) == ["train"] and len(found.splits["train"]) == 3
    assert {Path(name).name for name in found.left_out} == {"1.png", "9.png"}


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (["images/0.png"], ["x/0.xml", "y/0.xml"], "one XML file .*got x/0.xml and y/0.xml for images/0.png"),
        (
            ["test/images/0.png", "train/images/0.png"],
            ["annotations/0.xml"],
            "one image for each XML file .*got test/images/0.png and train/images/0.png for annotations/0.xml",
        ),
    ],
)
def test_xml_files_that_several_images_could_mean_are_refused(
    tmp_path: Path, images: list[str], labels: list[str], said: str
) -> None:
    place = write(tmp_path / "voc", dict.fromkeys(images, 50), dict.fromkeys(labels, "cat"))
    with pytest.raises(DataError, match=f"{said}.*: put each XML file beside its image"):
        open_dataset(place)


def test_the_ending_of_an_xml_file_may_be_in_capitals(tmp_path: Path) -> None:
    place = write(tmp_path / "voc", {"0.png": 0, "1.png": 99}, {"0.XML": "cat", "1.Xml": "dog"})
    assert of_splits(open_dataset(place)) == {"all": {"0.png": "cat", "1.png": "dog"}}


def test_a_complete_tree_has_the_splits_of_its_lists_by_image(tmp_path: Path) -> None:
    labels = ["cat", "dog"] * 5
    place = described(tmp_path / "VOC2012", "JPEGImages", "Annotations", [[label] for label in labels])
    write(place, {f"SegmentationClass/2007_{number:06}.png": 0 for number in range(4)}, {})
    stems = [f"2007_{number:06}" for number in range(10)]
    rows = {"train": range(6), "val": range(6, 8), "trainval": range(8), "test": range(8, 10)}
    files = {f"Main/{split}": [stems[row] for row in of_split] for split, of_split in rows.items()}
    for split, of_split in rows.items():
        for label in ("cat", "dog"):
            said = [f"{stems[row]} {1 if labels[row] == label else -1:2}" for row in of_split]
            files[f"Main/{label}_{split}"] = said
    files |= {"Segmentation/train": stems[2:4], "Segmentation/val": stems[:2], "Layout/train": stems[7:8]}
    files["Action/jumping_train"] = [f"{stem}  1 -1" for stem in stems[:3]]
    for name, lines in files.items():
        path = place / "ImageSets" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
    found = open_dataset(place)
    assert {split: names(found, split) for split in found.splits} == {
        "train": labels[:6],
        "val": labels[6:8],
        "test": labels[8:],
    }
    chosen = open_dataset(place, split="ImageSets/Main/trainval.txt")
    assert {split: names(chosen, split) for split in chosen.splits} == {"train": labels[:8], "test": labels[8:]}
    chosen = open_dataset(place, split="ImageSets/Segmentation/train.txt")
    assert {split: len(images) for split, images in chosen.splits.items()} == {"train": 2, "val": 2}
    assert list(open_dataset(place, split="none").splits) == ["all"]


def test_trainval_is_for_training_if_no_list_is(tmp_path: Path) -> None:
    place = described(tmp_path / "voc", "JPEGImages", "Annotations", [["cat"], ["dog"]] * 4)
    lists = place / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("".join(f"2007_{number:06}\n" for number in range(6)))
    (lists / "test.txt").write_text("2007_000006\n2007_000007\n")
    found = open_dataset(place)
    assert (names(found, "train"), names(found, "test")) == (["cat", "dog"] * 3, ["cat", "dog"])


@pytest.mark.parametrize("masks", ["annotations/trimaps", "masks", "thumbs"])
def test_masks_that_are_named_as_the_images_are_no_images(tmp_path: Path, masks: str) -> None:
    images = {f"images/{each}.jpg": each for each in range(4)} | {f"{masks}/{each}.png": each for each in range(4)}
    found = open_dataset(write(tmp_path, images, {f"annotations/xmls/{each}.xml": "ab"[each % 2] for each in range(4)}))
    keys = {images.key(row) for images in found.splits.values() for row in range(len(images))}
    assert keys == {f"images/{each}.jpg" for each in range(4)} and found.classes == ("a", "b")
