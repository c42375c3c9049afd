"""Rows of a long job are stored as they come, and the job can be resumed."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from graft.errors import GraftError, InputError
from graft.serving.job import Job, place_of, unfinished
from graft.serving.prediction import Prediction

JOB = Job("digest", "openvino float32 on cpu", 2)


@dataclass(frozen=True)
class Named:
    path: str


IMAGES = [Named(f"{name}.png") for name in "abcd"]


def row(image: Named) -> Prediction:
    return Prediction(image.path, "ant", 0.1 + 0.2, (("ant", 0.1 + 0.2), ("bee", 0.7)))


def begin(out: Path, count: int, job: Job = JOB) -> None:
    """Begin a job and interrupt it after some rows."""
    with pytest.raises(KeyboardInterrupt), unfinished(out, job, False, False) as kept:
        for image in IMAGES[:count]:
            kept.add(row(image))
        raise KeyboardInterrupt


@pytest.mark.parametrize("lost", range(0, 400, 7))
def test_wherever_a_process_was_killed_each_image_has_one_row_in_the_end(tmp_path: Path, lost: int) -> None:
    out = tmp_path / "out.csv"
    begin(out, 3)
    place = place_of(out)
    place.write_bytes(place.read_bytes()[:-lost] if lost else place.read_bytes())
    with unfinished(out, JOB, True, False) as kept:
        for image in kept.left(IMAGES):
            kept.add(row(image))
        assert list(kept.rows()) == [row(image) for image in IMAGES]
    assert not place.exists()


def test_names_of_any_bytes_are_kept(tmp_path: Path) -> None:
    odd = [Named("two\nlines\udcff.png"), Named("ж\u2028.png")]
    with pytest.raises(KeyboardInterrupt), unfinished(tmp_path / "o", JOB, False, False) as kept:
        for image in odd:
            kept.add(row(image))
        raise KeyboardInterrupt
    with unfinished(tmp_path / "o", JOB, True, False) as kept:
        assert list(kept.left(odd)) == [] and [each.path for each in kept.rows()] == [each.path for each in odd]


def test_nothing_is_left_of_a_job_without_rows(tmp_path: Path) -> None:
    begin(tmp_path / "out.csv", 0)
    assert not list(tmp_path.iterdir())


def test_rows_that_are_there_are_neither_lost_nor_mixed_in_silence(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    begin(out, 2)
    before = place_of(out).read_bytes()
    for job, images, resume, words in (
        (JOB, IMAGES, False, "`resume` or `overwrite`"),
        (Job("other", JOB.engine, 2), IMAGES, True, "another model"),
        (Job("digest", "torch bfloat16 on cpu", 5), IMAGES, True, "another engine and top"),
        (
            replace(JOB, rule="0.97  None"),
            IMAGES,
            True,
            "another choice of `error_budget`, `sets`, `recall` or `abstain`:",
        ),
        (JOB, IMAGES[1:], True, "got 'b.png' as image 1 in place of 'a.png'"),
        (JOB, IMAGES[:1], True, "got no more as image 2"),
    ):
        with pytest.raises(InputError, match="expected") as caught, unfinished(out, job, resume, False) as kept:
            list(kept.left(images))
        assert words in str(caught.value)
        assert place_of(out).read_bytes() == before
    with unfinished(out, JOB, False, True) as kept:
        assert kept.before == 0


def test_what_is_no_job_is_not_touched(tmp_path: Path) -> None:
    place_of(tmp_path / "out.csv").write_text("mine\n")
    with (
        pytest.raises(InputError, match="rows of a job"),
        unfinished(tmp_path / "out.csv", JOB, True, False),
    ):
        pass
    assert place_of(tmp_path / "out.csv").read_text() == "mine\n"


def test_two_processes_do_not_work_on_one_file(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with unfinished(tmp_path / "o", JOB, False, False) as kept:
        kept.add(row(IMAGES[0]))
        with pytest.raises(GraftError, match="no other process"), unfinished(tmp_path / "o", JOB, True, False):
            pass
        assert [each.path for each in kept.rows()] == ["a.png"]
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_of_and_the_rows_before_are_gone_on_with(tmp_path: Path, limited_files) -> None:
    out = tmp_path / "out.csv"
    with limited_files(600), pytest.raises(GraftError, match="`resume`"), unfinished(out, JOB, False, False) as kept:
        for image in IMAGES * 10:
            kept.add(row(image))
        list(kept.rows())
    with unfinished(out, JOB, True, False) as kept:
        assert 1 < kept.before < 8
        assert next(kept.rows()) == row(IMAGES[0])
