"""One pass over all images: what it tells, what it keeps, and when it looks again."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from graft.audit.looking import BLOCK, FORMATS, Looks, look
from graft.data.dataset import Images
from graft.data.readers.folder import Files
from graft.data.readers.idx import Pixels
from graft.progress import Reporter


def files(folder: Path) -> Images:
    paths = sorted(folder.iterdir())
    return Images(Files.of(paths), np.arange(len(paths)), np.zeros(len(paths), np.int64))


def photograph(seed: int, size: tuple[int, int] = (60, 40)) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(BLOCK + 3):
        photograph(number).save(folder / f"{number:03d}.png")
    return folder


def same(one: Looks, other: Looks) -> bool:
    columns = [name for name in vars(one) if name not in ("reasons", "overlays")]
    return one.reasons == other.reasons and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in columns
    )


class Counting(Files):
    """Files that are counted as they are read."""

    reads = 0

    def read(self, row: int) -> bytes:
        Counting.reads += 1
        return super().read(row)


@pytest.fixture
def counted(folder: Path) -> Callable[[], tuple[Images, Callable[[], int]]]:
    def made() -> tuple[Images, Callable[[], int]]:
        Counting.reads = 0
        paths = sorted(folder.iterdir())
        return Images(Counting.of(paths), np.arange(len(paths)), np.zeros(len(paths), int)), lambda: Counting.reads

    return made


def test_what_files_say_is_told_of_each(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    photograph(0, (600, 400)).save(folder / "a.jpg", exif=turned)
    photograph(1).save(folder / "b.jpg", "PNG")
    photograph(2).save(folder / "c.gif", save_all=True, append_images=[photograph(3)])
    photograph(4).save(folder / "d.dat", "BMP")
    looks = look(files(folder))
    assert [FORMATS[number] for number in looks.format] == ["JPEG", "PNG", "GIF", "BMP"]
    assert looks.width.tolist() == [400, 60, 60, 60] and looks.height.tolist() == [600, 40, 40, 40]
    assert looks.orientation.tolist() == [6, 1, 1, 1] and looks.frames.tolist() == [1, 1, 2, 1]
    # An ending that promises nothing cannot be wrong.
    assert looks.wrong_suffix.tolist() == [False, True, False, False]
    assert looks.size.tolist() == [path.stat().st_size for path in sorted(folder.iterdir())]
    assert not looks.reasons and looks.decoded.all() and len(looks) == 4
    assert (looks.entropy > 2).all() and (looks.thumbnail.std((1, 2)) > 10).all()


def test_equal_content_has_an_equal_digest_wherever_it_lies(folder: Path) -> None:
    (folder / "zz.jpg").write_bytes((folder / "004.png").read_bytes())
    digest = look(files(folder)).digest
    assert (digest[-1] == digest[4]).all() and len(np.unique(digest, axis=0)) == len(digest) - 1


def test_arrays_are_looked_at_as_they_are() -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 28, 20), dtype=np.uint8)
    array[3] = array[1]
    looks = look(Images(Pixels(array, "digits", ""), np.arange(5), np.zeros(5, np.int64)))
    assert {FORMATS[number] for number in looks.format} == {"pixels"} and not looks.wrong_suffix.any()
    assert looks.width.tolist() == [20] * 5 and looks.height.tolist() == [28] * 5 and not looks.saturation.any()
    assert (looks.digest[3] == looks.digest[1]).all() and len(np.unique(looks.digest, axis=0)) == 4


def test_images_that_cannot_be_decoded_are_named_with_the_reason_and_tried_again(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "002.png").read_bytes()
    (folder / "002.png").write_bytes(whole[:60])
    (folder / "005.png").write_bytes(b"no image")
    (folder / "007.png").unlink()
    (folder / "007.png").symlink_to(tmp_path / "gone")
    for _ in range(2):
        looks = look(files(folder), tmp_path / "cache")
        assert list(looks.reasons) == [2, 5, 7] and np.flatnonzero(~looks.decoded).tolist() == [2, 5, 7]
        assert "incomplete or damaged" in looks.reasons[2] and "No such file" in looks.reasons[7]
        assert not looks.width[[2, 5, 7]].any() and looks.width.sum() == 60 * (len(looks) - 3)
    (folder / "002.png").write_bytes(whole)
    assert list(look(files(folder), tmp_path / "cache").reasons) == [5, 7]


def test_a_second_look_reads_no_file_and_tells_the_same(counted, tmp_path: Path) -> None:
    images, reads = counted()
    first = look(images, tmp_path / "cache")
    assert reads() == len(images)
    again, reads = counted()
    assert same(look(again, tmp_path / "cache"), first) and reads() == 0
    assert same(look(again), first)


def test_only_what_changed_is_looked_at_again(counted, folder: Path, tmp_path: Path) -> None:
    look(counted()[0], tmp_path / "cache")
    photograph(99).save(folder / "010.png")
    (folder / "020.png").unlink()
    photograph(98).save(folder / "010b.png")
    images, reads = counted()
    looks = look(images, tmp_path / "cache")
    assert reads() == 2 and same(looks, look(images))


def test_a_change_of_the_same_size_and_time_is_seen(counted, folder: Path, tmp_path: Path) -> None:
    (folder / "000.bmp").write_bytes(b"")
    photograph(1).save(folder / "000.bmp")
    first = look(counted()[0], tmp_path / "cache")
    times = (folder / "000.bmp").stat()
    photograph(2).save(folder / "000.bmp")
    os.utime(folder / "000.bmp", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (folder / "000.bmp").stat().st_size == times.st_size
    assert (look(counted()[0], tmp_path / "cache").digest[0] != first.digest[0]).any()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-100], lambda data: b"", lambda data: data[:10], lambda data: bytes(len(data))]
)
def test_a_damaged_cache_is_made_anew_and_told(damage, folder: Path, tmp_path: Path) -> None:
    first = look(files(folder), tmp_path / "cache")
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(damage(kept.read_bytes()))
    notes: list[str] = []
    assert same(look(files(folder), tmp_path / "cache", Reporter(note=notes.append)), first)
    assert len(notes) == 1 and f"{kept} was damaged" in notes[0]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [kept.name]
    assert same(look(files(folder), tmp_path / "cache"), first)


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"a file")
    assert len(look(files(folder), tmp_path / "cache")) == BLOCK + 3


def test_nothing_is_written_beside_the_images(folder: Path, tmp_path: Path) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir())
    look(files(folder), tmp_path / "cache")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in folder.iterdir()) == before
    assert {path.name for path in tmp_path.iterdir()} == {"data", "cache"}


def test_progress_goes_up_to_all(folder: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    reporter = Reporter(step=lambda name, done, total, text="": told.append((done, total)))
    look(files(folder), tmp_path / "cache", reporter)
    count = BLOCK + 3
    assert told[-1] == (count, count) and [done for done, _ in told] == sorted(done for done, _ in told)
    told.clear()
    look(files(folder), tmp_path / "cache", reporter)
    assert told == [(count, count)]


def test_what_was_seen_before_an_interruption_is_kept(counted, tmp_path: Path) -> None:
    def interrupt(name: str, done: int, total: int, text: str = "") -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(counted()[0], tmp_path / "cache", Reporter(step=interrupt))
    images, reads = counted()
    look(images, tmp_path / "cache")
    assert 0 <= reads() <= len(images) - 3


def test_no_images_are_no_looks(tmp_path: Path) -> None:
    nothing = Images(Files.of([]), np.arange(0), np.zeros(0, np.int64))
    assert len(look(nothing, tmp_path)) == 0


def test_large_photographs_are_measured_alike_at_full_and_reduced_scale() -> None:
    """A JPEG is decoded at a fraction of its size where that is enough."""
    image = photograph(7, (900, 700))
    contents = []
    for kind in ("JPEG", "PNG"):
        content = io.BytesIO()
        image.save(content, kind, quality=95)
        contents.append(content.getvalue())

    class Encoded:
        def __len__(self) -> int:
            return 2

        def name(self, row: int) -> str:
            return str(row)

        key = stamp = name

        def read(self, row: int) -> bytes:
            return contents[row]

    looks = look(Images(Encoded(), np.arange(2), np.zeros(2, np.int64)))
    assert looks.width.tolist() == [900, 900] and looks.height.tolist() == [700, 700]
    assert np.abs(looks.thumbnail[0].astype(int) - looks.thumbnail[1]).max() <= 3
    assert looks.entropy[0] == pytest.approx(looks.entropy[1], abs=0.1)
