"""The demo."""

from pathlib import Path

import pytest

from graft.data.opening import open_dataset
from graft.errors import InputError
from graft.workflows.demo import Demo, draw, run_demo, write_images


def test_transfer_beats_a_random_start_by_more_than_the_spread(tmp_path) -> None:
    # Two repeats instead of three, for time; the claim is the same.
    demo = run_demo(seed=0, repeats=2)
    assert demo.letters == 33
    assert demo.transfer_wins()
    assert "transfer is real" in demo.conclusion()
    draw(demo, str(tmp_path / "curves.png"))
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_the_conclusion_claims_nothing_that_the_repeats_do_not_show() -> None:
    close = {"scratch": ((0.1, 0.80), (0.1, 0.90)), "head": ((0.85,), (0.88,)), "all": ((0.8, 0.9), (0.8, 0.92))}
    demo = Demo(33, 10, 660, close, 1.0)
    assert not demo.transfer_wins()
    assert "do not decide" in demo.conclusion()


def test_the_images_written_are_a_data_set_of_the_letters_with_a_test_split(tmp_path: Path) -> None:
    assert write_images(tmp_path / "letters") == 660
    dataset = open_dataset(tmp_path / "letters")
    assert {name: len(images) for name, images in dataset.splits.items()} == {"train": 330, "test": 330}
    assert len(dataset.classes) == 33
    with pytest.raises(InputError, match="new or empty folder for `images`"):
        write_images(tmp_path / "letters")
