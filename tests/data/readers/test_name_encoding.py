"""Names in zips made on Windows are decoded correctly, and a note says how they were read."""

import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from graft.data.opening import open_dataset
from graft.data.readers.archive import read_archive
from graft.data.table_options import TableOptions
from graft.errors import InputError
from graft.name_encoding import encoding_of

WORDS = {
    "gbk": ("苹果", "香蕉", "西红柿"),
    "cp932": ("リンゴ", "みかん", "犬"),
    "big5": ("蘋果", "香蕉", "紅蘿蔔"),
    "cp949": ("고양이", "강아지", "말"),
    "cp1252": ("café", "Müller", "Größe"),
    "cp437": ("café", "Müller", "ñandú"),
    "cp866": ("кошка", "Собака"),
    "cp1251": ("кошка", "Собака"),
}


def pack(path: Path, names: list[bytes], extra: bytes = b"") -> Path:
    """A zip with image names of undeclared encoding."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo("x" * len(name))
            info.extra = extra
            archive.writestr(info, name)
    data = path.read_bytes()
    # Both in front of the content and in the directory at the end, the longest first, as others are within it.
    for name in sorted(names, key=len, reverse=True):
        data = data.replace(b"x" * len(name), name)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("encoding", WORDS)
def test_class_names_of_other_code_pages_come_out_right(tmp_path: Path, encoding: str) -> None:
    # Of different lengths, so that each is found in its place.
    names = [f"{word}/{'1' * (5 * number + 1)}.jpg".encode(encoding) for number, word in enumerate(WORDS[encoding])]
    dataset = read_archive(pack(tmp_path / "x.zip", names))
    assert set(dataset.classes) == set(WORDS[encoding])
    assert len(dataset.notes) == 1 and f"read as {encoding}" in dataset.notes[0] and "UTF-8" in dataset.notes[0]


def test_an_encoding_that_is_given_is_used(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", ["고양이/1.jpg".encode("cp949"), "개/2.jpg".encode("cp949")])
    dataset = read_archive(path, encoding="cp949")
    assert dataset.classes == ("개", "고양이") and not dataset.notes
    with pytest.raises(InputError, match=r"expected the name of an encoding .* got 'klingon'"):
        read_archive(path, encoding="klingon")


def test_the_option_reaches_the_names_and_is_refused_where_it_means_nothing(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", ["고양이/1.jpg".encode("cp949"), "개/2.jpg".encode("cp949")])
    assert open_dataset(path, table=TableOptions(encoding="cp949")).classes == ("개", "고양이")
    by_name = open_dataset(path, table=TableOptions(encoding="cp949", label_from="^(.)"))
    assert by_name.classes == ("개", "고")
    (tmp_path / "folder" / "a").mkdir(parents=True)
    (tmp_path / "folder" / "a" / "1.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="`encoding`"):
        open_dataset(tmp_path / "folder", table=TableOptions(encoding="gbk"))


def test_the_name_in_unicode_beside_that_in_a_code_page_counts(tmp_path: Path) -> None:
    stored, meant = "猫/1.jpg".encode("gbk"), "猫/1.jpg".encode()
    field = b"\1" + struct.pack("<L", zlib.crc32(stored)) + meant
    path = pack(tmp_path / "x.zip", [stored], struct.pack("<HH", 0x7075, len(field)) + field)
    dataset = read_archive(path)
    assert dataset.classes == ("猫",) and not dataset.notes


def test_what_fits_two_encodings_is_uncertain() -> None:
    assert encoding_of(["猫".encode("cp932"), "馬".encode("cp932")])[1] is False
