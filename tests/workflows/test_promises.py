"""What a run promises when its training ends, and whether predictions and evaluations keep it."""

import csv
import json
import shutil
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from calling import graft
from PIL import Image
from safetensors.torch import save_file
from written_letters import write_letters

from graft.errors import InputError, WeightsError
from graft.evaluation.intervals import wilson_interval
from graft.evaluation.paired import Estimate, paired_difference
from graft.images.letters import CYRILLIC
from graft.serving.predictor import load
from graft.serving.several_views import Views
from graft.weights.calibration import Calibration
from graft.workflows.contest import evaluate_two
from graft.workflows.evaluate import evaluate
from graft.workflows.export import export
from graft.workflows.predict import measured_gain
from graft.workflows.prepare import DataOptions
from graft.workflows.robustness import evaluate_robustness
from graft.workflows.train import train


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on letters, others of the same classes that it has not seen, and images that are no letters."""
    folder = tmp_path_factory.mktemp("promises")
    data = write_letters(folder / "letters", CYRILLIC[:4], 40)
    train(data, "latin_letters", "head", out=folder / "run", quiet=True)
    write_letters(folder / "new", CYRILLIC[:4], 10, seed=9)
    shapes = np.random.default_rng(0).integers(0, 256, (12, 28, 28, 3), dtype=np.uint8)
    np.save(folder / "noise.npy", shapes)
    return folder


def saved(place: Path) -> Calibration:
    found = load(place / "run").calibration
    assert found is not None
    return found


def test_a_run_keeps_what_its_cross_validated_images_told(place: Path) -> None:
    found = saved(place)
    assert (found.source, found.n, found.confidence) == ("cross-validated", 160, 0.95)
    assert [row.budget for row in found.budgets] == sorted(row.budget for row in found.budgets)
    assert [row.coverage for row in found.sets] == sorted(row.coverage for row in found.sets)
    assert found.domain is not None and found.domain.bank.shape == (160, found.domain.bank.shape[1])


def test_of_images_in_groups_each_group_counts_once(place: Path) -> None:
    data = write_letters(place / "patients", CYRILLIC[:2], 60, seed=3)
    for number, path in enumerate(sorted(data.rglob("*.png"))):
        path.rename(path.with_name(f"patient-{number // 4}-{path.name}"))
    grouped = DataOptions(data, group=r"patient-\d+")
    run = train(grouped, "latin_letters", "head", out=place / "grouped", quiet=True)
    found = load(run.folder).calibration
    assert found is not None and found.n == 120
    # Two images that are nearly the same join two patients to one.
    assert {row.n for row in found.budgets} <= set(range(26, 31))
    assert found.budget(0.05).threshold is None and found.budget(0.2).threshold is not None  # type: ignore[union-attr]
    # With so few of each class no image of a new patient is left out.
    assert set(found.sets_of(0.95).per_class) == {0.0}  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"5%, .* with \d\d groups of images \(it takes 59 without"):
        load(run.folder).predict([data], error_budget="5%")
    told = evaluate(run.folder, place / "new", quiet=True, known_only=True).promises
    assert told is not None
    assert (told.budgets[0]["independent"], told.budgets[0]["held_out"]) == (found.budgets[0].n, 120)


def test_between_two_rows_the_stricter_one_answers(place: Path) -> None:
    found = saved(place)
    assert found.budget(0.0249).budget == 0.02 and found.budget(0.02).budget == 0.02  # type: ignore[union-attr]
    assert found.budget(0.0005) is None and found.sets_of(0.9999) is None
    assert found.sets_of(0.91).coverage == 0.91 and found.sets_of(0.991).coverage == 0.995  # type: ignore[union-attr]


def test_answers_that_are_not_sure_enough_are_not_given(place: Path) -> None:
    classifier = load(place / "run")
    paths = sorted((place / "new").rglob("*.png"))
    least = saved(place).least_reachable()
    assert least is not None
    plain, careful = classifier.predict(paths), classifier.predict(paths, error_budget=least)
    threshold = saved(place).budget(least).threshold  # type: ignore[union-attr]
    for each, obeyed in zip(plain, careful, strict=True):
        assert each.abstained is None and each.set is None and "abstained" not in each.to_dict()
        assert (obeyed.label, obeyed.abstained) == (
            (each.label, None) if each.probability >= threshold else (None, "unsure")  # type: ignore[operator]
        )
        assert obeyed.top == each.top


def test_sets_are_of_the_likeliest_classes_and_grow_with_the_chance(place: Path) -> None:
    classifier, paths = load(place / "run"), sorted((place / "new").rglob("*.png"))
    small, large = (classifier.predict(paths, sets=each) for each in ("80%", 0.99))
    for less, more in zip(small, large, strict=True):
        assert less.set is not None and more.set is not None
        assert less.set == more.set[: len(less.set)] and more.set[0] == more.label
    truth = [path.parent.name for path in paths]
    assert np.mean([label in (each.set or ()) for label, each in zip(truth, large, strict=True)]) > 0.9
    assert all(each.set for each in classifier.predict(paths, sets=0.9, sets_per_class=True))


def test_a_class_that_must_not_be_missed_is_the_answer_from_its_threshold_on(place: Path) -> None:
    classifier, paths = load(place / "run"), sorted((place / "new").rglob("*.png"))
    name, calibration = classifier.classes[1], saved(place)
    least = calibration.sets_of(0.99).per_class[1] or calibration.sets_of(0.95).per_class[1]  # type: ignore[union-attr]
    asked = 0.99 if calibration.sets_of(0.99).per_class[1] else 0.95  # type: ignore[union-attr]
    plain = classifier.predict(paths, top=len(classifier.classes))
    favoured = classifier.predict(paths, top=len(classifier.classes), recall={name: asked})
    for before, after in zip(plain, favoured, strict=True):
        own = dict(before.top)[name]
        expected = (name, own) if own >= least else (before.label, before.probability)
        assert (after.label, after.probability) == expected
        assert after.top == before.top and after.likeliest == before.label
    assert classifier.predict(paths, recall=f"{name}={asked:.0%}") == classifier.predict(paths, recall={name: asked})
    exported = export(place / "run", "onnx", out=place / "recall.onnx", overwrite=True, quiet=True)
    assert [each.label for each in load(exported.file).predict(paths, recall={name: asked})] == [
        each.label for each in favoured
    ]


def test_images_unlike_the_others_need_no_classes(place: Path, tmp_path: Path) -> None:
    for number, pixels in enumerate(np.load(place / "noise.npy")):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    found = evaluate(place / "run", place / "new", unlike=tmp_path, quiet=True).unlike
    assert found is not None and found.roc_area > 0.9
    with pytest.raises(InputError):
        evaluate(place / "run", place / "new", unlike=tmp_path / "missing", quiet=True)


def test_the_command_says_which_class_was_likeliest_where_another_is_favoured(place: Path) -> None:
    name = load(place / "run").classes[0]
    printed = graft("predict", place / "run", place / "new", "--recall", f"{name}=95%", "--format", "csv").stdout
    rows = list(csv.DictReader(StringIO(printed)))
    assert "likeliest" in rows[0] and {row["label"] for row in rows} <= set(CYRILLIC)
    refused = graft("predict", place / "run", place / "new", "--recall", f"{name}=95%", "--tta", "flip")
    assert refused.returncode == 2 and "without --tta" in refused.stderr


def test_images_unlike_those_trained_on_have_no_answer(place: Path) -> None:
    classifier = load(place / "run")
    strange = classifier.predict(np.load(place / "noise.npy"), abstain=True)
    letters = classifier.predict(sorted((place / "new").rglob("*.png")), abstain=True)
    assert all(each.abstained == "unlike the training images" and each.label is None for each in strange)
    assert np.mean([each.abstained is None for each in letters]) > 0.8
    answered = classifier.predict(sorted((place / "new").rglob("*.png")))
    for with_features, plain in zip(letters, answered, strict=True):
        assert with_features.probability == pytest.approx(plain.probability, abs=0.02)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"error_budget": 2}, "a share such as 2%"),
        ({"error_budget": "much"}, "a share such as 2%"),
        ({"error_budget": 0.001}, "not reachable with 158 images"),
        ({"sets": 0.9999}, "0.999 or less"),
        ({"sets_per_class": True}, "`sets` with"),
        ({"abstain": "yes"}, "True or False"),
        ({"recall": "95%"}, "a class and the share of its images to find, such as"),
        ({"recall": {"a": 0.9, "b": 0.9}}, "give one class"),
        ({"recall": {"dog": 0.9}}, "a class of the classifier for `recall`, got 'dog'"),
        ({"recall": {CYRILLIC[0]: "much"}}, "a share such as"),
        ({"recall": {CYRILLIC[0]: 0.999}}, r"got 99\.9%: lower it"),
        ({"recall": {CYRILLIC[0]: 0.9999}}, r"got 99\.99%: lower it"),
        ({"recall": {CYRILLIC[0]: 0.9}, "sets": 0.9}, "`recall` without `error_budget` and `sets`"),
    ],
)
def test_what_cannot_be_promised_is_refused(place: Path, asked: dict, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load(place / "run").predict([], **asked)


def test_an_older_model_loads_and_says_so_when_it_is_asked(place: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(place / "run" / "model", tmp_path / "model"))
    kept = json.loads((model / "calibration.json").read_text())
    (model / "calibration.json").write_text(json.dumps({"temperature": kept["temperature"]}))
    (model / "domain.safetensors").unlink()
    image = next((place / "new").rglob("*.png"))
    older = load(model)
    assert older.predict(image)[0] == load(place / "run").predict(image)[0]
    with pytest.raises(InputError, match="earlier version"):
        older.predict(image, error_budget=0.05)
    assert evaluate(model, place / "new", quiet=True).promises is None


@pytest.mark.parametrize(
    "change",
    [
        {"error_budgets": [{"budget": 0.02, "threshold": 7}]},
        {"sets": [{"coverage": 0.9, "threshold": 0.5, "per_class": [0.1]}]},
        {"confidence": "high"},
        {"held_out": 3},
        {"domain": {"neighbours": 10**6, "threshold": 0.1, "kept": 0.95, "n": 3}},
    ],
)
def test_a_damaged_calibration_is_named(place: Path, tmp_path: Path, change: dict) -> None:
    model = Path(shutil.copytree(place / "run" / "model", tmp_path / "model"))
    kept = json.loads((model / "calibration.json").read_text())
    (model / "calibration.json").write_text(json.dumps({**kept, **change}))
    with pytest.raises(WeightsError, match=r"calibration\.json"):
        load(model)


@pytest.mark.parametrize(
    "change", [{"error_budgets": 7}, {"sets": "x"}, {"error_budgets": [{"budget": 0.02}]}], ids=str
)
def test_a_page_is_made_where_the_promises_cannot_be_read(place: Path, tmp_path: Path, change: dict) -> None:
    run = Path(shutil.copytree(place / "run", tmp_path / "run"))
    kept = json.loads((run / "model" / "calibration.json").read_text())
    (run / "model" / "calibration.json").write_text(json.dumps({**kept, **change}))
    done = graft("report", run)
    assert (done.returncode, "unexpected" in done.stderr) == (0, False)


def test_kept_features_of_another_network_are_refused(place: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(place / "run" / "model", tmp_path / "model"))
    save_file({"bank": torch.ones(160, 7, dtype=torch.float16)}, model / "domain.safetensors")
    image = next((place / "new").rglob("*.png"))
    classifier = load(model)
    assert classifier.predict(image)[0].label
    with pytest.raises(WeightsError, match=r"features of each image in domain\.safetensors, .* got 7: restore"):
        classifier.predict(image, abstain=True)


def test_the_command_writes_what_was_asked_for_and_nothing_else(place: Path) -> None:
    new = place / "new"
    asked = ("--error-budget", "10%", "--sets", "90%", "--abstain", "--top", "2")
    rows = list(csv.DictReader(StringIO(graft("predict", place / "run", new, *asked, "--format", "csv").stdout)))
    assert list(rows[0])[-4:] == ["abstained", "set", "distance", "error"]
    assert all((row["label"] == "") == (row["abstained"] != "") for row in rows)
    assert all(json.loads(row["set"]) for row in rows)
    plain = graft("predict", place / "run", new, "--top", "2", "--format", "csv").stdout.splitlines()[0]
    assert plain == "path,label,probability,label_2,probability_2,error"
    refused = graft("predict", place / "run", new, "--error-budget", "0.1%")
    assert refused.returncode == 2 and "not reachable with 158 images" in refused.stderr


def test_an_evaluation_says_which_promises_were_kept(place: Path) -> None:
    found = evaluate(place / "run", place / "new", slices=True, quiet=True)
    assert found.promises is not None and found.slices is not None
    by_budget = {row["budget"]: row for row in found.promises.budgets}
    assert by_budget[0.01]["reachable"] is False and by_budget[0.01]["held_out"] == 160
    assert all(row["held_ci95"][0] <= row["held"] <= row["held_ci95"][1] for row in found.promises.sets)
    assert json.loads(json.dumps(found.to_dict()))["promises"]["sets"]


def test_parts_by_group_have_the_names_of_the_groups(place: Path) -> None:
    found = evaluate(place / "run", DataOptions(place / "new", group="^[^/]+"), slices=True, quiet=True)
    parts = [part for part in found.slices or () if part.attribute == "group"]
    assert {part.value for part in parts} == set(CYRILLIC[:4])
    printed = graft("evaluate", place / "run", place / "new", "--group", "^[^/]+", "--slices").stdout
    for part in parts:
        assert f"group {part.value}: {part.top1:.1%} of {part.n} images (95 % interval" in printed


def test_two_runs_are_compared_on_images_that_neither_has_seen(place: Path) -> None:
    # One that was trained on two images of each class.
    data = write_letters(place / "few", CYRILLIC[:4], 3, seed=5)
    train(data, "latin_letters", "head", out=place / "weak", audit=False, quiet=True)
    found = evaluate_two(place / "run", place / "weak", place / "new", quiet=True)
    first, second = found.scores
    assert found.difference.n == 40 and found.difference.difference == pytest.approx(first.top1 - second.top1)
    assert found.difference.ci95[0] <= found.difference.difference <= found.difference.ci95[1]
    same = json.loads(graft("evaluate", place / "run", place / "run", place / "new", "--json").stdout)
    assert same["difference"]["difference"] == 0 and same["difference"]["p_value"] == 1
    with pytest.raises(InputError, match=r"neither .* was trained on"):
        evaluate_two(place / "run", place / "weak", place / "letters", quiet=True)
    other = write_letters(place / "other", CYRILLIC[:3], 4, seed=6)
    train(other, "latin_letters", "head", out=place / "three", audit=False, quiet=True)
    with pytest.raises(InputError, match="same classes"):
        evaluate_two(place / "run", place / "three", other, known_only=True, quiet=True)


def test_classes_that_are_not_known_are_named_and_the_rest_evaluated_when_asked(place: Path) -> None:
    strange = write_letters(place / "strange", CYRILLIC[:6], 4, seed=11)
    refused = graft("evaluate", place / "run", strange)
    assert refused.returncode == 2 and CYRILLIC[4] in refused.stderr
    found = evaluate(place / "run", strange, known_only=True, quiet=True)
    assert found.scores is not None and found.scores.n == 16
    assert any("8 images left out" in note and CYRILLIC[4] in note for note in found.notes)
    foreign = write_letters(place / "foreign", CYRILLIC[4:6], 4, seed=13)
    alone = graft("evaluate", place / "run", foreign, "--known-only").stderr
    assert f"got images of {CYRILLIC[4]!r}, {CYRILLIC[5]!r} only: give images of its classes" in alone
    small = write_letters(place / "small", CYRILLIC[:4], 2, seed=14)
    assert "too few images to compare slices" in graft("evaluate", place / "run", small, "--slices").stdout
    two = write_letters(place / "two", CYRILLIC[:2], 4, seed=12)
    notes = evaluate(place / "run", two, quiet=True).notes
    assert any("there are no images of" in note and CYRILLIC[3] in note for note in notes)


def test_strange_images_are_told_from_those_evaluated(place: Path, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "noise" / "any").mkdir(parents=True)
    for number, pixels in enumerate(np.load(place / "noise.npy")):
        Image.fromarray(pixels).save(tmp_path / "noise" / "any" / f"{number}.png")
    found = evaluate(place / "run", place / "new", unlike=tmp_path / "noise", quiet=True).unlike
    assert found is not None and found.roc_area > 0.95 and found.detected is not None and found.detected > 0.9


def test_corrupted_images_are_answered_worse_and_the_time_decides_how_many(place: Path) -> None:
    asked = evaluate(place / "run", place / "new", quiet=True)
    found = evaluate_robustness(asked, time_limit="1ms", quiet=True)
    assert found.n == 20
    assert {row.severity for row in found.rows} == {1, 2, 3, 4, 5} and len(found.rows) % 5 == 0
    mild, hard = (np.mean([row.top1 for row in found.rows if row.severity == severity]) for severity in (1, 5))
    assert found.clean >= mild > hard
    for row in found.rows:
        assert row.top1_ci95 == pytest.approx(wilson_interval(round(row.top1 * found.n), found.n))
    assert list(found.by_corruption().values()) == sorted(found.by_corruption().values())


def test_corrupted_images_in_groups_count_as_groups(place: Path) -> None:
    asked = evaluate(place / "run", DataOptions(place / "new", group=r"(\d)\.png"), quiet=True)
    found = evaluate_robustness(asked, time_limit="1ms", quiet=True)
    assert len(np.unique(asked.answered.images.groups)) == 10
    for row in found.rows:
        low, high = wilson_interval(row.top1 * found.n, found.n)
        assert row.top1_ci95[1] - row.top1_ci95[0] > high - low


def test_what_several_views_are_worth_is_by_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:4], 30)
    train(DataOptions(data, group=r"(\d)\.png"), "latin_letters", "head", out=tmp_path / "run", quiet=True)
    known = []

    def kept(
        right: np.ndarray, other: np.ndarray, images: np.ndarray, seeds: np.ndarray, groups: np.ndarray
    ) -> Estimate:
        known.append(groups)
        return paired_difference(right, other, images, seeds, groups)

    monkeypatch.setattr("graft.evaluation.paired.paired_difference", kept)
    gain = measured_gain(tmp_path / "run", load(tmp_path / "run"), Views(flip=True))
    (groups,) = known
    assert len(groups) == gain.n > len(np.unique(groups))


def test_a_classifier_read_in_other_classes_is_measured_without_its_promises(place: Path, tmp_path: Path) -> None:
    two, three = CYRILLIC[:2], CYRILLIC[2:4]
    maps = {
        # Fewer classes than the run has, as many under other names, and its own.
        "fewer.json": {"first": list(two), "second": list(three)},
        "renamed.json": {f"letter {letter}": letter for letter in CYRILLIC[:4]},
        "own.json": {letter: letter for letter in CYRILLIC[:4]},
    }
    for name, class_map in maps.items():
        data = tmp_path / Path(name).stem
        for label, letters in class_map.items():
            for letter in letters:
                shutil.copytree(place / "new" / letter, data / label / letter)
        (tmp_path / name).write_text(json.dumps(class_map))
        done = graft("evaluate", place / "run", data, "--class-map", tmp_path / name, "--json", "--quiet")
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        noted = any("prediction sets of the run hold for its own classes" in note for note in told["notes"])
        assert told["top1"] > 0.8 and told["n"] == 40
        assert (noted, "promises" in told) == ((False, True) if name == "own.json" else (True, False)), name
    # What images it knows does not depend on what their classes are called.
    options = {"class_map": tmp_path / "fewer.json", "unlike": place / "new", "quiet": True}
    assert evaluate(place / "run", tmp_path / "fewer", **options).unlike is not None


def test_images_of_a_run_without_audit_are_known_in_other_classes_too(place: Path, tmp_path: Path) -> None:
    run = train(place / "new", "latin_letters", "head", out=tmp_path / "run", audit=False, quiet=True)
    class_map = {f"letter {letter}": letter for letter in CYRILLIC[:4]}
    (tmp_path / "map.json").write_text(json.dumps(class_map))
    for label, letter in class_map.items():
        shutil.copytree(place / "new" / letter, tmp_path / "data" / label)
    found = evaluate(run.folder, tmp_path / "data", class_map=tmp_path / "map.json", quiet=True)
    assert found.scores is None and len(found.trained_on) == 40
