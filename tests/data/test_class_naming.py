"""Classes have the names that people mean, whatever holds the images."""

import zipfile
from pathlib import Path

import numpy as np

from graft.data.class_naming import wordnet_words
from graft.data.dataset import counts
from graft.data.opening import open_dataset

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_both_forms_of_unicode_are_one_class_in_a_table(tmp_path: Path) -> None:
    for name in "1234":
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "x.csv").write_text(f"path,label\n1,{COMPOSED}\n2,tea\n3,{DECOMPOSED}\n4,bar\n")
    dataset = open_dataset(tmp_path / "x.csv")
    assert dataset.classes == ("bar", COMPOSED, "tea") and dataset.splits["all"].labels.tolist() == [1, 2, 1, 0]
    assert [note for note in dataset.notes if "NFC and NFD" in note]


def test_both_forms_of_unicode_are_one_class_in_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in (f"{COMPOSED}/1", f"{DECOMPOSED}/2", "tea/3"):
            archive.writestr(name, b"x")
    dataset = open_dataset(tmp_path / "x.zip")
    assert counts(dataset.splits["all"], dataset.classes) == {COMPOSED: 2, "tea": 1}


def test_a_class_in_one_form_is_called_alike_in_both_without_a_note(tmp_path: Path) -> None:
    for name in (DECOMPOSED, "tea"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1").write_bytes(b"x")
    dataset = open_dataset(tmp_path)
    assert dataset.classes == (COMPOSED, "tea") and not dataset.notes


def test_wordnet_ids_are_read_as_what_they_name_only_if_all_classes_are_such(tmp_path: Path) -> None:
    for name in ("n02102040", "n01440764", "n99999999"):
        (tmp_path / "ids" / name).mkdir(parents=True)
        (tmp_path / "ids" / name / "1").write_bytes(b"x")
    dataset = open_dataset(tmp_path / "ids")
    assert dataset.classes == ("English springer", "n99999999", "tench")
    assert [dataset.item("all", index).label for index in range(3)] == ["tench", "English springer", "n99999999"]
    assert "2 classes named by WordNet ids" in dataset.notes[0] and "n01440764 is 'tench'" in dataset.notes[0]
    (tmp_path / "ids" / "dog").mkdir()
    (tmp_path / "ids" / "dog" / "1").write_bytes(b"x")
    assert "n01440764" in open_dataset(tmp_path / "ids").classes


def test_the_ids_are_those_of_imagenets_thousand_classes_in_their_order() -> None:
    ids = list(wordnet_words())
    assert len(ids) == 1000 and ids == sorted(ids)
    assert [wordnet_words()[ids[index]] for index in (0, 217, 701)] == ["tench", "English springer", "parachute"]


def test_images_beside_folds_are_in_none_of_them(tmp_path: Path) -> None:
    for path in ("fold_0/ant/1", "fold_0/bee/2", "fold_1/ant/3", "fold_1/bee/4", "test/ant/5", "test/bee/6"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(b"x")
    dataset = open_dataset(tmp_path)
    groups = [images.groups for images in dataset.splits.values()]
    assert len(np.unique(np.concatenate([each for each in groups if each is not None]))) == 4
    assert len(dataset.notes) == 1


def test_folds_are_groups_unless_others_are_asked_for(tmp_path: Path) -> None:
    for fold in range(3):
        for name in ("ant", "bee"):
            (tmp_path / f"fold_{fold}" / name).mkdir(parents=True)
            (tmp_path / f"fold_{fold}" / name / f"{fold % 2}.jpg").write_bytes(b"x")
    groups = open_dataset(tmp_path).splits["all"].groups
    assert groups is not None and groups.tolist() == [0, 0, 1, 1, 2, 2]
    groups = open_dataset(tmp_path, group=r"\d\.jpg").splits["all"].groups
    assert groups is not None and len(np.unique(groups)) == 2
