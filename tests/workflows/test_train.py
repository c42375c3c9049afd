"""From images to a run folder, on every level."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from written_letters import files, write_letters

import graft
from graft.data.opening import open_dataset
from graft.errors import CutError, DataError, GraftError, InputError, Interrupted
from graft.evaluation.calibration import softmax
from graft.features import extraction
from graft.images.letters import CYRILLIC, LATIN
from graft.models.catalog import build
from graft.models.network import Config
from graft.progress import Reporter
from graft.training.recipe import Recipe
from graft.weights.base import load_base
from graft.weights.saved import load_model
from graft.workflows.arguments import Arguments, read_arguments
from graft.workflows.evaluate import evaluate
from graft.workflows.export import export
from graft.workflows.kept_answers import read_answers
from graft.workflows.prepare import DataOptions
from graft.workflows.train import train

TENSOR_FILE = "model/model.safetensors"


@pytest.fixture(scope="module")
def cyrillic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("letters") / "cyrillic"
    write_letters(root / "train", CYRILLIC[:6], 10, seed=0)
    write_letters(root / "val", CYRILLIC[:6], 5, seed=1)
    write_letters(root / "test", CYRILLIC[:6], 5, seed=2)
    return root


def assert_same_tensors(one: Path, other: Path) -> None:
    left, right = load_file(one), load_file(other)
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("level", ["head", "head:stages", "stages:1", "frozen:0.5", "all", "scratch", "auto"])
def test_every_level_makes_a_run_that_loads_and_predicts_as_it_scored(
    level: str, cyrillic: Path, tmp_path: Path
) -> None:
    before = files(cyrillic)
    run = train(cyrillic, "latin_letters", level, out=tmp_path / "run", epochs=3)
    assert files(cyrillic) == before
    assert run.classes == tuple(sorted(CYRILLIC[:6]))
    assert run.images == 120
    assert run.val.n == run.test.n == 30
    low, high = run.val.top1_ci95
    assert low <= run.val.top1 <= high
    for name in ("args.yaml", "plan.json", "audit.json", "result.json", "report.html", "model/labels.json"):
        assert (run.folder / name).is_file(), name
    again = evaluate(run.folder, cyrillic, precision="float32", engine="torch")
    assert again.split == "test"
    # The engine that scored the run may round differently; a borderline letter may fall to the other side.
    assert again.scores.top1 == pytest.approx(run.test.top1, abs=1.5 / 30)
    if level not in ("scratch", "stages:1"):
        assert run.val.top1 > 0.6


@pytest.mark.parametrize("level", ["head", "stages:1", "stages:2", "frozen:0.4", "all"])
def test_a_run_of_depthwise_convolutions_is_scored_on_the_answers_of_its_classifier(
    level: str, cyrillic: Path, tmp_path: Path
) -> None:
    """Its activations are computed in bfloat16 to train on, and its answers in float32."""
    torch.manual_seed(0)
    network = build(Config("mobilenet_v2", classes=4))
    save_file(network.state_dict(), tmp_path / "base.safetensors")
    asked = {"engine": "torch", "precision": "bfloat16", "epochs": 2, "audit": False, "quiet": True}
    sizes = {"image_size": 32, "mean": 0.5, "std": 0.5}
    run = train(cyrillic, tmp_path / "base.safetensors", level, out=tmp_path / "run", **asked, **sizes)
    kept = read_answers(run.folder)
    assert kept is not None
    split = kept.splits["test"]
    dataset = open_dataset(cyrillic)
    paths = [cyrillic / dataset.splits["test"].name(row) for row in split.rows.tolist()]
    answers = graft.load(run.folder, engine="torch").predict(paths, top=6)
    found = np.array([[dict(each.top)[name] for name in run.classes] for each in answers])
    assert np.abs(found - softmax(split.logits, kept.temperature)).max() < 1e-4


def test_a_run_with_a_head_over_all_stages_is_a_base_for_every_level(cyrillic: Path, tmp_path: Path) -> None:
    first = train(cyrillic, "latin_letters", "head:stages", out=tmp_path / "first")
    network = load_model(first.folder / "model").network
    assert network.config.head == "stages" and network.head.in_features == sum(network.head_blocks("stages"))
    images = sorted((cyrillic / "val").glob("*/*.png"))
    predicted = graft.load(first.folder).predict(images)
    assert np.mean([each.label == path.parent.name for each, path in zip(predicted, images, strict=True)]) == (
        pytest.approx(first.val.top1)
    )
    same = train(cyrillic, str(first.folder), "as-is", out=tmp_path / "same")
    assert (same.val, same.test) == (first.val, first.test)
    assert_same_tensors(first.folder / TENSOR_FILE, same.folder / TENSOR_FILE)
    # The trunk is unchanged, so whatever is trained on it is the same too.
    for number, level in enumerate(("head", "head:stages", "stages:1", "auto")):
        here, there = (
            train(cyrillic, base, level, out=tmp_path / f"{name}{number}", epochs=1)
            for name, base in (("here", str(first.folder)), ("there", "latin_letters"))
        )
        assert (here.level, here.cut, here.val) == (there.level, there.cut, there.val)
        assert_same_tensors(here.folder / TENSOR_FILE, there.folder / TENSOR_FILE)
    scratch = train(cyrillic, str(first.folder), "scratch", out=tmp_path / "scratch", epochs=1)
    assert load_model(scratch.folder / "model").network.config.head == "last"


def test_a_crown_whose_head_sees_several_stages_is_a_classifier_like_any_other(cyrillic: Path, tmp_path: Path) -> None:
    run = train(cyrillic, "latin_letters", "stages:2", out=tmp_path / "run", recipe=Recipe(8, head="stages"))
    model = load_model(run.folder / "model")
    assert model.network.config.head == f"stages:{run.cut}" and run.val.top1 > 0.7
    assert model.network.head.in_features == sum(model.network.head_blocks(f"stages:{run.cut}"))
    base = load_base("latin_letters").network
    names = [name for name, _ in base.split(run.cut)[0].named_parameters()]
    tensors = model.network.state_dict()
    assert names and all(torch.equal(tensors[name], base.state_dict()[name]) for name in names)
    images = sorted((cyrillic / "val").glob("*/*.png"))
    answers = graft.load(run.folder).predict(images)
    assert np.mean([each.label == path.parent.name for each, path in zip(answers, images, strict=True)]) == (
        pytest.approx(run.val.top1, abs=1.5 / len(images))
    )
    exported = export(run.folder, "openvino", out=tmp_path / "letters.xml", quiet=True)
    again = graft.load(exported.file).predict(images)
    assert [each.label for each in again] == [each.label for each in answers]
    # As a base it provides its stages, and gets a new head.
    next_run = train(cyrillic, str(run.folder), "head", out=tmp_path / "next")
    assert load_model(next_run.folder / "model").network.config.head == "last"


def test_an_interrupted_head_over_all_stages_comes_to_the_same_bytes(
    cyrillic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    def started(out: Path) -> graft.Run:
        return train(cyrillic, "latin_letters", "head:stages", out=out, deterministic=True, quiet=True)

    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr("graft.training.heads.fit_head", stop)
        started(tmp_path / "stopped")
    gone_on = train(tmp_path / "stopped", resume=True, quiet=True)
    at_once = started(tmp_path / "at_once")
    for name in ("config.json", "model.safetensors", "calibration.json"):
        assert (gone_on.folder / "model" / name).read_bytes() == (at_once.folder / "model" / name).read_bytes(), name


def test_frozen_layers_are_saved_as_they_came(cyrillic: Path, tmp_path: Path) -> None:
    from graft.weights.base import load_base

    start = load_base("latin_letters").network.state_dict()
    run = train(cyrillic, "latin_letters", "stages:2", out=tmp_path / "run", epochs=2)
    assert run.cut == "stage2"
    trained = load_model(run.folder / "model").network
    trunk, crown = trained.split(run.cut)
    for name, tensor in trunk.state_dict().items():
        assert torch.equal(tensor, start[name]), name
    for name, tensor in crown.state_dict().items():
        assert tensor.shape != start[name].shape or not torch.equal(tensor, start[name]), name


def test_a_second_run_on_the_same_images_computes_no_features(
    cyrillic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(cyrillic, "latin_letters", "head", out=tmp_path / "one")

    def refuse(*arguments: object) -> None:
        raise AssertionError("features were computed again")

    monkeypatch.setattr(extraction, "open_engine", refuse)
    second = train(cyrillic, "latin_letters", "head", out=tmp_path / "two")
    assert second.val == first.val
    assert_same_tensors(first.folder / TENSOR_FILE, second.folder / TENSOR_FILE)


def test_as_is_scores_the_base_in_the_classes_of_the_images(tmp_path: Path) -> None:
    # The letters drawn are some of the base's own classes, under the base's own names.
    letters = tuple(name for name in LATIN if len(name) == 1 and name.isupper())
    data = write_letters(tmp_path / "latin", letters, 4)
    run = train(data, "latin_letters", "as-is", out=tmp_path / "run")
    assert run.cut == "head"
    assert run.classes == letters
    assert run.val.top1 > 0.6
    assert not any("is read as" in note for note in run.notes)


def test_a_run_as_is_is_a_base_in_the_classes_that_it_was_read_in(tmp_path: Path) -> None:
    first = train(write_letters(tmp_path / "five", ("A", "B", "D", "E", "F"), 4), "latin_letters", "as-is",
                  out=tmp_path / "first")  # fmt: skip
    data = write_letters(tmp_path / "two", ("B", "E"), 10)
    again = train(data, str(first.folder), "as-is", out=tmp_path / "again")
    assert load_model(again.folder / "model").outputs == ((LATIN.index("B"),), (LATIN.index("E"),))
    with pytest.raises(DataError, match="among the base's 5 classes, got 'M'"):
        train(write_letters(tmp_path / "other", ("B", "M"), 10), str(first.folder), "as-is", out=tmp_path / "none")
    # A new head has an output for every class.
    head = train(data, str(first.folder), "head", out=tmp_path / "head")
    assert load_model(head.folder / "model").outputs is None
    assert graft.load(head.folder).classes == ("B", "E")


def test_as_is_reads_classes_as_the_class_map_says(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", ("A", "B", "M"), 10)
    (data / "A").rename(data / "eins")
    (data / "B").rename(data / "zwei")
    class_map = tmp_path / "map.json"
    class_map.write_text(json.dumps({"eins": ["A", "a"], "zwei": LATIN.index("B")}))
    with pytest.raises(DataError, match=r"'eins'.*'zwei'.*`class_map=FILE`"):
        train(data, "latin_letters", "as-is", out=tmp_path / "run")
    with pytest.raises(InputError, match="`class_map` with `level='as-is'` alone"):
        train(data, "latin_letters", "head", out=tmp_path / "run", class_map=class_map)
    assert not (tmp_path / "run").exists()
    run = train(data, "latin_letters", "as-is", out=tmp_path / "run", class_map=class_map)
    assert run.classes == ("M", "eins", "zwei")
    assert run.val.top1 > 0.8
    assert "'eins' is read as the base's 'A', 'a' (by the class map)" in run.notes
    assert any("images in val the base's own first answer is none of these classes" in note for note in run.notes)
    again = evaluate(run.folder, data, split="all")
    assert again.scores.top1 > 0.8
    images = sorted((data / "eins").iterdir())
    assert [found.label for found in graft.load(run.folder).predict(images)].count("eins") > 6


def test_as_is_refuses_classes_the_base_does_not_know(cyrillic: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'А'"):
        train(cyrillic, "latin_letters", "as-is", out=tmp_path / "run")


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_a_column_of_equal_weights_changes_nothing_and_a_class_may_weigh_nothing(
    sampling: str, cyrillic: Path, tmp_path: Path
) -> None:
    paths = sorted((cyrillic / "train").rglob("*.png"))[:36]
    runs = {}
    for name, weight in {"none": None, "equal": [0.7, 0.7], "zero": [1, 0]}.items():
        rows = [
            (str(path), path.parent.name, weight[path.parent != paths[0].parent])
            if weight
            else (str(path), path.parent.name)
            for path in paths
        ]
        table = tmp_path / f"{name}.csv"
        lines = [("path", "label", "weight")[: len(rows[0])], *rows]
        table.write_text("".join(",".join(map(str, line)) + "\n" for line in lines), "utf-8")
        recipe = Recipe(epochs=2, sampling=sampling)
        runs[name] = train(table, "latin_letters", "stages:1", out=tmp_path / name, recipe=recipe)
    assert_same_tensors(*(tmp_path / name / TENSOR_FILE for name in ("none", "equal")))
    assert runs["zero"].val.n == runs["none"].val.n


def test_what_cannot_be_decoded_is_skipped_and_named(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 8)
    (data / "А" / "empty.png").touch()
    (data / "Б" / "words.png").write_text("not an image")
    (data / "Б" / "notes.txt").write_text("not an image, and named as none")
    (data / "В" / "cut.png").write_bytes(next((data / "В").iterdir()).read_bytes()[:90])
    run = train(data, "latin_letters", "head", out=tmp_path / "run")
    assert {Path(name).name for name in run.skipped} == {"empty.png", "words.png", "cut.png"}
    assert any("notes.txt" in note for note in run.notes)
    assert run.images == 24
    audit = json.loads((run.folder / "audit.json").read_text())
    assert len(audit["findings"][0]["paths"]) == 3
    with pytest.raises(DataError, match="`strict`"):
        train(data, "latin_letters", "head", out=tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_a_class_missing_from_val_shifts_no_label(tmp_path: Path) -> None:
    data = tmp_path / "letters"
    write_letters(data / "train", CYRILLIC[:5], 10, seed=0)
    write_letters(data / "val", (CYRILLIC[0], CYRILLIC[3], CYRILLIC[4]), 10, seed=1)
    run = train(data, "latin_letters", "head", out=tmp_path / "run")
    assert run.classes == tuple(sorted(CYRILLIC[:5]))
    assert run.val.top1 > 0.6
    assert any(repr(CYRILLIC[1]) in note for note in run.notes)


def test_a_class_without_one_readable_image_is_an_error_that_names_it(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:2], 6)
    (data / "broken").mkdir()
    for number in range(3):
        (data / "broken" / f"{number}.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match="'broken'"):
        train(data, "latin_letters", "head", out=tmp_path / "run")


def test_a_run_folder_is_numbered_when_taken_and_refused_when_named(
    cyrillic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = [train(cyrillic, "latin_letters", "head") for _ in range(2)]
    assert [run.folder for run in runs] == [tmp_path / "runs/cyrillic", tmp_path / "runs/cyrillic-2"]
    assert [run.to_dict()["run"] for run in runs] == ["runs/cyrillic", "runs/cyrillic-2"]
    with pytest.raises(InputError, match="new or empty"):
        train(cyrillic, "latin_letters", "head", out="runs/cyrillic")


def test_nothing_is_written_among_the_images(cyrillic: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cyrillic)
    before = files(cyrillic)
    with pytest.raises(InputError, match="outside the images"):
        train(cyrillic, "latin_letters", "head")
    assert files(cyrillic) == before


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"level": "heads"}, "level"),
        ({"epochs": -1}, "`epochs`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"learning_rate": 0.0}, "`learning_rate`"),
        ({"image_size": 2}, "`image_size`"),
        ({"image_size": 10**9}, "`image_size`, got 1000000000"),
        ({"image_size": "96"}, "`image_size`, got '96'"),
        ({"threads": 10**6, "deterministic": True}, "`threads`, got 1000000"),
        ({"threads": True, "deterministic": True}, "`threads`, got True"),
        ({"threads": "2", "deterministic": True}, "`threads`, got '2'"),
        ({"threads": 2}, "expected `deterministic`"),
        ({"seed": True}, "`seed`, got True"),
        ({"seed": "1"}, "`seed`, got '1'"),
        ({"seed": None}, "`seed`, got None"),
        ({"seed": 1.0}, "`seed`, got 1.0"),
        ({"time_limit": float("nan")}, "`time_limit`, got nan"),
        ({"time_limit": float("inf")}, "`time_limit`, got inf"),
        ({"time_limit": "soon"}, "`time_limit`, got 'soon'"),
        ({"time_limit": True}, "`time_limit`, got True"),
        ({"level": 3}, "`level`, got 3"),
        ({"arch": 3}, "`arch`, got 3"),
        ({"deterministic": "yes"}, "`deterministic`, got 'yes'"),
        ({"audit": "no"}, "`audit`, got 'no'"),
        ({"refit": 1}, "`refit`, got 1"),
        ({"strict": "no"}, "`strict`, got 'no'"),
        ({"resume": "no"}, "`resume`, got 'no'"),
        ({"quiet": "no"}, "`quiet`, got 'no'"),
        ({"find_learning_rate": "no"}, "`find_learning_rate`, got 'no'"),
        ({"recipe": Recipe(flip="no")}, "`flip`, got 'no'"),
        ({"recipe": {"epochs": 3}}, "graft.Recipe"),
        ({"class_map": 3}, "`class_map`, got 3"),
        ({"classes_file": 3}, "`classes_file`, got 3"),
        ({"contact_sheet": 3}, "`contact_sheet`, got 3"),
        ({"image_size": 20}, "28 px or more for lenet5, got 20 x 20"),
        ({"resize": "stretch"}, "`resize`"),
        ({"engine": "tensorrt"}, "tensorrt"),
        ({"level": "stages:9"}, "stages"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_leaves_nothing(
    arguments: dict, word: str, cyrillic: Path, tmp_path: Path
) -> None:
    with pytest.raises((InputError, CutError), match=word):
        train(cyrillic, "latin_letters", **arguments, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("said", "word"), [({"group": 3}, "`group`, got 3"), ({"split_file": 3}, "`split_file`, got 3")]
)
def test_so_is_what_is_said_of_the_data(said: dict, word: str, cyrillic: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=word):
        train(DataOptions(cyrillic, **said), "latin_letters", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_the_level_does_not_use_is_said_so(cyrillic: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    reporter = Reporter(note=notes.append)
    train(cyrillic, "latin_letters", "head", out=tmp_path / "a", reporter=reporter)
    assert not any("recipe options" in note for note in notes)
    train(cyrillic, "latin_letters", "head", recipe=Recipe(epochs=2), out=tmp_path / "b", reporter=reporter)
    assert "recipe options are ignored at --level head: no stage is trained in steps (epochs)" in notes
    notes.clear()
    train(cyrillic, "latin_letters", "head", recipe=Recipe(sampling="balanced"), out=tmp_path / "c", reporter=reporter)
    [said] = [note for note in notes if "recipe options" in note]
    assert said.endswith("in steps (sampling); --class-weights balanced also works for a head")


@pytest.mark.parametrize(
    ("data", "base", "out", "said"),
    [
        (
            3,
            "latin_letters",
            "r",
            r"a path, a graft\.Dataset, \(images, labels\) or a data frame for the images, got 3",
        ),
        ("d", None, "r", "a path or a name for `base`, got None"),
        ("d", "b", "a\0b", "a path or a name for `out`, got 'a"),
    ],
)
def test_what_is_no_path_is_refused_before_anything_is_opened(data, base, out, said) -> None:
    with pytest.raises(InputError, match=f"expected {said}"):
        train(data, base, out=out)


def test_numbers_of_numpy_are_numbers(cyrillic: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run = train(
        cyrillic,
        "latin_letters",
        "all",
        out=out,
        seed=np.int64(3),
        threads=np.int32(1),
        deterministic=np.True_,
        image_size=np.int64(32),
        epochs=np.int64(1),
        batch_size=np.uint8(16),
        learning_rate=np.float32(0.001),
        time_limit=np.float64(3600),
        recipe=Recipe(warmup=np.float64(0.2), optimizer=np.str_("adamw"), flip=np.False_),
        quiet=True,
    )
    assert run.folder == out
    asked = read_arguments(out)
    assert asked.recipe.learning_rate == float(np.float32(0.001)) and asked.recipe.flip is False
    assert (asked.seed, asked.threads, asked.image_size, asked.recipe.epochs) == (3, 1, 32, 1)


def test_a_time_is_written_as_on_the_command_line(cyrillic: Path, tmp_path: Path) -> None:
    train(cyrillic, "latin_letters", "head", out=tmp_path / "run", time_limit="10m", quiet=True)
    assert read_arguments(tmp_path / "run").time_limit == 600.0


def test_a_run_is_in_one_place_wherever_the_process_goes(
    cyrillic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "begun")
    reporter = Reporter(step=lambda *told, **more: os.chdir(tmp_path / "elsewhere"))
    run = train(cyrillic, "latin_letters", "stages:1", out="run", epochs=1, reporter=reporter)
    assert Path.cwd() == tmp_path / "elsewhere" and not list(Path.cwd().iterdir())
    assert run.folder == tmp_path / "begun" / "run"
    assert graft.load(run.folder).classes == run.classes


def manifest(cyrillic: Path, folder: Path, below: str = "") -> Path:
    """A copy of the letters below `folder` and a table there that lists them."""
    shutil.copytree(cyrillic, folder / below, dirs_exist_ok=True)
    images = sorted(path.relative_to(folder) for path in (folder / below).rglob("*.png"))
    rows = "".join(f"{path},{path.parent.name}\n" for path in images)
    (folder / "list.csv").write_text(f"path,label\n{rows}", encoding="utf-8")
    return folder / "list.csv"


@pytest.mark.parametrize("inside", ["run", f"train/{CYRILLIC[0]}/run", "train/run", "deeper/run"])
def test_nothing_is_written_among_images_that_a_manifest_lists(inside: str, cyrillic: Path, tmp_path: Path) -> None:
    listed = manifest(cyrillic, tmp_path / "project", "images")
    before = files(tmp_path / "project")
    with pytest.raises(InputError, match="outside the images"):
        train(listed, "latin_letters", "head", out=tmp_path / "project" / "images" / inside, quiet=True)
    assert files(tmp_path / "project") == before


def test_a_run_may_lie_beside_a_manifest(cyrillic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = manifest(cyrillic, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    assert train(listed, "latin_letters", "head", quiet=True).to_dict()["run"] == "runs/list"


def test_what_cannot_be_begun_leaves_the_name_free(
    cyrillic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "plan.json")

    with monkeypatch.context() as failing, pytest.raises(GraftError, match=r"No space left .* plan\.json: free space"):
        failing.setattr("graft.workflows.train.write_json", full)
        train(cyrillic, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["deciding.prepare", "train.write_arguments"])
def test_stopped_before_it_was_begun_there_is_nothing_to_resume(
    where: str, cyrillic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"graft.workflows.{where}", stop)
    with pytest.raises(Interrupted, match="there is nothing to resume"):
        train(cyrillic, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


KILLED = """
import sys
import time
import torch
torch.set_num_threads(1)  # as the tests do: sums in another order end in other bits
from graft.training import checkpoint
checkpoint.SHARE_OF_TIME = 1.0  # every epoch is kept
keep = checkpoint.write_checkpoint
kept = 0
def keep_and_stall(*arguments):
    global kept
    keep(*arguments)
    kept += 1
    print("kept", flush=True)
    if kept == 3:
        time.sleep(600)  # until it is killed
checkpoint.write_checkpoint = keep_and_stall
from graft.workflows.train import train
train(sys.argv[1], "latin_letters", "all", out=sys.argv[2], epochs=8, batch_size=8)
"""


def test_a_killed_training_goes_on_with_resume_to_the_result_it_would_have_had(cyrillic: Path, tmp_path: Path) -> None:
    settings = {"epochs": 8, "batch_size": 8}
    out = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(cyrillic), str(out)], stdout=subprocess.PIPE) as process:
        for _ in range(3):
            assert process.stdout is not None
            assert process.stdout.readline() == b"kept\n"
        process.send_signal(signal.SIGKILL)
    assert not (out / "result.json").exists()
    epochs_before = len((out / "metrics.jsonl").read_text().splitlines())
    with pytest.raises(InputError, match="`resume`"):
        train(cyrillic, "latin_letters", "all", out=out, **settings)
    with pytest.raises(InputError, match="level was 'all'"):
        train(cyrillic, "latin_letters", "head", out=out, resume=True, **settings)
    resumed = train(cyrillic, "latin_letters", "all", out=out, resume=True, **settings)
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 9 > epochs_before
    whole = train(cyrillic, "latin_letters", "all", out=tmp_path / "whole", **settings)
    assert resumed.val == whole.val
    assert_same_tensors(out / TENSOR_FILE, tmp_path / "whole" / TENSOR_FILE)
    again = train(cyrillic, "latin_letters", "all", out=out, resume=True, **settings)
    assert again.to_dict() == resumed.to_dict()


def test_a_run_killed_anywhere_is_never_half_a_model(cyrillic: Path, tmp_path: Path) -> None:
    script = "import sys; from graft import train; train(sys.argv[1], 'latin_letters', 'head', out=sys.argv[2])"
    environment = {**os.environ, "GRAFT_CACHE": str(tmp_path / "cache")}
    for attempt, delay in enumerate((1.0, 2.5, 3.5)):
        out = tmp_path / f"run{attempt}"
        with subprocess.Popen([sys.executable, "-c", script, str(cyrillic), str(out)], env=environment) as process:
            time.sleep(delay)
            process.kill()
        if (out / "model").exists():
            assert graft.load(out).classes == tuple(sorted(CYRILLIC[:6]))
    out = tmp_path / "last"
    subprocess.run([sys.executable, "-c", script, str(cyrillic), str(out)], env=environment, check=True)
    assert graft.load(out).classes == tuple(sorted(CYRILLIC[:6]))


def test_ants_and_bees_from_a_frozen_mobilenet(shared: Path, tmp_path: Path) -> None:
    base = shared / "weights" / "mobilenet_v2_imagenet.safetensors"
    run = train(shared / "datasets" / "ants_bees", str(base), "head", out=tmp_path / "run")
    assert run.skipped == {}
    assert run.images == 398
    assert run.val.n == 153
    assert run.val.top1 >= 0.96


def test_ants_and_bees_without_a_base_and_an_empty_cache(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    run = train(shared / "datasets" / "ants_bees", level="head", out=tmp_path / "run")
    assert run.base == "efficientnet_lite0"
    assert run.val.top1 >= 0.93


def test_ants_and_bees_as_imagenet_knows_them(shared: Path, tmp_path: Path) -> None:
    base, data = shared / "weights" / "mobilenet_v2_imagenet.safetensors", shared / "datasets" / "ants_bees"
    run = train(data, str(base), "as-is", out=tmp_path / "run")
    assert run.classes == ("ants", "bees")
    assert run.val.n == 153
    assert run.val.top1 >= 0.98
    assert "'ants' is read as the base's 'ant, emmet, pismire' (by name)" in run.notes
    # The loaded run and the base, read in the same classes, score the same.
    for model in (run.folder, base):
        found = evaluate(model, data)
        assert found.scores.top1 == run.val.top1
        assert [row.name for row in found.scores.classes] == ["ants", "bees"]
    image = next((data / "val" / "bees").iterdir())
    assert graft.load(run.folder).predict(image)[0].top[0][0] == "bees"


def test_cifar_resnet_as_is_scores_what_was_measured_elsewhere(shared: Path) -> None:
    found = evaluate(shared / "weights" / "resnet20-12fca82f.th", shared / "datasets" / "cifar10")
    assert found.split == "test"
    assert found.scores.n == 10_000
    assert found.scores.top1 == pytest.approx(0.8103, abs=0.002)


def test_sketches_train_although_val_lacks_a_class(shared: Path, tmp_path: Path) -> None:
    base = shared / "weights" / "mobilenet_v1_025_imagenet.safetensors"
    run = train(shared / "datasets" / "pacs_sketch", str(base), "head", out=tmp_path / "run")
    assert run.classes == ("dog", "elephant", "giraffe", "guitar", "horse", "house", "person")
    found = evaluate(run.folder, shared / "datasets" / "pacs_sketch")
    recall = {row.name: row.recall for row in found.scores.classes}
    assert recall["house"] is None
    # A shifted label would leave the classes after 'house' at nothing.
    assert recall["person"] > 0.5
    assert np.mean([value for value in recall.values() if value is not None]) > 0.55


@pytest.mark.parametrize("level", ["all", "auto"])
def test_a_batch_of_one_image_trains(level: str, tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:2], 4)
    run = train(data, "resnet20" if level == "all" else "latin_letters", "scratch" if level == "all" else level,
                batch_size=1, epochs=1, out=tmp_path / "run", quiet=True)  # fmt: skip
    assert run.images == 8


@pytest.mark.parametrize(
    ("place", "sentence"), [("kept", "new or empty folder"), ("kept/note.txt/run", "the file .*note")]
)
def test_a_place_that_is_taken_is_refused_before_hours_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, sentence: str
) -> None:
    monkeypatch.setattr("graft.workflows.train.decide", lambda *_, **__: pytest.fail("the work was begun"))
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "note.txt").write_text("kept")
    with pytest.raises(graft.GraftError, match=sentence):
        graft.train(tmp_path / "images", out=tmp_path / place)


def test_the_base_and_level_of_a_recipe_file_count_where_those_given_are_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def begin(place: object, source: object, arguments: Arguments, *others: object) -> None:
        asked.append((arguments.base, arguments.level))
        raise InputError("expected a training, got a test: train again")

    monkeypatch.setattr("graft.workflows.train._begin", begin)
    (tmp_path / "recipe.yaml").write_text("base: latin_letters\nlevel: stages:1\n")
    for given in ({}, {"level": "auto"}, {"level": "head"}, {"base": "lenet5"}):
        with pytest.raises(InputError, match="got a test"):
            graft.train(tmp_path, recipe=tmp_path / "recipe.yaml", quiet=True, **given)
    both = ("latin_letters", "stages:1")
    assert asked == [both, both, ("latin_letters", "head"), ("lenet5", "stages:1")]
