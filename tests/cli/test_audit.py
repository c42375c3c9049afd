"""graft audit as a user meets it."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from calling import graft

from graft.cli.audit import audit
from graft.errors import InputError

PLACEHOLDER = "imageNotFound.gif"


@pytest.fixture
def photographs(shared: Path, tmp_path: Path) -> Path:
    """Some ants and bees, the web's placeholder, a copy, and a name that is no text."""
    root = tmp_path / "data"
    for name in ("ants", "bees"):
        (root / name).mkdir(parents=True)
        for path in sorted((shared / "datasets/ants_bees/train" / name).glob("*.jpg"))[:12]:
            shutil.copyfile(path, root / name / path.name)
    shutil.copyfile(shared / "datasets/ants_bees/train/ants" / PLACEHOLDER, root / "ants" / PLACEHOLDER)
    first = min((root / "bees").iterdir())
    shutil.copyfile(first, os.fsencode(root) + b"/bees/\xff<b>.jpg")
    return root


def everything_in(folder: Path) -> dict[str, tuple[int, int]]:
    paths = [folder, *folder.rglob("*")]
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in paths}


def test_the_terminal_shows_what_is_wrong_and_the_exit_code_is_0(photographs: Path, tmp_path: Path) -> None:
    before = everything_in(photographs)
    done = graft("audit", str(photographs), "--no-features", "--out", "audit.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"ants/{PLACEHOLDER}" in done.stdout
    assert "exact duplicates" in done.stdout
    assert "26 images of 2 classes: 1 error, " in done.stdout
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert PLACEHOLDER in page and "&lt;b&gt;.jpg" in page
    assert everything_in(photographs) == before


def test_json_is_one_document_whatever_the_names_are(photographs: Path) -> None:
    done = graft("audit", str(photographs), "--no-features", "--json", "--quiet")
    assert done.returncode == 0
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["items"] == 26
    assert found["classes"] == {"ants": 13, "bees": 13}
    kinds = {finding["kind"]: finding for finding in found["findings"]}
    assert [Path(path).name for path in kinds["placeholder"]["paths"]] == [PLACEHOLDER]
    ((_, copy),) = kinds["exact_duplicates"]["groups"]
    assert copy.endswith(r"\xff<b>.jpg")


def test_the_fix_list_names_the_others_and_opens_again(photographs: Path, tmp_path: Path) -> None:
    done = graft("audit", str(photographs), "--no-features", "--fix-list", str(tmp_path / "left.csv"), "--json")
    assert done.returncode == 0, done.stderr
    with (tmp_path / "left.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert not any(PLACEHOLDER in row["path"] or "<b>" in row["path"] for row in rows)
    again = json.loads(graft("audit", str(tmp_path / "left.csv"), "--no-features", "--json", "--quiet").stdout)
    assert again["items"] == 24
    assert not {"placeholder", "exact_duplicates"} & {finding["kind"] for finding in again["findings"]}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"out": "{data}/audit.html"}, "expected `out` outside the images"),
        ({"fix_list": "{data}/ants/left.csv"}, "expected `fix_list` outside the images"),
        ({"out": "audit.pdf"}, "expected the name of a .html file for `out`"),
    ],
)
def test_a_place_that_may_not_be_written_to_is_refused(
    options: dict[str, str], says: str, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.workflows.audit.audit", lambda *given, **others: pytest.fail("looked at the images"))
    places = {name: Path(place.format(data=photographs)) for name, place in options.items()}
    with pytest.raises(InputError, match=says):
        audit(str(photographs), **places)
    assert not list(photographs.rglob("*.csv")) + list(photographs.rglob("*.html"))


def test_labels_that_are_likely_wrong_are_named(shared: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for name in ("ants", "bees"):
        (root / name).mkdir(parents=True)
        for number, path in enumerate(sorted((shared / "datasets/ants_bees/train" / name).glob("*.jpg"))[:60]):
            wrong = name == "bees" and number < 3
            shutil.copyfile(path, root / ("ants" if wrong else name) / (f"wrong {number}.jpg" if wrong else path.name))
    base = str(shared / "weights" / "mobilenet_v2_imagenet.safetensors")
    done = graft("audit", str(root), "--base", base, "--json", "--quiet")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    suspects = [Path(suspect["path"]).name for suspect in found["suspects"]]
    assert sum(name.startswith("wrong") for name in suspects[:6]) >= 2
    assert found["suspects"][0].keys() == {"path", "label", "confidence", "suggested"}


def test_splits_that_are_given_apart_are_compared(photographs: Path, tmp_path: Path) -> None:
    others = tmp_path / "others"
    shutil.copytree(photographs / "bees", others / "bees")
    for path in sorted((others / "bees").iterdir())[2:]:
        path.unlink()
    done = graft("audit", str(photographs), "--val", str(others), "--no-features", "--json", "--quiet")
    leaks = [each for each in json.loads(done.stdout)["findings"] if each["kind"] == "split_leakage"]
    assert done.returncode == 0 and any("others" in path for each in leaks for path in each["paths"])
    refused = graft("audit", str(photographs), "--val", str(others), "--out", str(others / "page.html"))
    assert refused.returncode == 2 and "inside" in refused.stderr
