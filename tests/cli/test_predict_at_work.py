"""graft predict on many images: jobs that are gone on with, folders that are watched, several views."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pyarrow.parquet
import pytest
from calling import graft
from PIL import Image

from graft.data.unlabelled import one_image
from graft.errors import InputError
from graft.files import JOBS, cache_folder
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.serving.gathering import Entry
from graft.serving.prediction import Prediction
from graft.serving.predictor import Classifier
from graft.serving.writing import write_predictions
from graft.workflows import predict as work


@pytest.fixture(scope="module")
def run(latin_run: str) -> str:
    return latin_run


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "letters"
    root.mkdir()
    images, _ = render_letters(LATIN[:20], dejavu_fonts(), 2, seed=5)
    for index, image in enumerate(images):
        Image.fromarray(image[:, :, 0]).save(root / f"{index:02}.png")
    (root / "07.png").write_bytes(b"no image")
    return root


def interrupted(*arguments: object, after: int) -> None:
    """The command, stopped once so many images have their prediction."""
    stream = Classifier.stream

    def stopped(self: Classifier, *wanted: object) -> Iterator[object]:
        for number, prediction in enumerate(stream(self, *wanted)):  # type: ignore[arg-type]
            if number == after:
                raise KeyboardInterrupt
            yield prediction

    with patch.object(Classifier, "stream", stopped):
        done = graft("predict", *arguments)
    assert done.returncode == 130, done.stderr
    assert "--resume" in done.stderr


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_job_that_was_interrupted_ends_as_one_that_was_not(
    run: str, letters: Path, tmp_path: Path, ending: str
) -> None:
    whole, out = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    assert graft("predict", run, letters, "--out", whole).returncode == 0
    interrupted(run, letters, "--out", out, after=17)
    assert not out.exists()
    interrupted(run, letters, "--out", out, "--resume", after=5)
    refused = graft("predict", run, letters, "--out", out)
    assert refused.returncode == 2 and "--resume or --overwrite" in refused.stderr
    other = graft("predict", run, letters, "--out", out, "--resume", "--top", "3")
    assert other.returncode == 2 and "another top (3 in place of 5)" in other.stderr
    done = graft("predict", run, letters, "--out", out, "--resume")
    assert done.returncode == 0 and "continuing after 22 images" in done.stderr
    if ending == "parquet":
        assert pyarrow.parquet.read_table(out) == pyarrow.parquet.read_table(whole)
    else:
        assert out.read_bytes() == whole.read_bytes()
    before = out.stat()
    again = graft("predict", run, letters, "--out", out, "--resume")
    assert again.returncode == 0 and "nothing is left to do" in again.stderr and out.stat() == before
    others = graft("predict", run, letters / "00.png", "--out", out, "--resume")
    assert others.returncode == 2 and "got 40 rows of others" in others.stderr and out.stat() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([whole.name, out.name])


@pytest.mark.parametrize("content", ['path,label\n"a"b,c\n', 'path,label\n"a'])
def test_a_file_that_is_no_csv_is_told_of(content: str, run: str, letters: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text(content)
    refused = graft("predict", run, letters, "--out", out, "--resume")
    assert refused.returncode == 2 and "got something else" in refused.stderr
    assert out.read_text() == content


def test_sets_of_thousands_of_classes_are_read_again(tmp_path: Path) -> None:
    """Their cell is longer than Python's csv module takes by default."""
    out, names = tmp_path / "out.csv", tuple(f"class {number:,}" for number in range(20_000))
    rows = [Prediction("a.jpg", "class 0", 0.5, (("class 0", 0.5),), set=names)]
    write_predictions(iter(rows), "csv", out, 1, ("set",))
    image = one_image("a.jpg")
    assert work.check_finished(out, "csv", [Entry(image, 0)]) == 1
    with pytest.raises(InputError, match="got 1 row of others"):
        work.check_finished(out, "csv", [Entry(one_image("b.jpg"), 0)])


def test_a_process_killed_as_it_wrote_the_file_ends_with_it(run: str, letters: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    with patch.object(work, "write_predictions", side_effect=KeyboardInterrupt):
        assert graft("predict", run, letters, "--out", out).returncode == 130
    assert graft("predict", run, letters, "--out", out, "--resume").returncode == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["path"] for row in rows] == sorted(map(str, letters.iterdir()))
    assert [bool(row["error"]) for row in rows].count(True) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "got neither"),
        (["letters", "--watch", "."], "got both"),
        (["letters", "--resume"], "--out with --resume"),
        (["letters", "--out", "a.csv", "--resume", "--overwrite"], "--overwrite as well"),
        (["--watch", ".", "--format", "json"], "--watch adds to"),
        (["--watch", "gone", "--format", "csv"], "which is not there"),
        (["letters", "--tta", "spin"], "--tta"),
    ],
)
def test_a_wrong_call_is_one_sentence(run: str, arguments: list[str], words: str, tmp_path: Path) -> None:
    done = graft("predict", run, *arguments, "--quiet", cwd=tmp_path)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_watched_folder_has_a_row_for_what_is_there_and_what_arrives(run: str, letters: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out.jsonl"
    folder.mkdir()

    def arrive(*names: str) -> list[Path]:
        for name in names:
            (folder / name).write_bytes((letters / name).read_bytes())
        return [folder / name for name in names]

    def first(_: Path) -> Iterator[list[Path]]:
        yield arrive("00.png", "07.png")
        yield []
        (folder / "notes.txt").write_text("of May")
        yield [*arrive("01.png"), folder / "notes.txt"]
        raise KeyboardInterrupt

    def second(_: Path) -> Iterator[list[Path]]:
        yield sorted(folder.iterdir())  # all that is there, as any first look tells
        yield arrive("02.png")
        yield arrive("00.png")  # changed
        raise KeyboardInterrupt

    for looks, arguments in ((first, []), (second, ["--resume"])):
        with patch.object(work.watch, "__kwdefaults__", {**work.watch.__kwdefaults__, "looks": looks}):
            done = graft("predict", run, "--watch", folder, "--out", out, *arguments)
        assert done.returncode == 130 and "stopped after" in done.stderr, done.stderr
        assert "notes.txt is not named like an image and was passed over" in done.stderr
        # As a process leaves it that was killed in the middle of a line.
        with out.open("a") as file:
            file.write('{"path": "ha')
    rows = [json.loads(line) for line in out.read_text().splitlines()[:-1]]
    assert [Path(row["path"]).name for row in rows] == ["00.png", "07.png", "01.png", "02.png", "00.png"]
    assert "error" in rows[1] and rows[0]["label"] == rows[4]["label"]


def test_several_views_are_told_with_what_they_are_worth(run: str, letters: Path) -> None:
    done = graft("predict", run, letters / "00.png", "--tta", "flip", "--format", "jsonl")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1
    assert "cannot be measured here" in done.stderr and "a model without its run" in done.stderr


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_watched_folder_is_not_continued_with_other_columns_or_another_model(
    run: str, letters: Path, tmp_path: Path, ending: str
) -> None:
    folder, out = tmp_path / "in", tmp_path / f"out.{ending}"
    folder.mkdir()
    (folder / "00.png").write_bytes((letters / "00.png").read_bytes())

    def looks(_: Path) -> Iterator[list[Path]]:
        yield sorted(folder.iterdir())
        raise KeyboardInterrupt

    other = tmp_path / "other"
    shutil.copytree(run, other)
    config = next(other.rglob("config.json"))
    config.write_text(config.read_text() + "\n")
    with patch.object(work.watch, "__kwdefaults__", {**work.watch.__kwdefaults__, "looks": looks}):
        assert graft("predict", run, "--watch", folder, "--out", out, "--top", 2).returncode == 130
        written = out.read_text()
        for model, top, words in ((run, 1, "another top (1 in place of 2)"), (other, 2, "another model")):
            refused = graft("predict", model, "--watch", folder, "--out", out, "--top", top, "--resume")
            assert refused.returncode == 2 and words in refused.stderr, refused.stderr
        # A file of an earlier version has no description of its job.
        shutil.rmtree(cache_folder() / JOBS)
        if ending == "csv":
            refused = graft("predict", run, "--watch", folder, "--out", out, "--top", 1, "--resume")
            assert refused.returncode == 2 and "got others" in refused.stderr
        assert out.read_text() == written
        assert graft("predict", run, "--watch", folder, "--out", out, "--top", 2, "--resume").returncode == 130
    assert out.read_text() == written


def test_a_finished_file_is_not_taken_for_that_of_another_model_or_of_more_images(
    run: str, letters: Path, tmp_path: Path
) -> None:
    out, other, more = tmp_path / "out.csv", tmp_path / "other", tmp_path / "more"
    shutil.copytree(run, other)
    config = next(other.rglob("config.json"))
    config.write_text(config.read_text() + "\n")
    assert graft("predict", run, letters, "--out", out).returncode == 0
    written = out.read_text()
    for model, options, words in (
        (other, (), "another model"),
        (run, ("--top", "2"), "another top (2 in place of 5)"),
        (run, ("--tta", "flip"), "another views (flip in place of none)"),
    ):
        refused = graft("predict", model, letters, "--out", out, "--resume", *options)
        assert refused.returncode == 2 and words in refused.stderr and "--overwrite" in refused.stderr, refused.stderr
    shutil.copytree(letters, more)
    names = [more / path.name for path in sorted(letters.iterdir())]
    assert graft("predict", run, *names[:5], "--out", out, "--overwrite").returncode == 0
    refused = graft("predict", run, *names[:7], "--out", out, "--resume")
    assert refused.returncode == 2 and "none for 2 images that came later, such as " in refused.stderr
    # Without the description of its job, as an earlier version left it.
    shutil.rmtree(cache_folder() / JOBS)
    done = graft("predict", run, *names[:5], "--out", out, "--resume")
    assert done.returncode == 0 and "is not recorded" in done.stderr
    assert written != out.read_text()
