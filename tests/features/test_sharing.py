"""Many processes make one cache entry: nothing is computed twice or lost, and the bytes are those of one process."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
import torch
from trunks import COLOUR, TORCH, Painted, make_network

from graft import files
from graft.data.dataset import Images
from graft.errors import GraftError
from graft.features import claims, extraction, sharing
from graft.features.claims import Claims
from graft.features.extraction import extract
from graft.models.network import Section
from graft.progress import Reporter

SMALL = replace(COLOUR, size=16)
COUNT, BROKEN = 200, (3, 64, 65, 199)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


class Ledger(Painted):
    """Images that record which process reads them, slowly enough for several processes to take part."""

    path: Path
    seconds = 0.002

    def read(self, row: int) -> bytes | np.ndarray:
        with self.path.open("a") as file:
            file.write(f"{os.getpid()} {row}\n")
        time.sleep(self.seconds)
        return super().read(row)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GRAFT_CACHE_BYTES", raising=False)
    monkeypatch.setattr(sharing, "LOOK_SECONDS", 0.02)
    return tmp_path / "cache" / "activations"


@pytest.fixture(scope="module")
def trunk() -> Section:
    return make_network("resnet20").split("stage1")[0]


@pytest.fixture
def images(tmp_path: Path) -> Images:
    source = Ledger(COUNT, BROKEN)
    source.path = tmp_path / "ledger"
    source.path.touch()
    return Images(source, np.arange(COUNT), np.zeros(COUNT, np.int64))


def read_by(images: Images) -> dict[int, list[int]]:
    """The rows that each process has read, in order."""
    found: dict[int, list[int]] = {}
    for line in images.source.path.read_text().splitlines():
        process, row = map(int, line.split())
        found.setdefault(process, []).append(row)
    return found


def start(work: Callable[[], object]) -> BaseProcess:
    def alone() -> None:
        torch.set_num_threads(1)
        work()

    process = get_context("fork").Process(target=alone)
    process.start()
    return process


def bytes_of_one_process(trunk: Section, images: Images, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    with monkeypatch.context() as alone:
        alone.delenv("GRAFT_SHARE", raising=False)
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        extract(trunk, {"val": images}, SMALL, TORCH)
        torch.set_num_threads(before)
    (entry,) = own_cache.iterdir()
    found = entry.read_bytes()
    entry.unlink()
    images.source.path.write_text("")
    return found


def test_three_processes_of_which_one_is_killed_make_the_bytes_of_one(
    trunk: Section, images: Images, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = bytes_of_one_process(trunk, images, own_cache, monkeypatch)
    monkeypatch.setenv("GRAFT_SHARE", "1")
    workers = [start(lambda: extract(trunk, {"val": images}, SMALL, TORCH)) for _ in range(3)]
    victim = workers[1]
    deadline = time.monotonic() + 30
    while len(read_by(images).get(victim.pid, ())) < 5:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(victim.pid, signal.SIGKILL)
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, -signal.SIGKILL, 0]
    (entry,) = own_cache.iterdir()
    assert entry.read_bytes() == expected
    read = read_by(images)
    by_others = Counter(row for pid, rows in read.items() if pid != victim.pid for row in rows)
    # The survivors computed nothing twice, and of the dead one's work only what it had not finished.
    assert max(by_others.values()) == 1 and len(read) == 3
    assert len(set(by_others) | set(read[victim.pid])) == COUNT
    again = extract(trunk, {"val": images}, SMALL, TORCH)["val"]
    assert again.cached and sorted(again.failures) == list(BROKEN)


def test_what_a_killed_process_left_is_gone_on_with_by_one_that_shares_nothing(
    trunk: Section, images: Images, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = bytes_of_one_process(trunk, images, own_cache, monkeypatch)
    monkeypatch.setenv("GRAFT_SHARE", "1")
    first = start(lambda: extract(trunk, {"val": images}, SMALL, TORCH))
    while not list(own_cache.glob(".*.shared/piece??????")):
        assert first.is_alive()
        time.sleep(0.002)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    pieces = len(list(own_cache.glob(".*.shared/piece??????")))
    images.source.path.write_text("")
    monkeypatch.delenv("GRAFT_SHARE")
    told: list[int] = []
    reporter = Reporter(step=lambda name, done, total, text="": told.append(done))
    extract(trunk, {"val": images}, SMALL, TORCH, reporter=reporter)
    (entry,) = own_cache.iterdir()
    assert entry.read_bytes() == expected
    assert len(read_by(images)[os.getpid()]) <= COUNT - 32 * pieces
    assert told[-1] == COUNT and told == sorted(told) and told[0] > 32 * pieces


def test_a_damaged_piece_is_computed_again(
    trunk: Section, images: Images, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = bytes_of_one_process(trunk, images, own_cache, monkeypatch)
    monkeypatch.setenv("GRAFT_SHARE", "1")
    monkeypatch.setattr(Ledger, "seconds", 0)
    join, damaged = sharing._join, []

    def damage(work: sharing.Work, reporter: Reporter) -> None:
        if not damaged:
            damaged.append(work.done(work.pieces[2]))
            data = bytearray(damaged[0].read_bytes())
            data[100] ^= 1
            damaged[0].write_bytes(data)
        join(work, reporter)

    monkeypatch.setattr(sharing, "_join", damage)
    notes: list[str] = []
    extract(trunk, {"val": images}, SMALL, TORCH, reporter=Reporter(note=notes.append))
    (entry,) = own_cache.iterdir()
    assert entry.read_bytes() == expected and any(f"{damaged[0]} was damaged" in note for note in notes)
    counts = Counter(read_by(images)[os.getpid()])
    assert {row for row, count in counts.items() if count == 2} == set(range(64, 96))


def test_other_versions_are_refused_by_name_while_somebody_is_at_work(
    trunk: Section, images: Images, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFT_SHARE", "1")
    monkeypatch.setattr(Ledger, "seconds", 0.05)
    first = start(lambda: extract(trunk, {"val": images}, SMALL, TORCH))
    try:
        while not list(own_cache.glob(".*.shared/begun.json")):
            time.sleep(0.01)
        own = sharing._versions()
        monkeypatch.setattr(sharing, "_versions", lambda: {**own, "torch": "1.0"})
        with pytest.raises(GraftError, match=r"expected torch \S+, which the processes at .* got 1\.0: install that"):
            extract(trunk, {"val": images}, SMALL, TORCH)
    finally:
        first.kill()
        first.join()
    # No process is left that it could disagree with: what the others made is thrown away.
    monkeypatch.setattr(Ledger, "seconds", 0)
    images.source.path.write_text("")
    assert len(extract(trunk, {"val": images}, SMALL, TORCH)["val"].values) == COUNT - len(BROKEN)
    assert len(read_by(images)[os.getpid()]) == COUNT


def test_a_full_disk_costs_one_that_has_memory_only_the_sharing(
    trunk: Section, images: Images, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFT_SHARE", "1")
    monkeypatch.setattr(Ledger, "seconds", 0)

    def full(writer: files.KeptWriter, data: memoryview) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.KeptWriter, "write", full)
    notes: list[str] = []
    found = extract(trunk, {"val": images}, SMALL, TORCH, reporter=Reporter(note=notes.append))["val"]
    assert len(found.values) == COUNT - len(BROKEN) and "No space left on device" in notes[0]
    monkeypatch.setattr(extraction, "IN_MEMORY_BYTES", 0)
    with pytest.raises(GraftError, match=r"expected room for .* bytes .* No space left on device: free some"):
        extract(trunk, {"val": images}, SMALL, TORCH)
    assert not list(own_cache.glob("*/*claim*"))


def test_one_process_alone_makes_no_claims(trunk: Section, images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("claimed")

    monkeypatch.setattr(extraction, "compute_together", refuse)
    monkeypatch.delenv("GRAFT_SHARE", raising=False)
    assert not extract(trunk, {"val": images.take(np.arange(4))}, SMALL, TORCH)["val"].cached


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_a_claim_grows_old_by_the_time_of_the_file_system_and_not_of_a_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + ahead)
    with Claims(tmp_path) as own:
        elsewhere = json.dumps({**claims.me(), "place": "another machine", "pid": 1})
        (tmp_path / "part.claim0").write_text(elsewhere)
        assert not own.take("part", tmp_path / "done")
        now = clock()
        os.utime(tmp_path / "part.claim0", (now, now - claims.GONE_AFTER_SECONDS + 20))
        assert not own.take("part", tmp_path / "done")
        os.utime(tmp_path / "part.claim0", (now, now - claims.GONE_AFTER_SECONDS - 20))
        assert own.take("part", tmp_path / "done")
        # Of two that come upon the dead claim, one follows it.
        with Claims(tmp_path) as other:
            assert not other.take("part", tmp_path / "done")
        own.release("part")
    assert not list(tmp_path.iterdir())


def test_a_claim_is_kept_alive_as_long_as_its_process_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_SECONDS", 0.01)
    with Claims(tmp_path) as own:
        assert own.take("part", tmp_path / "done")
        claim = tmp_path / "part.claim0"
        os.utime(claim, (0, 0))
        deadline = time.monotonic() + 10
        while claim.stat().st_mtime < 1:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert not list(tmp_path.iterdir())
