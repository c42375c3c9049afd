"""The command line as a user meets it."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from calling import graft
from PIL import Image

from graft.images.letters import CYRILLIC, dejavu_fonts, render_letters


def in_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "graft", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "letters"
    images, labels = render_letters(CYRILLIC[:4], dejavu_fonts(), 10, seed=0)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / CYRILLIC[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(folder / f"{index}.png")
    return root


@pytest.fixture(scope="module")
def run(letters: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    done = in_a_process(
        "train", str(letters), "--base", "latin_letters", "--level", "head", "--out", str(out), "--quiet"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return out


def test_train_prints_its_result_as_json_and_its_notes_on_stderr(letters: Path, tmp_path: Path) -> None:
    options = ("--base", "latin_letters", "--epochs", "2", "--out", str(tmp_path / "run"))
    done = graft("train", str(letters), *options, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert set(result) >= {"run", "base", "level", "cut", "classes", "val", "baseline", "seconds", "images"}
    assert set(result["val"]) >= {"top1", "top1_ci95", "n"}
    assert set(result["seconds"]) == {"total", "levels", "features", "training"}
    assert result["baseline"]["majority"] == pytest.approx(0.25)
    assert "test" not in result
    assert "engine" in done.stderr


@pytest.mark.parametrize(("most", "name"), [(1_000, "split.csv"), (60_000, "model.safetensors")])
def test_a_disk_that_fills_up_is_one_sentence_and_leaves_no_half(
    letters: Path, tmp_path: Path, limited_files, most: int, name: str
) -> None:
    with limited_files(most):
        done = graft(
            "train", str(letters), "--base", "latin_letters", "--level", "head", "--out", str(tmp_path / "run")
        )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: expected to ") and name in last and "File too large" in last
    assert "Traceback" not in done.stderr
    left = [path.name for path in (tmp_path / "run").rglob("*")]
    assert name not in left and not [path for path in left if path.endswith(".partial")]


def test_evaluate_and_predict_follow(run: Path, letters: Path, tmp_path: Path) -> None:
    done = in_a_process("evaluate", str(run), str(letters), "--json")
    found = json.loads(done.stdout)
    # A fifth was set aside for val, measured on, and trained on in the end.
    assert (found["top1"], found["n"], found["trained_on"]["n"]) == (None, 0, 40)
    kept = tmp_path / "kept"
    options = ("--base", "latin_letters", "--level", "head", "--out", str(kept), "--quiet")
    assert graft("train", str(letters), *options, "--no-refit").returncode == 0
    found = json.loads(graft("evaluate", str(kept), str(letters), "--json").stdout)
    assert (found["n"], found["trained_on"]["n"]) == (8, 32)
    image = next((letters / "Б").iterdir())
    done = graft("predict", str(run), str(image), "-", "--format", "jsonl", "--top", "2", stdin=f"{tmp_path}/no.png\n")
    assert done.returncode == 0
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["path"] == str(image)
    assert len(first["top"]) == 2
    assert second.keys() == {"path", "error"}
    assert "1 of 2 images could not be decoded" in done.stderr
    out = tmp_path / "predictions.csv"
    assert graft("predict", str(run), str(letters), "--format", "csv", "--out", str(out)).stdout == ""
    assert len(out.read_text().splitlines()) == 41


def test_which_images_were_taken_for_what_is_written_as_a_table(run: Path, letters: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "answers.csv"
    shutil.copytree(letters, data)
    first = next((data / "Б").iterdir())
    first.write_bytes(b"no image")
    done = graft("evaluate", str(run), str(data), "--out", str(out))
    assert "answers.csv has the answers for 40 images" in done.stderr
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    answered, [failed] = [row for row in rows if not row["error"]], [row for row in rows if row["error"]]
    assert len(answered) == 39 and failed["path"] == str(first)
    assert all(row["label"] == Path(row["path"]).parent.name and row["trained_on"] == "true" for row in answered)
    assert all((row["right"] == "true") == (row["label"] == row["answer"]) for row in answered)
    predicted = json.loads(graft("predict", str(run), answered[0]["path"], "--format", "jsonl").stdout)
    assert predicted["label"] == answered[0]["answer"]
    assert predicted["probability"] == pytest.approx(float(answered[0]["probability"]), rel=1e-4)
    own = {name.removeprefix("probability of "): float(answered[0][name]) for name in rows[0] if " of " in name}
    assert own | dict(predicted["top"]) == pytest.approx(own, rel=1e-4, abs=1e-5)
    assert sum(own.values()) == pytest.approx(1, abs=1e-4) and max(own.values()) == float(answered[0]["probability"])
    again = graft("evaluate", str(run), str(data), "--out", str(out))
    assert again.returncode == 2 and "--overwrite" in again.stderr
    inside = graft("evaluate", str(run), str(data), "--out", str(data / "answers.csv"))
    assert inside.returncode == 2 and not (data / "answers.csv").exists()


def test_classes_that_a_run_does_not_know_are_named_with_the_option_that_leaves_them_out(
    run: Path, letters: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(letters, data)
    shutil.copytree(data / "Б", data / "stranger")
    done = graft("evaluate", str(run), str(data))
    assert done.returncode == 2 and "'stranger'" in done.stderr and "--known-only" in done.stderr
    assert graft("evaluate", str(run), str(data), "--known-only").returncode == 0


def test_images_without_splits_are_not_called_like_a_level(run: Path, letters: Path) -> None:
    assert graft("evaluate", str(run), str(letters)).stdout.startswith("all images: ")


def test_advise_prints_a_level_and_its_evidence_and_writes_nothing(letters: Path, tmp_path: Path) -> None:
    done = graft("advise", str(letters), "--base", "latin_letters", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    advice = json.loads(done.stdout)
    assert advice.keys() >= {"level", "cut", "scenario", "reasons", "evidence", "cost"}
    assert advice["evidence"]["race"][0]["level"] == "head"
    assert [row["stage"] for row in advice["evidence"]["probe"]] == ["stage1", "stage2", "stage3", "stage4"]
    # LeNet has no batch norm to compare with, which is said.
    assert all(row["value"] is None for row in advice["evidence"]["shift"])
    text = graft("advise", str(letters), "--base", "latin_letters", cwd=tmp_path).stdout
    assert f"level {advice['level']}, cut {advice['cut']}" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere"], ["nowhere", "does not exist"]),
        (["train", "DATA", "--base", "resnet81"], ["resnet81", "resnet18"]),
        (["train", "DATA", "--level", "hed"], ["hed", "stages:K"]),
        (["train", "DATA", "--base", "resnet20"], ["resnet20", "scratch"]),
        (["train", "EMPTY", "--base", "latin_letters"], ["empty folder"]),
        (["evaluate", "DATA", "DATA"], ["run folder"]),
        (["evaluate", "runs/nope", "DATA"], ["runs/nope", "does not exist: check the path"]),
        (["evaluate", "nope", "DATA"], ["nope", "does not exist: check the path"]),
        (["predict", "DATA", "x.png"], ["run folder"]),
        (["predict", "RUN", "x.png", "--format", "xml"], ["xml", "jsonl"]),
        (["predict", "RUN", "x.png", "--format", "parquet"], ["--out"]),
        (["advise", "DATA", "--base", "resnet20"], ["resnet20", "weights"]),
        (["advise", "EMPTY", "--base", "latin_letters"], ["empty folder"]),
        (["models", "resnet19"], ["resnet19", "did you mean"]),
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_code_2(
    arguments: list[str], words: list[str], letters: Path, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"DATA": str(letters), "RUN": str(run), "EMPTY": str(tmp_path / "empty")}
    done = graft(*(places.get(word, word) for word in arguments), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: expected")
    for word in words:
        assert word in line


def test_a_split_is_named_as_folders_name_it(letters: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for split in ("val", "test"):
        shutil.copytree(letters, tmp_path / "data" / split)
    for named, split in (("validation", "val"), ("Valid", "val"), ("testing", "test")):
        done = graft("evaluate", str(run), str(tmp_path / "data"), "--split", named, "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["split"] == split, done.stderr
    done = graft("evaluate", str(run), str(tmp_path / "data"), "--split", "training")
    assert done.returncode == 2 and "expected one of the splits val, test for --split" in done.stderr


def test_two_runs_on_the_same_data_say_once_how_these_were_understood(letters: Path, run: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    images, labels = render_letters(CYRILLIC[:4], dejavu_fonts(), 4, seed=9)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        (data / CYRILLIC[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(data / CYRILLIC[label] / f"{index}.png")
    done = graft("evaluate", str(run), str(shutil.copytree(run, tmp_path / "other")), str(data))
    lines = done.stderr.splitlines()
    assert done.returncode == 0 and len(lines) == len(set(lines)) and sum("16 images" in line for line in lines) == 1


def test_an_option_that_does_not_exist_is_exit_code_2() -> None:
    done = graft("train", "data", "--epoch", "3")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_without_a_network_the_message_says_what_to_fetch_and_where_to_put_it(letters: Path, tmp_path: Path) -> None:
    # A port on this machine where nothing listens stands for no network.
    variables = {"GRAFT_CACHE": str(tmp_path), "GRAFT_WEIGHTS_URL": "http://127.0.0.1:9", "TORCH_HOME": str(tmp_path)}
    done = graft("train", str(letters), "--base", "mobilenet_v2", "--out", str(tmp_path / "run"), **variables)
    assert done.returncode == 1
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert "mobilenet_v2-b0353104.pth" in line
    assert str(tmp_path) in line
    assert not (tmp_path / "run").exists()


def test_help_and_listings_load_no_torch() -> None:
    for arguments in ([], ["--help"], ["train", "-h"], ["models", "--json"], ["train"]):
        script = (
            "import sys; sys.argv = ['graft', *sys.argv[1:]]\n"
            "from graft.__main__ import main\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            "heavy = {'torch', 'torchvision', 'openvino', 'scipy', 'matplotlib', 'pyarrow'}\n"
            "print(sorted({name.split('.')[0] for name in sys.modules} & heavy), file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        assert done.stderr.splitlines()[-1] == "[]", arguments


def test_training_imports_neither_torchvision_nor_the_compiler(letters: Path, tmp_path: Path) -> None:
    unused = {"torchvision", "torchmetrics", "sklearn", "accelerate", "torch._dynamo", "sympy"}
    script = (
        "import sys\nfrom graft import load, train\n"
        f"train({str(letters)!r}, 'latin_letters', 'head', out={str(tmp_path / 'run')!r})\n"
        f"train({str(letters)!r}, 'latin_letters', 'all', out={str(tmp_path / 'all')!r}, epochs=1)\n"
        f"load({str(tmp_path / 'run')!r}).predict({str(next((letters / 'Б').iterdir()))!r})\n"
        f"print(sorted(set(sys.modules) & {unused}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_a_training_says_how_to_go_on(number: int, code: int, letters: Path, tmp_path: Path) -> None:
    arguments = ["train", str(letters), "--base", "latin_letters", "--level", "all", "--epochs", "5000"]
    # A child of a shell that ignores interrupts would ignore them too.
    restore = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    out = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-m", "graft", *arguments, "--out", str(out)],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=restore,
    ) as process:
        deadline = time.monotonic() + 60
        while not (out / "checkpoints" / "last.safetensors").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert errors.splitlines()[-1] == f"stopped; `graft train --resume {out}` continues it"
    assert "Traceback" not in errors


def test_output_into_a_closed_pipe_ends_quietly(run: Path, letters: Path) -> None:
    command = f"{sys.executable} -m graft predict {run} {letters} --format jsonl --quiet | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", _emptied),
        ("model.safetensors", _cut_short),
        ("model.safetensors", Path.unlink),
        ("config.json", _emptied),
        ("labels.json", Path.unlink),
        ("labels.json", lambda path: path.write_text(json.dumps([*map(str, range(43))]))),
        ("preprocessing.json", _emptied),
        ("calibration.json", _emptied),
    ],
)
def test_a_model_whose_files_are_damaged_is_refused_in_a_sentence(
    name: str, damage: Callable[[Path], object], latin_run: str, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(latin_run, tmp_path / "run"))
    Image.new("L", (32, 32)).save(tmp_path / "image.png")
    damage(run / "model" / name)
    out = tmp_path / "out"
    for call in (
        ("export", run, "--out", out / "a.onnx"),
        ("explain", run, tmp_path / "image.png", "--out", out / "b"),
    ):
        done = graft(*call)
        assert done.returncode == 2 and done.stderr.startswith("error: expected ") and done.stderr.count("\n") == 1
    assert not out.exists()
