"""Figures come from images that were not trained on, or a note says that they do not."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from written_letters import write_letters

from graft.data.table_options import TableOptions
from graft.errors import DataError
from graft.evaluation.calibration import fit_temperature
from graft.images.letters import CYRILLIC
from graft.progress import Reporter
from graft.workflows.contest import evaluate_two
from graft.workflows.evaluate import evaluate
from graft.workflows.kept_answers import read_answers
from graft.workflows.prepare import DataOptions
from graft.workflows.run import was_refitted
from graft.workflows.train import train


def test_images_that_were_trained_on_are_counted_apart_by_their_content(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 10)
    run = train(data, "latin_letters", "head", out=tmp_path / "run", quiet=True, refit=False)
    # Other names, another place: the content is the same.
    shutil.copytree(data, tmp_path / "copied")
    for path in (tmp_path / "copied").rglob("*.png"):
        path.rename(path.with_name(f"other-{path.name}"))
    write_letters(tmp_path / "new", CYRILLIC[:3], 4, seed=9)
    for place in (data, tmp_path / "copied"):
        found = evaluate(run.folder, place, quiet=True)
        assert found.scores is not None and found.seen is not None
        assert (found.scores.n, found.seen.n, len(found.trained_on)) == (run.val.n, 30 - run.val.n, 30 - run.val.n)
        assert found.scores.top1 == pytest.approx(run.val.top1)
        assert any(f"{found.seen.n} of 30 images" in note for note in found.notes)
        assert found.to_dict()["top1"] == found.scores.top1
    unseen = evaluate(run.folder, tmp_path / "new", quiet=True)
    assert unseen.scores is not None and unseen.scores.n == 12 and unseen.seen is None


def test_pixels_in_memory_may_be_of_files_that_were_trained_on(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 10)
    places = sorted(data.rglob("*.png"))
    pixels, labels = [np.asarray(Image.open(place)) for place in places], [place.parent.name for place in places]
    run = train(data, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    for images, told in ((pixels, True), ([place.read_bytes() for place in places], False), (places, False)):
        found = evaluate(run.folder, (images, labels), quiet=True)
        assert any("pixels in memory do not have the bytes of a file" in note for note in found.notes) == told
        assert (found.seen is None) == told
    run = train((pixels, labels), "latin_letters", "head", out=tmp_path / "memory", quiet=True)
    found = evaluate(run.folder, (pixels, labels), quiet=True)
    assert found.seen is not None and found.seen.n == 30 and not any("bytes of a file" in note for note in found.notes)


def test_the_temperature_of_a_crown_is_fitted_on_images_of_val_that_have_no_copy_in_train(tmp_path: Path) -> None:
    train_folder = write_letters(tmp_path / "letters" / "train", CYRILLIC[:3], 12)
    val = write_letters(tmp_path / "letters" / "val", CYRILLIC[:3], 5, seed=9)
    for path in sorted(train_folder.rglob("*.png"))[::3]:
        shutil.copy(path, val / path.parent.name / f"copy-{path.name}")
    run = train(tmp_path / "letters", "latin_letters", "stages:1", out=tmp_path / "run", quiet=True, epochs=3)
    kept = read_answers(run.folder)
    assert kept is not None
    of_val = kept.splits["val"]
    unseen = of_val.unseen
    assert 0 < unseen.sum() <= 15 and (~unseen).sum() >= 12
    fitted = fit_temperature(of_val.logits[unseen], of_val.labels[unseen])
    assert kept.temperature == pytest.approx(fitted, rel=1e-6)
    assert kept.temperature != pytest.approx(fit_temperature(of_val.logits, of_val.labels), rel=1e-3)


def test_after_a_refit_val_counts_as_trained_on(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 10)
    run = train(data, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    assert run.val.n and was_refitted(run.folder)
    for model in (run.folder, run.folder / "model"):
        found = evaluate(model, data, quiet=True)
        assert found.scores is None and found.seen is not None and found.seen.n == 30
        assert len(found.trained_on) == 30
        assert found.to_dict()["top1"] is None
        assert found.notes[-1].endswith("nothing is measured")


def test_a_run_that_did_not_look_its_images_over_reads_them_again(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 10)
    run = train(data, "latin_letters", "head", out=tmp_path / "run", quiet=True, refit=False, audit=False)
    shutil.copytree(data, tmp_path / "copied")
    for place in (data, tmp_path / "copied"):
        found = evaluate(run.folder, place, quiet=True)
        assert found.scores is not None and found.seen is not None
        assert (found.scores.n, found.seen.n) == (run.val.n, 30 - run.val.n)
    shutil.rmtree(data)
    found = evaluate(run.folder, tmp_path / "copied", quiet=True)
    assert found.scores is not None and found.scores.n == 30
    assert "not known" in found.notes[-1] and "--no-audit" in found.notes[-1]


def test_what_a_run_no_longer_says_of_its_images_is_told(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 10)
    run = train(data, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    (run.folder / "plan.json").unlink()
    found = evaluate(run.folder, data, quiet=True)
    assert found.scores is None and any("plan.json" in note for note in found.notes)
    shutil.copytree(run.folder / "model", tmp_path / "alone" / "model")
    (run.folder / "split.csv").unlink()
    for model in (run.folder, run.folder / "model", tmp_path / "alone", tmp_path / "alone" / "model"):
        found = evaluate(model, data, quiet=True)
        assert found.scores is not None and found.scores.n == 30
        assert "are not known" in found.notes[-1] and "are optimistic" in found.notes[-1]
    weights = tmp_path / "alone" / "model" / "model.safetensors"
    found = evaluate(weights, data, classes_file=tmp_path / "alone" / "model" / "labels.json", quiet=True)
    assert not any("not known" in note for note in found.notes)


def test_with_none_unseen_nothing_is_measured(tmp_path: Path) -> None:
    data = tmp_path / "letters"
    write_letters(data / "train", CYRILLIC[:3], 6)
    write_letters(data / "val", CYRILLIC[:3], 4, seed=1)
    run = train(data, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    found = evaluate(run.folder, data / "train", quiet=True)
    assert found.scores is None and found.seen is not None and found.seen.n == 18
    assert found.to_dict()["top1"] is None
    assert found.notes[-1].endswith("nothing is measured")


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """Train and test with 12 test images of their own, and 15 that are copies of training images."""
    data = tmp_path / "leaky"
    write_letters(data / "train", CYRILLIC[:3], 10)
    write_letters(data / "val", CYRILLIC[:3], 5, seed=1)
    write_letters(data / "test", CYRILLIC[:3], 4, seed=2)
    for letter in CYRILLIC[:3]:
        for path in sorted((data / "train" / letter).iterdir())[:5]:
            shutil.copy(path, data / "test" / letter / f"copy-{path.name}")
    return data


def test_copies_of_training_images_are_not_counted_in_the_headline(leaky: Path, tmp_path: Path) -> None:
    run = train(leaky, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    assert run.test is not None and run.test.with_copies is not None
    assert run.test.with_copies.n == 27 and run.test.n <= 12
    assert run.val.with_copies is None or run.val.with_copies.n == 15
    assert any("in test have copies in train" in note for note in run.notes)
    assert "(optimistic)" in (run.folder / "report.html").read_text()


def test_with_too_few_images_left_nothing_is_measured(leaky: Path, tmp_path: Path) -> None:
    for path in (leaky / "test").rglob("*.png"):
        if not path.name.startswith("copy-") and path.parent.name != CYRILLIC[0]:
            path.unlink()
    run = train(leaky, "latin_letters", "head", out=tmp_path / "run", quiet=True)
    assert run.test is not None and run.test.top1 is None and run.test.n <= 4
    assert str(run.test).startswith("not measured")
    assert run.to_dict()["test"]["with_copies"]["n"] == 15 + run.test.n


def listed(folder: Path, name: str, column: str, more: str = "") -> Path:
    rows = (f"{path.relative_to(folder)},{path.parent.name}{more and ',x'}" for path in sorted(folder.rglob("*.png")))
    (folder / name).write_text("\n".join([f"file,{column}{more and f',{more}'}", *rows, ""]), encoding="utf-8")
    return folder / name


def test_a_table_is_read_with_the_columns_that_the_run_was_trained_with(tmp_path: Path) -> None:
    data = write_letters(tmp_path / "letters", CYRILLIC[:3], 10)
    others = write_letters(tmp_path / "new", CYRILLIC[:3], 4, seed=9)
    options = DataOptions(
        listed(data, "data.csv", "what it shows", "kind"), table=TableOptions(label_column="what it shows")
    )
    run = train(options, "latin_letters", "head", out=tmp_path / "run", quiet=True, refit=False)
    new = listed(others, "data.csv", "what it shows", "kind")
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in others.rglob("*.png"):
        shutil.copy(path, flat)
    (flat / "data.csv").write_text(re.sub(r"(?m)^./", "", new.read_text(encoding="utf-8")), encoding="utf-8")
    told: list[str] = []
    for model, place in ((run.folder, new), (run.folder / "model", new), (run.folder, flat)):
        found = evaluate(model, place, reporter=Reporter(note=told.append))
        assert found.scores is not None and found.scores.n == 12
    assert "read with --label-column 'what it shows', like the images that run was trained on" in told
    # What the user says counts, and other tables are read as always.
    with pytest.raises(DataError):
        evaluate(run.folder, DataOptions(new, table=TableOptions(label_column="kind")), quiet=True)
    told.clear()
    found = evaluate(run.folder, listed(others, "data.csv", "label"), reporter=Reporter(note=told.append))
    assert found.scores is not None and found.scores.n == 12
    assert not any("--label-column" in note for note in told)


@pytest.mark.parametrize("spelling", ["group", "group_column"])
def test_a_table_is_read_in_the_groups_that_the_run_was_trained_with(spelling: str, tmp_path: Path) -> None:
    def listed_by_patient(name: str, seed: int, number: int) -> Path:
        folder = write_letters(tmp_path / name, CYRILLIC[:3], number, seed=seed)
        rows = [
            f"{path.relative_to(folder)},{path.parent.name},{name}{index % 6}"
            for index, path in enumerate(sorted(folder.rglob("*.png")))
        ]
        (folder / "data.csv").write_text("\n".join(["file,what it shows,ward", *rows, ""]), encoding="utf-8")
        return folder / "data.csv"

    data, new = listed_by_patient("a", 0, 12), listed_by_patient("b", 9, 4)
    table = TableOptions(label_column="what it shows", group_column="ward" if spelling == "group_column" else None)
    options = DataOptions(data, "ward" if spelling == "group" else None, table=table)
    run = train(options, "latin_letters", "head", out=tmp_path / "run", quiet=True, refit=False)
    told: list[str] = []
    found = evaluate(run.folder, new, reporter=Reporter(note=told.append))
    assert found.scores is not None and found.scores.groups == 6
    read = "read with --label-column 'what it shows' --group-column 'ward', like the images that run was trained on"
    assert read in told
    # What is given replaces only its own counterpart.
    told.clear()
    given = DataOptions(new, table=TableOptions(group_column="none"))
    found = evaluate(run.folder, given, reporter=Reporter(note=told.append))
    assert found.scores is not None and found.scores.groups is None
    assert "read with --label-column 'what it shows', like the images that run was trained on" in told
    given = DataOptions(new, table=TableOptions(label_column="what it shows", suffix=".png"))
    found = evaluate(run.folder, given, quiet=True)
    assert found.scores is not None and found.scores.groups == 6
    # A folder has no such column, and is read as always.
    found = evaluate(run.folder, new.parent, quiet=True)
    assert found.scores is not None and found.scores.n == 12


def test_images_are_grouped_by_the_rule_that_the_run_was_trained_with(tmp_path: Path) -> None:
    def renamed(name: str, seed: int) -> Path:
        folder = write_letters(tmp_path / name, CYRILLIC[:3], 6, seed=seed)
        for index, path in enumerate(sorted(folder.rglob("*.png"))):
            path.rename(path.with_name(f"p{index % 5}_{index}.png"))
        return folder

    data, new = renamed("a", 0), renamed("b", 9)
    run = train(DataOptions(data, r"p\d+_"), "latin_letters", "head", out=tmp_path / "run", quiet=True, refit=False)
    found = evaluate(run.folder, new, quiet=True)
    assert found.scores is not None and found.scores.groups == 5
    # Beside a run that knows of no groups, both have theirs, whichever comes first.
    alone = train(data, "latin_letters", "head", out=tmp_path / "alone", quiet=True, refit=False)
    for pair in ((run, alone), (alone, run)):
        contest = evaluate_two(*pair, new, quiet=True)
        assert [each.groups for each in (*contest.scores, contest.difference)] == [5, 5, 5]
    for path in sorted(new.rglob("*.png")):
        path.rename(path.with_name(path.name.replace("p", "q", 1)))
    found = evaluate(run.folder, new, quiet=True)
    assert found.scores is not None and found.scores.groups is None
