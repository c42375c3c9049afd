"""Layouts that people have are understood, in folders and in archives, or a sentence says why not."""

import io
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.data.dataset import Dataset, counts
from graft.data.opening import open_dataset
from graft.errors import DataError
from layouts import LAYOUTS, Layout, files_of


def plant(root: Path, files: Mapping[str, bytes]) -> Path:
    for path, content in files.items():
        target = root / path
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    return root


def build(root: Path, files: Mapping[str, bytes], kind: str) -> Path:
    """The files as a folder, a zip or a tar called `photos`."""
    if kind == "folder":
        return plant(root / "photos", files)
    path = root / f"photos.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.rstrip("/"))
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def understood(dataset: Dataset) -> dict[str, dict[str, int]]:
    return {split: counts(images, dataset.classes) for split, images in dataset.splits.items()}


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_layout_is_understood_or_refused_by_name(tmp_path: Path, layout: Layout, kind: str) -> None:
    if layout.folder_only and kind != "folder":
        pytest.skip("an archive hides this")
    files = files_of(layout.paths)
    data = build(tmp_path, files, kind)
    if layout.refused:
        with pytest.raises(DataError, match=f"^expected .*{layout.said}"):
            open_dataset(data)
        return
    dataset = open_dataset(data)
    assert understood(dataset) == layout.understood
    assert any(re.search(layout.said, note) for note in dataset.notes) or not layout.said
    assert len(dataset.left_out) == layout.left_out
    assert len(dataset) + layout.left_out == sum(not path.endswith("/") for path in files)
    for split, images in dataset.splits.items():
        assert all(images.read(index) for index in range(len(images))), split


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_what_windows_hides_is_passed_over(tmp_path: Path, kind: str) -> None:
    files = files_of(("cat/*2", "dog/*2", "Desktop.ini", "cat/Thumbs.db"))
    dataset = open_dataset(build(tmp_path, files, kind))
    assert understood(dataset) == {"all": {"cat": 2, "dog": 2}} and not dataset.left_out


def test_there_are_layouts_of_many_kinds() -> None:
    assert len(LAYOUTS) >= 60 and len({layout.name for layout in LAYOUTS}) == len(LAYOUTS)


JUNK = {
    "@eaDir/thumb.jpg": "the disk station's",
    "__MACOSX/._x": "a Mac's",
    "$RECYCLE.BIN/S-1-5/x.png": "Windows'",
    "models/best.pt": "weights",
    "runs/exp1/args.yaml": "a run",
    "docs/readme.md": "words",
}
SPELLED = {
    "train": ("train", "Training", "training_set", "seg_train", "trainset", "Training Set", "dataset_train", "train1"),
    "val": ("val", "valid", "Validation", "dev", "eval", "valset", "Validation Set", "val_images"),
    "test": ("test", "Testing", "test_set", "seg_test", "testset", "hold-out", "dataset_test", "test1"),
}


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.sampled_from(("train", "val", "test"))),
    st.lists(st.sampled_from(("data", "archive", "my photos", "train", "x")), max_size=3),
    st.sets(st.sampled_from(sorted(JUNK))),
    st.sets(st.sampled_from(("", "inner")), max_size=1),
    st.sampled_from(("folder", "zip", "tar")),
    st.data(),
)
def test_wrappers_junk_and_other_names_of_splits_change_nothing(
    splits: set[str], wrappers: list[str], junk: set[str], around: set[str], kind: str, data: st.DataObject
) -> None:
    plain = {split: {"ant": 3, "bee": 2} for split in splits} or {"all": {"ant": 3, "bee": 2}}
    # Above classes alone, `train` is a split.
    above = "".join(f"{name}/" for name in wrappers if splits or name != "train")
    paths = []
    for split, classes in plain.items():
        spelled = "" if split == "all" else data.draw(st.sampled_from(SPELLED[split])) + "/"
        inner = "".join(f"{name}/" for name in around if name and split != "all")
        paths += [f"{above}{spelled}{inner}{name}/*{count}" for name, count in classes.items()]
    paths += [f"{where}{path}" for path in junk for where in {"", above}]
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_dataset(build(Path(folder), files_of(tuple(paths)), kind))
        order = ("train", "val", "test", "all")
        expected = {split: plain[split] for split in order if split in plain}
        assert understood(dataset) == expected
