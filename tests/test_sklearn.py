"""graft as an estimator of scikit-learn."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import graft
from graft.errors import DataError, ImageError, InputError, WeightsError
from graft.features import engine
from graft.images.letters import CYRILLIC, dejavu_fonts, render_letters
from graft.training import fitting
from graft.workflows import prepare

sklearn = pytest.importorskip("sklearn", reason="needs graft-vision[sklearn]")

from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score, cross_validate  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from graft.sklearn import BASES, FEATURES, GraftClassifier  # noqa: E402

LETTERS = {"base": "latin_letters", "level": "head", "engine": "torch", "precision": "float32"}


@pytest.fixture(scope="module")
def letters() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (40, H, W) and labels (40,) of four letters."""
    pixels, labels = render_letters(CYRILLIC[:4], dejavu_fonts(), 10, seed=0)
    return np.stack([image[:, :, 0] for image in pixels]), np.array(CYRILLIC[:4])[labels]


def computed_by(work) -> int:
    """The number of images that the trunk saw during `work`."""
    before = FEATURES.computed
    work()
    return FEATURES.computed - before


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FEATURES, "_rows", {})


def test_the_checks_of_scikit_learn_that_apply_to_images_pass() -> None:
    with pytest.warns(Warning):  # the other images were skipped
        check_estimator(GraftClassifier())


def test_folds_cost_one_pass_of_the_trunk(letters: tuple) -> None:
    images, labels = letters
    once = computed_by(lambda: GraftClassifier(**LETTERS).fit(images, labels))
    scores = []
    folds = computed_by(lambda: scores.extend(cross_val_score(GraftClassifier(**LETTERS), images, labels, cv=5)))
    assert once > 0 and folds == 0
    assert np.mean(scores) > 0.8


def test_a_grid_over_levels_shares_one_pass(letters: tuple) -> None:
    images, labels = letters
    once = computed_by(lambda: GraftClassifier(**LETTERS).fit(images, labels))
    grid = GridSearchCV(GraftClassifier(**LETTERS), {"level": ["head", "head:stages"]}, cv=2)
    assert once > 0 and computed_by(lambda: grid.fit(images, labels)) == 0
    assert grid.best_estimator_.level_ in ("head", "head:stages") and grid.best_score_ > 0.8


def test_what_it_says_is_what_its_saved_model_says(letters: tuple, tmp_path: Path) -> None:
    images, labels = letters
    for level in ("head", "head:stages", "stages:1"):
        fitted = GraftClassifier(**{**LETTERS, "level": level}, recipe=graft.Recipe(epochs=1)).fit(images, labels)
        found = fitted.predict_proba(images)
        loaded = graft.load(fitted.save(tmp_path / level), engine="torch", precision="float32")
        assert found == pytest.approx(loaded.predict_proba(images), abs=1e-5)
        assert found.dtype == np.float64 and found.shape == (40, 4) and fitted.classes_.tolist() == sorted(set(labels))
    assert fitted.score(images, labels) == np.mean(fitted.predict(images) == labels)


@pytest.mark.parametrize("level", ["head", "stages:1"])
def test_depthwise_networks_answer_as_finely_as_when_they_are_saved(
    letters: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setattr(engine, "processor_has_bfloat16", lambda: True)
    images, labels = letters[0][::5], letters[1][::5]
    network = graft.create("mobilenet_v1_025", classes=10, channels=1)
    save_file(network.state_dict(), tmp_path / "base.safetensors")
    fitted = GraftClassifier(
        tmp_path / "base.safetensors", level, image_size=32, engine="torch", recipe=graft.Recipe(epochs=1)
    ).fit(images, labels)
    loaded = graft.load(fitted.save(tmp_path / "model"), engine="torch")
    assert loaded.choice.precision == "float32"
    assert fitted.predict_proba(images) == pytest.approx(loaded.predict_proba(images), abs=1e-5)


def test_images_of_no_weight_count_for_nothing_and_a_column_of_labels_is_a_list(letters: tuple) -> None:
    images, labels = letters
    half = np.arange(40) % 2
    wrong = np.where(half == 1, labels, "?")
    with pytest.warns(Warning, match="column-vector"):
        right = GraftClassifier(**LETTERS).fit(images[half == 1], labels[half == 1][:, None])
    weighed = GraftClassifier(**LETTERS).fit(images, wrong, sample_weight=half)
    assert np.mean(weighed.predict(images[half == 1]) == labels[half == 1]) > 0.8
    assert right.classes_.tolist() == sorted(set(labels))
    refused = {"a weight for each of 40": [1.0], "got -1.0 for image 39": [*[1.0] * 39, -1.0], "above 0": [0.0] * 40}
    for said, weights in refused.items():
        with pytest.raises(DataError, match=said):
            GraftClassifier(**LETTERS).fit(images, labels, sample_weight=weights)


def test_what_is_chosen_by_holding_images_out_holds_out_whole_groups(letters: tuple) -> None:
    images, _ = letters
    rng, groups = np.random.default_rng(0), np.repeat([f"writer {number}" for number in range(20)], 8)
    # Labels that mean nothing: only what is almost the same image says anything of one that is held out.
    chance = np.repeat(rng.permutation(np.arange(20) % 2), 8)
    noisy = np.clip(np.repeat(images[::2], 8, axis=0) + rng.normal(0, 4, (160, *images.shape[1:])), 0, 255)
    noisy = noisy.astype(np.uint8)
    apart, alone = (GraftClassifier(**LETTERS).fit(noisy, chance, groups=each) for each in (groups, None))
    assert alone.predict_proba(noisy).max(1).mean() > 0.9
    assert apart.predict_proba(noisy).max(1).mean() < 0.7
    with sklearn.config_context(enable_metadata_routing=True):
        routed = GraftClassifier(**LETTERS).set_fit_request(groups=True)
        found = cross_validate(
            routed, noisy, chance, cv=GroupKFold(4), params={"groups": groups}, return_estimator=True
        )
    assert all(each.predict_proba(noisy).max(1).mean() < 0.8 for each in found["estimator"])


def test_truths_among_numbers_are_refused(letters: tuple) -> None:
    with pytest.raises(DataError, match="labels of one kind, got True and 1: give all as booleans"):
        GraftClassifier(**LETTERS).fit(letters[0], [True, 1] * 20)


@pytest.mark.parametrize(
    "pair", [("a", 1), (1, "a"), ("1", 1), (b"a", "b"), (np.str_("a"), np.int64(1))], ids=lambda pair: repr(pair)
)
@pytest.mark.parametrize("kind", [list, lambda labels: np.array(labels, dtype=object)], ids=["list", "array"])
def test_texts_among_numbers_are_refused_before_anything_is_fitted(letters: tuple, pair: tuple, kind) -> None:
    with pytest.raises(DataError, match=r"expected labels of one kind, got .* and .*: give all of them as strings"):
        GraftClassifier(**LETTERS).fit(letters[0], kind([*pair] * 20))


def test_labels_may_be_a_tensor(letters: tuple) -> None:
    images, labels = letters
    numbers = torch.from_numpy(np.unique(labels, return_inverse=True)[1])
    for given in (numbers, list(numbers)):
        fitted = GraftClassifier(**LETTERS).fit(images, given)
        assert fitted.classes_.tolist() == [0, 1, 2, 3] and fitted.predict(images[:1]).dtype.kind == "i"


def test_one_image_is_not_taken_for_its_rows_or_its_letters(letters: tuple, tmp_path: Path) -> None:
    images, labels = letters
    fitted = GraftClassifier(**LETTERS).fit(images, labels)
    colour = np.dstack([images[0]] * 3)
    path = tmp_path / "a.png"
    Image.fromarray(images[0]).save(path)
    with path.open("rb") as file:
        for one in (colour, colour[:, :, :1], str(path), path, path.read_bytes(), Image.fromarray(colour), file):
            asked = (
                lambda one=one: fitted.predict(one),
                lambda one=one: fitted.predict_proba(one),
                lambda one=one: fitted.score(one, labels[:1]),
                lambda one=one: GraftClassifier(**LETTERS).fit(one, labels[: len(colour)]),
            )
            for call in asked:
                with pytest.raises(InputError, match=r"expected a sequence of images, got one, .*: wrap it in a list"):
                    call()
        assert fitted.predict([colour, str(path), path, file]).tolist() == fitted.predict(images[:1]).tolist() * 4
    # Three images of one channel are three, and a frame has columns, not images, unless it has a single one.
    assert len(fitted.predict(images[:3])) == 3
    frame = pytest.importorskip("pandas").DataFrame({"path": [str(path)], "site": [1]})
    with pytest.raises(InputError, match="got a DataFrame of 2 columns: give one column"):
        fitted.predict(frame)
    assert len(fitted.predict(frame["path"])) == len(fitted.predict(frame[["path"]])) == 1


def test_it_answers_as_what_the_workflow_trains_on_the_same_images(letters: tuple, tmp_path: Path) -> None:
    images, labels = letters
    fitted = GraftClassifier(**LETTERS).fit(images, labels)
    run = graft.train((images, labels), **LETTERS, audit=False, out=tmp_path / "run", quiet=True)
    loaded = graft.load(run.folder, engine="torch", precision="float32")
    assert fitted.predict_proba(images) == pytest.approx(loaded.predict_proba(images), abs=1e-5)


def test_saving_replaces_nothing_but_what_it_wrote_itself(letters: tuple, tmp_path: Path) -> None:
    images, labels = letters
    fitted = GraftClassifier(**LETTERS).fit(images, labels)
    run = graft.train((images, labels), **LETTERS, audit=False, out=tmp_path / "run", quiet=True).folder
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other" / "model").mkdir(parents=True)
    (tmp_path / "other" / "model" / "notes.txt").write_text("mine")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    for place in (run, run / "model", tmp_path / "mine", tmp_path / "file", tmp_path / "other"):
        with pytest.raises(InputError, match="holds something else: give another"):
            fitted.save(place)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "new" / "deep"):
        assert fitted.save(fitted.save(place)) == place
        assert graft.load(place).classes == tuple(sorted(set(labels.tolist())))


def test_folds_read_the_base_once_and_solve_a_head_once_each(letters: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = letters
    done = {"bases": 0, "heads": 0}

    def counted(what: str, work):
        def counting(*args, **kwargs):
            done[what] += 1
            return work(*args, **kwargs)

        return counting

    monkeypatch.setattr(BASES, "_bases", {})
    monkeypatch.setattr(prepare, "load_base", counted("bases", prepare.load_base))
    monkeypatch.setattr(fitting, "put_head", counted("heads", fitting.put_head))
    cross_val_score(GraftClassifier(**LETTERS), images, labels, cv=3, error_score="raise")
    assert done == {"bases": 1, "heads": 3}


def test_classes_are_those_of_y_in_their_order_and_type(letters: tuple) -> None:
    images, labels = letters
    numbers = np.unique(labels, return_inverse=True)[1] * 7 - 5
    fitted = GraftClassifier(**LETTERS).fit(list(images), numbers.tolist())
    assert fitted.classes_.tolist() == [-5, 2, 9, 16] and fitted.predict(images).dtype.kind == "i"
    assert fitted.score(images, numbers) > 0.9
    assert fitted.predict_proba([]).shape == (0, 4)


def test_it_is_cloned_pickled_and_one_step_of_a_pipeline(letters: tuple) -> None:
    images, labels = letters
    with pytest.raises(NotFittedError):
        GraftClassifier().predict(images)
    fitted = GraftClassifier(**LETTERS).fit(images, labels)
    again = pickle.loads(pickle.dumps(fitted))
    assert (again.predict_proba(images) == fitted.predict_proba(images)).all()
    assert not hasattr(clone(fitted), "classes_") and clone(fitted).get_params() == fitted.get_params()
    assert clone(fitted).set_params(level="as-is").level == "as-is"
    pipeline = make_pipeline(FunctionTransformer(lambda pixels: 255 - pixels), GraftClassifier(**LETTERS))
    assert pipeline.fit(images, labels).score(images, labels) > 0.9


def test_what_it_cannot_take_is_one_sentence(letters: tuple) -> None:
    images, labels = letters
    with pytest.raises(DataError, match="a label for each of 40 images"):
        GraftClassifier(**LETTERS).fit(images, labels[:-1])
    with pytest.raises(DataError, match="expected images as an array"):
        GraftClassifier(**LETTERS).fit(np.zeros((4, 7)), [0, 1, 0, 1])
    with pytest.raises(ImageError, match="got one that cannot, image 1"):
        GraftClassifier(**LETTERS).fit(images, labels).predict([Image.fromarray(images[0]), b"no image"])


def test_the_architecture_of_a_file_can_be_said(letters: tuple, tmp_path: Path) -> None:
    images, labels = letters[0][::5], letters[1][::5]
    save_file(graft.create("lenet5", classes=10).state_dict(), tmp_path / "base.safetensors")
    classifier = GraftClassifier(tmp_path / "base.safetensors", "head", arch="lenet5", engine="torch")
    assert classifier.get_params()["arch"] == "lenet5"
    assert classifier.fit(images, labels).fitted_.base.network.config.architecture == "lenet5"
    with pytest.raises(WeightsError, match="resnet20"):
        classifier.set_params(arch="resnet20").fit(images, labels)
