"""A saved classifier at work."""

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import graft
from graft.errors import ImageError, InputError
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.serving.predictor import FIRST_GROUP, GROUP, Classifier
from graft.serving.writing import write_predictions
from graft.weights.base import load_base
from graft.weights.saved import SavedModel, save_model


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
def classifier(letters_run: Path) -> Classifier:
    return graft.load(letters_run, engine="torch", precision="float32")


def test_a_run_folder_and_its_model_folder_are_the_same_classifier(letters_run: Path, images: list) -> None:
    paths = [path for path, _ in images[:3]]
    assert graft.load(letters_run).predict(paths) == graft.load(letters_run / "model").predict(paths)


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


def test_what_is_no_path_of_a_file_is_one_clean_sentence(classifier: Classifier, images: list, tmp_path: Path) -> None:
    found = classifier.predict([images[0][0], "", ".", tmp_path, "a\0b", Path("a\0b"), images[1][0]])
    assert found[0].label and found[-1].label
    errors = [each.error or "" for each in found[1:-1]]
    assert all(error.count("expected") == 1 and error.count("got") == 1 for error in errors), errors
    assert "empty" in errors[0] and "graft predict RUN FOLDER" in errors[1] == errors[2] and "NUL" in errors[3]
    with pytest.raises(InputError, match="expected a whole number"):
        classifier.predict(images[0][0], top="2")  # type: ignore[arg-type]
    assert len(classifier.predict(images[0][0], top=np.int64(2))[0].top) == 2


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


def test_the_temperature_tempers(letters_run: Path, images: list, tmp_path: Path) -> None:
    base = load_base("latin_letters")
    save_model(tmp_path / "model", SavedModel(base.network, base.preprocessing, LATIN, temperature=1.0))
    paths = [path for path, _ in images]
    options = {"engine": "torch", "precision": "float32"}
    mild, sharp = (graft.load(folder, **options).predict(paths) for folder in (letters_run, tmp_path))
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


def test_both_engines_agree(letters_run: Path, images: list) -> None:
    pytest.importorskip("openvino")
    paths = [path for path, _ in images]
    found = [graft.load(letters_run, engine=name, precision="float32").predict(paths) for name in ("torch", "openvino")]
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
    assert repr(classifier) == f"Classifier({len(LATIN)} classes: {LATIN[0]!r}, {LATIN[1]!r}, {LATIN[2]!r}, …)"
    shown = found._repr_html_()
    assert shown.count("<tr>") == 3 and f"{found[0].probability:.1%}" in shown


def test_an_image_of_pil_is_the_file_that_it_was_opened_from(classifier: Classifier, images: list) -> None:
    paths = [path for path, _ in images[:6]]
    of_paths = classifier.predict(paths)
    found = classifier.predict([Image.open(path) for path in paths])
    assert [each.top for each in found] == [each.top for each in of_paths]
    assert [each.path for each in found] == [f"image {index}" for index in range(6)]
    assert classifier.predict(Image.open(paths[0]))[0].top == classifier.predict(paths[0])[0].top


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_an_image_of_pil_may_be_of_any_mode(mode: str, classifier: Classifier, images: list, tmp_path: Path) -> None:
    image = Image.open(images[7][0]).convert("L")
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) << 8)
    elif mode != "L":
        image = image.convert(mode)
    image.save(tmp_path / "image.png")
    assert classifier.predict(image)[0].top == classifier.predict(tmp_path / "image.png")[0].top


def test_an_image_of_pil_is_turned_as_its_camera_says(classifier: Classifier, images: list, tmp_path: Path) -> None:
    upright = Image.open(images[3][0]).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    lying.save(tmp_path / "turned.jpg", quality=100, subsampling=0, exif=exif)
    lying.save(tmp_path / "lying.jpg", quality=100, subsampling=0)
    of_path = classifier.predict(tmp_path / "turned.jpg")[0]
    assert classifier.predict(Image.open(tmp_path / "turned.jpg"))[0].top == of_path.top
    assert of_path.top != classifier.predict(tmp_path / "lying.jpg")[0].top
    assert of_path.label == classifier.predict(upright)[0].label


def test_stacked_arrays_are_as_many_images(classifier: Classifier, images: list) -> None:
    stacked = np.stack([np.asarray(Image.open(path).convert("RGB")) for path, _ in images[:5]])
    assert stacked.shape[0] == 5 and stacked.shape[3] == 3
    found = classifier.predict(stacked)
    assert found == classifier.predict(list(stacked)) and len(found) == 5
    grey = stacked[:, :, :, :1]
    assert classifier.predict(grey) == classifier.predict(list(grey))
    # One image, whether it has an axis of channels or not.
    assert len(classifier.predict(stacked[0])) == len(classifier.predict(stacked[0, :, :, 0])) == 1
    assert classifier.predict(stacked[:0]) == []


@pytest.mark.parametrize("thing", [5, 0.5, None, object()])
def test_what_is_no_image_is_refused_in_a_sentence(thing: object, classifier: Classifier, images: list) -> None:
    with pytest.raises(InputError, match=r"expected .*a path.*, got an? \w+: give"):
        classifier.predict(thing)
    found = classifier.predict([images[0][0], thing])
    assert found[0].error is None
    assert found[1].error is not None and found[1].error.startswith("expected a path, the bytes of a file, pixels")
    assert type(thing).__name__ in found[1].error and "\n" not in found[1].error


@pytest.mark.parametrize(
    "pixels",
    [np.full((4, 4, 3), 2.0), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8), np.zeros((1,) * 5, np.uint8)],
)
def test_other_arrays_are_refused_in_a_sentence(pixels: np.ndarray, classifier: Classifier, images: list) -> None:
    for given in (pixels, [images[0][0], pixels]):
        try:
            error = classifier.predict(given)[-1].error or ""
        except InputError as refused:
            error = str(refused)
        assert error.startswith("expected ") and "uint8" in error and "\n" not in error


def test_an_image_of_pil_that_cannot_be_read_carries_an_error_in_its_place(
    classifier: Classifier, images: list, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes(images[0][0].read_bytes()[:-60])
    with Image.open(images[0][0]) as closed:
        pass
    with Image.open(cut) as opened:
        found = classifier.predict([opened, closed, Image.open(images[1][0])])
    assert [each.error is None for each in found] == [False, False, True]
    assert all(str(each.error).startswith("expected ") for each in found[:2])


class PathOfItsOwn:
    """A path-like object of the caller's whose path cannot be had."""

    def __fspath__(self) -> str:
        raise RuntimeError("no path today")


class ArrayOfItsOwn:
    """An object that numpy tries to turn into an array, and cannot."""

    def __array__(self, *arguments: object, **options: object) -> np.ndarray:
        raise RuntimeError("no array today")


def _released() -> memoryview:
    view = memoryview(b"bytes")
    view.release()
    return view


def _ragged() -> torch.Tensor:
    """Tensors of several shapes in one nested tensor, about which torch warns."""
    with warnings.catch_warnings(action="ignore"):
        return torch.nested.nested_tensor([torch.zeros(3, 8, 8), torch.zeros(3, 9, 9)])


def _closed() -> Image.Image:
    image = Image.new("L", (4, 4))
    image.close()
    return image


@pytest.mark.parametrize(
    "odd",
    [
        torch.zeros(3, 8, 8).to_sparse(),
        torch.zeros(3, 8, 8, device="meta"),
        _ragged(),
        torch.zeros(3, 8, 8, dtype=torch.complex64).conj(),
        np.ma.masked_array(np.zeros((8, 8), np.uint8), mask=np.eye(8)),
        np.zeros((0, 8, 3), np.uint8),
        torch.zeros(3, 0, 8),
        Image.new("RGB", (0, 8)),
        _closed(),
        _released(),
        ArrayOfItsOwn(),
        PathOfItsOwn(),
        "a\ud800.png",
        Path("a\udfff.png"),
        "http://127.0.0.1:9/\ud800.png",
        "nowhere://a/b.png",
    ],
    ids=lambda odd: type(odd).__name__,
)
def test_one_odd_image_has_an_error_in_its_place_and_ends_nothing(
    odd: object, classifier: Classifier, images: list
) -> None:
    found = classifier.predict([images[0][0], odd, images[1][0]])
    assert [each.error is None for each in found] == [True, False, True]
    error = str(found[1].error)
    assert error.startswith("expected ") and ", got " in error and "\n" not in error
    # Alone it also gives one answer, or an error if it is nothing at all; several tensors give one each.
    try:
        alone = classifier.predict(odd)
    except InputError as refused:
        assert ", got " in str(refused)
    else:
        assert len(alone) == 1 or getattr(odd, "is_nested", False)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_values_are_what_they_stand_for(classifier: Classifier, images: list) -> None:
    pixels = np.array(Image.open(images[4][0]).convert("L"))
    values = torch.from_numpy(pixels / 255).float()
    negated = torch.complex(torch.zeros_like(values), -values).conj().imag
    assert negated.is_neg()
    forms = [pixels, negated, np.matrix(pixels), np.ma.masked_array(pixels, mask=np.zeros_like(pixels))]
    found = classifier.predict(forms)
    assert [each.error for each in found] == [None] * 4 and len({each.top for each in found}) == 1


def test_an_array_of_paths_is_a_list_of_paths(classifier: Classifier, images: list) -> None:
    paths = [str(path) for path, _ in images[:3]]
    expected = classifier.predict(paths)
    for kind in (str, object, np.dtypes.StringDType()):
        found = classifier.predict(np.array(paths, dtype=kind))
        assert found == expected and {type(each.path) for each in found} == {str}
    assert classifier.predict(np.array([], dtype=str)) == []
    assert classifier.predict(np.array([Path(path) for path in paths])) == expected


def test_what_has_names_for_its_images_is_refused_whole(classifier: Classifier, images: list) -> None:
    pandas = pytest.importorskip("pandas")
    paths = [str(path) for path, _ in images[:2]]
    for given in (dict(enumerate(paths)), pandas.DataFrame({"row": paths})):
        with pytest.raises(InputError, match=r"got a (dict|DataFrame): give its values, or its column of paths"):
            classifier.predict(given)
    assert classifier.predict(pandas.Series(paths)) == classifier.predict(paths)


def test_a_data_frame_with_a_column_of_paths_is_predicted_row_by_row(classifier: Classifier, images: list) -> None:
    pandas = pytest.importorskip("pandas")
    paths = [str(path) for path, _ in images[:2]] * 2
    expected = classifier.predict(paths)
    for name in ("path", "File", "image"):
        frame = pandas.DataFrame({"label": ["?"] * 4, name: paths}, index=[7, 3, 2, 9])
        assert classifier.predict(frame) == expected
        assert (classifier.predict_proba(frame) == classifier.predict_proba(paths)).all()
    gone = classifier.predict(pandas.DataFrame({"path": [paths[0], None, "gone.png"]}))
    assert [each.error is None for each in gone] == [True, False, False]


def test_one_image_of_pil_may_be_given_many_times(classifier: Classifier, tmp_path: Path) -> None:
    # Large and hard to compress, so that it takes a while to read.
    pixels = np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    found = classifier.predict([Image.open(tmp_path / "noise.png")] * 40)
    assert {each.error for each in found} == {None} and len({each.top for each in found}) == 1


def test_every_kind_of_image_has_the_same_answer(classifier: Classifier, images: list) -> None:
    path = images[4][0]
    pixels = np.array(Image.open(path).convert("RGB"))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    kinds = [path, str(path), path.read_bytes(), Image.open(path), pixels, pixels[:, :, 0], pixels / 255, tensor]
    kinds += [tensor / 255, np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)]), bytearray(path.read_bytes())]
    with path.open("rb") as file:
        found = classifier.predict([*kinds, file])
    assert len({each.top for each in found}) == 1 and len(found) == 12 and found[0].error is None
    assert len(classifier.predict(torch.stack([tensor, tensor]))) == 2
    with path.open("rb") as file:
        assert classifier.predict(file)[0].top == classifier.predict(path)[0].top


def test_a_folder_and_a_dataset_are_all_their_images(classifier: Classifier, images: list) -> None:
    paths, labels = zip(*images, strict=True)
    of_paths = classifier.predict(paths)
    for given in (paths[0].parent, str(paths[0].parent), graft.Dataset.from_arrays(paths, labels)):
        assert [each.top for each in classifier.predict(given)] == [each.top for each in of_paths]


def test_an_address_is_fetched_and_one_that_answers_not_is_an_error(classifier: Classifier, images: list) -> None:
    found = classifier.predict([images[0][0].as_uri(), "http://127.0.0.1:9/a.png", images[1][0]])
    assert [each.error is None for each in found] == [True, False, True]
    assert "127.0.0.1" in (found[1].error or "")
    assert classifier.predict(images[0][0].as_uri())[0].top == classifier.predict(images[0][0])[0].top


def test_probabilities_are_in_the_order_of_the_classes(classifier: Classifier, images: list) -> None:
    paths = [path for path, _ in images[:5]]
    found = classifier.predict_proba(paths)
    assert found.shape == (5, len(classifier.classes)) and found.dtype == np.float64
    assert found.sum(1) == pytest.approx(1)
    assert [classifier.classes[row.argmax()] for row in found] == [each.label for each in classifier.predict(paths)]
    assert classifier.predict_proba([]).shape == (0, len(classifier.classes))
    with pytest.raises(ImageError, match=r"^image 1 \(image 1\): expected"):
        classifier.predict_proba([paths[0], b"no image"])


def test_a_classifier_closes_with_its_block_scores_itself_and_says_where_it_cannot(
    letters_run: Path, images: list
) -> None:
    labelled = tuple(zip(*images, strict=True))
    with graft.load(letters_run, engine="torch", precision="float32") as classifier:
        found = classifier.evaluate(labelled, quiet=True)
        labels = [each.label for each in classifier.predict(labelled[0])]
    assert found.scores.top1 == pytest.approx(np.mean(np.array(labels) == np.array(labelled[1])))
    assert classifier.predict(labelled[0][0])[0].label == labels[0]
    with pytest.raises(InputError, match=r"graft\.load"):
        Classifier(classifier.saved, classifier.choice).evaluate(labelled)


def test_a_dataset_of_torch_is_refused_with_what_takes_it(classifier: Classifier) -> None:
    pairs = torch.utils.data.TensorDataset(torch.zeros(2, 3, 32, 32), torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"got a TensorDataset that gives .* labels: pass `graft\.Dataset\.from_torch"):
        classifier.predict(pairs)
    assert len(classifier.predict(graft.Dataset.from_torch(pairs))) == 2


def test_a_loader_and_a_batch_with_its_labels_are_refused_at_once(classifier: Classifier) -> None:
    batch, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(batch, labels), batch_size=4)
    for given in (loader, (batch, labels), [batch, labels], (batch.numpy(), labels.tolist()), next(iter(loader))):
        for call in (classifier.predict, classifier.stream):
            with pytest.raises(InputError, match="pass each batch's images"):
                call(given)
    assert len(classifier.predict(batch)) == 4
