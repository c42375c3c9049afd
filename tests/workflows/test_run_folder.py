"""The life of a run's folder: who may work in it, and what is removed when something fails."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from written_letters import write_letters

from graft.errors import DataError, GraftError, InputError
from graft.images.letters import CYRILLIC
from graft.progress import Reporter
from graft.training.recipe import Recipe
from graft.training.time_budget import too_short
from graft.weights.saved import ARGUMENTS_FILE
from graft.workflows import run_folder
from graft.workflows.measured import MEASURED_FILE
from graft.workflows.run_folder import claim, locked, new_folder
from graft.workflows.train import train


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    return write_letters(tmp_path / "letters", CYRILLIC[:3], 8)


@pytest.fixture
def faster(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    """A process that begins a run in a folder just after this one has claimed it, and what it still holds."""
    with ExitStack() as held:

        def claimed(out: Path | None, data: Path) -> Path:
            folder = claim(out, data)
            held.enter_context(locked(folder))
            (folder / ARGUMENTS_FILE).write_text("of the faster process")
            return folder

        monkeypatch.setattr(run_folder, "claim", claimed)
        yield held


@pytest.mark.parametrize("still_at_work", [True, False])
def test_the_run_of_a_process_that_was_faster_is_left_to_it(
    faster: ExitStack, letters: Path, tmp_path: Path, still_at_work: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    if not still_at_work:
        claimed = run_folder.claim

        def done_by_now(out: Path | None, data: Path) -> Path:
            folder = claimed(out, data)
            faster.close()
            return folder

        monkeypatch.setattr(run_folder, "claim", done_by_now)
    expected = "no other process is working on" if still_at_work else "which is not empty"
    with pytest.raises(InputError, match=expected):
        train(letters, "latin_letters", "head", out=out, quiet=True)
    assert (out / ARGUMENTS_FILE).read_text() == "of the faster process"


@pytest.mark.parametrize("own", [True, False])
def test_what_cannot_be_resumed_is_removed_and_a_folder_that_was_there_stays(tmp_path: Path, own: bool) -> None:
    out = tmp_path / "run"
    if own:
        out.mkdir()
    with pytest.raises(InputError, match="refused"), new_folder(out, tmp_path / "data") as folder:
        (folder / "model").mkdir()
        (folder / "model" / "model.safetensors").write_bytes(b"x")
        (folder / ARGUMENTS_FILE).touch()
        raise InputError("refused")
    assert out.exists() == own and not any(tmp_path.glob("run/*"))


def test_what_was_computed_is_kept_whatever_ends_the_run(tmp_path: Path) -> None:
    for number, error in enumerate((InputError("refused"), GraftError("failed"), KeyboardInterrupt())):
        out = tmp_path / f"run {number}"
        with pytest.raises(type(error)), new_folder(out, tmp_path / "data") as folder:
            (folder / ARGUMENTS_FILE).touch()
            (folder / MEASURED_FILE).parent.mkdir()
            (folder / MEASURED_FILE).touch()
            raise error
        assert (out / MEASURED_FILE).is_file()


def test_a_second_fit_without_time_loses_nothing_of_the_first(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, told, recipe = tmp_path / "run", [], Recipe(epochs=2, flip=False)

    def no_time(*arguments: object, **more: object) -> None:
        raise too_short(left=0.0)

    with monkeypatch.context() as late:
        late.setattr("graft.training.fitting.refit_crown", no_time)
        with pytest.raises(InputError, match="`time_limit`"):
            reporter = Reporter(note=told.append)
            train(letters, "latin_letters", "stages:1", out=out, recipe=recipe, time_limit=60, reporter=reporter)
    assert (out / MEASURED_FILE).is_file()
    assert told[-1].startswith("what has been computed is kept: `") and "train --resume" in told[-1]
    measured = (out / MEASURED_FILE).read_bytes()
    run = train(out, resume=True, quiet=True)
    assert run.folder == out and (out / MEASURED_FILE).read_bytes() == measured


def test_strictness_refuses_an_unreadable_image_before_anything_is_trained(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (letters / "broken.png").write_bytes(b"\x89PNG")
    (letters / "broken.png").rename(next(letters.iterdir()) / "broken.png")

    def trained(*arguments: object, **more: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr("graft.training.crowns.fit_crown", trained)
    monkeypatch.setattr("graft.training.fitting.solve_head_on_crops", trained)
    for level in ("stages:1", "head"):
        with pytest.raises(DataError, match=r"readable with `strict`, got .*broken\.png"):
            train(letters, "latin_letters", level, out=tmp_path / "run", strict=True, audit=False, quiet=True)
        assert not (tmp_path / "run").exists()
