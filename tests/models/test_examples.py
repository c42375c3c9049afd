"""The examples in the docstrings of public blocks say what comes out."""

from ast import literal_eval
from inspect import getdoc

import pytest
import torch

import graft.models

BLOCKS = [name for name in graft.models.__all__ if name not in ("Network", "list_models")]


@pytest.mark.parametrize("name", BLOCKS)
def test_the_example_of_a_block_gives_the_shape_that_it_states(name):
    block = getattr(graft.models, name)
    *before, shown = [line.strip() for line in getdoc(block).splitlines() if line.startswith("    ") and "(" in line]
    known = {"torch": torch, name: block}
    exec("\n".join(line for line in before if " = " in line and name in line), known)
    expression, _, stated = shown.partition("  # ")
    assert eval(expression, known) == literal_eval(stated)
