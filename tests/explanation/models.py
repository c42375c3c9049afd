"""Models to explain: small, of known weights, or of the catalogue at small sizes."""

import torch
from torch import nn

from graft.images.preprocessing import Preprocessing
from graft.models.catalog import build, default_config
from graft.models.cuts import HeadKind
from graft.models.network import Config, Network, Stage, freeze
from graft.weights.saved import SavedModel

# Small sides at which maps still have some positions.
SIDE = 64


class Spots(Network):
    """A network that knows what it looks for: the first class is orange, the second blue; each pixel counts alone."""

    def __init__(self) -> None:
        super().__init__()
        self.config = Config("spots", 2)
        self.look = nn.Conv2d(3, 2, 1, bias=False)
        self.relu = nn.ReLU()
        self.shrink = nn.AvgPool2d(8)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(2, 2)
        stages = [
            Stage("stem", ("look", "relu"), 2, 1),
            Stage("stage1", ("shrink",), 2, 8),
            Stage("pool", ("pool",), 2, None),
            Stage("head", ("fc",), 2, None),
        ]
        self.arrange(stages, "fc")
        with torch.no_grad():
            # Red and no blue, blue and no red.
            self.look.weight.copy_(torch.tensor([[1.0, 0, -1], [-1, 0, 1]])[:, :, None, None])
            self.fc.weight.copy_(40 * torch.eye(2))
            self.fc.bias.zero_()


def spots() -> SavedModel:
    network = Spots().eval()
    freeze(network)
    return SavedModel(network, Preprocessing(56, (0.5,) * 3, (0.5,) * 3, "squash"), ("orange", "blue"))


def of_catalogue(name: str, side: int = SIDE, head: HeadKind = "last") -> SavedModel:
    """A network with random weights, all of them frozen, and three classes."""
    torch.manual_seed(0)
    network = build(default_config(name)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    cuts = network.cuts
    layer = network.new_head(3, f"stages:{cuts[len(cuts) // 2 - 1]}" if head == "middle" else head)
    nn.init.normal_(layer.weight)
    freeze(network)
    channels = network.config.channels
    return SavedModel(network, Preprocessing(side, (0.5,) * channels, (0.25,) * channels), ("a", "b", "c"), 1.5)


def images(model: SavedModel, count: int = 2) -> torch.Tensor:
    size = (count, model.preprocessing.channels, model.preprocessing.size, model.preprocessing.size)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
