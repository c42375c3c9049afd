"""Bases that are kept while a process asks for them again and again."""

import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from graft.weights.base import BUNDLED, Base, load_base
from graft.weights.kept import MOST, KeptBases, keeping_bases, kept_bases


class Loads:
    """Counts how often a base is read."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def of(self, name: str):
        def load() -> Base:
            self.done.append(name)
            return load_base("latin_letters")

        return load


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return Path(shutil.copy(BUNDLED / "latin_letters.safetensors", tmp_path / "letters.safetensors"))


def test_a_base_is_read_once_and_handed_out_as_a_copy() -> None:
    kept, loads = KeptBases(), Loads()
    first, second = (kept.loaded("latin_letters", (0,), loads.of("latin_letters")) for _ in range(2))
    assert len(loads.done) == 1
    with torch.no_grad():
        next(first.network.parameters()).zero_()
    first.network.new_head(3)
    for tensor, expected in zip(
        second.network.parameters(), load_base("latin_letters").network.parameters(), strict=True
    ):
        assert torch.equal(tensor, expected)
    kept.loaded("latin_letters", (1,), loads.of("latin_letters"))
    assert len(loads.done) == 2


def test_other_files_under_the_same_name_are_read_again(weights: Path, tmp_path: Path) -> None:
    kept, loads = KeptBases(), Loads()
    for name in (str(weights), str(tmp_path)):
        loads.done.clear()
        kept.loaded(name, (), loads.of(name))
        kept.loaded(name, (), loads.of(name))
        assert len(loads.done) == 1
        os.utime(weights, ns=(1, len(name)))
        kept.loaded(name, (), loads.of(name))
        assert len(loads.done) == 2


def test_what_lies_on_a_hub_is_asked_for_every_time() -> None:
    kept, loads = KeptBases(), Loads()
    for _ in range(2):
        kept.loaded("hf:owner/name", (), loads.of("hf"))
    assert len(loads.done) == 2


def test_those_asked_for_last_are_kept() -> None:
    kept, loads = KeptBases(), Loads()
    for number in (*range(MOST), 0, MOST, 0):
        kept.loaded("latin_letters", (number,), loads.of(str(number)))
    assert loads.done == [str(number) for number in range(MOST + 1)]


def test_they_are_kept_within_the_block_alone_and_not_pickled() -> None:
    kept = KeptBases()
    kept.loaded("latin_letters", (), lambda: load_base("latin_letters"))
    with keeping_bases(kept):
        assert kept_bases() is kept
    assert kept_bases() is None
    assert len(pickle.dumps(kept)) < 200
