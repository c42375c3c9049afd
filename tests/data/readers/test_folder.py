"""A folder per class: every file gets the name of its folder as its class, or a note says why it was left out."""

import os
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.data.dataset import Dataset, counts, relabel
from graft.data.opening import open_dataset
from graft.data.readers.folder import Files, files_below, list_folder, read_folder
from graft.data.splitting import with_validation
from graft.errors import DataError
from graft.on_disk import file_stamp


def plant(root: Path, *paths: str) -> Path:
    """Files at `paths` below `root`, each holding its own path; a path that ends in a slash is an empty folder."""
    for path in paths:
        target = root / path
        if path.endswith("/"):
            target.mkdir(parents=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(os.fsencode(path))
    return root


def labelled(dataset: Dataset) -> dict[str, dict[str, str | None]]:
    """Class by file name, by split."""
    items = {name: [dataset.item(name, i) for i in range(len(p))] for name, p in dataset.splits.items()}
    return {name: {Path(item.name).name: item.label for item in split} for name, split in items.items()}


def test_photographs_of_ants_and_bees(shared: Path) -> None:
    dataset = read_folder(shared / "datasets" / "ants_bees")
    assert dataset.name == "ants_bees" and dataset.classes == ("ants", "bees")
    assert {name: len(images) for name, images in dataset.splits.items()} == {"train": 245, "val": 153}
    assert dataset.notes == ()


def test_a_class_without_val_images_shifts_no_label(shared: Path) -> None:
    dataset = with_validation(open_dataset(shared / "datasets" / "pacs_sketch"))
    assert dataset.classes == ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
    assert counts(dataset.splits["val"], dataset.classes) == {
        name: 0 if name == "house" else 40 for name in dataset.classes
    }
    for split, images in dataset.splits.items():
        for index in range(len(images)):
            item = dataset.item(split, index)
            assert item.label == Path(item.name).parent.name
    assert [note for note in dataset.notes if "'house'" in note and "val" in note]


def test_folder_without_splits(tmp_path: Path) -> None:
    dataset = read_folder(plant(tmp_path, "cat/1.jpg", "ant/2.jpg", "ant/3.jpg"))
    assert dataset.classes == ("ant", "cat")
    assert labelled(dataset) == {"all": {"1.jpg": "cat", "2.jpg": "ant", "3.jpg": "ant"}}
    assert dataset.splits["all"].read(0) == b"ant/2.jpg"


@pytest.mark.parametrize(
    ("folder", "split"),
    [("val", "val"), ("valid", "val"), ("validation", "val"), ("VAL", "val"), ("Test", "test"), ("testing", "test")],
)
def test_spellings_of_splits(tmp_path: Path, folder: str, split: str) -> None:
    dataset = read_folder(plant(tmp_path, "Training/a/1", f"{folder}/a/2"))
    assert labelled(dataset) == {"train": {"1": "a"}, split: {"2": "a"}}


def test_two_spellings_of_one_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got val, valid: merge"):
        read_folder(plant(tmp_path, "train/a/1", "val/a/2", "valid/a/3"))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    dataset = read_folder(plant(tmp_path, "bus/1", "car/2", "train/steam/3"))
    assert labelled(dataset) == {"all": {"1": "bus", "2": "car", "3": "train"}}


def test_a_folder_beside_the_splits_does_not_turn_them_into_classes(tmp_path: Path) -> None:
    dataset = read_folder(plant(tmp_path, "train/a/1", "train/b/2", "val/a/3", "__MACOSX/train/x"))
    assert labelled(dataset) == {"train": {"1": "a", "2": "b"}, "val": {"3": "a"}}
    assert any("'__MACOSX'" in note for note in dataset.notes)


def test_nested_folders_belong_to_their_class(tmp_path: Path) -> None:
    dataset = read_folder(plant(tmp_path, "a/x/y/1", "a/2", "b/a/3"))
    assert labelled(dataset) == {"all": {"1": "a", "2": "a", "3": "b"}}


def test_hidden_files_and_folders_are_passed_over(tmp_path: Path) -> None:
    dataset = read_folder(plant(tmp_path, "a/1", "a/.2", "a/.cache/3", ".git/4", "b/5", ".DS_Store"))
    assert labelled(dataset) == {"all": {"1": "a", "5": "b"}}
    assert dataset.notes == ()


@pytest.mark.parametrize("parent", ["", "train/"])
def test_files_outside_any_class_are_noted(tmp_path: Path, parent: str) -> None:
    dataset = read_folder(plant(tmp_path, f"{parent}a/1", f"{parent}b/2", f"{parent}stray.jpg", "readme.txt"))
    notes = " ".join(dataset.notes)
    assert "stray.jpg" in notes and "readme.txt" in notes and "left out" in notes
    assert len(dataset) == 2


@pytest.mark.parametrize(("parent", "where"), [("", "{root}"), ("train/", "train")])
def test_an_empty_class_folder_is_noted(tmp_path: Path, parent: str, where: str) -> None:
    dataset = read_folder(plant(tmp_path, f"{parent}a/1", f"{parent}b/2", f"{parent}c/"))
    assert dataset.classes == ("a", "b")
    assert dataset.notes == (f"{where.format(root=tmp_path.name)}: class folder 'c' is empty and was left out",)


@pytest.mark.parametrize("paths", [(), ("1.jpg",), ("a/",), ("train/",), ("train/1.jpg",), ("train/a/", "val/a/")])
def test_nothing_to_read_is_one_sentence(tmp_path: Path, paths: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"expected a folder per class .* put the images"):
        read_folder(plant(tmp_path, *paths))


def test_names_of_any_bytes(tmp_path: Path) -> None:
    names = ["a b", "a\nb", "Ünïcødé 猫", "<b>&", os.fsdecode(b"\xff\xfe"), "a,b", "-n", "%s{0}"]
    dataset = read_folder(plant(tmp_path, *(f"{name}/{number}.jpg" for number, name in enumerate(names))))
    assert dataset.classes == tuple(sorted(names))
    assert labelled(dataset)["all"] == {f"{number}.jpg": name for number, name in enumerate(names)}
    images = dataset.splits["all"]
    assert all(images.read(index) and ":" in stamp for index, stamp in enumerate(images.stamps()))


def test_links_are_followed_and_cycles_end(tmp_path: Path) -> None:
    plant(tmp_path, "data/a/1", "data/b/2", "elsewhere/3")
    (tmp_path / "data" / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "self").symlink_to(tmp_path / "data" / "a")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "elsewhere")
    dataset = read_folder(tmp_path / "data")
    assert labelled(dataset) == {"all": {"1": "a", "3": "a", "2": "b"}}


def test_a_link_to_a_folder_above_brings_no_images_of_other_classes(tmp_path: Path) -> None:
    plant(tmp_path, "a/1", "b/2")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    dataset = read_folder(tmp_path)
    assert len(dataset) == 2 and labelled(dataset) == {"all": {"1": "a", "2": "b"}}


def test_a_folder_that_cannot_be_read_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, "a/1", "a/locked/2", "b/3")
    scandir = os.scandir

    def refuse(path: str) -> object:
        # The error that anyone but root gets.
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    dataset = read_folder(tmp_path)
    assert labelled(dataset) == {"all": {"1": "a", "3": "b"}}
    assert len(dataset.notes) == 1 and "locked cannot be read (Permission denied)" in dataset.notes[0]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_class_folder_without_rights_is_noted(tmp_path: Path) -> None:
    plant(tmp_path, "a/1", "b/2", "c/3")
    (tmp_path / "c").chmod(0)
    try:
        notes = read_folder(tmp_path).notes
    finally:
        (tmp_path / "c").chmod(0o700)
    assert any("cannot be read" in note for note in notes)


def test_what_is_no_file_is_refused_instead_of_read_for_ever(tmp_path: Path) -> None:
    plant(tmp_path, "a/")
    os.mkfifo(tmp_path / "a" / "pipe")
    (tmp_path / "a" / "zero").symlink_to("/dev/zero")
    files = Files.of(files_below(tmp_path))
    assert len(files) == 2
    for row, kind in enumerate(("a pipe", "a device")):
        with pytest.raises(OSError, match=rf"expected a regular file, got {kind}: .*cat > image\.jpg"):
            files.read(row)


def test_a_stamp_tells_files_of_one_size_and_time_apart(tmp_path: Path) -> None:
    plant(tmp_path, "1", "2")
    for name in "12":
        os.utime(tmp_path / name, ns=(0, 0))
    assert file_stamp(tmp_path / "1") != file_stamp(tmp_path / "2")
    assert file_stamp(tmp_path / "1") == file_stamp(tmp_path / "1")
    assert file_stamp(tmp_path / "3") == "missing"


def test_relabel_matches_by_name_in_any_order(tmp_path: Path) -> None:
    dataset = read_folder(plant(tmp_path, "train/a/1", "train/c/2", "val/c/3"))
    again = relabel(dataset, ("c", "b", "a"))
    assert again.classes == ("c", "b", "a") and labelled(again) == labelled(dataset)
    with pytest.raises(DataError, match="'c' as well"):
        relabel(dataset, ("a", "b"))


def test_relabel_leaves_what_has_no_label_without(tmp_path: Path) -> None:
    dataset = read_folder(plant(tmp_path, "a/1", "b/2"))
    dataset.splits["all"].labels[1] = -1
    again = relabel(dataset, ("b", "a"))
    assert labelled(again) == {"all": {"1": "a", "2": None}}
    assert counts(again.splits["all"], again.classes) == {"b": 0, "a": 1}


NAMES = st.text("abAB1 .-é", min_size=1, max_size=3).filter(lambda name: name not in {".", ".."} and name.strip())
PARTS = st.one_of(st.sampled_from(["train", "val", "a", "b"]), NAMES)
# Depth one to four below the root: stray files, images, images in folders of folders.
PATHS = st.lists(st.lists(PARTS, min_size=1, max_size=4), max_size=12)


@settings(max_examples=150, deadline=None)
@given(PATHS)
def test_no_tree_of_folders_shifts_a_label_or_loses_a_file_silently(paths: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        for number, parts in enumerate(paths):
            parent = root.joinpath(*parts[:-1])
            if any(above.is_file() for above in [parent, *parent.parents]):
                continue
            parent.mkdir(parents=True, exist_ok=True)
            (parent / f"{number} {parts[-1]}").write_bytes(b"x")
        visible = [
            path.relative_to(root)
            for path in root.rglob("*")
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts)
        ]
        try:
            dataset = read_folder(root)
        except DataError as error:
            # Refused by name: no images, folders that mean the same split, or that can be read in two ways.
            assert str(error).startswith("expected")
            return
        found: Counter[Path] = Counter()
        for split, images in dataset.splits.items():
            for index in range(len(images)):
                item = dataset.item(split, index)
                path = Path(item.name).relative_to(root)
                found[path] += 1
                assert item.label in path.parts[:-1] and (split == "all" or split in path.parts[:-1])
        assert set(found.values()) <= {1}
        left_out = {Path(name).relative_to(root) for name in dataset.left_out}
        assert found.keys() | left_out == set(visible) and not found.keys() & left_out
        # The files of one folder are all treated alike.
        assert not {path.parent for path in found} & {path.parent for path in left_out}
        assert bool(left_out) <= bool(dataset.notes)


def test_a_folder_is_listed_by_any_path_that_leads_to_it(tmp_path: Path) -> None:
    plant(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "empty").mkdir()
    for root in (tmp_path, tmp_path / "a" / "..", tmp_path / "a" / ".." / "b" / ".."):
        listing = list_folder(root)
        assert listing.name == tmp_path.name and listing.files.to_pylist() == [b"a/1.jpg", b"b/2.jpg"]
    for root in (tmp_path / "empty", tmp_path / "a" / ".." / "empty"):
        listing = list_folder(root)
        assert listing.name == "empty" and listing.files.to_pylist() == []


def test_a_folder_without_labels_is_left_out_with_the_command_that_classifies_it(tmp_path: Path) -> None:
    root = plant(tmp_path / "my data", "train/a/1.jpg", "train/b/2.jpg", "test/3.jpg")
    (note,) = open_dataset(root).notes
    assert note == (
        "my data: folder 'test' was left out, since it has no class folders, so its images have no labels: `graft "
        f"predict RUN '{root.resolve()}/test'` classifies them"
    )
