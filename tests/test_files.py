"""Files appear whole or not at all, whoever is killed; the cache gives back what it keeps, within its budget."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graft import files
from graft.errors import InputError
from graft.files import KINDS, cache_budget, cache_folder, keep, keeping, make_room, read_kept, remove, write_aside
from graft.progress import NOBODY, Reporter

CONTENT = bytes(range(256)) * 8


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAFT_CACHE_BYTES", raising=False)
    return tmp_path / "cache" / "activations"


def told() -> tuple[Reporter, list[str]]:
    notes: list[str] = []
    return Reporter(note=notes.append), notes


def names(folder: Path) -> set[str]:
    return {child.name for child in folder.iterdir()}


@pytest.mark.parametrize("content", [CONTENT, b"", b"\0" * 100])
@pytest.mark.parametrize("facts", [{}, {"failures": {"3": 'a "quoted" \udcff reason'}, "shape": [1, 2]}])
def test_what_was_kept_is_read(own_cache: Path, content: bytes, facts: dict) -> None:
    keep(own_cache / "x", content, NOBODY, facts)
    kept = read_kept(own_cache / "x", NOBODY)
    assert kept is not None and kept.content == content and kept.facts == facts
    assert kept.content.readonly


def test_nothing_is_nothing(own_cache: Path) -> None:
    reporter, notes = told()
    assert read_kept(own_cache / "x", reporter) is None and notes == []


def test_no_changed_byte_is_overlooked(own_cache: Path) -> None:
    keep(own_cache / "x", CONTENT, NOBODY, {"shape": [2, 1024]})
    data = (own_cache / "x").read_bytes()
    for position in range(0, len(data), 7):
        (own_cache / "x").write_bytes(data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :])
        assert read_kept(own_cache / "x", NOBODY) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:10],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: bytes(len(data)),
        lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    ],
    ids=["empty", "short", "cut off", "longer", "zeros", "half zeros"],
)
def test_what_is_damaged_is_removed_and_told(own_cache: Path, damage: Callable[[bytes], bytes]) -> None:
    keep(own_cache / "x", CONTENT, NOBODY)
    (own_cache / "x").write_bytes(damage((own_cache / "x").read_bytes()))
    reporter, notes = told()
    assert read_kept(own_cache / "x", reporter) is None
    assert names(own_cache) == set()
    assert notes == [f"{own_cache / 'x'} was damaged and is removed: what the cache held there is computed again"]


def test_a_folder_where_a_file_belongs_makes_way(own_cache: Path) -> None:
    (own_cache / "x" / "y").mkdir(parents=True)
    reporter, notes = told()
    assert read_kept(own_cache / "x", reporter) is None
    assert len(notes) == 1 and "is removed" in notes[0] and not (own_cache / "x").exists()
    (own_cache / "x" / "y").mkdir(parents=True)
    keep(own_cache / "x", CONTENT, reporter)
    kept = read_kept(own_cache / "x", reporter)
    assert kept is not None and bytes(kept.content) == CONTENT and len(notes) == 1


def test_a_file_appears_only_when_it_is_complete(own_cache: Path) -> None:
    with pytest.raises(ZeroDivisionError), keeping(own_cache / "x", 0) as writer:
        writer.write(CONTENT)
        assert not (own_cache / "x").exists()
        _ = 1 / 0
    assert names(own_cache) == set()


def test_a_second_writer_of_the_same_file_is_content(own_cache: Path) -> None:
    with keeping(own_cache / "x", 0) as writer:
        keep(own_cache / "x", CONTENT, NOBODY)
        writer.write(CONTENT)
        writer.finish({})
    assert names(own_cache) == {"x"} and read_kept(own_cache / "x", NOBODY) is not None


def test_what_is_removed_while_it_is_used_stays_readable(own_cache: Path) -> None:
    keep(own_cache / "x", CONTENT, NOBODY)
    kept = read_kept(own_cache / "x", NOBODY)
    remove(own_cache / "x")
    assert kept is not None and kept.content == CONTENT


def test_reading_from_a_cache_of_others_does_not_destroy_it(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(own_cache / "x", CONTENT, NOBODY)

    def refuse(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    assert read_kept(own_cache / "x", NOBODY) is not None


def test_a_cache_that_cannot_be_written_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"x")
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "file" / "below"))
    reporter, notes = told()
    for kind in KINDS:
        keep(cache_folder() / kind / "x", CONTENT, reporter)
    assert notes == [
        f"the cache in {tmp_path}/file/below cannot be written (Not a directory), so the next run computes everything "
        "again: free space there, or set GRAFT_CACHE to a folder that can be written"
    ]


def test_a_full_disk_leaves_no_half(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "flush", full)
    reporter, notes = told()
    keep(own_cache / "x", CONTENT, reporter)
    assert names(own_cache) == set() and len(notes) == 1 and "No space left on device" in notes[0]


def test_more_than_the_budget_is_not_kept(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_CACHE_BYTES", str(len(CONTENT) + 100))
    keep(own_cache / "x", CONTENT, NOBODY)
    keep(own_cache / "y", CONTENT * 2, NOBODY)
    # Nothing was evicted for what would not fit anyway.
    assert names(own_cache) == {"x"}


STALLING = """
import sys, time
from pathlib import Path
from graft import files

def stall(*args):
    print("half", flush=True)
    time.sleep(60)

where, path = sys.argv[1], Path(sys.argv[2])
with files.keeping(path, 0) as writer:
    writer.write(b"half of it")
    writer._file.flush()
    if where == "content":
        stall()
    if where == "facts":
        files.json.dumps = stall
    if where == "rename":
        Path.replace = stall
    writer.finish({})
"""


@pytest.mark.parametrize("where", ["content", "facts", "rename"])
def test_a_killed_process_leaves_nothing_that_is_taken_for_the_file(own_cache: Path, where: str) -> None:
    path = own_cache / "x"
    process = subprocess.Popen([sys.executable, "-c", STALLING, where, path], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    (left,) = own_cache.iterdir()
    assert left.name.startswith(".")
    assert read_kept(path, NOBODY) is None
    keep(path, CONTENT, NOBODY)
    assert read_kept(path, NOBODY) is not None
    # Swept up a day later, not before: it could belong to a process that is still writing.
    make_room(0)
    assert left.exists()
    os.utime(left, (0, time.time() - 25 * 3600))
    make_room(0)
    assert names(own_cache) == {"x"}


def test_a_long_write_is_not_taken_for_an_abandoned_one(own_cache: Path) -> None:
    with keeping(own_cache / "x", 0) as writer:
        (aside,) = own_cache.iterdir()
        os.utime(aside, (0, time.time() - 48 * 3600))
        # Written to just now.
        writer.write(CONTENT)
        writer._file.flush()
        make_room(0)
        writer.finish({})
    assert read_kept(own_cache / "x", NOBODY) is not None


def test_what_was_used_longest_ago_goes_first(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in enumerate("abcd"):
        keep(own_cache / name, b"x" * 3970, NOBODY)
        os.utime(own_cache / name, (0, 1000 - age))
    # Used just now, though written first.
    assert read_kept(own_cache / "d", NOBODY) is not None
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "17000")
    make_room(4000)
    assert names(own_cache) == {"a", "b", "d"}
    make_room(9100)
    assert names(own_cache) == {"d"}
    make_room(17000)
    assert names(own_cache) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_kept_counts_in_the_budget(kind: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(own_cache / "x", b"x" * 3970, NOBODY)
    other = cache_folder() / kind / "y"
    write_aside(other, lambda file: file.write(b"x" * 4000))
    os.utime(other, (0, 1000))
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "8000")
    make_room(0)
    assert (own_cache / "x").exists() and other.exists()
    make_room(100)
    assert (own_cache / "x").exists() and not other.exists()


def test_folders_of_an_older_version_count_and_make_room(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_cache / "old").mkdir(parents=True)
    for name in ("values.bin", "entry.json"):
        (own_cache / "old" / name).write_bytes(b"x" * 2000)
        os.utime(own_cache / "old" / name, (0, 1000))
    os.utime(own_cache / "old", (0, 1000))
    keep(own_cache / "x", b"x" * 3970, NOBODY)
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "8000")
    make_room(0)
    assert names(own_cache) == {"old", "x"}
    make_room(100)
    assert names(own_cache) == {"x"}


def test_the_budget_is_stated_or_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert 0 < cache_budget() <= 20 * 2**30
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "123")
    assert cache_budget() == 123
    for wrong in ("much", "-1", "20 XiB"):
        monkeypatch.setenv("GRAFT_CACHE_BYTES", wrong)
        with pytest.raises(InputError, match="a size such as 500000000, 500MB or 10GiB in GRAFT_CACHE_BYTES"):
            cache_budget()


def test_a_folder_that_may_not_be_looked_at_is_told_when_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.shutil, "disk_usage", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    reporter, notes = told()
    keep(cache_folder() / "activations" / "x", CONTENT, reporter)
    assert len(notes) == 1 and "cannot be written (Permission denied)" in notes[0]


def test_the_folder_is_where_the_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFT_CACHE", "~/here")
    assert cache_folder() == Path.home() / "here"
    monkeypatch.delenv("GRAFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert cache_folder() == Path("/there/graft")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "graft"


def test_a_file_that_the_disk_has_no_room_for_is_named(tmp_path: Path, limited_files) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"first")
    with limited_files(10_000), pytest.raises(OSError, match="File too large") as raised:
        write_aside(target, lambda file: file.write(CONTENT * 10))
    assert raised.value.filename == str(target)
    assert target.read_bytes() == b"first" and names(tmp_path) == {"file"}


def test_a_file_that_cannot_be_opened_is_named_as_it_would_be_called(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long") as raised:
        write_aside(tmp_path / ("x" * 250), lambda file: None)
    assert raised.value.filename == str(tmp_path / ("x" * 250))


def test_a_file_written_aside_is_whole_or_not_there(tmp_path: Path) -> None:
    def fail(file) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    target = tmp_path / "deep" / "file"
    write_aside(target, lambda file: file.write(b"first"))
    with pytest.raises(OSError, match="No space left"):
        write_aside(target, fail)
    assert target.read_bytes() == b"first" and list(target.parent.iterdir()) == [target]


def test_numbers_of_numpy_are_numbers_in_json():
    values = {"usable": np.bool_(True), "n": np.int64(3), "top1": [np.float32(0.5), np.float64("nan")], 1: np.str_("a")}
    assert files.json_text(values, indent=None) == '{"usable": true, "n": 3, "top1": [0.5, null], "1": "a"}'
    with pytest.raises(TypeError):
        files.json_text(np.zeros(3))
