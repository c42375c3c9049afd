"""Classes that are numbers or codes take their names from a file beside the images, if it fits without doubt."""

import json
import os
import shutil
from pathlib import Path

import pytest

from graft.data.dataset import Dataset, counts
from graft.data.opening import open_dataset
from graft.data.readers.grid import open_grid
from graft.errors import DataError

LINES = "cat\ndog\n"
MAP = {"0": "cat", "1": "dog"}


def numbered(root: Path, *classes: str, **files: str) -> Path:
    """A folder of one image for class 0, two for the next, and so on, with files beside them."""
    for count, name in enumerate(classes, 1):
        (root / "data" / name).mkdir(parents=True)
        for number in range(count):
            (root / "data" / name / f"{name}_{number}.jpg").write_bytes(b"x")
    for name, content in files.items():
        (root / "data" / name).parent.mkdir(exist_ok=True)
        (root / "data" / name).write_text(content)
    return root / "data"


def named(dataset: Dataset) -> dict[str, int]:
    return counts(dataset.splits["all"], dataset.classes)


@pytest.mark.parametrize(
    ("file", "content", "classes"),
    [
        ("classes.txt", LINES, "01"),
        ("labels.txt", f"\ufeff{LINES}\n", "12"),
        ("obj.names", LINES, "01"),
        ("class_names.txt", "0 cat\n1 dog\n", "01"),
        ("labels.txt", "1: cat\n2: dog\n3: cow\n", "12"),
        ("classes.txt", "dog 1\ncat 0\n", "01"),
        ("classes.txt", "dog\t1\ncat\t0\n", "01"),
        ("labels.txt", "dog, 2\ncow,3\ncat, 1\n", "12"),
        ("classes.txt", "dog 07\ncow 05\ncat 3\n", "37"),
        ("names.csv", "id,name\n0,cat\n1,dog\n", "01"),
        ("names.csv", "name\ncat\ndog\n", "12"),
        ("label_names.csv", "SignName,ClassId\ncat,0\ndog,1\n", "01"),
        ("cat_to_name.json", json.dumps(MAP | {"7": "cow"}), "01"),
        ("classes.json", '{"cat": 1, "dog": 2}', "12"),
        ("class_index.json", '{"0": ["n02123045", "cat"], "1": ["n02099601", "dog"]}', "01"),
        ("config.json", json.dumps({"model": "x", "id2label": MAP}), "01"),
        ("categories.json", '[{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]', "12"),
        ("data.yaml", "train: images\nnc: 2\nnames: [cat, dog]\n", "01"),
        ("data.yaml", "names:\n  0: cat\n  1: dog\n", "01"),
        ("meta/classes.txt", LINES, "01"),
        ("classes.txt", "0 cat\n1 dog\n", ("00000", "00001")),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_numbers_get_the_names_of_a_list(
    tmp_path: Path, file: str, content: str, classes: tuple[str, ...], kind: str
) -> None:
    data = numbered(tmp_path, *classes, **{file: content})
    if kind == "zip":
        data = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", data))
    dataset = open_dataset(data)
    assert named(dataset) == {"cat": 1, "dog": 2}
    assert any(f"named as in {Path(file).name} ({classes[0]} is 'cat'" in note for note in dataset.notes)
    assert not any("was not used" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"classes.txt": "cat\ndog\ncow\n"}, "classes.txt was not used for the names of classes: it has 3 names, and"),
        ({"classes.txt": "cat\ncat\n"}, "two classes would have one name, 'cat'"),
        ({"classes.txt": "\u00e9\ne\u0301\n"}, "two classes would have one name, 'é'"),
        ({"cat_to_name.json": '{"1": "dog"}'}, "cat_to_name.json was not used"),
        ({"classes.txt": LINES, "names.txt": "dog\ncat\n"}, "classes.txt and names.txt name the classes differently"),
        ({"classes.txt": "3\n4\n"}, ""),
        ({"index.csv": "0,a.jpg\n1,b.jpg\n"}, ""),
        ({"labels.txt": "", "classes.json": "[1, 2", "data.yaml": "names: !!python/object:os.system [x]"}, ""),
    ],
)
def test_a_list_that_may_mean_something_else_is_not_used(tmp_path: Path, files: dict[str, str], said: str) -> None:
    dataset = open_dataset(numbered(tmp_path, "0", "1", **files))
    assert dataset.classes == ("0", "1")
    assert any(said in note for note in dataset.notes) or not said


@pytest.mark.parametrize(
    ("content", "classes"),
    [
        ("/b/beach 1\n/a/airfield 0\n", ("/a/airfield", "/b/beach")),
        ("class 1\nclass 0\n", ("class 1", "class 0")),
        ("Boeing 707\nAirbus 320\n", ("Boeing 707", "Airbus 320")),
        ("dog 1\ncat\n", ("dog 1", "cat")),
        ("no 1 choice: 1\nfirst aid 0\n", ("first aid", "no 1 choice")),
    ],
)
def test_a_number_behind_each_name_is_that_of_its_class(tmp_path: Path, content: str, classes: tuple[str, str]) -> None:
    dataset = open_dataset(numbered(tmp_path, "0", "1", **{"categories.txt": content}))
    assert named(dataset) == dict(zip(classes, (1, 2), strict=True))


def test_a_table_of_numbers_gets_names_too_and_words_stay(tmp_path: Path) -> None:
    data = numbered(
        tmp_path, "a", **{"classes.txt": LINES, "b.jpg": "x", "x.csv": "path,label\na/a_0.jpg,0\nb.jpg,1\n"}
    )
    assert named(open_dataset(data / "x.csv")) == {"cat": 1, "dog": 1}
    words = numbered(tmp_path / "words", "ant", "bee", **{"classes.txt": LINES})
    assert open_dataset(words).classes == ("ant", "bee")


def test_ids_of_wordnet_that_graft_does_not_know_are_read_from_the_mapping(tmp_path: Path) -> None:
    lines = "n01440764 a fish, other words\nn00000002 strange thing, blob\n"
    data = numbered(tmp_path, "n00000002", "n01440764", **{"LOC_synset_mapping.txt": lines})
    assert named(open_dataset(data)) == {"strange thing": 1, "tench": 2}
    coded = numbered(tmp_path / "coded", "a", **{"class-descriptions.csv": "/m/01,Person\n/m/02,Shoe\n", "b.jpg": "x"})
    (coded / "train.csv").write_text("path,label\na/a_0.jpg,/m/01\nb.jpg,/m/02\n")
    assert named(open_dataset(coded / "train.csv")) == {"Person": 1, "Shoe": 1}


@pytest.mark.parametrize("name", ["classes.txt", "names.csv", "labels.json", "labels.mat"])
def test_what_is_no_file_or_far_too_long_is_not_read(tmp_path: Path, name: str) -> None:
    data = numbered(tmp_path, "0", "1")
    os.mkfifo(data / name)
    assert open_dataset(data).classes == ("0", "1")
    (data / name).unlink()
    (data / name).symlink_to("/dev/zero")
    assert open_dataset(data).classes == ("0", "1")


def test_a_row_that_never_ends_and_json_of_very_many_names_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "list.txt").write_text("a.jpg " * 2**14)
    with pytest.raises(DataError, match="rows of at most 65,536 bytes"):
        open_grid(tmp_path / "list.txt", beginning=True)
    (tmp_path / "x.json").write_text(json.dumps([{str(number): "x" for number in range(2**14 + 1)}]))
    with pytest.raises(DataError, match="at most 16,384"):
        open_grid(tmp_path / "x.json")


def test_a_long_name_is_cut_in_notes(tmp_path: Path) -> None:
    dataset = open_dataset(numbered(tmp_path, "0", "1", **{"classes.txt": f"{'a' * 5000}\nb\n"}))
    assert dataset.classes == ("a" * 5000, "b")
    assert max(map(len, dataset.notes)) < 400
