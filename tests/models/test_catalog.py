"""The catalogue's figures and every network's tensors, against figures that were measured on other implementations."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch

from graft.errors import InputError
from graft.models.catalog import CATALOG, build, default_config, entry, list_models
from graft.models.network import Network, parameter_count, state_shapes

NAMES = list(CATALOG)


@cache
def without_data(name: str) -> Network:
    with torch.device("meta"):
        return build(default_config(name))


@pytest.fixture(scope="module")
def published(shared: Path) -> dict[str, dict]:
    table = json.loads((shared / "reference" / "architectures.json").read_text(encoding="utf-8"))
    return {row["name"]: row for row in table["entries"]}


@pytest.mark.parametrize("name", NAMES)
def test_a_row_states_what_the_built_network_has(name):
    # Its multiply-adds are counted in tests/accounting/test_counting.py.
    row, network = entry(name), without_data(name)
    assert row.params == parameter_count(network)
    assert row.stages == tuple(stage.name for stage in network.stages)
    assert network.config.classes == row.classes == network.head.out_features == network.stages[-1].channels
    assert network.config.architecture == name


@pytest.mark.parametrize("name", NAMES)
def test_a_row_agrees_with_the_reference(name, published):
    if name not in published:
        pytest.skip(f"the reference has no figures of {name}")
    row, theirs = entry(name), published[name]
    assert (row.params, row.macs) == (theirs["params"], theirs["macs"])
    assert list(row.input_size) == theirs["input_size"]
    assert row.year == theirs["year"]


@pytest.mark.parametrize("name", NAMES)
def test_tensors_have_the_names_and_shapes_of_the_reference(name, shared):
    path = shared / "reference" / "state_dict_keys" / f"{name}.txt"
    if not path.is_file():
        pytest.skip(f"the reference lists no tensors of {name}")
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    theirs = {key: tuple(json.loads(shape)) for key, shape, _ in rows}
    ours = {key: tuple(shape) for key, shape in state_shapes(without_data(name)).items()}
    if name in ("resnet20", "resnet56"):
        # Those checkpoints are older than the counter.
        ours = {key: shape for key, shape in ours.items() if not key.endswith("num_batches_tracked")}
    assert ours == theirs


def test_every_family_is_a_module_with_a_row_of_numbers_per_name():
    from importlib import import_module

    for name, row in CATALOG.items():
        assert name in import_module(f"graft.models.{row.family}").SPECS


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"'resnet81'.*did you mean 'resnet18'"):
        entry("resnet81")
    with pytest.raises(InputError, match="graft models"):
        default_config("zzz")


def test_names_are_listed_whole_or_by_family():
    assert list_models() == NAMES
    assert list_models("xception") == ["xception"]
    assert [name for name in NAMES if CATALOG[name].family == "resnet"] == list_models("resnet")
    with pytest.raises(InputError, match=r"'resnets' \(did you mean 'resnet'\?\): choose from lenet, alexnet, vgg"):
        list_models("resnets")
