"""Resuming an interrupted run: its folder has everything that is needed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mosaics import write_mosaics
from written_letters import write_letters

import graft
from graft.errors import DataError, GraftError, InputError, WeightsError
from graft.files import remove
from graft.images.letters import CYRILLIC, LATIN
from graft.training.recipe import Recipe
from graft.weights.base import BUNDLED, load_base
from graft.weights.saved import SavedModel, save_model
from graft.workflows.arguments import read_arguments, stated, write_arguments
from graft.workflows.run import Run, read_run
from graft.workflows.run_folder import folder_to_resume
from graft.workflows.train import train


def stop(*arguments: object, **more: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    return write_letters(tmp_path / "letters", CYRILLIC[:3], 8)


@pytest.fixture
def interrupted(letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run that was stopped before its first step."""
    out, recipe = tmp_path / "run", Recipe(schedule="step", label_smoothing=0.1)
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr("graft.workflows.train.measure_each", stop)
        train(letters, "latin_letters", "stages:1", out=out, epochs=1, seed=3, recipe=recipe, quiet=True)
    return out


def stop_before_training(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **settings: Any) -> None:
    """Begin a run and stop it before anything is fitted."""
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr("graft.workflows.train._carry_out", stop)
        train(*arguments, **settings)


def whole(letters: Path, out: Path) -> Run:
    recipe = Recipe(epochs=1, schedule="step", label_smoothing=0.1)
    return train(letters, "latin_letters", "stages:1", out=out, seed=3, recipe=recipe, quiet=True)


def test_a_run_folder_alone_is_enough(
    interrupted: Path, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    run = train(interrupted, resume=True, quiet=True)
    again = whole(letters, tmp_path / "whole")
    assert (run.level, run.val, run.images) == ("stages:1", again.val, again.images)
    assert not (interrupted / ".lock").exists()


def test_a_run_goes_on_in_no_other_folder_than_its_own(interrupted: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with pytest.raises(InputError, match=r"leave `out` out, or copy the folder there first and resume the copy"):
        train(interrupted, out=other, resume=True, quiet=True)
    assert not other.exists()
    assert train(interrupted, out=interrupted / ".." / "run", resume=True, quiet=True).folder == interrupted
    shutil.copytree(interrupted, other)
    assert train(other, out=other, resume=True, quiet=True).folder == other


def test_the_same_base_is_known_by_its_content_whatever_it_is_called(interrupted: Path, tmp_path: Path) -> None:
    same = tmp_path / "renamed.safetensors"
    shutil.copy(BUNDLED / "latin_letters.safetensors", same)
    assert train(interrupted, str(same), resume=True, quiet=True).level == "stages:1"


def test_another_base_is_refused(interrupted: Path, tmp_path: Path, letters: Path) -> None:
    other = whole(letters, tmp_path / "other")
    with pytest.raises(WeightsError, match=r"the weights that .*run was begun with"):
        train(interrupted, str(other.folder), resume=True, quiet=True)


def test_changed_data_is_refused_by_an_example(interrupted: Path, letters: Path) -> None:
    gone = next((letters / CYRILLIC[0]).iterdir())
    gone.unlink()
    with pytest.raises(DataError, match=rf"without \d+ rows? of its split.csv, such as .*{CYRILLIC[0]}"):
        train(interrupted, resume=True, quiet=True)


def test_data_that_moved_is_found_where_it_is_now(interrupted: Path, letters: Path, tmp_path: Path) -> None:
    letters.rename(tmp_path / "moved")
    with pytest.raises(DataError, match="does not exist"):
        train(interrupted, resume=True, quiet=True)
    assert train(tmp_path / "moved", resume=True, out=interrupted, quiet=True).images == 24


def test_what_is_given_must_not_differ(interrupted: Path) -> None:
    with pytest.raises(InputError, match="seed was 3; schedule was 'step'"):
        train(interrupted, seed=4, recipe=Recipe(schedule="plateau"), resume=True, quiet=True)
    with pytest.raises(InputError, match="level was 'stages:1'"):
        train(interrupted, level="head", resume=True, quiet=True)


def test_what_stands_in_the_call_must_not_differ_though_it_is_as_by_default(interrupted: Path) -> None:
    def resumed(names: set[str], **given: Any) -> None:
        with stated(names):
            stop_before_training(pytest.MonkeyPatch(), interrupted, resume=True, quiet=True, **given)

    # The call states no setting, so none has to agree.
    resumed(set())
    resumed({"seed", "level", "schedule"}, seed=3, level="stages:1", recipe=Recipe(schedule="step"))
    for name, said in (("seed", "seed was 3"), ("level", "level was 'stages:1'"), ("schedule", "schedule was 'step'")):
        with pytest.raises(InputError, match=f"got different ones .{said}.: leave"):
            resumed({name})
    with pytest.raises(WeightsError, match=r"the weights that .*run was begun with"):
        resumed({"base"})
    arguments = replace(read_arguments(interrupted), audit=False)
    write_arguments(interrupted, arguments)
    with pytest.raises(InputError, match=r"got different ones .`audit=False` was given.: leave"):
        resumed({"audit"})


def test_a_finished_run_names_what_it_was_begun_with_where_others_are_given(interrupted: Path, tmp_path: Path) -> None:
    train(interrupted, resume=True, quiet=True)
    notes: list[str] = []
    other = tmp_path / "other.safetensors"
    shutil.copy(BUNDLED / "latin_letters.safetensors", other)
    train(interrupted, other, resume=True, reporter=graft.Reporter(note=notes.append))
    train(interrupted, resume=True, reporter=graft.Reporter(note=notes.append))
    assert [note.partition("; ")[2] for note in notes] == [
        "this is its result, of the base latin_letters",
        "this is its result",
    ]


def test_a_finished_run_is_told_again(interrupted: Path) -> None:
    run = train(interrupted, resume=True, quiet=True)
    assert train(interrupted, resume=True, quiet=True).to_dict() == run.to_dict() == read_run(interrupted).to_dict()


HOLDS = """
import sys
from pathlib import Path
from graft.workflows.run_folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_run_to_go_on_with_is_the_newest_that_has_the_name_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("photos", "photos-2", "photos-10", "photos-old", "photographs", "2024")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "args.yaml").write_text("")
        os.utime(tmp_path / "runs" / name / "args.yaml", (number, number))
    assert folder_to_resume(None, Path("photos")).name == "photos-10"
    assert folder_to_resume(None, Path("2024")).name == "2024"
    with pytest.raises(InputError, match="expected a run to continue in runs/birds, got none"):
        folder_to_resume(None, Path("birds"))


def test_one_process_at_a_time_works_on_a_run_and_a_killed_one_holds_nothing(interrupted: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(interrupted)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="no other process is working on"):
            train(interrupted, resume=True, quiet=True)
        process.kill()
    assert train(interrupted, resume=True, quiet=True).level == "stages:1"


@pytest.mark.parametrize("damage", ["args.yaml", "plan.json", "split.csv"])
def test_a_damaged_beginning_is_one_sentence(interrupted: Path, damage: str) -> None:
    (interrupted / damage).write_bytes(b"\xff: [")
    with pytest.raises(InputError, match=r"expected"):
        train(interrupted, resume=True, quiet=True)


@pytest.mark.parametrize(
    ("field", "value"), [("head", None), ("head", 5), ("head", "stages:foo"), ("cut", None), ("cut", "nowhere")]
)
def test_a_plan_that_does_not_fit_the_network_is_one_sentence(interrupted: Path, field: str, value: object) -> None:
    plan = json.loads((interrupted / "plan.json").read_text())
    (interrupted / "plan.json").write_text(json.dumps({**plan, field: value}))
    with pytest.raises(InputError, match=r"expected plan\.json in .* as graft wrote it, got one that does not fit"):
        train(interrupted, resume=True, quiet=True)


def test_a_checkpoint_of_other_layers_is_one_sentence(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        # Once the first of the two fits has been written.
        stopping.setattr("graft.workflows.train.fit_level", stop)
        stopping.setattr("graft.workflows.train.write_measured", stop)
        train(letters, "latin_letters", "stages:2", out=out, epochs=1, recipe=Recipe(head="stages"), quiet=True)
    assert list((out / "checkpoints").iterdir())
    plan = json.loads((out / "plan.json").read_text())
    (out / "plan.json").write_text(json.dumps({**plan, "head": "last"}))
    with pytest.raises(GraftError, match="expected a checkpoint of the layers being trained"):
        train(out, resume=True, quiet=True)


def test_what_was_not_given_is_said_in_words(interrupted: Path) -> None:
    with pytest.raises(InputError, match=r"no `patience` was given"):
        train(interrupted, recipe=Recipe(patience=3), resume=True, quiet=True)
    with pytest.raises(
        InputError, match=r"`audit=False` was not given; `strict` was not given; no `learning_rate` was given"
    ):
        train(interrupted, audit=False, strict=True, learning_rate=0.01, resume=True, quiet=True)


@pytest.mark.parametrize("gone", ["model", "model/model.safetensors", "result.json"])
def test_a_finished_run_is_one_with_its_model(interrupted: Path, gone: str) -> None:
    run = train(interrupted, resume=True, quiet=True)
    was = (interrupted / "model" / "model.safetensors").read_bytes()
    remove(interrupted / gone)
    assert train(interrupted, resume=True, quiet=True).val == run.val
    assert (interrupted / "model" / "model.safetensors").read_bytes() == was
    assert graft.load(interrupted).classes == run.classes


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def of_another_run(path: Path) -> None:
    base = load_base("latin_letters")
    save_model(path, SavedModel(base.network, base.preprocessing, LATIN))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model/model.safetensors", lambda path: path.write_bytes(b"")),
        ("model/model.safetensors", cut_short),
        ("model/labels.json", lambda path: path.write_text("[]")),
        ("model/config.json", lambda path: path.write_text("")),
        ("model", of_another_run),
        ("result.json", lambda path: path.write_text("")),
        ("result.json", lambda path: path.write_text("[" * 100_000)),
    ],
    ids=["no tensors", "cut short", "no labels", "no config", "another model", "no result", "a deep result"],
)
def test_a_finished_run_whose_files_are_damaged_is_made_again_and_says_so(
    name: str, damage: Callable[[Path], object], interrupted: Path
) -> None:
    run = train(interrupted, resume=True, quiet=True)
    was = (interrupted / "model" / "model.safetensors").read_bytes()
    damage(interrupted / name)
    notes: list[str] = []
    assert train(interrupted, resume=True, reporter=graft.Reporter(note=notes.append)).val == run.val
    assert (interrupted / "model" / "model.safetensors").read_bytes() == was
    assert any("made again: expected" in note or "finished again" in note for note in notes)
    assert not any("is finished already" in note for note in notes)


def test_other_images_are_refused_where_none_was_looked_at(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"out": tmp_path / "run", "audit": False, "quiet": True}
    stop_before_training(monkeypatch, letters, "latin_letters", "head", **settings)
    one, other = sorted(letters.rglob("*.png"))[:2]
    one.write_bytes(other.read_bytes())
    with pytest.raises(DataError, match=r"expected the images, labels and splits that .*run was begun with"):
        train(tmp_path / "run", resume=True, quiet=True)


@pytest.mark.parametrize("name", [r"a\x41b", r"\x0a", r"caf\xe9", r"\\x41", "a\nb"])
def test_a_run_on_data_of_any_name_is_resumed(
    name: str, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, base = letters.rename(tmp_path / name), tmp_path / f"{name}.safetensors"
    shutil.copy(BUNDLED / "latin_letters.safetensors", base)
    stop_before_training(monkeypatch, data, base, "head", out=tmp_path / "run", quiet=True)
    assert read_arguments(tmp_path / "run").data == str(data)
    assert train(tmp_path / "run", resume=True, quiet=True).level == "head"


def test_what_a_killed_process_left_unfinished_is_removed(interrupted: Path) -> None:
    (interrupted / "checkpoints").mkdir(exist_ok=True)
    left = [interrupted / ".report.html.0.partial", interrupted / "checkpoints" / ".last.safetensors.0.partial"]
    for path in left:
        path.write_text("half")
    (interrupted / ".model.partial").mkdir()
    train(interrupted, resume=True, quiet=True)
    assert not list(interrupted.rglob("*.partial"))
    # Of a finished run too.
    left[0].write_text("half")
    train(interrupted, resume=True, quiet=True)
    assert not list(interrupted.rglob("*.partial"))


def test_a_full_disk_says_how_to_go_on(interrupted: Path, limited_files) -> None:
    with limited_files(60_000), pytest.raises(GraftError, match=r"File too large .* then `graft train --resume .*run`"):
        train(interrupted, resume=True, quiet=True)
    assert train(interrupted, resume=True, quiet=True).level == "stages:1"


def test_a_run_without_a_model_yet_says_how_to_go_on(interrupted: Path, letters: Path) -> None:
    for use in (lambda: graft.load(interrupted), lambda: graft.evaluate(interrupted, letters, quiet=True)):
        with pytest.raises(InputError, match=r"interrupted before its model was saved: `graft train --resume .*run`"):
            use()


def test_what_was_said_of_a_table_is_kept_and_nothing_else_is_taken(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{file.parent.name}/{file.stem},{file.parent.name},x" for file in sorted(letters.rglob("*.png"))]
    table = tmp_path / "letters.csv"
    table.write_text("\n".join(["what,letter,kind", *lines, ""]))
    said = graft.TableOptions(path_column="what", label_column="letter", image_dir="letters", suffix="png")
    monkeypatch.chdir(tmp_path)
    data = graft.DataOptions(table, table=said)
    stop_before_training(monkeypatch, data, level="head", out=tmp_path / "run", quiet=True)
    kept = read_arguments(tmp_path / "run").table
    assert kept == graft.TableOptions("what", "letter", image_dir=str(letters), suffix=".png")
    monkeypatch.chdir("/")
    with pytest.raises(InputError, match="label_column was 'letter'"):
        table = graft.TableOptions(label_column="kind")
        train(graft.DataOptions(tmp_path / "run", table=table), resume=True, quiet=True)
    assert len(train(tmp_path / "run", resume=True, quiet=True).classes) == 3


def test_several_columns_of_labels_are_kept_for_going_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_mosaics(tmp_path / "mosaics", 40)
    rows = [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    lines = [f"{name},{int('Б' in label)},{int('Д' in label)},1" for name, label in rows]
    table.write_text("\n".join(["path,A,B,C", *lines, ""]), encoding="utf-8")
    said = graft.TableOptions(label_column=["A", "B"], multi_label=True)
    options = {"level": "head", "base": "latin_letters", "out": tmp_path / "run", "quiet": True}
    stop_before_training(monkeypatch, graft.DataOptions(table, table=said), **options)
    assert read_arguments(tmp_path / "run").table == said
    with pytest.raises(InputError, match=r"label_column was \('A', 'B'\)"):
        other = graft.TableOptions(label_column=["A", "C"], multi_label=True)
        train(graft.DataOptions(tmp_path / "run", table=other), resume=True, quiet=True)
    assert train(tmp_path / "run", resume=True, quiet=True).classes == ("A", "B")
