"""Archives in folders and in archives are what folders of their names would be."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.errors import DataError
from graft.files import EXPANDED, cache_folder


def packed(files: Mapping[str, bytes | str], kind: str = "zip", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    contents = {name: each.encode() if isinstance(each, str) else each for name, each in files.items()}
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz" if kind == "tar.gz" else "w") as archive:
            for name, content in contents.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def plant(root: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def held(dataset: Dataset) -> dict[str, dict[str, tuple[str | None, bytes]]]:
    return {
        split: {
            images.key(row): (dataset.item(split, row).label, bytes(images.read(row))) for row in range(len(images))
        }
        for split, images in dataset.splits.items()
    }


KINDS = ("zip", "tar", "tar.gz")
CAT, DOG = ("cat", b"cat"), ("dog", b"dog")


def in_all_forms(root: Path, files: Mapping[str, bytes | str], kind: str) -> Path:
    if kind == "folder":
        return plant(root / "data", files)
    path = root / f"data.{kind}"
    path.write_bytes(packed(files, kind))
    return path


@pytest.mark.parametrize("kind", ["folder", *KINDS])
@pytest.mark.parametrize("inner", KINDS)
def test_one_archive_for_each_class(tmp_path: Path, kind: str, inner: str) -> None:
    files = {f"{name}.{inner}": packed({f"{name}/1.jpg": name, "x/2.jpg": name}, inner) for name in ("cat", "dog")}
    dataset = open_dataset(in_all_forms(tmp_path, files, kind))
    assert held(dataset) == {
        "all": {
            "cat/cat/1.jpg": CAT,
            "cat/x/2.jpg": CAT,
            "dog/dog/1.jpg": DOG,
            "dog/x/2.jpg": DOG,
        }
    }
    images = dataset.splits["all"]
    assert images.name(0).endswith(f"cat.{inner}/cat/1.jpg") and len(set(images.stamps())) == 4


@pytest.mark.parametrize("kind", ["folder", *KINDS])
def test_one_archive_for_each_split(tmp_path: Path, kind: str) -> None:
    files = {
        "train.zip": packed({"cat/1.jpg": "cat", "dog/2.jpg": "dog"}),
        "test.zip": packed({"test/cat/3.jpg": "cat"}, method=zipfile.ZIP_STORED),
        "README": "words",
    }
    assert held(open_dataset(in_all_forms(tmp_path, files, kind))) == {
        "train": {"train/cat/1.jpg": CAT, "train/dog/2.jpg": DOG},
        "test": {"test/test/cat/3.jpg": CAT},
    }


@pytest.mark.parametrize("kind", ["folder", *KINDS])
def test_kaggles_tables_beside_zips(tmp_path: Path, kind: str) -> None:
    files = {
        "train.zip": packed({"train/a.jpg": "cat", "train/b.jpg": "dog"}),
        "test.zip": packed({"test/c.jpg": "cow"}),
        "labels.csv.zip": packed({"labels.csv": "id,breed\na,cat\nb,dog\n"}),
        "sample_submission.csv": "id,breed\nc,cat\n",
    }
    assert held(open_dataset(in_all_forms(tmp_path, files, kind))) == {
        "train": {"train/train/a.jpg": CAT, "train/train/b.jpg": DOG}
    }


def test_an_archive_in_an_archive_in_a_folder_and_what_is_deeper(tmp_path: Path) -> None:
    once = packed({"cat/1.jpg": "cat", "dog/2.jpg": "dog"})
    plant(tmp_path / "a", {"data.zip": packed({"inner.zip": once})})
    assert held(open_dataset(tmp_path / "a")) == {"all": {"data/inner/cat/1.jpg": CAT, "data/inner/dog/2.jpg": DOG}}
    plant(tmp_path / "b", {"data.zip": packed({"inner.zip": packed({"more.zip": once})})})
    with pytest.raises(DataError, match="a folder per class"):
        open_dataset(tmp_path / "b")


def test_an_archive_beside_what_was_unpacked_from_it_is_passed_over(tmp_path: Path) -> None:
    inside = {"cat/1.jpg": "cat", "dog/2.jpg": "dog"}
    plant(tmp_path, {**inside, "data.zip": packed({"cow/1.jpg": "cow"})})
    dataset = open_dataset(tmp_path)
    assert dataset.classes == ("cat", "dog") and str(tmp_path / "data.zip") in dataset.left_out


def test_an_archive_within_is_unpacked_again_if_the_cache_made_room(tmp_path: Path) -> None:
    files = {f"{name}.tar": packed({"1.jpg": name}, "tar") for name in ("cat", "dog")}
    dataset = open_dataset(in_all_forms(tmp_path, files, "zip"))
    for copy in (cache_folder() / EXPANDED).iterdir():
        copy.unlink()
    assert held(dataset)["all"]["dog/1.jpg"] == DOG


def test_a_damaged_archive_within_is_one_sentence(tmp_path: Path) -> None:
    plant(tmp_path, {"cat.zip": packed({"1.jpg": "cat"}), "dog.zip": packed({"1.jpg": "dog" * 100})[:-30]})
    with pytest.raises(DataError, match=r"a whole zip file, got dog\.zip"):
        open_dataset(tmp_path)
