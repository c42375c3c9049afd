"""A set of deep images gives a head as good as its 8-bit original, and the model reads later images in the same way."""

import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deep_forms import FORMS as GREY_FORMS
from deep_forms import tiff
from PIL import Image

import graft
from graft.images.letters import dejavu_fonts, render_letters

LETTERS = tuple("АБЖИМОФЩ")
WITHIN = 0.02


def png(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


FORMS: dict[str, Callable[[np.ndarray], bytes]] = {
    **GREY_FORMS,
    "floats in colour": lambda grey: tiff(np.repeat((grey / 255).astype(np.float32)[:, :, None], 3, axis=2), "rgb"),
}


@cache
def letters(each: int, seed: int) -> list[tuple[np.ndarray, str]]:
    """Draw images of each letter, uint8 (height, width), with their labels."""
    images, labels = render_letters(LETTERS, dejavu_fonts(), each, seed)
    return [(image[:, :, 0], LETTERS[label]) for image, label in zip(images, labels, strict=True)]


def write(root: Path, form: Callable[[np.ndarray], bytes]) -> Path:
    """20 images of each letter to train on, 24 to validate with, under a name that is often wrong."""
    for split, each, seed in (("train", 20, 1), ("val", 24, 2)):
        for index, (image, letter) in enumerate(letters(each, seed)):
            folder = root / split / letter
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index:04}.tif").write_bytes(form(image))
    return root


def train(data: Path, out: Path, base: str = "latin_letters") -> Any:
    return graft.train(str(data), base=base, level="head", engine="torch", audit=False, out=str(out), quiet=True)


@pytest.fixture(scope="module")
def accuracy_of_8_bits(tmp_path_factory: pytest.TempPathFactory) -> float:
    root = tmp_path_factory.mktemp("bytes")
    run = train(write(root / "data", png), root / "run")
    assert not any("deeper" in note for note in run.notes)
    assert "levels" not in json.loads((root / "run/model/preprocessing.json").read_text())
    return float(run.val.top1)


@pytest.mark.parametrize("form", FORMS)
def test_a_head_on_any_depth_is_as_good_as_on_8_bits(form: str, accuracy_of_8_bits: float, tmp_path: Path) -> None:
    data = write(tmp_path / "data", FORMS[form])
    run = train(data, tmp_path / "run")
    assert accuracy_of_8_bits > 0.7 and abs(run.val.top1 - accuracy_of_8_bits) <= WITHIN
    assert sum("samples deeper than 8 bits are read as" in note for note in run.notes) == 1
    assert json.loads((tmp_path / "run/model/preprocessing.json").read_text())["levels"]


def test_one_image_is_predicted_and_evaluated_as_it_was_trained(tmp_path: Path) -> None:
    data = write(tmp_path / "data", FORMS["temperatures"])
    run = train(data, tmp_path / "run")
    evaluation = graft.evaluate(str(tmp_path / "run"), str(data), split="val", quiet=True)
    assert evaluation.scores.top1 == run.val.top1 and not any("deep" in note for note in evaluation.notes)
    classifier = graft.load(tmp_path / "run")
    files = sorted((data / "val").rglob("*.tif"))
    right = [
        prediction.label == file.parent.name for file, prediction in zip(files, classifier.predict(files), strict=True)
    ]
    assert np.mean(right) == pytest.approx(run.val.top1)
    # A file gets the same answer alone, as bytes, as a PIL image, and among others.
    answer = classifier.predict(files)[5].probability
    assert classifier.predict(files[5])[0].probability == pytest.approx(answer, abs=1e-5)
    assert classifier.predict(Image.open(files[5]))[0].probability == pytest.approx(answer, abs=1e-5)


def test_a_kind_of_samples_that_the_model_has_not_met_is_named(tmp_path: Path) -> None:
    train(write(tmp_path / "bytes", png), tmp_path / "run")
    data = write(tmp_path / "deep", FORMS["12 bits in 16"])
    found = graft.evaluate(str(tmp_path / "run"), str(data), split="val", quiet=True)
    assert any("not trained on images with samples of uint16" in note for note in found.notes)


def test_a_model_trained_further_decides_anew(tmp_path: Path) -> None:
    train(write(tmp_path / "twelve", FORMS["12 bits in 16"]), tmp_path / "first")
    data = write(tmp_path / "ten", FORMS["10 bits in 16, PNG"])
    train(data, tmp_path / "next", base=str(tmp_path / "first"))
    stored = json.loads((tmp_path / "next/model/preprocessing.json").read_text())
    assert stored["levels"] == {"uint16": [0.0, 1023.0]}
