"""The contract of a network: ordered named stages, cuts between them, a pooled vector, a head that can be replaced.

A **cut** after stage *k* splits a network into a frozen trunk and a trained crown; every level of transfer learning
is a cut. A family file builds its layers under the tensor names of its reference and lists its stages by the paths of
those layers; everything else here follows from that list.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from graft.errors import CutError, did_you_mean

PaddingRule = Literal["torch", "tensorflow"]

# The cut before the first stage: an empty trunk, everything trains.
INPUT = "input"
# The last stage of every network; a cut after it leaves an empty crown.
HEAD = "head"


@dataclass(frozen=True)
class Config:
    """All that a family needs to build a network, and all that a saved model must remember of it."""

    architecture: str
    classes: int
    channels: int = 3
    padding: PaddingRule = "torch"
    batch_norm_eps: float = 1e-5


@dataclass(frozen=True)
class Stage:
    """One named step of a network.

    `parts` are the paths of the submodules that run in order; `channels` is the width of the output; `stride` is input
    pixels per output pixel along each axis, None once the output is a vector (N, channels).
    """

    name: str
    parts: tuple[str, ...]
    channels: int
    stride: int | None


class Section(nn.Module):
    """A run of consecutive stages as a module of its own: a trunk or a crown.

    It shares parameters with the network it was cut from and keeps their tensor names, so the `state_dict()` of a
    network is the union of those of its trunk and crown.
    """

    def __init__(self, network: nn.Module, stages: Iterable[Stage]) -> None:
        super().__init__()
        self.stages = tuple(stages)
        self._steps = [(part, network.get_submodule(part)) for stage in self.stages for part in stage.parts]
        for path, module in self._steps:
            _attach(self, path, module)
        self.training = network.training

    def forward(self, x: Tensor) -> Tensor:
        for _, module in self._steps:
            x = module(x)
        return x


class Network(nn.Module):
    """A convolutional classifier as an ordered sequence of stages, the last of which is named `head`.

    A subclass builds its submodules, then calls `arrange`. The forward pass is the stages in order: images
    (N, C, H, W), float, normalised as the weights want them, to logits (N, classes).
    """

    config: Config
    stages: tuple[Stage, ...]

    def arrange(self, stages: Iterable[Stage], classifier: str) -> None:
        """Declare the stages in order and the path of the layer whose outputs are the classes."""
        self.stages = tuple(stages)
        self._classifier = classifier
        if self.stages[-1].name != HEAD:
            raise ValueError(f"the last stage is {HEAD!r} by contract, not {self.stages[-1].name!r}")

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = self._run(stage, x)
        return x

    def feature_maps(self, x: Tensor) -> dict[str, Tensor]:
        """The output of every stage but the head, by name, in order: (N, channels, H / stride, W / stride)."""
        outputs = {}
        for stage in self.stages[:-1]:
            outputs[stage.name] = x = self._run(stage, x)
        return outputs

    def pooled(self, x: Tensor) -> Tensor:
        """The vector that the head classifies, (N, D)."""
        for stage in self.stages[:-1]:
            x = self._run(stage, x)
        return x

    @property
    def head(self) -> nn.Linear:
        """The layer whose outputs are the classes, (N, D) to (N, classes)."""
        layer = self.get_submodule(self._classifier)
        assert isinstance(layer, nn.Linear)
        return layer

    @property
    def head_name(self) -> str:
        """Path of the head, the prefix of its tensor names."""
        return self._classifier

    def new_head(self, classes: int) -> nn.Linear:
        """Put a fresh, randomly initialised head of `classes` outputs in place of the present one and return it."""
        if classes < 1:
            raise ValueError(f"a head has one output or more, not {classes}")
        old = self.head
        new = nn.Linear(old.in_features, classes, device=old.weight.device, dtype=old.weight.dtype)
        new.train(old.training)
        parent, _, name = self._classifier.rpartition(".")
        setattr(self.get_submodule(parent), name, new)
        self.config = replace(self.config, classes=classes)
        self.stages = (*self.stages[:-1], replace(self.stages[-1], channels=classes))
        return new

    @property
    def cuts(self) -> tuple[str, ...]:
        """Every place the network can be cut, from `input` (all trains) to `head` (nothing does)."""
        return (INPUT, *(stage.name for stage in self.stages))

    def split(self, cut: str) -> tuple[Section, Section]:
        """Trunk and crown at `cut`: the stages up to and including it, and the rest.

        Both share parameters with this network, and `crown(trunk(x))` is its forward pass, operation for operation.
        Raises CutError for a cut that the network does not have.
        """
        if cut not in self.cuts:
            raise CutError(
                f"the cuts of {self.config.architecture} are {', '.join(self.cuts)}, not {cut!r}"
                f"{did_you_mean(cut, self.cuts)}: choose one of them"
            )
        at = self.cuts.index(cut)
        return Section(self, self.stages[:at]), Section(self, self.stages[at:])

    def _run(self, stage: Stage, x: Tensor) -> Tensor:
        for part in stage.parts:
            x = self.get_submodule(part)(x)
        return x


def initialise_for_relu(network: nn.Module) -> None:
    """Random start for networks of ReLUs: normal with variance 2 / fan-out for convolutions, identity batch norm.

    He, Zhang, Ren and Sun 2015, "Delving Deep into Rectifiers", arXiv 1502.01852, section 2.2.
    """
    for module in network.modules():
        if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
            # Nothing to fill, and torch would load its compiler (1.6 s) to draw no numbers.
            continue
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def parameter_count(module: nn.Module) -> int:
    """Elements of all parameters of `module`."""
    return sum(parameter.numel() for parameter in module.parameters())


def freeze(module: nn.Module) -> None:
    """Nothing in `module` changes any more: no gradients, and batch norm normalises by its running statistics.

    A caller that puts the whole network in training mode must put frozen parts back in evaluation mode.
    """
    module.requires_grad_(False)
    module.eval()


def _attach(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register `module` under `root` by its dotted path, making empty parents on the way."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in root._modules:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(name, module)


def state_shapes(module: nn.Module) -> dict[str, torch.Size]:
    """Shape of every tensor in `module.state_dict()`, by name."""
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
