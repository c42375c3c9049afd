"""Classes and images whose names are no text, from the folder to every output."""

import csv
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet
import pytest
from typer.testing import CliRunner, Result

from graft.cli.app import app
from graft.data.opening import open_dataset
from graft.weights.saved import load_model

CLASS, IMAGE = b"caf\xe9", b"\x1b[31mred\n\xff.jpg"
WRITTEN_CLASS, WRITTEN_IMAGE = r"caf\xe9", r"\x1b[31mred\x0a\xff.jpg"


@pytest.fixture(scope="module")
def photographs(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of two classes, in a folder of which the name is no text either."""
    root = tmp_path_factory.mktemp("data") / os.fsdecode(b"insects\xe9\x1b[1m")
    for name, called in (("ants", CLASS), ("bees", b"[b] bees")):
        folder = root / os.fsdecode(called)
        folder.mkdir(parents=True)
        paths = sorted((shared / "datasets" / "ants_bees" / "train" / name).glob("*.jpg"))
        for path in paths[:20]:
            shutil.copy(path, folder)
        shutil.copy(paths[20], folder / os.fsdecode(IMAGE))
        (folder / os.fsdecode(b"broken\xfe\r.jpg")).write_bytes(b"no image")
    # A copy, of which the audit has something to say.
    shutil.copy(
        root / os.fsdecode(CLASS) / os.fsdecode(IMAGE), root / os.fsdecode(CLASS) / os.fsdecode(b"copy\xfd.jpg")
    )
    return root


def graft(*arguments: object) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert_clean(done.stdout + done.stderr)
    return done


def assert_clean(text: str) -> None:
    assert all(letter.isprintable() or letter == "\n" for letter in text)


@pytest.fixture(scope="module")
def run(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    graft("train", photographs, "--base", "latin_letters", "--level", "head", "--no-refit", "--out", out)
    return out


def test_a_run_has_the_class_in_all_its_files(run: Path, photographs: Path) -> None:
    for path in run.rglob("*"):
        if path.is_file() and path.suffix in (".json", ".yaml", ".html", ".md", ".csv", ".jsonl"):
            assert_clean(path.read_text(encoding="utf-8"))
    assert WRITTEN_CLASS in json.loads((run / "model" / "labels.json").read_text(encoding="utf-8"))
    assert WRITTEN_CLASS in load_model(run / "model").classes
    assert WRITTEN_CLASS in (run / "report.html").read_text(encoding="utf-8")
    assert WRITTEN_CLASS in (run / "model" / "README.md").read_text(encoding="utf-8")
    assert r"insects\xe9\x1b[1m" in (run / "args.yaml").read_text(encoding="utf-8")
    with (run / "split.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    assert rows[f"{WRITTEN_CLASS}/{WRITTEN_IMAGE}"]["label"] == WRITTEN_CLASS


def test_a_split_file_finds_its_images_again(run: Path, photographs: Path) -> None:
    again = open_dataset(photographs, split=run / "split.csv")
    assert not again.left_out
    keys = {images.key(index): images.read(index) for images in again.splits.values() for index in range(len(images))}
    there = photographs / os.fsdecode(CLASS) / os.fsdecode(IMAGE)
    assert keys[f"{WRITTEN_CLASS}/{WRITTEN_IMAGE}"] == there.read_bytes()


def test_evaluate_matches_the_class_by_name(run: Path, photographs: Path) -> None:
    found = json.loads(graft("evaluate", run, photographs, "--json").stdout)
    assert WRITTEN_CLASS in [row["name"] for row in found["classes"]]
    assert any(r"broken\xfe\x0d.jpg" in name for name in found["skipped"])
    assert WRITTEN_CLASS in graft("evaluate", run, photographs).stdout


@pytest.mark.parametrize("ending", ["txt", "csv", "tsv", "jsonl", "json", "parquet"])
def test_predictions_have_the_names_in_every_format(run: Path, photographs: Path, ending: str, tmp_path: Path) -> None:
    out = tmp_path / f"out.{ending}"
    graft("predict", run, photographs, "--out", out)
    if ending == "parquet":
        rows = pyarrow.parquet.read_table(out).to_pylist()
    else:
        text = out.read_text(encoding="utf-8")
        assert_clean(text.replace("\t", " "))
        if ending == "txt":
            rows = [{"path": line.partition("  ")[0], "label": line} for line in text.splitlines()]
        elif ending in ("csv", "tsv"):
            rows = list(csv.DictReader(text.splitlines(), delimiter="," if ending == "csv" else "\t"))
        else:
            rows = json.loads(text) if ending == "json" else [json.loads(line) for line in text.splitlines()]
    assert len(rows) == 45
    assert sum(row["path"].endswith(WRITTEN_IMAGE) for row in rows) == 2
    assert any(WRITTEN_CLASS in row.get("label", "") for row in rows if row.get("label"))


def test_the_audit_shows_and_lists_them(photographs: Path, tmp_path: Path) -> None:
    page, left, split = (tmp_path / name for name in ("page.html", "left.csv", "split.csv"))
    options = ("--no-features", "--out", page, "--fix-list", left, "--fix-split", split)
    shown = graft("audit", photographs, *options)
    assert r"copy\xfd.jpg" in shown.stdout.replace("\n", "").replace(" ", "")
    assert r"copy\xfd.jpg" in page.read_text(encoding="utf-8")
    assert_clean(page.read_text(encoding="utf-8"))
    manifest = open_dataset(left)
    assert set(manifest.classes) == {WRITTEN_CLASS, "[b] bees"}
    assert not manifest.left_out
    (images,) = manifest.splits.values()
    assert len(images) == 42
    assert all(images.read(index) for index in range(len(images)))
    assert sum(len(images) for images in open_dataset(photographs, split=split).splits.values()) == 42
    found = json.loads(graft("audit", photographs, "--no-features", "--json").stdout)
    assert found["classes"].keys() == {WRITTEN_CLASS, "[b] bees"}


def test_advise_works_on_them(photographs: Path) -> None:
    graft("advise", photographs, "--base", "latin_letters", "--no-race")


def test_two_classes_that_are_written_alike_are_refused(photographs: Path, tmp_path: Path) -> None:
    for name in (CLASS, WRITTEN_CLASS.encode()):
        shutil.copytree(photographs / os.fsdecode(CLASS), tmp_path / "data" / os.fsdecode(name))
    done = CliRunner().invoke(app, ["audit", str(tmp_path / "data"), "--no-features"])
    assert r"two that are both written caf\xe9" in str(done.exception)
