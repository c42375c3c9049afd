"""How a network prints itself."""

from xml.etree import ElementTree

import torch
from torch import nn

from graft.models.catalog import CATALOG, build, default_config
from graft.models.network import Config, Network, Stage, parameter_count


def made(name: str) -> Network:
    with torch.device("meta"):
        return build(default_config(name))


def cells(network: Network) -> list[list[str]]:
    """The texts of the table's rows; parsing fails where a name was not escaped."""
    table = ElementTree.fromstring(network._repr_html_())
    return [[cell.text or "" for cell in row] for row in table.iter("tr")]


class Odd(Network):
    def __init__(self) -> None:
        super().__init__()
        self.config = Config("<script>alert(1)</script>", 2)
        self.body, self.fc = nn.Linear(3, 4), nn.Linear(4, 2)
        self.arrange([Stage("a & <b>", ("body",), 4, None), Stage("head", ("fc",), 2, None)], "fc")


def test_a_network_prints_what_it_is_and_its_stages():
    assert repr(made("resnet50")) == (
        "ResNet resnet50, 25,557,032 parameters, (N, 3, 224, 224) to (N, 1000)\n"
        "  stem, stage1, stage2, stage3, stage4, pool, head"
    )
    assert repr(Odd()).startswith("Odd <script>alert(1)</script>, 26 parameters, (N, 3, H, W) to (N, 2)")
    for name in CATALOG:
        assert max(map(len, repr(made(name)).splitlines())) <= 100


def test_what_is_printed_follows_the_head():
    network = made("lenet5")
    network.new_head(26)
    assert repr(network).splitlines()[0].endswith("(N, 1, 28, 28) to (N, 26)")
    assert f"{parameter_count(network):,} parameters" in repr(network)


def test_layers_are_those_that_torch_prints():
    network = made("lenet5")
    assert network.layers() == nn.Module.__repr__(network)
    assert "(c1): Conv2d(1, 6, kernel_size=(5, 5)" in network.layers()


def test_the_table_has_a_row_for_every_cut_with_what_it_leaves_to_train():
    network = made("googlenet")
    head, first, *rows = cells(network)
    assert head == ["stage", "output channels", "stride (px)", "parameters", "cut after it", "parameters left to train"]
    assert first == ["", "3", "1", "", "input", f"{parameter_count(network):,}"]
    assert [row[0] for row in rows] == [row[4] for row in rows] == [stage.name for stage in network.stages]
    assert [row[1] for row in rows] == [f"{stage.channels:,}" for stage in network.stages]
    counts = [int(row[3].replace(",", "")) for row in rows]
    assert sum(counts) == parameter_count(network)
    for row in rows:
        assert row[5] == f"{parameter_count(network.split(row[0])[1]):,}"
    assert rows[-1][5] == "0"


def test_names_in_the_table_are_escaped():
    text = Odd()._repr_html_()
    assert "<script>" not in text
    assert cells(Odd())[2][0] == "a & <b>"
