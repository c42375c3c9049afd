"""Classifiers that an earlier process left ready answer the same, without PyTorch."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from trunks import BOTH_PRECISIONS, needs_bfloat16

from graft.errors import WeightsError
from graft.files import COMPILED, cache_folder
from graft.serving.predictor import Classifier, class_probabilities, load
from graft.serving.ready import Asked, ReadyClassifier, as_bfloat16, open_ready
from graft.weights.calibration import Domain
from graft.weights.saved import class_logits, load_model, save_model

pytest.importorskip("openvino")

RANDOM = np.random.default_rng(0)
IMAGES = [RANDOM.integers(0, 256, shape).astype(np.uint8) for shape in ((40, 60, 3), (32, 32, 3), (1, 7, 3), (200, 90))]
ALONE = """
import sys, graft
classifier = graft.load(sys.argv[1], engine="openvino")
print([prediction.to_dict() for prediction in classifier.predict(sys.argv[2:], top=3)])
print("torch" in sys.modules)
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / COMPILED


@pytest.fixture
def run(letters_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(letters_run, tmp_path / "run"))


@pytest.fixture
def strict(run: Path) -> Path:
    """A run that knows what its training images are like."""
    saved = load_model(run / "model")
    assert saved.calibration is not None
    width = next(tensor.shape[1] for tensor in saved.network.head.parameters() if tensor.ndim == 2)
    bank = np.abs(RANDOM.normal(size=(8, width)))
    bank = (bank / np.linalg.norm(bank, axis=1, keepdims=True)).astype(np.float16)
    domain = Domain(bank, neighbours=2, threshold=0.3, kept=0.95, n=40)
    save_model(run / "model", replace(saved, calibration=replace(saved.calibration, domain=domain)))
    return run


def asked_of(run: Path, **asked: object) -> Asked:
    return Asked(run / "model", **{"engine": "openvino", "precision": "float32", "singles": False, **asked})


def usual(run: Path, precision: str = "float32") -> tuple[Classifier, list[object]]:
    classifier = load(run, engine="openvino", precision=precision)
    return classifier, list(classifier.predict(IMAGES))


def test_all_know_how_many_images_go_side_by_side_without_reading_the_network(cache: Path, run: Path) -> None:
    alone = load(run, engine="openvino", precision="float32", singles=True)
    assert alone.lanes >= 1
    ready = open_ready(asked_of(run, singles=True))
    assert isinstance(ready, ReadyClassifier) and ready.lanes == alone.lanes
    assert ready._saved is None, "the network was read"
    # Networks compiled for eight images gain from batching, and so does PyTorch.
    assert load(run, engine="openvino", precision="float32").lanes == load(run, engine="torch").lanes == 0


@pytest.mark.parametrize("precision", BOTH_PRECISIONS)
def test_they_give_the_same_answers_to_the_bit(cache: Path, run: Path, precision: str) -> None:
    assert open_ready(asked_of(run, precision=precision)) is None
    classifier, expected = usual(run, precision)
    ready = open_ready(asked_of(run, precision=precision))
    assert isinstance(ready, ReadyClassifier)
    assert list(ready.predict(IMAGES)) == expected
    assert ready._saved is None, "the network was read"
    assert (ready.classes, ready.preprocessing) == (classifier.classes, classifier.preprocessing)
    assert (ready.facts, str(ready.choice)) == (classifier.facts, str(classifier.choice))
    # Whatever needs the network still gets it.
    assert ready.saved.network.config == classifier.saved.network.config


def test_a_process_that_finds_one_does_not_import_pytorch(run: Path, cache: Path, shared: Path) -> None:
    images = [str(path) for path in sorted((shared / "datasets" / "ants_bees" / "val" / "ants").iterdir())[:3]]

    def alone() -> list[str]:
        done = subprocess.run([sys.executable, "-c", ALONE, run, *images], capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    first, second = alone(), alone()
    assert (first[1], second[1]) == ("True", "False")
    assert first[0] == second[0] and "'label'" in first[0]


@pytest.mark.parametrize(
    "asked", [{"precision": "bfloat16"}, {"singles": True}, {"engine": "torch"}, {"precision": "auto"}]
)
def test_one_holds_only_for_what_was_asked(cache: Path, run: Path, asked: dict[str, object]) -> None:
    usual(run)
    assert open_ready(asked_of(run)) is not None
    assert open_ready(asked_of(run, **asked)) is None


@pytest.mark.parametrize("name", ["labels.json", "preprocessing.json", "calibration.json", "model.safetensors"])
def test_one_holds_only_for_the_model_that_it_was_made_of(cache: Path, run: Path, name: str) -> None:
    usual(run)
    file = run / "model" / name
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert open_ready(asked_of(run)) is None
    file.write_bytes(content)
    assert open_ready(asked_of(run)) is not None


def test_a_model_that_changed_while_it_was_opened_leaves_none(cache: Path, run: Path) -> None:
    classifier = load(run, engine="openvino", precision="float32")
    file = run / "model" / "calibration.json"
    before = file.read_bytes()
    file.write_text(json.dumps({"temperature": 3.0}))
    classifier.predict(IMAGES)
    assert open_ready(asked_of(run)) is None
    file.write_bytes(before)
    assert open_ready(asked_of(run)) is None


@pytest.mark.parametrize("gone", ["calibration.json", "domain.safetensors"])
def test_a_model_without_what_is_optional_opens_as_often_as_asked(cache: Path, strict: Path, gone: str) -> None:
    (strict / "model" / gone).unlink()
    classifier, expected = usual(strict)
    ready = open_ready(asked_of(strict))
    assert ready is not None and list(ready.predict(IMAGES)) == expected
    assert (ready.calibration is None) == (classifier.calibration is None)


def test_a_network_that_is_read_later_is_the_one_that_was_opened(cache: Path, strict: Path) -> None:
    _, expected = usual(strict)
    ready = open_ready(asked_of(strict))
    assert ready is not None
    save_model(strict / "model", replace(load_model(strict / "model"), temperature=3.0))
    assert list(ready.predict(IMAGES)) == expected
    for needs_it in (lambda: ready.predict(IMAGES, abstain=True), lambda: pickle.dumps(ready), lambda: ready.saved):
        with pytest.raises(WeightsError, match="which has replaced it: load it again"):
            needs_it()


@needs_bfloat16
def test_the_probability_is_the_same_where_strange_images_have_no_answer(cache: Path, strict: Path) -> None:
    classifier, expected = usual(strict, "bfloat16")
    for each in (classifier, open_ready(asked_of(strict, precision="bfloat16"))):
        assert each is not None
        found = each.predict(IMAGES, abstain=True)
        assert [one.top for one in found] == [one.top for one in expected]  # type: ignore[attr-defined]
        assert all(one.distance is not None for one in found)


def notes(cache: Path) -> Iterator[Path]:
    """Notes have no content but facts, so they are the smaller files."""
    yield from (path for path in cache.iterdir() if path.stat().st_size < 10_000)


def test_a_damaged_note_is_none_and_a_damaged_section_is_made_again(cache: Path, run: Path) -> None:
    _, expected = usual(run)
    (note,) = notes(cache)
    content = note.read_bytes()
    note.write_bytes(content.replace(b"float32", b"float23"))
    assert open_ready(asked_of(run)) is None
    note.write_bytes(content)
    (section,) = (path for path in cache.iterdir() if path != note)
    damaged = bytearray(section.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    section.write_bytes(damaged)
    ready = open_ready(asked_of(run))
    assert ready is not None and list(ready.predict(IMAGES)) == expected
    section.unlink()
    assert open_ready(asked_of(run)) is None


def test_numbers_are_rounded_to_bfloat16_as_pytorch_rounds_them() -> None:
    values = np.concatenate([RANDOM.normal(0, 100, 100_000), [0.0, -0.0, np.inf, -np.inf, 1.00390625, 1.01171875]])
    values = values.astype(np.float32)
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    assert np.array_equal(as_bfloat16(values), expected)


@pytest.mark.parametrize("outputs", [None, ((0, 3), (5,), (1, 2, 4))])
def test_probabilities_are_those_of_the_logits(outputs: tuple[tuple[int, ...], ...] | None) -> None:
    logits = RANDOM.normal(0, 30, (50, 7))
    expected = torch.softmax(class_logits(torch.from_numpy(logits), outputs) / 1.7, 1).numpy()
    found = class_probabilities(logits, outputs, 1.7)
    assert np.allclose(found, expected, rtol=1e-12, atol=0) and np.allclose(found.sum(1), 1)


def test_the_cache_is_where_it_is_said_to_be(cache: Path) -> None:
    assert cache == cache_folder() / COMPILED
