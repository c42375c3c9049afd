"""`graft walk` as a user meets it."""

import json
from pathlib import Path

import pytest
from calling import graft
from PIL import Image

from graft.workflows import walked_stage


@pytest.fixture(autouse=True)
def few_details(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walked_stage, "DETAILS", ((2, 2), (1, 1)))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "im age.png"
    Image.effect_noise((40, 30), 90).save(path)
    return path


def test_a_page_is_written_and_told_as_json(image: Path, tmp_path: Path) -> None:
    done = graft("walk", "latin_letters", image, "--json", "--at", "stage2:3:1:2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    page = tmp_path / "walk.html"
    assert found["page"] == "walk.html" and found["bytes"] == page.stat().st_size < 1_500_000
    assert 3 in found["networks"][0]["stages"][1]["most_active"]
    assert b"im age.png through latin_letters" in page.read_bytes()


def test_a_page_is_not_written_over_and_nothing_is_left_of_a_failure(image: Path, tmp_path: Path) -> None:
    page = tmp_path / "walk.html"
    page.write_text("mine")
    done = graft("walk", "latin_letters", image, cwd=tmp_path)
    assert done.returncode == 2 and "exists" in done.stderr and page.read_text() == "mine"
    done = graft("walk", "latin_letters", "nothing.png", "--out", "new.html", cwd=tmp_path)
    assert done.returncode == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["im age.png", "walk.html"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["IMAGE"], "graft walk RUN IMAGE"),
        (["latin_letters", "lenet5", "lenet5", "IMAGE"], "one network or two"),
        (["latin_leters", "IMAGE"], "did you mean 'latin_letters'"),
        (["latin_letters", "IMAGE", "--at", "stage7:1"], "stage7"),
        (["IMAGE", "latin_letters"], "IMAGE"),
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_code_2(
    arguments: list[str], words: str, image: Path, tmp_path: Path
) -> None:
    done = graft("walk", *(str(image) if word == "IMAGE" else word for word in arguments), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: expected") and words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "walk.html").exists()
