"""A saved classifier at work."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

import graft
from graft.errors import InputError
from graft.serving.predictor import FIRST_GROUP, GROUP, Classifier
from graft.serving.writing import write_predictions
from graft.weights.base import load_base
from graft.weights.saved import SavedModel, save_model
from graft.workflows.letters import LATIN, dejavu_fonts, render_letters


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled letters as a saved model, so that predictions are worth something."""
    base = load_base("latin_letters")
    folder = tmp_path_factory.mktemp("saved") / "run"
    save_model(folder / "model", SavedModel(base.network, base.preprocessing, LATIN, temperature=1.5))
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    """Forty letters as PNG files, with their classes."""
    folder = tmp_path_factory.mktemp("letters")
    pixels, labels = render_letters(LATIN[:20], dejavu_fonts(), 2, seed=5)
    written = []
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        path = folder / f"{index:02}.png"
        Image.fromarray(image[:, :, 0]).save(path)
        written.append((path, LATIN[label]))
    return written


@pytest.fixture(scope="module")
def classifier(model: Path) -> Classifier:
    return graft.load(model, engine="torch", precision="float32")


def test_a_run_folder_and_its_model_folder_are_the_same_classifier(model: Path, images: list) -> None:
    paths = [path for path, _ in images[:3]]
    assert graft.load(model).predict(paths) == graft.load(model / "model").predict(paths)


def test_predictions_are_right_ordered_and_add_up(classifier: Classifier, images: list) -> None:
    predictions = classifier.predict([path for path, _ in images], top=len(LATIN))
    assert [prediction.path for prediction in predictions] == [str(path) for path, _ in images]
    assert np.mean([found.label == label for found, (_, label) in zip(predictions, images, strict=True)]) > 0.7
    for prediction in predictions:
        probabilities = [probability for _, probability in prediction.top]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1)
        assert (prediction.label, prediction.probability) == prediction.top[0]


def test_paths_bytes_and_pixels_are_the_same_image(classifier: Classifier, images: list) -> None:
    path = images[4][0]
    forms = [path, str(path), path.read_bytes(), np.asarray(Image.open(path))]
    found = classifier.predict(forms)
    assert len({prediction.top for prediction in found}) == 1
    assert classifier.predict(path)[0].probability == pytest.approx(found[0].probability, abs=1e-6)


def test_what_cannot_be_decoded_carries_an_error_in_its_place(
    classifier: Classifier, images: list, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no image")
    given = [images[0][0], broken, tmp_path / "missing.png", images[1][0]]
    found = classifier.predict(given)
    assert [prediction.error is None for prediction in found] == [True, False, False, True]
    assert found[1].to_dict().keys() == {"path", "error"}
    assert [prediction.path for prediction in found] == [str(path) for path in given]


def test_a_long_stream_is_taken_a_group_at_a_time(classifier: Classifier, images: list) -> None:
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield images[taken % len(images)][0]

    stream = classifier.stream(endless())
    first = [next(stream) for _ in range(3)]
    assert taken <= GROUP
    assert [prediction.path for prediction in first] == [str(images[index][0]) for index in (1, 2, 3)]
    stream.close()


def test_pixels_are_named_by_their_place_in_the_whole_stream(classifier: Classifier) -> None:
    count = FIRST_GROUP + 3
    found = classifier.predict([np.zeros((20, 20), np.uint8)] * count)
    assert [prediction.path for prediction in found] == [f"image {number}" for number in range(count)]


def test_the_temperature_tempers(model: Path, images: list, tmp_path: Path) -> None:
    base = load_base("latin_letters")
    save_model(tmp_path / "model", SavedModel(base.network, base.preprocessing, LATIN, temperature=1.0))
    paths = [path for path, _ in images]
    options = {"engine": "torch", "precision": "float32"}
    mild, sharp = (graft.load(folder, **options).predict(paths) for folder in (model, tmp_path))
    assert [prediction.label for prediction in mild] == [prediction.label for prediction in sharp]
    assert np.mean([p.probability for p in mild]) < np.mean([p.probability for p in sharp])


def test_a_class_of_several_outputs_is_as_probable_as_they_are_together(
    classifier: Classifier, images: list, tmp_path: Path
) -> None:
    base, temperature = load_base("latin_letters"), 1.0
    groups = {"early": tuple(range(4, 20)), "A and a": (0, 1)}
    saved = SavedModel(base.network, base.preprocessing, tuple(groups), temperature, outputs=tuple(groups.values()))
    save_model(tmp_path / "model", saved)
    save_model(tmp_path / "each", SavedModel(base.network, base.preprocessing, LATIN, temperature))
    options = {"engine": "torch", "precision": "float32"}
    paths = [path for path, _ in images]
    grouped = graft.load(tmp_path / "model", **options).predict(paths)
    single = graft.load(tmp_path / "each", **options).predict(paths, top=len(LATIN))
    for group, each in zip(grouped, single, strict=True):
        of_letter = dict(each.top)
        sums = {name: sum(of_letter[LATIN[output]] for output in outputs) for name, outputs in groups.items()}
        expected = {name: total / sum(sums.values()) for name, total in sums.items()}
        assert dict(group.top) == pytest.approx(expected, abs=1e-6)


def test_both_engines_agree(model: Path, images: list) -> None:
    pytest.importorskip("openvino")
    paths = [path for path, _ in images]
    found = [graft.load(model, engine=name, precision="float32").predict(paths) for name in ("torch", "openvino")]
    for left, right in zip(*found, strict=True):
        assert left.label == right.label
        assert left.probability == pytest.approx(right.probability, abs=1e-4)


def test_predictions_are_written_in_every_format(classifier: Classifier, images: list, tmp_path: Path) -> None:
    given = [images[0][0], tmp_path / "missing.png"]
    found = classifier.predict(given, top=2)
    for name in ("table", "csv", "tsv", "jsonl", "json", "parquet"):
        write_predictions(iter(found), name, tmp_path / f"out.{name}", top=2)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines == [prediction.to_dict() for prediction in found] == json.loads((tmp_path / "out.json").read_text())
    for name, separator in (("csv", ","), ("tsv", "\t")):
        rows = list(csv.DictReader((tmp_path / f"out.{name}").read_text().splitlines(), delimiter=separator))
        assert list(rows[0]) == ["path", "label", "probability", "label_2", "probability_2", "error"]
        assert (rows[0]["label"], rows[0]["label_2"]) == tuple(name for name, _ in found[0].top)
        assert float(rows[0]["probability_2"]) == found[0].top[1][1]
        assert rows[1]["error"] and not rows[1]["label"] and not rows[1]["probability_2"]
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert table[0]["top"] == [{"label": name, "probability": p} for name, p in found[0].top]
    assert table[1]["label"] is None
    assert found[0].label in (tmp_path / "out.table").read_text()


def test_an_output_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    def broken():
        raise InputError("stopped")
        yield

    with pytest.raises(InputError):
        write_predictions(broken(), "jsonl", tmp_path / "out.jsonl", top=1)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which holds no"):
        graft.load(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        graft.load(tmp_path / "nothing")


def test_predictions_fit_on_a_line_and_are_a_table_in_notebooks(classifier: Classifier, images: list) -> None:
    found = classifier.predict([images[0][0], b"no image"])
    assert repr(found[0]) == f"Prediction({str(images[0][0])!r}, {found[0].label!r}, {found[0].probability:.3f})"
    assert repr(found[1]).startswith("Prediction('image 1', error=")
    shown = found._repr_html_()
    assert shown.count("<tr>") == 3 and f"{found[0].probability:.1%}" in shown
