"""A file counts once, however its path is spelled; behind a link, a folder is not the one above the link."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from graft.data.opening import open_dataset
from graft.on_disk import in_one_spelling


@pytest.mark.parametrize("data", ["x.csv", ""])
def test_a_file_under_two_spellings_is_one_image(tmp_path: Path, data: str) -> None:
    (tmp_path / "x").mkdir()
    for row in range(5):
        (tmp_path / f"{row}.png").write_bytes(b"%d" % row)
    rows = [
        "./0.png,a",
        "0.png,b",
        "1.png,b",
        f"{tmp_path}/1.png,b",
        "x/../2.png,a",
        "2.png,a",
        ".//3.png,b",
        "4.png,a",
    ]
    (tmp_path / "x.csv").write_text("\n".join(["path,label", *rows]))
    dataset = open_dataset(tmp_path / data)
    images = dataset.splits["all"]
    assert {images.read(row): dataset.item("all", row).label for row in range(len(images))} == {
        b"0": "a",
        b"1": "b",
        b"2": "a",
        b"3": "b",
        b"4": "a",
    }
    assert any("2 rows of x repeat others and count once (1.png, 2.png)" in note for note in dataset.notes)
    assert any("1 row of x contradicts the label" in note and "(0.png: 'a' and 'b')" in note for note in dataset.notes)
    assert not dataset.left_out


def test_folders_behind_links_and_addresses_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    (tmp_path / "near/link").symlink_to(tmp_path / "far/away")
    written = [
        "near/link/../1.png",
        "near/./1.png",
        "near/link/1.png",
        "../1.png",
        "https://a.b/./1.png",
        "1.png",
        "./1.png",
    ]
    spelled = in_one_spelling(tmp_path, pa.array(map(os.fsencode, written), pa.large_binary()))
    assert [os.fsdecode(each.as_py()) for each in spelled] == [
        "near/link/../1.png",
        "near/1.png",
        "near/link/1.png",
        "../1.png",
        "https://a.b/./1.png",
        "1.png",
        "1.png",
    ]


def test_a_missing_file_is_named_as_it_is_written(tmp_path: Path) -> None:
    for row in range(4):
        (tmp_path / f"{row}.png").write_bytes(b"%d" % row)
    rows = [*(f"{tmp_path}/{row}.png,{'ab'[row % 2]}" for row in range(4)), "/home/nobody/9.png,a"]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows]))
    assert [*open_dataset(tmp_path).left_out] == ["/home/nobody/9.png"]
