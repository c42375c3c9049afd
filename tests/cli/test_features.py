"""`graft features`: computed once, by several processes where asked, and told as it is."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from calling import graft
from PIL import Image

from graft.images.letters import CYRILLIC, dejavu_fonts, render_letters


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "letters"
    images, labels = render_letters(CYRILLIC[:2], dejavu_fonts(), 60, seed=0)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / CYRILLIC[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(folder / f"{index}.png")
    (root / CYRILLIC[0] / "broken.png").write_bytes(b"no image")
    return root


BASE = ("--base", "latin_letters", "--no-audit", "--engine", "torch")


def test_two_processes_keep_what_one_does_and_a_training_finds_it(letters: Path, tmp_path: Path) -> None:
    kept, out = {}, tmp_path / "features.parquet"
    for number in ("1", "2"):
        cache = tmp_path / f"cache{number}"
        done = graft(
            *("features", letters, *BASE, "--processes", number, "--out", out, "--overwrite", "--json"),
            GRAFT_CACHE=str(cache),
        )
        assert done.returncode == 0, done.stderr
        assert "ended early" not in done.stderr
        told = json.loads(done.stdout)
        assert {name: split["images"] for name, split in told["splits"].items()} == {"train": 96, "val": 24}
        assert [*told["splits"]["train"]["failed"]] == [str(letters / CYRILLIC[0] / "broken.png")]
        kept[number] = {path.name: path.read_bytes() for path in (cache / "activations").iterdir()}
    assert kept["1"] == kept["2"] and len(kept["1"]) == 2
    again = json.loads(graft("features", letters, *BASE, "--json", GRAFT_CACHE=str(cache)).stdout)
    assert all(split["cached"] for split in again["splits"].values())
    rows = pyarrow.parquet.read_table(out).to_pylist()
    assert len(rows) == 120 and {row["label"] for row in rows} == set(CYRILLIC[:2])
    assert np.isfinite([row["features"] for row in rows]).all()
    assert rows[0]["path"].startswith(str(letters)) and rows[0]["label"] in rows[0]["path"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--cut", "stage99"], ["stage99", "stage4"]),
        (["--processes", "0"], ["--processes", "0"]),
        (["--out", "DATA/x.parquet"], ["--out", "outside"]),
        (["--out", "x.csv"], ["--out", ".parquet"]),
    ],
)
def test_a_wrong_call_is_one_sentence(letters: Path, tmp_path: Path, options: list[str], words: list[str]) -> None:
    given = [option.replace("DATA", str(letters)) for option in options]
    done = graft("features", letters, *BASE, *given, cwd=tmp_path)
    assert done.returncode == 2 and all(word in done.stderr.splitlines()[-1] for word in words)
    assert not list(tmp_path.iterdir())


def test_more_than_the_cache_has_room_for_is_said_before_it_is_computed(letters: Path, tmp_path: Path) -> None:
    done = graft("features", letters, *BASE, GRAFT_CACHE=str(tmp_path), GRAFT_CACHE_BYTES="1000")
    assert done.returncode == 2
    assert "expected activations that fit in the cache, which holds 0.0 MiB, got 0.0 MiB for 121 images" in done.stderr
