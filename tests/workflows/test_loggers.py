"""Training runs reported to experiment loggers, all of it offline."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from calling import graft as command
from written_letters import write_letters

import graft
from graft.errors import InputError
from graft.images.letters import CYRILLIC

OPTIONS: dict[str, Any] = {"base": "latin_letters", "level": "stages:1", "recipe": graft.Recipe(epochs=2), "seed": 3}
OPTIONS |= {"engine": "torch", "precision": "float32", "audit": False, "refit": False}


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_letters(tmp_path_factory.mktemp("logged") / "letters", CYRILLIC[:2], 6, seed=0)


class Kept:
    """A logger that records what it receives, and fails where told to."""

    def __init__(self, fails_in: str = "") -> None:
        self.fails_in, self.told, self.threads = fails_in, [], set()

    def _told(self, what: str, value: object) -> None:
        self.threads.add(threading.current_thread())
        self.told.append((what, value))
        if what == self.fails_in:
            raise ConnectionError(f"nobody answers\nto {what}")

    def begin(self, folder: Path, parameters: dict) -> None:
        self._told("begin", parameters)

    def epoch(self, row: dict) -> None:
        self._told("epoch", row)

    def end(self, run: graft.Run) -> None:
        self._told("end", run)

    def fail(self) -> None:
        self._told("fail", None)


def test_a_logger_is_told_parameters_epochs_and_the_run(letters: Path, tmp_path: Path) -> None:
    logger, rows = Kept(), []
    reporter = graft.Reporter(row=rows.append)
    run = graft.train(letters, out=tmp_path / "run", logger=logger, reporter=reporter, **OPTIONS)
    assert [what for what, _ in logger.told] == ["begin", "epoch", "epoch", "epoch", "end"]
    assert logger.told[0][1] | {"seed": 3, "level": "stages:1", "epochs": 2} == logger.told[0][1]
    assert [row for what, row in logger.told if what == "epoch"] == run.logs
    assert [row["epoch"] for row in run.logs] == [0, 1, 2] and run.logs[-1]["val_top1"] is not None
    assert rows == run.logs
    assert threading.main_thread() not in logger.threads and len(logger.threads) == 1
    assert logger.told[-1][1] == run


@pytest.mark.parametrize("step", ["begin", "epoch", "end"])
def test_a_logger_that_cannot_be_reached_is_said_once_and_training_goes_on(
    step: str, letters: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    run = graft.train(
        letters, out=tmp_path / "run", logger=Kept(step), reporter=graft.Reporter(note=said.append), **OPTIONS
    )
    notes = [note for note in said if "logger" in note]
    assert len(notes) == 1 and "Kept failed" in notes[0] and "ConnectionError: nobody answers)" in notes[0]
    assert (run.folder / "report.html").is_file()


def test_a_training_that_breaks_off_is_told_as_failed(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    logger = Kept()
    with monkeypatch.context() as stopping, pytest.raises(KeyboardInterrupt):
        stopping.setattr("graft.workflows.train.fit_level", stop)
        graft.train(letters, out=tmp_path / "run", logger=logger, quiet=True, **OPTIONS)
    assert [what for what, _ in logger.told] == ["begin", "fail"]
    again = Kept()
    run = graft.train(tmp_path / "run", resume=True, logger=again, quiet=True)
    assert [what for what, _ in again.told] == ["begin", "epoch", "epoch", "epoch", "end"] and again.told[-1][1] == run


def test_tensorboard_has_parameters_and_metrics_by_epoch(letters: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = graft.train(letters, out=tmp_path / "run", logger="tensorboard", quiet=True, **OPTIONS)
    found = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    assert [(each.step, each.value) for each in found.Scalars("val_top1")] == [
        (row["epoch"], pytest.approx(row["val_top1"])) for row in run.logs
    ]
    assert b"stages:1" in found.Tensors("parameters/text_summary")[0].tensor_proto.string_val[0]


def test_mlflow_has_parameters_metrics_report_and_model(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    said: list[str] = []
    reporter = graft.Reporter(note=said.append)
    run = graft.train(letters, out=tmp_path / "run", logger="mlflow", reporter=reporter, **OPTIONS)
    assert not [note for note in said if "logger" in note]
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("graft").experiment_id])
    assert found.info.status == "FINISHED" and found.data.params["level"] == "stages:1"
    values = [
        each.value for each in sorted(client.get_metric_history(found.info.run_id, "val_top1"), key=lambda e: e.step)
    ]
    assert values == [row["val_top1"] for row in run.logs]
    assert {each.path for each in client.list_artifacts(found.info.run_id)} == {"report.html", "model"}


def test_weights_and_biases_works_offline(letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    said: list[str] = []
    reporter = graft.Reporter(note=said.append)
    graft.train(letters, out=tmp_path / "run", logger="wandb", reporter=reporter, **OPTIONS)
    assert not [note for note in said if "logger" in note]
    (written,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    # Another process writes it, and may not have finished.
    until = time.monotonic() + 20
    while b"val_top1" not in written.read_bytes() and time.monotonic() < until:
        time.sleep(0.1)
    assert b"val_top1" in written.read_bytes()


def test_the_command_has_loggers_and_names_those_that_it_has(letters: Path, tmp_path: Path) -> None:
    done = command("train", letters, "--out", tmp_path / "run", "--logger", "mlfow")
    assert done.returncode == 2 and "did you mean 'mlflow'" in done.stderr and not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="an object with begin, epoch, end and fail"):
        graft.train(letters, logger=5, quiet=True)  # type: ignore[arg-type]


def test_no_logger_is_imported_unless_asked_for() -> None:
    program = (
        "import json, sys, graft.workflows.train, graft.workflows.tune; "
        "asked = {'mlflow', 'wandb', 'tensorboard', 'optuna', 'sklearn', 'pandas'}; "
        "print(json.dumps(sorted(asked & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout) == []
