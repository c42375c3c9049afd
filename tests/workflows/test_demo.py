"""The demo."""

from graft.workflows.demo import Demo, draw, run_demo


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
