"""graft predict as a user meets it."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet
import pytest
from calling import graft
from PIL import Image

from graft.cli.app import main
from graft.images.letters import LATIN, dejavu_fonts, render_letters


@pytest.fixture(scope="module")
def run(latin_run: str) -> str:
    return latin_run


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "letters"
    root.mkdir()
    images, _ = render_letters(LATIN[:10], dejavu_fonts(), 2, seed=5)
    for index, image in enumerate(images):
        Image.fromarray(image[:, :, 0]).save(root / f"{index:02}.png")
    return root


@pytest.fixture
def predict(run: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The exit code, stdout and stderr of the command, run in this process, which has imported what it needs."""

    def predicted(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["graft", "predict", run, *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return predicted


def in_a_process(*arguments: object, stdin: bytes = b"", **variables: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "graft", "predict", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, env={**os.environ, **variables})


def test_a_name_of_an_unknown_kind_on_stdin_has_an_error_in_its_place(run: str, letters: Path) -> None:
    names = f"{letters / '00.png'}\nnowhere://a/b.png\n{letters / '01.png'}\n"
    done = graft("predict", run, "-", "--format", "jsonl", stdin=names)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and [row["path"] for row in rows] == names.splitlines()
    assert "expected addresses such as" in rows[1]["error"] and not any("error" in row for row in rows[::2])


def test_the_ending_of_the_file_is_its_format(predict, letters: Path, tmp_path: Path) -> None:
    places = {ending: tmp_path / f"out.{ending}" for ending in ("csv", "tsv", "jsonl", "json", "parquet", "txt")}
    for place in places.values():
        code, printed, told = predict(letters, "--out", place, "--top", "3")
        assert (code, printed) == (0, "") and told.startswith(f"{place} has the answers for 20 images: ")
    assert pyarrow.parquet.read_table(places["parquet"]).num_rows == 20
    columns = ["path", "label", "probability", "label_2", "probability_2", "label_3", "probability_3", "error"]
    for ending, separator in (("csv", ","), ("tsv", "\t")):
        rows = list(csv.DictReader(places[ending].read_text().splitlines(), delimiter=separator))
        assert list(rows[0]) == columns
        assert all(float(row["probability"]) >= float(row["probability_2"]) for row in rows)
        assert not any(row["error"] for row in rows)
    lines = places["jsonl"].read_text().splitlines()
    assert json.loads(places["json"].read_text()) == [json.loads(line) for line in lines]
    assert places["txt"].read_text().count("%") == 60


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "out.csv", "--format", "jsonl"], ["'out.csv'", "jsonl", "rename"]),
        (["--out", "out.xyz"], ["'out.xyz'", ".parquet", "--format"]),
        (["--out", "out.xlsx", "--format", "csv"], ["'out.xlsx' for csv", "name it 'out.csv'"]),
        (["--out", "out.parquet", "--format", "csv"], ["'out.parquet'", "csv", "rename"]),
        (["--out", "out"], ["'out'", "--format"]),
        (["--json", "--format", "csv"], ["--json", "--format csv"]),
        (["--json", "--out", "out.csv"], ["'out.csv'", "json"]),
        (["--out", "there.csv"], ["there.csv", "exists", "--overwrite"]),
        (["--out", "folder.csv"], ["folder.csv", "the folder"]),
        (["gone"], ["'gone'", "does not exist"]),
        (["gone/*.png"], ["'gone/*.png'", "pattern"]),
        (["--null"], ["--null", "add -"]),
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_code_2(
    predict, letters: Path, arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    code, out, errors = predict(letters, *arguments)
    assert (code, out) == (2, "")
    assert errors.startswith("error: expected") and errors.count("\n") == 1
    assert all(word in errors for word in words)
    assert (tmp_path / "there.csv").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"there.csv", "folder.csv"}


def test_how_many_images_have_each_label_is_told_at_the_end(predict, letters: Path, tmp_path: Path) -> None:
    code, printed, told = predict(letters, "--out", tmp_path / "answers.csv")
    rows = list(csv.DictReader((tmp_path / "answers.csv").read_text(encoding="utf-8").splitlines()))
    given = Counter(row["label"] for row in rows)
    (line,) = (line for line in told.splitlines() if "has the answers for 20 images: " in line)
    said = [each.split(" ", 1) for each in line.partition("images: ")[2].removesuffix(", …").split(", ")]
    assert (code, printed) == (0, "") and len(said) == 6 < len(given)
    assert all(given[label] == int(number) for number, label in said)
    assert "answers for" not in predict(letters)[2]


def test_overwriting_is_asked_for(predict, letters: Path, tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("old")
    assert predict(letters, "--out", tmp_path / "out.csv", "--overwrite")[0] == 0
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 21


def test_a_pipe_is_written_to_and_not_replaced(predict, letters: Path, tmp_path: Path) -> None:
    assert predict(letters, "--out", os.devnull, "--format", "parquet")[0] == 0
    assert not Path(os.devnull).is_file()


def test_images_are_found_in_archives_and_manifests(predict, letters: Path, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "letters"), "zip", letters)
    manifest = tmp_path / "some.csv"
    manifest.write_text(f"path\n{letters}/03.png\n{letters}/gone.png\n")
    code, out, errors = predict(archive, manifest, "--format", "csv", "--top", "1")
    rows = list(csv.DictReader(out.splitlines()))
    assert code == 0
    assert sorted(row["path"] for row in rows[:20]) == [f"{number:02}.png" for number in range(20)]
    assert [row["path"] for row in rows[20:]] == [f"{letters}/03.png", f"{letters}/gone.png"]
    assert rows[20]["label"] == next(row["label"] for row in rows if row["path"] == "03.png")
    assert rows[21]["error"] and errors == "1 of 22 images could not be decoded; the output says why\n"


def test_a_missing_image_among_others_has_a_row_with_the_reason(predict, letters: Path, tmp_path: Path) -> None:
    good, gone = letters / "00.png", tmp_path / "gone.png"
    code, out, errors = predict(gone, good, "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [row["path"] for row in rows] == [str(gone), str(good)]
    assert rows[0]["error"] and "error" not in rows[1]
    assert errors == "1 of 2 images could not be decoded; the output says why\n"
    for missing in ([gone], [gone, tmp_path / "other.png"], [good, tmp_path / "*.jpg"], [good, tmp_path / "gone"]):
        code, out, errors = predict(*missing)
        assert (code, out) == (2, "") and ("does not exist" in errors or "files that match" in errors)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    assert predict(gone, broken)[0] == 1


def test_an_image_that_a_table_names_several_times_is_predicted_once(predict, letters: Path, tmp_path: Path) -> None:
    names = ["03", "01", "03", "gone", "01", "03"]
    table = tmp_path / "boxes.csv"
    table.write_text("path,x\n" + "".join(f"{letters}/{name}.png,{row}\n" for row, name in enumerate(names)))
    code, out, errors = predict(table, "--format", "csv")
    assert [Path(row["path"]).stem for row in csv.DictReader(out.splitlines())] == ["03", "01", "gone"]
    assert code == 0 and f"3 rows of {table} repeat others and count once\n" in errors
    # Names that the user gives are answered as often as they are given.
    first = letters / "00.png"
    code, out, errors = predict(first, first, table, "--format", "csv", "--quiet")
    assert len(out.splitlines()) == 6 and errors == ""


def test_the_file_may_have_an_ending_of_ones_own(predict, letters: Path, tmp_path: Path) -> None:
    assert predict(letters, "--out", tmp_path / "out.mine", "--format", "csv")[0] == 0


def test_the_exit_code_is_1_when_no_image_could_be_decoded(predict, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    code, out, errors = predict(tmp_path, "--format", "jsonl")
    assert code == 1
    assert [json.loads(line).keys() for line in out.splitlines()] == [{"path", "error"}] * 2
    assert errors.startswith("error: expected images, got 2 files")


def test_names_on_stdin_end_in_nul_where_asked(run: str, letters: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"two\nlines\xff.png")
    shutil.copy(letters / "00.png", odd)
    done = in_a_process(run, "-", "-0", "--format", "jsonl", stdin=os.fsencode(odd) + b"\0")
    assert done.returncode == 0, done.stderr
    (row,) = map(json.loads, done.stdout.splitlines())
    assert row["path"].endswith(r"/two\x0alines\xff.png") and row["label"]


def test_names_that_end_in_nul_are_told_of_where_newlines_are_expected(run: str, letters: Path) -> None:
    names = b"\0".join(os.fsencode(letters / name) for name in ("00.png", "01.png"))
    done = in_a_process(run, "-", "--format", "jsonl", stdin=names + b"\0\n" + os.fsencode(letters / "02.png"))
    assert done.returncode == 0 and b"add -0" in done.stderr
    first, second = map(json.loads, done.stdout.splitlines())
    assert "NUL" in first["error"] and second["label"]
    assert in_a_process(run, "-", stdin=names).returncode == 1


def test_nothing_is_written_among_the_images(predict, letters: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(letters.iterdir())
    for out in (letters / "out.csv", letters / "below" / "out.csv"):
        code, _, errors = predict(letters, "--out", out)
        assert code == 2 and "expected --out outside the images" in errors
    monkeypatch.chdir(letters)
    assert predict(".", "--out", "out.csv")[0] == 2
    # A shell leaves `--watch=~/letters` as it is.
    monkeypatch.setenv("HOME", str(letters.parent))
    for images in (["~/letters"], ["--watch=~/letters"]):
        code, _, errors = predict(*images, "--out=~/letters/out.csv")
        assert code == 2 and "expected --out outside the images" in errors
    assert sorted(letters.iterdir()) == before


def test_nothing_on_stdin_is_no_failure(run: str) -> None:
    done = in_a_process(run, "-", "--format", "jsonl")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == b"no images were named on stdin\n"


def test_a_terminal_sees_how_far_it_is_and_the_results_stay_whole(run: str, letters: Path) -> None:
    # As Rich takes a terminal for granted; stdout is none.
    done = in_a_process(run, letters, "--format", "jsonl", FORCE_COLOR="1")
    assert done.returncode == 0
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == sorted(map(str, letters.iterdir()))
    assert b"20/20" in done.stderr
    assert b"images" in done.stderr
    assert in_a_process(run, letters, "--quiet", FORCE_COLOR="1").stderr == b""
