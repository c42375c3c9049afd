"""Two processes with half of AlexNet each are the network with groups."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import pytest

from graft.lab import towers


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[towers.Compared]:
    member = partial(towers.member, str(tmp_path_factory.mktemp("towers") / "store"), 1, 1, 3)
    # Forked processes have this one's imports; importing afresh would take each of them seconds.
    with ProcessPoolExecutor(towers.TOWERS, multiprocessing.get_context("fork")) as pool:
        return list(pool.map(member, range(towers.TOWERS)))


def test_logits_and_gradients_are_those_of_the_grouped_network(both):
    for tower in both:
        assert set(tower.apart) == {"logits", *(f"conv{n}" for n in range(1, 6)), "fc6", "fc7", "fc8"}
        assert max(tower.apart.values()) <= towers.TOLERANCE


def test_each_holds_half_and_they_meet_only_where_the_paper_says(both):
    for tower in both:
        assert tower.share == 0.5
        # Besides the borders of response normalization; 13 x 13 of 128 maps, 6 x 6 of 128, and 2048 units twice.
        met = {name: count for name, count in tower.sent.items() if not name.startswith("norm")}
        assert met == {"conv3": 4 * 128 * 13 * 13, "fc6": 4 * 128 * 6 * 6, "fc7": 8192, "fc8": 8192, "logits": 20}
