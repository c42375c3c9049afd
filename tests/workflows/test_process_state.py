"""A program that calls graft finds its process as it left it."""

import ctypes
import os
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from written_letters import write_letters

from graft.images.letters import CYRILLIC
from graft.training.recipe import Recipe
from graft.workflows.advise import advise
from graft.workflows.compare import compare
from graft.workflows.load import load
from graft.workflows.train import train

RECIPE = Recipe(epochs=1, dropout=0.5, augment="light", mixup=0.2, find_learning_rate=True)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three letters, trained on once before: libraries set what they need when they are first imported."""
    root = write_letters(tmp_path_factory.mktemp("letters") / "cyrillic", CYRILLIC[:3], 12)
    train(root, "latin_letters", "all", out=root.parent / "run", recipe=Recipe(epochs=1, augment="light"), quiet=True)
    return root


def state() -> dict[str, Any]:
    return {
        "torch's random numbers": torch.get_rng_state().tolist(),
        "numpy's random numbers": str(np.random.get_state()),
        "Python's random numbers": random.getstate(),
        "filters": list(warnings.filters),
        "environment": dict(os.environ),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "determinism": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "arithmetic": (torch.get_default_dtype(), torch.get_float32_matmul_precision(), torch.is_grad_enabled()),
        "oneDNN": (torch.backends.mkldnn.enabled, torch.backends.mkldnn.flags),
    }


@pytest.mark.parametrize("level", ["head", "stages:1", "scratch", "auto"])
def test_training_leaves_the_process_as_it_was(
    level: str, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []
    usual = ctypes.CDLL.__getattr__

    def look_up(library: ctypes.CDLL, name: str) -> Any:
        looked_up.append(name)
        return usual(library, name)

    monkeypatch.setattr(ctypes.CDLL, "__getattr__", look_up)
    before = state()
    train(letters, "latin_letters", level, out=tmp_path / "run", recipe=RECIPE, seed=5, quiet=True)
    after = state()
    assert [name for name in before if before[name] != after[name]] == []
    assert "mallopt" not in looked_up


def test_so_do_advice_and_comparison(letters: Path) -> None:
    before = state()
    advise(letters, "latin_letters", seed=5, quiet=True)
    compare(letters, "latin_letters", ["stages:1", "scratch"], seeds=1, recipe=Recipe(epochs=1), seed=5, quiet=True)
    after = state()
    assert [name for name in before if before[name] != after[name]] == []


@contextmanager
def settings_of_a_caller() -> Iterator[None]:
    """All that a program may have set for tensors of its own."""
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    try:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16),
            torch.autograd.set_detect_anomaly(True, check_nan=False),
            np.errstate(all="raise"),
        ):
            yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("level", ["head", "stages:1"])
def test_what_a_program_has_set_for_its_own_tensors_does_not_matter(level: str, letters: Path, tmp_path: Path) -> None:
    def answers(out: Path) -> np.ndarray:
        run = train(letters, "latin_letters", level, out=out, recipe=Recipe(epochs=1), seed=5, quiet=True)
        return load(run.folder, engine="torch").predict_proba(sorted(letters.rglob("*.png"))[:8])

    usual = answers(tmp_path / "usual")
    with settings_of_a_caller():
        found = answers(tmp_path / "set")
        assert torch.get_default_dtype() == torch.float64 and torch.get_default_device().type == "meta"
        assert torch.is_inference_mode_enabled() and torch.is_autocast_enabled("cpu") and torch.is_anomaly_enabled()
    assert np.array_equal(usual, found)


def test_what_the_process_drew_before_does_not_matter(letters: Path, tmp_path: Path) -> None:
    # Dropout draws from torch's own generator, and nothing else will do for it.
    scores = []
    for number in range(2):
        torch.rand(number)
        run = train(letters, "latin_letters", "scratch", out=tmp_path / str(number), recipe=RECIPE, seed=5, quiet=True)
        scores.append((run.folder / "metrics.jsonl").read_text().partition("seconds")[0])
    assert scores[0] == scores[1]
