"""Arguments of `graft predict` as images, each taken as what it is."""

import io
import os
import zipfile
from pathlib import Path

import pytest
from crafted import encode as encoded
from crafted import scene

from graft.errors import DataError, InputError
from graft.serving.gathering import gather, read_names


@pytest.fixture
def folder(shared: Path, tmp_path: Path) -> Path:
    for number, path in enumerate(sorted((shared / "datasets/ants_bees/train/bees").glob("*.jpg"))[:3]):
        (tmp_path / "bees").mkdir(exist_ok=True)
        (tmp_path / "bees" / f"{number}.jpg").write_bytes(path.read_bytes())
    return tmp_path / "bees"


def paths(*arguments: str, lines: tuple[str, ...] = ()) -> list[str]:
    return [entry.path for entry in gather(arguments, lines)]


def test_all_kinds_come_in_the_order_that_they_were_named_in(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.write(folder / "1.jpg", "inside/1.jpg")
    (tmp_path / "some.csv").write_text("path\nbees/2.jpg\n")
    arguments = [str(tmp_path / "packed.zip"), str(folder), f"{folder}/[02].jpg", str(tmp_path / "some.csv")]
    files = [str(folder / f"{number}.jpg") for number in range(3)]
    given = gather(arguments)
    assert [entry.path for entry in given] == ["inside/1.jpg", *files, files[0], files[2], "bees/2.jpg"]
    assert given.count == 7
    assert next(iter(given)).read() == Path(files[1]).read_bytes()


def test_names_on_stdin_stand_where_the_dash_does_and_need_not_be_there(folder: Path) -> None:
    first, last = str(folder / "0.jpg"), str(folder / "1.jpg")
    given = gather([first, "-", last], ["gone.jpg", "https://example.invalid/a.jpg"])
    assert [entry.path for entry in given] == [first, "gone.jpg", "https://example.invalid/a.jpg", last]
    assert given.count is None


@pytest.mark.parametrize("argument", ["gone.jpg", "~nobody/gone.jpg", "a" * 5000, "gone/*.jpg"])
def test_what_is_not_there_is_refused_before_any_work(argument: str, folder: Path) -> None:
    with pytest.raises(InputError, match=r"which does not exist|files that match"):
        gather([str(folder), argument])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got none"):
        gather([str(tmp_path)])


def test_a_file_of_which_the_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "1.jpg").rename(folder / "[1].jpg")
    assert paths(f"{folder}/[1].jpg") == [f"{folder}/[1].jpg"]


def test_lines_may_be_of_windows_and_names_no_text() -> None:
    data = b"a b.jpg\r\n\ncaf\xe9.jpg \nlast.jpg"
    assert list(read_names(io.BytesIO(data))) == ["a b.jpg", os.fsdecode(b"caf\xe9.jpg "), "last.jpg"]


def test_names_with_newlines_end_in_nul(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.serving.gathering.BLOCK", 3)
    assert list(read_names(io.BytesIO(b"one\n.jpg\0\0two.jpg\0three.jpg"), null=True)) == [
        "one\n.jpg",
        "two.jpg",
        "three.jpg",
    ]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_an_image_in_place_of_names_is_refused(kind: str) -> None:
    with pytest.raises(InputError, match="an image itself"):
        list(read_names(io.BytesIO(encoded(scene(), kind))))
    assert list(read_names(io.BytesIO(b"GIF8.gif\nRIFF.webp"))) == ["GIF8.gif", "RIFF.webp"]
    assert list(read_names(io.BytesIO(b"RIFF.gif\0a"), null=True)) == ["RIFF.gif", "a"]


def test_lines_are_passed_on_as_they_come() -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader, os.fdopen(write, "wb", buffering=0) as writer:
        names = read_names(reader)
        writer.write(b"first.jpg\nsec")
        assert next(names) == "first.jpg"
        writer.write(b"ond.jpg\n")
        assert next(names) == "second.jpg"
