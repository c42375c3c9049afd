"""Images that are described by XML files of their names: Pascal VOC, LabelImg, Roboflow."""

import shutil
from collections.abc import Sequence
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
