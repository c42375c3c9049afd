"""graft explain as a user meets it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.calling import graft
from tests.explanation.models import of_catalogue

from graft.errors import InputError
from graft.weights.saved import save_model
from graft.workflows.explain import explain

HOSTILE = "<img src=x onerror=alert(1)> & \x1b[31m.png"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "run"
    save_model(folder / "model", of_catalogue("mobilenet_v1_025"))
    return folder / "model"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "photos"
    root.mkdir()
    random = np.random.default_rng(0)
    for name in ("a.png", HOSTILE):
        Image.fromarray(random.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(root / name)
    (root / "broken.jpg").write_bytes(b"no image")
    return root


def test_maps_are_in_the_run_and_nothing_is_beside_the_images(run: Path, photos: Path) -> None:
    before = sorted(photos.iterdir())
    done = graft("explain", run, photos, "--engine", "torch")
    assert done.returncode == 0, done.stderr
    assert "skipped" in done.stderr and "broken.jpg" in done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and all("the map" in line for line in lines[:2]) and "\x1b" not in done.stdout
    folder = run / "explanations" / "1"
    assert {path.name for path in folder.iterdir()} == {"001.png", "002.png", "explanations.json", "index.html"}
    with Image.open(folder / "001.png") as shown:
        assert shown.size == (64, 64)
    page = (folder / "index.html").read_text()
    assert "<img src=x" not in page and "&lt;img src=x" in page and "<script" not in page
    assert page.count("data:image/jpeg;base64,") == 4
    assert sorted(photos.iterdir()) == before
    assert graft("explain", run, photos / "a.png", "--no-test", "--quiet").returncode == 0
    assert (run / "explanations" / "2" / "index.html").is_file()


def test_json_has_what_the_page_says(run: Path, photos: Path, tmp_path: Path) -> None:
    done = graft(
        "explain", run, photos / "a.png", "--json", "--out", tmp_path / "why", "--class", "b", "--engine", "torch"
    )
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values == json.loads((tmp_path / "why" / "explanations.json").read_text())
    (image,) = values["images"]
    assert image["explained"] == "b" and image["method"] == "grad-cam" and image["stage"] == "stage4"
    assert np.array(image["cells"]).shape == (7, 7)
    assert np.array(image["map"]).ndim == 2
    assert image["tells"] == (image["faithfulness"]["passed"] and image["sensitivity"]["passed"])
    assert next(iter(image["sensitivity"]["cascade"])) == "head"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method", "gradcam"], ["'gradcam'", "did you mean 'grad-cam'"]),
        (["--method", "exact"], ["--method exact", "mobilenet_v1_025", "leave --method out"]),
        (["--method", "rise", "--stage", "stage3"], ["--stage", "rise"]),
        (["--stage", "stage9"], ["stage5", "'stage9'"]),
        (["--class", "d"], ["'a', 'b', 'c'", "'d'"]),
        (["--out", "."], ["new or empty folder"]),
        (["--out", "PHOTOS/why"], ["outside the images", "inside"]),
        (["gone.jpg"], ["'gone.jpg'", "does not exist"]),
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_code_2(
    run: Path, photos: Path, arguments: list[str], words: list[str]
) -> None:
    arguments = [each.replace("PHOTOS", str(photos)) for each in arguments]
    done = graft("explain", run, photos / "a.png", *arguments, "--engine", "torch")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("error: expected") and done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words)


def test_images_that_cannot_be_decoded_and_too_many_are_said(run: Path, photos: Path, tmp_path: Path) -> None:
    done = graft("explain", run, photos / "broken.jpg", "--engine", "torch")
    assert done.returncode == 2 and "none of which could be decoded" in done.stderr
    for number in range(201):
        shutil.copy(photos / "broken.jpg", tmp_path / f"{number}.jpg")
    done = graft("explain", run, tmp_path)
    assert done.returncode == 2 and "at most 200 images" in done.stderr and "got 201" in done.stderr


def test_without_images_the_network_is_shown(run: Path, tmp_path: Path) -> None:
    done = graft("explain", run, "--out", tmp_path / "network", "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["similarity"] is None and len(values["notes"]) == 2
    assert (tmp_path / "network" / "index.html").is_file()
    for wrong in (["--channels", "3,x"], ["--channels", "3,17", "--features", "pool"]):
        assert graft("explain", run, *wrong).returncode == 2


def test_feature_maps_of_a_stage_stand_on_the_page(run: Path, photos: Path, tmp_path: Path) -> None:
    arguments = ("--features", "stage2", "--no-test", "--json", "--engine", "torch")
    done = graft("explain", run, photos / "a.png", *arguments, "--out", tmp_path / "why")
    assert done.returncode == 0, done.stderr
    (features,) = json.loads(done.stdout)["features"]
    assert features["stage"] == "stage2" and len(features["channels"]) == 12
    assert "stage2, the most active channels first" in (tmp_path / "why" / "index.html").read_text()
    assert graft("explain", run, photos / "a.png", "--channels", "3").returncode == 2


def test_what_is_no_image_and_no_option_is_told_in_a_sentence(run: Path, photos: Path) -> None:
    with pytest.raises(InputError, match=r"expected a path, .* or several of these, got a NoneType: give one"):
        explain(run, None)
    with pytest.raises(InputError, match=r"expected graft\.MapOptions for maps, got str"):
        explain(run, photos / "a.png", maps="rise")
