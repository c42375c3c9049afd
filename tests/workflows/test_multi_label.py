"""Several labels for each image, from the table to every door of the run."""

import csv
import json
import pickle
import re
import shutil
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
from calling import graft as command
from mosaics import LETTERS, write_mosaics

import graft
from graft.data.dataset import VAL
from graft.errors import InputError, WeightsError
from graft.evaluation.label_scores import mean_average_precision, score_labels
from graft.features.engine import choose
from graft.features.extraction import extract
from graft.progress import Reporter
from graft.training import label_race, memory
from graft.training.recipe import Recipe
from graft.transfer.label_head import fit_label_head
from graft.weights.base import load_base
from graft.workflows.answer_list import write_answer_list
from graft.workflows.label_evaluation import LabelEvaluation

OPTIONS = {"base": "latin_letters", "quiet": True, "multi_label": True, "refit": False}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mosaics(tmp_path_factory.mktemp("several") / "mosaics", 120)


@pytest.fixture(scope="module")
def run(table: Path, tmp_path_factory: pytest.TempPathFactory) -> graft.Run:
    return graft.train(table, level="head", out=tmp_path_factory.mktemp("runs") / "head", **OPTIONS)


def labels_of(table: Path) -> dict[str, set[str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return {row["path"]: set(filter(None, row["label"].split("|"))) for row in csv.DictReader(file)}


def test_a_run_tells_mean_average_precision_and_keeps_a_threshold_for_each_label(run: graft.Run) -> None:
    assert run.multi_label
    assert run.classes == LETTERS
    assert run.val.top1 is None
    assert run.val.mean_average_precision > run.val.baseline + 0.3
    low, high = run.val.mean_average_precision_ci95
    assert run.val.baseline < low < run.val.mean_average_precision <= high
    told = json.loads((run.folder / "result.json").read_text())
    assert told["val"]["mean_average_precision"] == run.val.mean_average_precision
    assert told["baseline"]["mean_average_precision"] == run.val.baseline
    assert len(json.loads((run.folder / "model" / "calibration.json").read_text())["thresholds"]) == len(LETTERS)
    assert json.loads((run.folder / "model" / "config.json").read_text())["multi_label"] is True
    page = (run.folder / "report.html").read_text()
    assert all(word in page for word in (*LETTERS, "average precision", "threshold"))
    assert "<script" not in page


def test_predictions_are_the_labels_from_their_thresholds_on(run: graft.Run, table: Path) -> None:
    classifier = graft.load(run.folder)
    meant = labels_of(table)
    names = sorted(meant)[:40]
    found = classifier.predict([table.parent / name for name in names], top=2)
    right = sum(len(set(each.labels) & meant[name]) for each, name in zip(found, names, strict=True))
    assert right > 0.8 * sum(len(meant[name]) for name in names)
    probabilities = classifier.predict_proba([table.parent / name for name in names])
    assert np.ptp(probabilities.sum(1)) > 0.5
    for each, row in zip(found, probabilities, strict=True):
        given = {name for name, p, limit in zip(LETTERS, row, classifier.thresholds, strict=True) if p >= limit}
        assert set(each.labels) == given
        assert each.label == "|".join(each.labels)
        assert len(each.top) == 2
        assert each.to_dict().keys() == {"path", "label", "probability", "labels", "likeliest", "top"}
    again = pickle.loads(pickle.dumps(classifier)).predict(table.parent / names[0])
    assert again[0].labels == found[0].labels
    with pytest.raises(InputError, match="one label for `error_budget`"):
        classifier.predict(table.parent / names[0], sets="90%")


def test_an_evaluation_reads_the_same_table_by_itself_and_agrees_with_the_run(run: graft.Run, table: Path) -> None:
    options = graft.DataOptions(str(table), split_file=run.folder / "split.csv")
    found = graft.evaluate(run.folder, options, split="val", quiet=True)
    assert found.labels.mean_average_precision == pytest.approx(run.val.mean_average_precision, abs=0.02)
    assert found.scores is None
    assert found.to_dict()["n"] == run.val.n
    assert re.search("mean_average_precision", repr(found))
    with pytest.raises(InputError, match=r"gives each image one label, got .*, which gives several: use"):
        found.mistakes()
    with pytest.raises(InputError, match="no `slices` for a classifier of several labels"):
        graft.evaluate(run.folder, options, slices=True, quiet=True)
    with pytest.raises(InputError, match="several labels for each"):
        graft.evaluate("latin_letters", graft.DataOptions(str(table), table=graft.TableOptions(multi_label=True)))


def test_the_list_of_answers_has_the_labels_of_each_image(run: graft.Run, table: Path) -> None:
    found = graft.evaluate(run.folder, table, quiet=True)
    file = StringIO(newline="")
    write_answer_list(found.answered, file)
    rows = list(csv.DictReader(StringIO(file.getvalue())))
    known = labels_of(table)
    assert len(rows) == len(found.answered.images)
    for row in rows:
        given, answer = (set(filter(None, row[column].split("|"))) for column in ("label", "answer"))
        assert given == next(labels for path, labels in known.items() if path.endswith(Path(row["path"]).name))
        assert row["right"] == str(given == answer).lower()
    names = found.answered.base.classes
    assert list(rows[0]) == ["path", "label", "answer", "right", "trained_on", "error", *names]
    told = np.array([[float(row[name]) for name in names] for row in rows])
    assert told == pytest.approx(found.answered.probabilities, rel=1e-4)
    others = StringIO(newline="")
    write_answer_list(replace(found.answered, matrix=1 - found.answered.matrix), others)
    swapped = list(csv.DictReader(StringIO(others.getvalue())))
    assert [row["answer"] for row in swapped] == [row["answer"] for row in rows]
    assert {row["right"] for row in swapped} == {"false"}


def test_lists_of_labels_in_memory_make_the_same_model(run: graft.Run, table: Path, tmp_path: Path) -> None:
    meant = labels_of(table)
    data = [str(table.parent / name) for name in meant], [sorted(labels) for labels in meant.values()]
    other = graft.train(data, level="head", out=tmp_path / "lists", **OPTIONS)
    one, two = (each.folder / "model" / "model.safetensors" for each in (run, other))
    assert one.read_bytes() == two.read_bytes()


def test_stages_are_trained_and_their_epochs_told_by_mean_average_precision(table: Path, tmp_path: Path) -> None:
    # A dataset of such images says itself that they have several labels.
    dataset = graft.Dataset.from_table(table, multi_label=True)
    recipe = Recipe(epochs=3, mixup=0.2, cutmix=1.0, views=2)
    options = {**OPTIONS, "multi_label": False, "refit": True}
    run = graft.train(dataset, level="frozen:0.4", recipe=recipe, out=tmp_path / "run", **options)
    assert [row["epoch"] for row in run.logs] == [0, 1, 2, 3]
    assert all(row["val_top1"] is None and 0 < row["val_mean_average_precision"] <= 1 for row in run.logs)
    assert run.val.mean_average_precision > run.val.baseline + 0.3
    assert "mean average precision" in run.plot().svg
    assert graft.load(run.folder).predict_proba(table.parent / "0000.png").shape == (1, len(LETTERS))


def test_a_run_says_that_f1_is_measured_where_its_thresholds_were_chosen(
    run: graft.Run, table: Path, tmp_path: Path
) -> None:
    trained = graft.train(table, level="frozen:0.4", recipe=Recipe(epochs=1, views=1), out=tmp_path / "run", **OPTIONS)
    (said,) = [note for note in trained.notes if "F1 on val is optimistic" in note]
    assert f"{trained.val.n:,} images" in said
    report = json.loads((trained.folder / "report.json").read_text())
    assert said in report["notes"] and "F1 on val is optimistic" in (trained.folder / "report.html").read_text()
    # The thresholds of a head are chosen on folds of train.
    assert not any("F1 on val" in note for note in run.notes)


def test_auto_takes_a_level_by_mean_average_precision_and_says_why(table: Path, tmp_path: Path) -> None:
    run = graft.train(table, level="auto", recipe=Recipe(epochs=1, views=1), out=tmp_path / "run", **OPTIONS)
    reasons = json.loads((run.folder / "plan.json").read_text())["reasons"]
    assert [reason.split(":")[0] for reason in reasons[:3]] == ["head", "head", "frozen"]
    assert all("mean average precision" in reason for reason in reasons[:3])
    assert run.level in ("head", "head:stages", "frozen:0.4")


def test_auto_takes_no_level_that_no_time_is_left_to_train_again(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.training.label_race._gain", lambda measured, other, groups: (0.1, 0.0))
    options = {"level": "auto", "recipe": Recipe(epochs=1, views=1), **OPTIONS}
    assert graft.train(table, out=tmp_path / "in-time", **options).level == "frozen:0.4"
    monkeypatch.setattr("graft.training.label_race.has_time", lambda task, plan, found: plan.level.startswith("head"))
    run = graft.train(table, out=tmp_path / "late", **options)
    assert run.level == "head:stages"
    reasons = json.loads((run.folder / "plan.json").read_text())["reasons"]
    assert "no time is left to train frozen:0.4 again" in reasons


def test_a_gain_on_few_groups_is_less_certain_than_on_as_many_images() -> None:
    random, groups = np.random.default_rng(0), np.repeat(np.arange(20), 10)
    matrix = np.repeat(random.random((20, 3)) < 0.4, 10, axis=0).astype(np.float32)
    # Images of a group are nearly the same, so are the answers to them.
    two = [
        SimpleNamespace(
            trained=SimpleNamespace(
                logits={VAL: matrix * strength + np.repeat(random.normal(size=(20, 3)), 10, axis=0)},
                labels={VAL: matrix},
            )
        )
        for strength in (2.0, 1.0)
    ]
    (gain, by_images), (again, by_groups) = label_race._gain(*two), label_race._gain(*two, groups)
    assert gain == again and by_groups > 2 * by_images
    # Groups of one image each are images.
    assert label_race._gain(*two, np.arange(200)) == pytest.approx((gain, by_images))


def test_on_the_same_features_it_is_as_good_as_scikit_learns_one_vs_rest(table: Path) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    base, dataset = load_base("latin_letters"), graft.Dataset.from_table(table, multi_label=True)
    images = dataset.splits["all"]
    found = extract(base.network.before_head("last"), {VAL: images}, base.preprocessing, choose("torch", "float32"))
    features, matrix = found[VAL].values.float().numpy(), dataset.label_matrix(images.labels)
    train, test = slice(0, 80), slice(80, None)
    fit = fit_label_head(features[train], matrix[train])
    own = mean_average_precision(features[test] @ fit.weight.T + fit.bias, matrix[test])
    scaled = (features - features[train].mean(0)) / features[train].std()
    peers = [
        linear.LogisticRegressionCV(Cs=[0.01, 0.1, 1.0], cv=3, scoring="neg_log_loss")
        .fit(scaled[train], matrix[train, label])
        .decision_function(scaled[test])
        for label in range(len(LETTERS))
    ]
    assert own == pytest.approx(mean_average_precision(np.column_stack(peers), matrix[test]), abs=0.03)


def test_commands_know_it_and_what_does_not_says_so(run: graft.Run, table: Path, tmp_path: Path) -> None:
    image = table.parent / "0000.png"
    told = command("predict", run.folder, image, "--format", "jsonl", "--quiet")
    assert set(json.loads(told.stdout)["labels"]) <= set(LETTERS)
    out = tmp_path / "rows.csv"
    assert command("predict", run.folder, image, "--out", out, "--quiet").returncode == 0
    (row,) = csv.DictReader(out.read_text(encoding="utf-8").splitlines())
    assert row["label"] == "|".join(json.loads(told.stdout)["labels"])
    # The probability is that of the likeliest label, not of `label`, which may hold several or none.
    assert [row["likeliest"], float(row["probability"])] == json.loads(told.stdout)["top"][0]
    # In JSON, the same names mean the same.
    written = json.loads(told.stdout)
    assert [written["likeliest"], written["probability"]] == written["top"][0] and written["label"] == row["label"]
    assert "mean average precision" in command("evaluate", run.folder, table, "--quiet").stdout
    assert "mean average precision" in command("report", run.folder).stdout.lower()
    audited = command("audit", table, "--multi-label", "--no-features", "--json", "--quiet")
    assert set(json.loads(audited.stdout)["classes"]) == set(LETTERS)
    computed = tmp_path / "features.parquet"
    options = ("--base", "latin_letters", "--no-audit", "--quiet")
    assert command("features", table, "--multi-label", *options, "--out", computed).returncode == 0
    cells = pyarrow.parquet.read_table(computed, columns=["path", "label"]).to_pylist()
    found = {Path(row["path"]).name: set(filter(None, row["label"].split("|"))) for row in cells}
    assert found == {Path(path).name: names for path, names in labels_of(table).items()}
    refused = {
        "one label for each image": ("train", table, "--out", tmp_path / "no"),
        "one label for an explanation": ("explain", run.folder, image),
        "one label for a walk": ("walk", run.folder, image),
        "expected images with one label each": ("compare", table, "--multi-label"),
        "one label for --precision int8": ("export", run.folder, "--format", "openvino", "--precision", "int8"),
        "one label for --robustness": ("evaluate", run.folder, table, "--robustness"),
        "classifier of one label for --robustness": ("report", run.folder, "--robustness"),
        "two runs that give an image one label": ("report", run.folder, run.folder),
        "no balancing of classes": ("train", table, "--multi-label", "--sampling", "balanced"),
        "got as-is": ("train", table, "--multi-label", "--level", "as-is", "--base", "latin_letters"),
    }
    for sentence, call in refused.items():
        answer = command(*call, "--quiet", cwd=tmp_path)
        assert answer.returncode == 2, (call, answer.stderr)
        assert sentence in answer.stderr, (call, answer.stderr)
    assert not (run.folder / "robustness.json").exists()


def test_a_file_of_weights_of_a_multi_label_run_is_evaluated_by_label(run: graft.Run, table: Path) -> None:
    data = graft.DataOptions(str(table), table=graft.TableOptions(multi_label=True))
    found = graft.evaluate(run.folder / "model" / "model.safetensors", data, quiet=True)
    assert found.labels is not None and found.labels.mean_average_precision and found.scores is None


def test_an_export_gives_the_same_labels(run: graft.Run, table: Path) -> None:
    file = graft.export(run.folder, "onnx", quiet=True).file
    images = [table.parent / f"{number:04}.png" for number in range(8)]
    exported, own = graft.load(file).predict(images), graft.load(run.folder, engine="torch").predict(images)
    assert [each.labels for each in exported] == [each.labels for each in own]


def test_a_model_whose_files_disagree_on_what_it_gives_is_refused(run: graft.Run, tmp_path: Path) -> None:
    folder = shutil.copytree(run.folder / "model", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "multi_label": False}))
    with pytest.raises(WeightsError, match="the multi_label that"):
        _ = graft.load(folder).saved
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "calibration.json").write_text(json.dumps({"temperature": 1.0, "thresholds": [0.5]}))
    with pytest.raises(WeightsError, match="a threshold from 0 to 1 for each of 4"):
        _ = graft.load(folder).saved


def test_more_images_than_memory_holds_are_refused_before_anything_is_computed(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 100_000)
    steps: list[str] = []
    reporter = Reporter(step=lambda name, done, total: steps.append(name))
    with pytest.raises(InputError, match=r"of memory for a head for several labels on \d+ images, got 0.0 GiB"):
        graft.train(table, level="head", out=tmp_path / "run", reporter=reporter, **OPTIONS)
    assert "features" not in steps


def test_in_a_notebook_a_label_that_was_not_measured_is_not_the_worst() -> None:
    # No image has the first label.
    matrix = np.array([[0, 1], [0, 0], [0, 1], [0, 0]])
    scores = score_labels(np.array([[0.1, 0.2]] * 4), matrix, ("absent", "seen"), np.full(2, 0.5))
    shown = LabelEvaluation("run", "data", "test", None, {}, "torch", 1.0, (), None, labels=scores)._repr_html_()
    assert shown.index(">seen<") < shown.index(">absent<")
