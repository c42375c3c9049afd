"""A zip or tar of folders is read as the folder would be; what is hostile in one is refused or left out by name."""

import io
import os
import random
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from graft import bombs, expanding, zip_members
from graft.data.dataset import Dataset
from graft.data.readers.archive import is_archive, read_archive
from graft.data.readers.folder import read_folder
from graft.errors import DataError, GraftError
from graft.files import EXPANDED, cache_folder, make_room

KINDS = ("zip", "tar", "tar.gz", "tar.bz2", "tar.xz")
TREE = ("train/ants/2.jpg", "train/ants/10.jpg", "train/bees/1.jpg", "val/bees/é 猫.jpg", "val/ants/sub/1.jpg", "a.txt")


def pack(path: Path, names: tuple[str | bytes, ...], prefix: str = "") -> Path:
    """An archive of the kind that its name says; each member holds its own name, and a slash ends an empty folder."""
    contents = {prefix + os.fsdecode(name): os.fsencode(name) for name in names}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in contents.items():
                archive.writestr(name, b"" if name.endswith("/") else content)
        return path
    mode = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode) as archive:
        for name, content in contents.items():
            add(archive, name, b"" if name.endswith("/") else content)
    return path


def add(
    archive: tarfile.TarFile, name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> None:
    member = tarfile.TarInfo(name.rstrip("/"))
    member.type = tarfile.DIRTYPE if name.endswith("/") else kind
    member.size, member.linkname = len(content), link
    archive.addfile(member, io.BytesIO(content))


def plant(root: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def content(dataset: Dataset) -> dict[str, list[tuple[bytes, str | None]]]:
    """Bytes and class of every image, in order, by split."""
    return {
        split: [(bytes(images.read(row)), dataset.item(split, row).label) for row in range(len(images))]
        for split, images in dataset.splits.items()
    }


@pytest.mark.parametrize("prefix", ["", "./", "photos/", "./photos/", "home/me/photos/"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_read_as_the_folder(tmp_path: Path, kind: str, prefix: str) -> None:
    path = pack(tmp_path / f"photos.{kind}", TREE, prefix)
    folder = read_folder(plant(tmp_path / "photos", TREE))
    dataset = read_archive(path)
    assert is_archive(path)
    assert (dataset.name, dataset.classes, dataset.notes) == (folder.name, folder.classes, folder.notes)
    assert content(dataset) == content(folder) and list(dataset.splits) == list(folder.splits)
    assert list(dataset.left_out) == [f"photos.{kind}/{prefix.removeprefix('./')}a.txt"]
    images = dataset.splits["train"]
    key = f"{prefix.removeprefix('./')}train/ants/10.jpg"
    assert images.key(0) == key and images.name(0) == f"photos.{kind}/{key}"
    assert len(set(images.stamps())) == 3
    assert sorted(each.name for each in tmp_path.iterdir()) == ["photos", f"photos.{kind}"]


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_photographs_in_an_archive(tmp_path: Path, shared: Path, kind: str) -> None:
    source = shared / "datasets" / "ants_bees" / "val"
    files = sorted(source.rglob("*.jpg"))[:40] + sorted(source.rglob("*.jpg"))[-40:]
    path = tmp_path / f"x.{kind}"
    names = [str(file.relative_to(source)) for file in files]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file, name in zip(files, names, strict=True):
                archive.write(file, name)
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            for file, name in zip(files, names, strict=True):
                archive.add(file, name)
    dataset = read_archive(path)
    assert dataset.classes == ("ants", "bees") and len(dataset) == 80
    for row, file in enumerate(files):
        assert dataset.splits["all"].key(row) == names[row]
        assert dataset.splits["all"].read(row) == file.read_bytes()


@pytest.mark.parametrize(
    ("names", "classes", "splits"),
    [
        (("ants/1", "ants/2"), ("ants",), {"all"}),
        (("ants/1", "ants/close/2"), ("ants",), {"all"}),
        (("photos/ants/1", "photos/bees/2"), ("ants", "bees"), {"all"}),
        (("photos/ants/1", "photos/bees/2", "photos/readme"), ("ants", "bees"), {"all"}),
        (("photos/ants/1", "photos/bees/"), ("ants",), {"all"}),
        (("train/ants/1", "train/bees/2"), ("ants", "bees"), {"train"}),
        (("photos/train/ants/1", "photos/train/bees/2"), ("ants", "bees"), {"train"}),
        (("photos/train/ants/1",), ("ants",), {"train"}),
        (("test/train/ants/1", "test/val/ants/2"), ("ants",), {"train", "val"}),
        (("photos/ants/1", "bees/2"), ("bees", "photos"), {"all"}),
        (("photos/ants/1", "photos/bees/2", "__MACOSX/photos/ants/._1", ".DS_Store"), ("ants", "bees"), {"all"}),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_the_outermost_folder_is_stepped_into_unless_it_is_the_class(
    tmp_path: Path, kind: str, names: tuple[str, ...], classes: tuple[str, ...], splits: set[str]
) -> None:
    dataset = read_archive(pack(tmp_path / f"x.{kind}", names))
    assert dataset.classes == classes and set(dataset.splits) == splits


def test_an_empty_class_folder_is_noted(tmp_path: Path) -> None:
    dataset = read_archive(pack(tmp_path / "x.zip", ("photos/", "photos/a/1", "photos/b/")))
    assert dataset.classes == ("a",) and any("'b' is empty" in note for note in dataset.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_it_is_one_sentence(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / f"x.{kind}", ())
    assert is_archive(path)
    with pytest.raises(DataError, match=r"expected a folder per class .* put the images"):
        read_archive(path)


def test_what_is_no_archive_is_told_by_content(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_bytes(b"no archive " * 100)
    (tmp_path / "empty.zip").write_bytes(b"")
    (tmp_path / "short.tar").write_bytes(bytes(600))
    with tarfile.open(tmp_path / "named.jpg", "w:gz") as archive:
        add(archive, "a/1", b"x")
    (tmp_path / "cut.gz").write_bytes(b"\x1f\x8b\x08")
    found = {path.name: is_archive(path) for path in [*tmp_path.iterdir(), tmp_path]}
    assert [name for name, archive in found.items() if archive] == ["named.jpg"]


@pytest.mark.parametrize("name", ["../a/1", "a/../../1", "a/..", "/a/1", "C:/a/1", "a\\..\\1", "\\a\\1"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_path_that_leads_out_is_refused_by_name(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(DataError, match=r"expected paths inside x\..*, which leads out") as caught:
        read_archive(pack(tmp_path / f"x.{kind}", ("a/1", "b/2", name)))
    # In a zip with no other separator, backslashes become slashes.
    assert repr(name) in str(caught.value) or repr(name.replace("\\", "/")) in str(caught.value)


def test_names_of_any_bytes_in_a_tar(tmp_path: Path) -> None:
    long = "b/" + "x" * 90 + "/" + "y" * 200
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / f"{form}.tar"
        with tarfile.open(path, "w", format=form) as archive:
            for name in (os.fsdecode(b"a/\xff\xfe.jpg"), long, "b/a\nb.jpg", "b/" + "z" * 98):
                add(archive, name, os.fsencode(name))
        images = read_archive(path).splits["all"]
        assert len(images) == 4 and images.source.key(0) == os.fsdecode(b"a/\xff\xfe.jpg")
        assert all(images.read(row) == os.fsencode(images.source.key(int(images.rows[row]))) for row in range(4))


def test_names_of_a_zip_without_the_flag(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", ("a/XXX.jpg", "b/YYYY.jpg", "b/ü.jpg"))
    # As old tools wrote: code page 437, and UTF-8 without saying so.
    path.write_bytes(path.read_bytes().replace(b"XXX", b"\x81\x8e\xe1").replace(b"YYYY", "éé".encode()))
    images = read_archive(path).splits["all"]
    assert [images.key(row) for row in range(3)] == ["a/üÄß.jpg", "b/éé.jpg", "b/ü.jpg"]
    assert images.read(2) == "b/ü.jpg".encode()


def test_a_zip_with_the_separators_of_windows(tmp_path: Path) -> None:
    dataset = read_archive(pack(tmp_path / "x.zip", ("train\\ants\\1", "train\\bees\\2", "val\\ants\\3")))
    assert dataset.classes == ("ants", "bees") and set(dataset.splits) == {"train", "val"}


def test_links_in_a_tar(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "a/1", b"one")
        add(archive, "b/hard", kind=tarfile.LNKTYPE, link="a/1")
        add(archive, "b/soft", kind=tarfile.SYMTYPE, link="../a/./1")
        add(archive, "b/out", kind=tarfile.SYMTYPE, link="../../etc/passwd")
        add(archive, "b/root", kind=tarfile.SYMTYPE, link="/etc/passwd")
        add(archive, "b/chain", kind=tarfile.SYMTYPE, link="soft")
        add(archive, "b/folder", kind=tarfile.SYMTYPE, link="../a")
        add(archive, "b/pipe", kind=tarfile.FIFOTYPE)
    dataset = read_archive(path)
    assert content(dataset) == {"all": [(b"one", "a"), (b"one", "b"), (b"one", "b")]}
    reason = "it is a link to something that is not a file in the archive"
    assert dataset.left_out == {
        **{f"x.tar/b/{name}": reason for name in ("out", "root", "chain", "folder")},
        "x.tar/b/pipe": "it is neither file nor folder",
    }
    assert any("5 entries were left out" in note for note in dataset.notes)


def test_links_in_a_zip_are_left_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/1", b"one")
        link = zipfile.ZipInfo("a/2")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    dataset = read_archive(tmp_path / "x.zip")
    assert len(dataset) == 1 and dataset.left_out == {"x.zip/a/2": "it is a link"}


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_the_last_of_entries_with_one_path_counts(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
            for text in ("old", "new"):
                archive.writestr("a/1", text)
    else:
        with tarfile.open(path, "w") as archive:
            for text in ("old", "new"):
                add(archive, "a/1", text.encode())
    dataset = read_archive(path)
    assert content(dataset) == {"all": [(b"new", "a")]}
    assert any("1 entry was left out, since a later one has the same path" in note for note in dataset.notes)


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", ("a/1", "b/2"))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="'a/1' is encrypted: pack it again without a password"):
        read_archive(path)


def edit_directory(path: Path, entry: int, offset: int, form: str, value: int) -> None:
    """Write a number into one entry of a zip's directory."""
    data = bytearray(path.read_bytes())
    place = -1
    for _ in range(entry + 1):
        place = data.index(b"PK\1\2", place + 1)
    struct.pack_into(form, data, place + offset, value)
    path.write_bytes(data)


def test_a_bomb_by_stated_sizes_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", ("a/1", "b/2"))
    edit_directory(path, 0, 24, "<I", 2**30)
    edit_directory(path, 1, 24, "<I", 1)
    with pytest.raises(DataError, match="is a bomb"):
        read_archive(path)


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", ("a/1", "b/2"))
    edit_directory(path, 1, 42, "<I", 0)
    with pytest.raises(DataError, match="overlap"):
        read_archive(path)


@pytest.mark.usefixtures("own_copies")
def test_a_compressed_tar_that_is_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bombs, "BOMB_BYTES", 2**20)
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        add(archive, "a/1", bytes(2**21))
    with pytest.raises(DataError, match=r"100 times the size of x\.tar\.gz"):
        read_archive(tmp_path / "x.tar.gz")
    assert not copies()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-10],
        lambda data: data[:-22],
        lambda data: data.replace(b"PK\1\2", b"PK\1\3", 1),
        lambda data: data[:-6] + b"\xff\xff\xff\x7f" + data[-2:],
        lambda data: data[:-10] + b"\xff\xff\xff\x7f" + data[-6:],
        lambda data: b"PK\3\4" + data[60:],
    ],
)
def test_a_zip_with_a_damaged_directory_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = pack(tmp_path / "x.zip", TREE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"expected a whole zip file, got x\.zip.* fetch it again"):
        read_archive(path)


def test_something_may_stand_in_front_of_a_zip(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", ("a/1", "b/2"))
    path.write_bytes(b"PK\3\4 a program" + path.read_bytes())
    assert content(read_archive(path)) == {"all": [(b"a/1", "a"), (b"b/2", "b")]}


@pytest.mark.parametrize("number", ["size", "start"])
def test_a_zip_with_numbers_of_64_bits(tmp_path: Path, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.zip"
    if number == "start":
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 20)
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/1", "b/2", "b/3"):
            with archive.open(name, "w", force_zip64=True) as opened:
                opened.write(name.encode() * 20)
    assert b"PK\6\6" in path.read_bytes() or number == "size"
    assert content(read_archive(path)) == {"all": [(b"a/1" * 20, "a"), (b"b/2" * 20, "b"), (b"b/3" * 20, "b")]}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_with_a_wrong_checksum_is_no_image(tmp_path: Path, method: int) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name in ("a/1", "b/2"):
            archive.writestr(name, name * 50)
    edit_directory(path, 0, 16, "<I", 7)
    images = read_archive(path).splits["all"]
    with pytest.raises(OSError, match="CRC"):
        images.read(0)
    assert images.read(1) == b"b/2" * 50


def test_damaged_and_unknown_members_of_a_zip_are_no_images(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/1", os.urandom(1000))
        archive.writestr("a/2", b"2", zipfile.ZIP_LZMA)
        archive.writestr("a/3", b"3", zipfile.ZIP_BZIP2)
        archive.writestr("a/4", b"4" * 100)
    data = path.read_bytes()
    last = data.rindex(b"PK\3\4")
    path.write_bytes(data[:35] + bytes(100) + data[135:last] + b"PK\3\5" + data[last + 4 :])
    images = read_archive(path).splits["all"]
    for row, reason in enumerate(("damaged|bytes", "method 14", "method 12", "damaged")):
        with pytest.raises(OSError, match=reason):
            images.read(row)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_member_that_is_too_large_is_not_read(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for where in (zip_members, expanding):
        monkeypatch.setattr(where, "MAX_BYTES", 1000)
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/1", bytes(1001))
            archive.writestr("a/2", bytes(1000))
    else:
        with tarfile.open(path, "w:gz") as archive:
            add(archive, "a/1", bytes(1001))
            add(archive, "a/2", bytes(1000))
    images = read_archive(path).splits["all"]
    with pytest.raises(OSError, match="at most 1,000 bytes, got 1,001"):
        images.read(0)
    assert images.read(1) == bytes(1000)


@pytest.mark.parametrize("checksum", [7, zlib.crc32(bytes(1000))])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_is_never_more_than_it_says(tmp_path: Path, method: int, checksum: int) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/1", bytes(20 * 2**20))
    edit_directory(path, 0, 24, "<I", 1000)
    edit_directory(path, 0, 16, "<I", checksum)
    images = read_archive(path).splits["all"]
    tracemalloc.start()
    # With the checksum of its beginning it is that.
    with (
        nullcontext() if method == zipfile.ZIP_DEFLATED and checksum != 7 else pytest.raises(OSError, match="expected")
    ):
        assert images.read(0) == bytes(1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_tar_that_is_cut_off_gives_what_is_whole(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"x.{kind}"
    noise = {name: random.Random(name).randbytes(300_000) for name in ("a/1", "b/2", "b/3")}
    # bzip2 yields nothing from an incomplete block, so the blocks are small.
    small = {"compresslevel": 1} if kind == "tar.bz2" else {}
    with tarfile.open(path, {"tar": "w"}.get(kind, f"w:{kind[4:]}"), **small) as archive:
        for name, data in noise.items():
            add(archive, name, data)
    path.write_bytes(path.read_bytes()[:750_000])
    dataset = read_archive(path)
    whole = [noise[name] for name in ("a/1", "b/2")]
    assert content(dataset) == {"all": list(zip(whole, ("a", "b"), strict=True))}
    assert dataset.left_out == {f"x.{kind}/b/3": f"x.{kind} ends in the middle of it"}
    assert any("is not whole" in note and "'b/3'" in note and "2 whole files" in note for note in dataset.notes)


@pytest.mark.parametrize(("length", "reason"), [(1536, "it lacks the mark"), (1100, "it is cut off")])
def test_a_tar_that_ends_elsewhere(tmp_path: Path, length: int, reason: str) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "a/1", b"1")
        add(archive, "b/2", bytes(600))
    data = path.read_bytes()
    path.write_bytes(data[:1024] + data[1024:][: length - 1024])
    dataset = read_archive(path)
    assert content(dataset) == {"all": [(b"1", "a")]}
    assert any("x.tar is not whole" in note for note in dataset.notes)


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_tar_of_which_nothing_is_left_is_refused(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / f"x.{kind}", ("a/1", "b/2"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"is not whole \(it .*fetch it again"):
        read_archive(path)


def test_a_tar_that_is_damaged_in_the_middle(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.tar", ("a/1", "b/2", "b/3"))
    data = bytearray(path.read_bytes())
    data[1024 + 30] ^= 1
    path.write_bytes(data)
    dataset = read_archive(path)
    assert content(dataset) == {"all": [(b"a/1", "a")]}
    assert any("neither a tar header" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("record", "whole"),
    [(b"0 path=a/2\n", 1), (b"12 size=-99\n", 1), (b"99 path=a/2\n", 2), (b"-1 path=a/2\n", 2), (b"x" * 12, 2)],
)
def test_a_pax_header_that_makes_no_sense(tmp_path: Path, record: bytes, whole: int) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        add(archive, "a/1", b"1")
        add(archive, "header", record, kind=tarfile.XHDTYPE)
        add(archive, "b/3", b"3")
    dataset = read_archive(path)
    assert [data for data, _ in content(dataset)["all"]] == [b"1", b"3"][:whole]
    assert any("is not whole" in note for note in dataset.notes) == (whole == 1)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE])
@pytest.mark.parametrize("size", [-512, -(2**20), 2**40, 2**80])
def test_a_header_that_states_an_absurd_size_ends_the_tar(tmp_path: Path, kind: bytes, size: int) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("a/1", "b/2", "b/3"):
            add(archive, name, name.encode())
    data = bytearray(path.read_bytes())
    header = data[1024:1536]
    # As GNU writes what is too large for eleven octal digits, or negative.
    header[124:136] = bytes([0xFF if size < 0 else 0x80]) + size.to_bytes(11, "big", signed=True)
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[1024:1536] = header
    path.write_bytes(data)
    tracemalloc.start()
    dataset = read_archive(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert content(dataset) == {"all": [(b"a/1", "a")]} and peak < 2**23
    assert any("x.tar is not whole" in note and "fetch it again" in note for note in dataset.notes)


def test_an_image_that_is_gone_since_is_unreadable(tmp_path: Path) -> None:
    for kind in ("zip", "tar", "tar.gz"):
        path = pack(tmp_path / f"x.{kind}", ("a/1", "b/2"))
        images = read_archive(path).splits["all"]
        if kind == "tar.gz":
            assert images.read(0) == b"a/1"
            continue
        path.write_bytes(path.read_bytes()[:20])
        with pytest.raises(OSError, match="expected"):
            images.read(1)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_read_in_any_order(tmp_path: Path, kind: str) -> None:
    noise = {f"{'ab'[i % 2]}/{i:03}": random.Random(i).randbytes(random.Random(i).randrange(6000)) for i in range(60)}
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in noise.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, {"tar": "w"}.get(kind, f"w:{kind[4:]}")) as archive:
            for name, data in noise.items():
                add(archive, name, data)
    images = read_archive(path).splits["all"]
    rows = list(range(60)) * 2
    random.Random(0).shuffle(rows)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(images.read, rows))
    assert all(data == noise[images.key(row)] for row, data in zip(rows, found, strict=True))


COMPRESSED = ("tar.gz", "tar.bz2", "tar.xz")


@pytest.fixture
def own_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))


def copies() -> list[Path]:
    """The files in the cache of compressed tars, finished or not."""
    folder = cache_folder() / EXPANDED
    return list(folder.iterdir()) if folder.is_dir() else []


@pytest.mark.usefixtures("own_copies")
@pytest.mark.parametrize("kind", COMPRESSED)
def test_a_compressed_tar_is_expanded_once(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / f"x.{kind}", TREE)
    expected = content(read_archive(path))
    (copy,) = copies()
    with tarfile.open(copy, "r:") as plain:
        assert sorted(plain.getnames()) == sorted(TREE)
    monkeypatch.setattr(expanding, "_expand", lambda *paths: pytest.fail("expanded again"))
    assert content(read_archive(path)) == expected


@pytest.mark.usefixtures("own_copies")
def test_a_tar_that_has_changed_is_expanded_again(tmp_path: Path) -> None:
    read_archive(pack(tmp_path / "x.tar.gz", ("a/1", "b/2")))
    changed = read_archive(pack(tmp_path / "x.tar.gz", ("a/3", "b/4")))
    assert content(changed) == {"all": [(b"a/3", "a"), (b"b/4", "b")]}


@pytest.mark.usefixtures("own_copies")
def test_a_copy_counts_in_the_budget_and_is_made_again_when_it_had_to_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = read_archive(pack(tmp_path / "x.tar.gz", TREE))
    expected = content(dataset)
    (copy,) = copies()
    monkeypatch.setenv("GRAFT_CACHE_BYTES", str(copy.stat().st_size))
    make_room(0)
    assert copy.exists()
    make_room(1)
    assert not copy.exists()
    with ThreadPoolExecutor(4) as pool:
        images = dataset.splits["train"]
        assert list(pool.map(images.read, range(3))) == [data for data, _ in expected["train"]]
    assert copies() == [copy]
    read_archive(pack(tmp_path / "y.tar.gz", TREE))
    assert len(copies()) == 1 and not copy.exists()


@pytest.mark.usefixtures("own_copies")
def test_content_that_the_cache_has_no_room_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "x.tar.gz", TREE)
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "4000")
    with pytest.raises(DataError, match=r"room in the cache for the content of x\.tar\.gz.* unpack it"):
        read_archive(path)
    assert not copies()
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "100000")
    assert len(read_archive(path)) == 5


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(GraftError, match=r"expected to expand x\.tar\.gz .* or unpack it and name the folder"):
        read_archive(pack(tmp_path / "x.tar.gz", TREE))
