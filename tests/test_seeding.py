"""Seeds: which are taken, and that drawing by one leaves no trace."""

import numpy as np
import pytest
import torch

from graft.errors import InputError
from graft.seeding import LARGEST_SEED, check_seed, draw_from, drawing_apart, generator, seeded


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1, int("9" * 23)])
def test_a_seed_that_generators_do_not_take_is_refused_in_one_sentence(seed: int) -> None:
    with pytest.raises(InputError, match=r"from 0 to 4,294,967,295 for `seed`, got .*: choose another$"):
        check_seed(seed)


@pytest.mark.parametrize("seed", [0, LARGEST_SEED])
def test_any_other_seed_is_good_for_all_that_is_drawn_by_it(seed: int) -> None:
    check_seed(seed)
    np.random.default_rng((seed, 1))
    with seeded(seed):
        draw_from(seed * 100_003 + 100_000)


def test_a_block_draws_by_its_seed_and_leaves_the_generator_where_it_was() -> None:
    expected = torch.rand(3, generator=torch.Generator().manual_seed(7))
    before = torch.get_rng_state()
    with pytest.raises(KeyError), seeded(7):
        assert torch.equal(torch.rand(3), expected)
        draw_from(7)
        assert torch.equal(torch.rand(3), expected)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_drawing_apart_neither_draws_from_the_generator_of_the_process_nor_winds_it_back() -> None:
    expected = torch.rand(3, generator=torch.Generator().manual_seed(7))
    before = torch.get_rng_state()
    with drawing_apart() as own, seeded(7):
        assert generator() is own and torch.equal(torch.rand(3, generator=own), expected)
        assert torch.equal(torch.get_rng_state(), before)
        somebody_else = torch.rand(3)
    assert not torch.equal(torch.rand(3), somebody_else) and generator() is torch.default_generator
