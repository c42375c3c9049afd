"""Predictions in parts: one row for each image whatever dies, and a job that resumes from existing parts."""

from collections import deque
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from graft.data.dataset import Images
from graft.errors import GraftError, InputError
from graft.images.letters import LATIN
from graft.progress import Reporter
from graft.serving import on_ray
from graft.serving.gathering import Entry
from graft.serving.job import Job
from graft.serving.on_ray import Done, predict_in_parts
from graft.serving.prediction import Prediction
from graft.weights import hub
from graft.weights.base import load_base
from graft.weights.saved import SavedModel, save_model

JOB = Job("digest", "ray auto", 1, "", "{}")


class Named:
    """Images of which only the names are used."""

    def __len__(self) -> int:
        return 50

    def name(self, row: int) -> str:
        return f"{row}.jpg"

    key = stamp = name

    def read(self, row: int) -> bytes:
        raise OSError


class Fake:
    """Workers that answer the latest part first, and die over some parts."""

    count = 2

    def __init__(self, deaths: int = 0, stop_after: int = 99) -> None:
        self.deaths, self.stop_after = deaths, stop_after
        self.given: deque[tuple[int, list[Entry]]] = deque()
        self.answered: list[int] = []
        self.most = 0

    def give(self, part: int, entries: list[Entry]) -> None:
        self.given.append((part, entries))
        self.most = max(self.most, len(self.given))

    def finished(self) -> tuple[int, list[Prediction] | None]:
        part, entries = self.given.pop()
        if self.deaths:
            self.deaths -= 1
            return part, None
        if len(self.answered) == self.stop_after:
            raise KeyboardInterrupt
        self.answered.append(part)
        return part, [answer(entry) for entry in entries]


def answer(entry: Entry) -> Prediction:
    if entry.index % 10 == 3:
        return Prediction(entry.path, None, None, (), "no image")
    return Prediction(entry.path, "ants", 0.9, (("ants", 0.9),))


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> list[Entry]:
    monkeypatch.setattr(on_ray, "PART", 8)
    images = Images(Named(), np.arange(50), np.full(50, -1))
    return [Entry(images, index) for index in range(50)]


def predict(entries: list[Entry], hands: Fake, out: Path, job: Job = JOB, notes: list[str] | None = None) -> Done:
    reporter = Reporter(note=(notes if notes is not None else []).append)
    return predict_in_parts(entries, hands, out, job, 1, (), reporter)


def rows(out: Path) -> list[dict]:
    return [row for path in sorted(out.glob("*.parquet")) for row in pyarrow.parquet.read_table(path).to_pylist()]


def test_every_image_has_one_row_in_order_though_hands_die(entries: list[Entry], tmp_path: Path) -> None:
    hands, notes = Fake(deaths=3), list[str]()
    assert predict(entries, hands, tmp_path / "out", notes=notes) == Done(50, 5, 0)
    found = rows(tmp_path / "out")
    assert [row["path"] for row in found] == [f"{number}.jpg" for number in range(50)]
    assert [row["label"] for row in found] == [None if number % 10 == 3 else "ants" for number in range(50)]
    assert found[3]["error"] == "no image" and len(notes) == 3
    assert hands.most == 4 and sorted(hands.answered) == list(range(7))


def test_a_part_that_kills_again_and_again_ends_the_job_and_what_is_done_stays(
    entries: list[Entry], tmp_path: Path
) -> None:
    with pytest.raises(
        GraftError, match=r"expected an actor that answers the images from '\d+\.jpg' on, got 4 that died"
    ):
        predict(entries, Fake(deaths=99), tmp_path / "out")


def test_an_interrupted_job_goes_on_with_the_parts_that_are_not_there(entries: list[Entry], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict(entries, Fake(stop_after=3), out)
    before = {path: path.read_bytes() for path in out.glob("*.parquet")}
    hands = Fake()
    assert predict(entries, hands, out) == Done(50, 5, sum(len(rows_of(path)) for path in before))
    assert len(hands.answered) == 4 and all(path.read_bytes() == content for path, content in before.items())
    assert len(rows(out)) == 50
    with pytest.raises(InputError, match="expected predictions of the images that the job began with"):
        predict(entries[1:], Fake(), out)
    with pytest.raises(InputError, match=r"expected the job that .* was begun with, got another model"):
        predict(entries, Fake(), out, Job("another", "ray auto", 1, "", "{}"))


def rows_of(path: Path) -> list[dict]:
    return pyarrow.parquet.read_table(path).to_pylist()


def test_a_folder_with_other_files_is_left_alone(entries: list[Entry], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="expected a new or empty folder for `out`"):
        predict(entries, Fake(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:1"])
def test_an_address_where_nobody_answers_is_one_sentence_at_once(address: str) -> None:
    with pytest.raises(InputError, match=r"expected (a Ray cluster at|an address such as)"):
        on_ray._check_answers(address)


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A model that gives an image several labels."""
    base, folder = load_base("latin_letters"), tmp_path / "several"
    thresholds = (0.5,) * len(LATIN)
    save_model(folder / "model", SavedModel(base.network, base.preprocessing, LATIN, thresholds=thresholds))
    return folder


def test_of_several_labels_the_one_that_the_probability_is_of_is_named(
    entries: list[Entry], several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "check_installed", lambda: None)
    monkeypatch.setattr(on_ray, "ray_hands", lambda *_: nullcontext(Fake()))
    asked = {"top": 1, "precision": "auto", "error_budget": None, "sets": None, "abstain": False}
    on_ray.predict_on_ray(several, entries, tmp_path / "out", asked)
    found = rows(tmp_path / "out")
    assert [row["likeliest"] for row in found] == [row["label"] for row in found] and len(found) == 50
    with pytest.raises(InputError, match="one label for `error_budget`, `sets`, `recall` and `abstain`"):
        on_ray.predict_on_ray(several, entries, tmp_path / "other", asked | {"sets": "90%"})


def test_a_folder_begun_with_one_model_of_the_hub_is_not_continued_with_another(
    entries: list[Entry], several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_base("latin_letters")
    other = tmp_path / "other"
    save_model(other, SavedModel(base.network, base.preprocessing, LATIN[::-1], thresholds=(0.5,) * len(LATIN)))
    on_hub = {"owner/one": several, "owner/two": other}
    given: list[object] = []
    monkeypatch.setattr(hub, "fetch_from_hub", lambda name: on_hub[name])
    monkeypatch.setattr(on_ray, "check_installed", lambda: None)
    monkeypatch.setattr(on_ray, "ray_hands", lambda run, *_: given.append(run) or nullcontext(Fake()))
    asked = {"top": 1, "precision": "auto", "error_budget": None, "sets": None, "abstain": False}
    on_ray.predict_on_ray("hf:owner/one", entries, tmp_path / "out", asked)
    assert given == ["hf:owner/one"]
    with pytest.raises(InputError, match="another model"):
        on_ray.predict_on_ray("hf:owner/two", entries, tmp_path / "out", asked)
