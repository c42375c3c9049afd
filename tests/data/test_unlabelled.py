"""Images are found in whatever holds them, with labels or without."""

import io
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from graft.data.unlabelled import open_images
from graft.errors import DataError
from graft.progress import Reporter


@pytest.fixture(scope="module")
def photographs(shared: Path) -> list[Path]:
    return sorted((shared / "datasets" / "ants_bees" / "train" / "bees").glob("*.jpg"))[:4]


@pytest.fixture
def folder(photographs: list[Path], tmp_path: Path) -> Path:
    root = tmp_path / "photographs"
    (root / "b").mkdir(parents=True)
    for number, path in enumerate(photographs):
        shutil.copy(path, root / ("b" if number % 2 else "") / f"{number}.jpg")
    (root / ".hidden").touch()
    return root


def keys(place: str | Path) -> list[str]:
    images = open_images(place)
    return [images.key(index) for index in range(len(images))]


def content(place: Path) -> list[bytes | np.ndarray]:
    images = open_images(place)
    return [images.read(index) for index in range(len(images))]


def test_a_folder_has_every_file_at_any_depth(folder: Path, photographs: list[Path]) -> None:
    names = ["0.jpg", "2.jpg", "b/1.jpg", "b/3.jpg"]
    assert keys(folder) == [str(folder / name) for name in names]
    assert content(folder) == [photographs[number].read_bytes() for number in (0, 2, 1, 3)]


@pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
def test_what_lies_among_images_and_is_named_as_no_image_is_passed_over_with_a_note(
    folder: Path, kind: str, tmp_path: Path
) -> None:
    # A table may be anything, such as predictions for the images.
    pyarrow.parquet.write_table(pyarrow.table({"path": ["0.jpg"], "label": ["bee"]}), folder / "predictions.parquet")
    (folder / "b" / "notes.txt").write_text("of May")
    (folder / "README").write_text("bees")
    # Image names need no extension, and a broken image is reported in its place.
    (folder / "scan0001").write_bytes((folder / "0.jpg").read_bytes())
    (folder / "4.jpg").write_text("not an image")
    place = folder if kind == "folder" else Path(shutil.make_archive(str(tmp_path / "packed"), kind, folder))
    notes: list[str] = []
    images = open_images(place, Reporter(note=notes.append))
    names = {Path(images.key(index)).name for index in range(len(images))}
    assert names == {"0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "scan0001"} and len(images) == 6
    (note,) = notes
    assert "3 files" in note and all(name in note for name in ("predictions.parquet", "notes.txt", "README")), note


def test_a_place_of_other_files_only_is_refused_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("of May")
    with pytest.raises(DataError, match=r"got 1 file named as something else \(notes\.txt\)"):
        open_images(tmp_path)
    # A file named by itself is looked at.
    assert len(open_images(tmp_path / "notes.txt")) == 1


@pytest.mark.parametrize("kind", ["zip", "tar", "gztar"])
def test_an_archive_has_its_members_whatever_folders_they_are_in(folder: Path, kind: str, tmp_path: Path) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), kind, folder))
    assert sorted(keys(archive)) == ["0.jpg", "2.jpg", "b/1.jpg", "b/3.jpg"]
    assert sorted(content(archive)) == sorted(content(folder))


def test_an_empty_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(DataError, match="got none"):
        open_images(tmp_path / "empty.zip")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_manifest_needs_no_labels_and_keeps_its_rows(
    folder: Path, photographs: list[Path], ending: str, tmp_path: Path
) -> None:
    paths = ["photographs/b/3.jpg", "photographs/gone.jpg", "photographs/0.jpg", "photographs/0.jpg"]
    manifest = tmp_path / f"images{ending}"
    if ending == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"path": paths}), manifest)
    elif ending == ".jsonl":
        manifest.write_text("".join(f'{{"file_name": "{path}"}}\n' for path in paths))
    else:
        separator = "," if ending == ".csv" else "\t"
        manifest.write_text("\n".join([f"path{separator}size", *(f"{path}{separator}1" for path in paths)]))
    images = open_images(manifest)
    assert keys(manifest) == paths
    assert images.read(0) == photographs[3].read_bytes()
    with pytest.raises(OSError, match="No such file"):
        images.read(1)


def test_a_table_without_paths_says_which_column_is_missing(tmp_path: Path) -> None:
    (tmp_path / "sizes.csv").write_text("width,height\n1,2\n")
    with pytest.raises(DataError, match=r"expected a column 'path'.*got 'width', 'height'"):
        open_images(tmp_path / "sizes.csv")


def test_embedded_images_need_no_labels(photographs: list[Path], tmp_path: Path) -> None:
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in photographs]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells}), tmp_path / "bees.parquet")
    assert keys(tmp_path / "bees.parquet") == [f"bees.parquet[{row}]" for row in range(4)]
    assert content(tmp_path) == [path.read_bytes() for path in photographs]


def test_idx_images_need_no_labels(tmp_path: Path) -> None:
    pixels = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    file = tmp_path / "t10k-images-idx3-ubyte"
    file.write_bytes(b"\0\0\x08\x03" + struct.pack(">III", *pixels.shape) + pixels.tobytes())
    assert [np.array_equal(*pair) for pair in zip(content(file), pixels, strict=True)] == [True, True]
    assert keys(tmp_path) == [f"{file.name}[0]", f"{file.name}[1]"]


def test_shards_have_their_images_and_not_their_labels(photographs: list[Path], tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "000.tar", "w") as shard:
        for path in photographs:
            for name, data in ((path.name, path.read_bytes()), (f"{path.stem}.cls", b"bee")):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                shard.addfile(member, io.BytesIO(data))
    assert keys(tmp_path / "000.tar") == [f"000.tar/{path.name}" for path in photographs]


def test_any_other_file_is_an_image_and_so_is_an_address(photographs: list[Path]) -> None:
    assert keys(photographs[0]) == [str(photographs[0])]
    assert keys("https://example.invalid/a.jpg") == ["https://example.invalid/a.jpg"]


@pytest.mark.parametrize(
    ("name", "found"),
    [("test.csv", "test"), ("sample_submission.csv", "test"), ("train.csv", "train")],
)
def test_the_table_of_a_split_names_the_images_of_that_split(tmp_path: Path, name: str, found: str) -> None:
    for split, count in (("train", 6), ("test", 4)):
        (tmp_path / split).mkdir()
        for number in range(count):
            (tmp_path / split / f"{number}.jpg").write_bytes(split.encode())
    (tmp_path / name).write_text("id,label\n0,a\n1,b\n2,a\n3,b\n")
    assert content(tmp_path / name) == [found.encode()] * 4


@pytest.mark.parametrize("text", ["id\n0\n1\n", "a,b\n1,2\n", "image_path,image_file\ntrain/0.jpg,test/0.jpg\n"])
def test_a_table_that_leaves_its_images_open_is_refused_with_no_option_that_is_not_there(
    tmp_path: Path, text: str
) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for number in range(3):
            (tmp_path / split / f"{number}.jpg").touch()
    (tmp_path / "some.csv").write_text(text)
    with pytest.raises(DataError, match="in a column 'path', or give the images or their folder") as told:
        open_images(tmp_path / "some.csv")
    assert "column`" not in str(told.value) and "image_dir" not in str(told.value)
