"""The interface of every network: ordered named stages, cuts between them, a pooled vector, a replaceable head.

A **cut** after stage *k* splits a network into a frozen trunk and a trained crown; every level of transfer learning is
a cut. A family file builds its layers under the tensor names of its reference and lists its stages by the paths of
those layers. The rest follows from that list.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from graft.errors import CutError, InputError, did_you_mean
from graft.models.cuts import ALL_STAGES, HEAD, INPUT, LAST, HeadKind, cut_before
from graft.models.printing import as_table, in_brief

PaddingRule = Literal["torch", "tensorflow"]


@dataclass(frozen=True)
class Config:
    """The numbers that a family builds a network from, and that a saved model keeps.

    `padding` says where the zeros of strided convolutions and pools go: evenly around the image ("torch"), or mostly at
    the bottom and right ("tensorflow"). `auxiliary` adds the classifiers beside the main path that GoogLeNet and
    Inception v3 train with. `head` says what the head classifies: the vector of the last stage, or those of several
    (`Network.before_head`). `early_stride` concerns ResNet's bottlenecks: one that halves the map does so in its first
    1 x 1 convolution, as in the paper and in Keras, not in its 3 x 3.
    """

    architecture: str
    classes: int
    channels: int = 3
    padding: PaddingRule = "torch"
    batch_norm_eps: float = 1e-5
    auxiliary: bool = False
    head: HeadKind = LAST
    early_stride: bool = False


@dataclass(frozen=True)
class Stage:
    """One named step of a network.

    `parts` are the paths of its submodules, in the order in which they run; `channels` is the width of its output;
    `stride` is input pixels per output pixel along each axis, None once the output is a vector (N, channels).
    """

    name: str
    parts: tuple[str, ...]
    channels: int
    stride: int | None


@dataclass(frozen=True)
class Auxiliary:
    """A classifier beside the main path, used in training and not in inference.

    `part` is the path of its module, which turns the output of the part `after` into logits (N, classes); `classifier`
    is the path of its last layer; `weight` is the factor on its loss in training.
    """

    part: str
    after: str
    classifier: str
    weight: float


class Section(nn.Module):
    """A run of consecutive stages as a module of its own: a trunk or a crown.

    It shares parameters with the network that it was cut from and keeps their tensor names, so a network's
    `state_dict()` is the union of its trunk's and its crown's. An auxiliary classifier belongs to the side that it is
    attached to. A section that `gathers` stages turns their outputs into one vector, (N, D).
    """

    def __init__(self, network: "Network", stages: Iterable[Stage], *, gathers: Collection[Stage] = ()) -> None:
        super().__init__()
        self.stages = tuple(stages)
        self._gathered = tuple(stage for stage in self.stages if stage in gathers)
        self._steps = [
            # Several stages may share a layer without parameters, so its path alone does not mark the end of a stage.
            (part, network.get_submodule(part), stage in self._gathered and position == len(stage.parts))
            for stage in self.stages
            for position, part in enumerate(stage.parts, start=1)
        ]
        own = {path for path, _, _ in self._steps}
        self.auxiliaries = tuple(each for each in network.auxiliaries if each.after in own)
        for path, module, _ in self._steps:
            _attach(self, path, module)
        self._beside = [(each.part, each.after, network.get_submodule(each.part)) for each in self.auxiliaries]
        for path, _, module in self._beside:
            _attach(self, path, module)
        self._smallest_input = network.smallest_input if self.stages[:1] == network.stages[:1] else 0
        self._architecture = network.config.architecture
        self.training = network.training

    @property
    def gathers(self) -> tuple[Stage, ...]:
        """The stages whose outputs the section turns into one vector, if any."""
        return self._gathered

    def forward(self, x: Tensor) -> Tensor:
        check_size(x, self._smallest_input, self._architecture)
        vectors: list[Tensor] = []
        for _, module, gathered in self._steps:
            x = self._gather(vectors, module(x)) if gathered else module(x)
        return x

    def with_auxiliaries(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The output, and the logits (N, classes) of each auxiliary classifier by the path of its module."""
        check_size(x, self._smallest_input, self._architecture)
        logits: dict[str, Tensor] = {}
        vectors: list[Tensor] = []
        for path, module, gathered in self._steps:
            x = module(x)
            logits |= {part: beside(x) for part, after, beside in self._beside if after == path}
            x = self._gather(vectors, x) if gathered else x
        return x, logits

    def _gather(self, vectors: list[Tensor], x: Tensor) -> Tensor:
        """Record what a head over several stages sees of `x` and return `x`; after the last stage, return all of it."""
        vectors.append(mean_and_maximum(x))
        return torch.cat(vectors, 1) if len(vectors) == len(self._gathered) else x

    def extra_repr(self) -> str:
        # Two sections of the same layers compute different things, so a cached output of one must not serve the other.
        return f"gathers {', '.join(stage.parts[-1] for stage in self._gathered)}" if self._gathered else ""


class Network(nn.Module):
    """A convolutional classifier as an ordered sequence of stages, the last of which is named `head`.

    A subclass builds its submodules, then calls `arrange`. The forward pass runs the stages in order, from float images
    (N, C, H, W), normalized as the weights want them, to logits (N, classes). It raises InputError for images smaller
    than `smallest_input`, the least side in pixels. `input_size` (C, H, W) is the usual size of an image, None where
    none is known.
    """

    config: Config
    auxiliaries: tuple[Auxiliary, ...]
    input_size: tuple[int, int, int] | None = None
    smallest_input: int = 1

    def arrange(self, stages: Iterable[Stage], classifier: str, auxiliaries: Iterable[Auxiliary] = ()) -> None:
        """Declare the stages in order, the path of the layer that outputs the classes, any auxiliary classifiers."""
        self._stages = tuple(stages)
        self.auxiliaries = tuple(auxiliaries)
        self._classifier = classifier
        self._last_head = (type(self.head), self.head.in_features)
        if self.stages[-1].name != HEAD:
            raise ValueError(
                f"expected the last stage to be named {HEAD!r}, got {self.stages[-1].name!r}: rename it where "
                "the stages are declared"
            )

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self.stages[-1], self.pooled(x))

    def with_auxiliaries(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (N, classes), and those of each auxiliary classifier by the path of its module."""
        return self.split(HEAD)[0].with_auxiliaries(x)

    def feature_maps(self, x: Tensor) -> dict[str, Tensor]:
        """The output of every stage but the head, in order and by name.

        (N, channels, H / stride, W / stride) up to rounding, and (N, channels) for a stage without a stride.
        """
        check_size(x, self.smallest_input, self.config.architecture)
        outputs = {}
        for stage in self.stages[:-1]:
            outputs[stage.name] = x = self._run(stage, x)
        return outputs

    def pooled(self, x: Tensor) -> Tensor:
        """The vector that the head classifies, (N, D)."""
        check_size(x, self.smallest_input, self.config.architecture)
        vectors, gathered = [], self.gathered(self.config.head)
        for stage in self.stages[:-1]:
            x = self._run(stage, x)
            if stage in gathered:
                vectors.append(mean_and_maximum(x))
        return torch.cat(vectors, 1) if vectors else x

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in order, from image to classes."""
        return self._stages

    @property
    def head(self) -> nn.Linear:
        """The layer that outputs the classes: (N, D) to (N, classes)."""
        layer = self.get_submodule(self._classifier)
        assert isinstance(layer, nn.Linear)
        return layer

    @property
    def head_name(self) -> str:
        """The path of the head, which its tensor names begin with."""
        return self._classifier

    @property
    def head_names(self) -> tuple[str, ...]:
        """The paths of all layers that output the classes: the head, then the auxiliary classifiers' last layers."""
        return (self._classifier, *(each.classifier for each in self.auxiliaries))

    def new_head(self, classes: int, kind: HeadKind = LAST) -> nn.Linear:
        """Replace the head by a fresh one with `classes` outputs and a random start, and return it.

        With `kind` "last" it classifies the vector of the last stage, as the architecture's own head does; with
        "stages", those of all stages; with "stages:CUT", those of all stages after a cut. Auxiliary classifiers get new
        last layers too. Raises ValueError for less than one class, CutError for an unknown cut.
        """
        if classes < 1:
            raise ValueError(f"expected a head to have 1 output or more, got {classes}: state a number of classes")
        own, _ = self._last_head
        for path in self.head_names:
            old = self.get_submodule(path)
            assert isinstance(old, nn.Linear)
            layer, width = type(old), old.in_features
            if path == self._classifier:
                layer, width = own if kind == LAST else nn.Linear, sum(self.head_blocks(kind))
            new = layer(width, classes, device=old.weight.device, dtype=old.weight.dtype)
            new.train(old.training)
            parent, _, name = path.rpartition(".")
            setattr(self.get_submodule(parent), name, new)
        self.config = replace(self.config, classes=classes, head=kind)
        self._stages = (*self.stages[:-1], replace(self.stages[-1], channels=classes))
        return self.head

    def gathered(self, kind: HeadKind) -> tuple[Stage, ...]:
        """Return the stages whose outputs a head of this kind sees together, in order; none for "last".

        Raises CutError for a cut that the network does not have, or that leaves no stage before the head.
        """
        if kind == LAST:
            return ()
        cut = cut_before(kind)
        if cut not in self.cuts[:-2]:
            raise CutError(
                f"expected a head of {self.config.architecture} over {LAST}, {ALL_STAGES} or {ALL_STAGES}:CUT with one "
                f"of {', '.join(self.cuts[:-2])}, got {kind!r}: choose one of these"
            )
        return self.stages[self.cuts.index(cut) : -1]

    def head_blocks(self, kind: HeadKind) -> tuple[int, ...]:
        """Return the sizes of the runs of like features in the vectors (N, D) that a head of this kind classifies.

        Over several stages these are the means and the maxima of each; their sum is D.
        """
        if kind == LAST:
            return (self._last_head[1],)
        widths = [(stage.channels,) * (1 if stage.stride is None else 2) for stage in self.gathered(kind)]
        return tuple(width for pair in widths for width in pair)

    def before_head(self, kind: HeadKind, after: str = INPUT) -> Section:
        """Return the stages after a cut, without the head: from images, or the output at the cut, to the head's input.

        For "last", the result is the output of the last stage. For "stages", it is the vectors (N, D) of all stages in
        one pass and in their order: the mean and then the maximum of each map over its pixels, and vectors unchanged.
        Evci, Dumoulin, Larochelle and Mozer 2022, "Head2Toe", arXiv 2201.03529, section 3. For "stages:CUT", it is
        those of the stages after that cut, which is `after` or a later one.
        """
        return Section(self, self.stages[self.cuts.index(after) : -1], gathers=self.gathered(kind))

    @property
    def cuts(self) -> tuple[str, ...]:
        """Every place where the network can be cut, from `input` (all of it trains) to `head` (nothing does)."""
        return (INPUT, *(stage.name for stage in self.stages))

    def split(self, cut: str) -> tuple[Section, Section]:
        """Return the trunk and the crown at `cut`: the stages up to and including that one, and the rest.

        Both share parameters with this network, and `crown(trunk(x))` is its forward pass, operation for operation.
        Raises CutError, with the nearest name, for an unknown cut, and for one between stages that the head sees
        together.
        """
        if cut not in self.cuts:
            raise CutError(
                f"expected a cut of {self.config.architecture} ({', '.join(self.cuts)}), got {cut!r}"
                f"{did_you_mean(cut, self.cuts)}: choose one of them"
            )
        at, gathers = self.cuts.index(cut), self.gathered(self.config.head)
        if gathers and self.stages.index(gathers[0]) < at < len(self.stages) - 1:
            allowed = (*self.cuts[: self.stages.index(gathers[0]) + 1], *self.cuts[-2:])
            raise CutError(
                f"expected a cut of {self.config.architecture} that is not between the stages which its head sees "
                f"together ({', '.join(allowed)}), got {cut!r}: choose one of these, or give it a usual head first, "
                "`network.new_head(classes)`"
            )
        return Section(self, self.stages[:at], gathers=gathers), Section(self, self.stages[at:], gathers=gathers)

    def layers(self) -> str:
        """Every layer with its settings, nested, as torch prints modules."""
        return nn.Module.__repr__(self)

    def __repr__(self) -> str:
        return in_brief(self)

    def _repr_html_(self) -> str:
        return as_table(self)

    def attach(self, path: str, module: nn.Module) -> None:
        """Make `module` the submodule at a dotted path. Unlike `add_module`, it takes the names `head` and `stages`."""
        _attach(self, path, module)

    def get_submodule(self, target: str) -> nn.Module:
        """The submodule at a dotted path, looked up among submodules only, whatever attributes share its name."""
        module: nn.Module = self
        for name in target.split(".") if target else ():
            child = module._modules.get(name)
            if child is None:
                raise AttributeError(f"{type(module).__name__} has no submodule {name!r} (looking for {target!r})")
            module = child
        return module

    def _run(self, stage: Stage, x: Tensor) -> Tensor:
        for part in stage.parts:
            x = self.get_submodule(part)(x)
        return x


def mean_and_maximum(x: Tensor) -> Tensor:
    """Reduce maps (N, C, H, W) to the means, then the maxima over pixels, (N, 2 C); return vectors (N, D) unchanged."""
    return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1) if x.ndim == 4 else x


def check_size(x: Tensor, smallest: int, architecture: str) -> None:
    """Refuse images (N, C, H, W) with a side shorter than `smallest` pixels. Raises InputError."""
    if smallest > 1 and min(x.shape[-2:]) < smallest:
        height, width = x.shape[-2:]
        raise InputError(
            f"expected images of {smallest} px or more for {architecture}, got {height} x {width}: enlarge them, or "
            "choose a network that takes smaller images"
        )


def initialize_for_relu(network: nn.Module, fan: Literal["fan_in", "fan_out"] = "fan_out") -> None:
    """Draw a random start for a network of ReLUs: normal with variance 2 / `fan` for convolutions.

    He, Zhang, Ren and Sun 2015, "Delving Deep into Rectifiers", arXiv 1502.01852, section 2.2. Linear layers start with
    a standard deviation of 0.01, batch norm as the identity. Where many branches are concatenated, 2 / fan-out makes
    each of them louder than their common input; 2 / fan-in does not.
    """
    for module in network.modules():
        if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
            # An empty tensor needs no values, and torch would load its compiler (1.6 s) to draw none.
            continue
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=fan, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def parameter_count(module: nn.Module) -> int:
    """Count the numbers in the parameters of `module`."""
    return sum(parameter.numel() for parameter in module.parameters())


def body_parameter_count(network: Network) -> int:
    """Count the numbers in the parameters before the head, independent of the number of classes."""
    return parameter_count(network) - parameter_count(network.head)


def freeze(module: nn.Module) -> None:
    """Freeze everything in `module`: no gradients, and batch norm uses its running statistics.

    A caller that later puts the whole network in training mode must put the frozen parts back in evaluation mode.
    """
    module.requires_grad_(False)
    module.eval()


def _attach(root: nn.Module, path: str, module: nn.Module) -> None:
    """Register `module` under `root` at a dotted path, making empty parents on the way."""
    # add_module refuses names of existing attributes, and a network has `stages` and `head`.
    *parents, name = path.split(".")
    for parent in parents:
        found = root._modules.setdefault(parent, nn.Module())
        assert found is not None
        root = found
    root._modules[name] = module


def state_shapes(module: nn.Module) -> dict[str, torch.Size]:
    """The shape of every tensor in `module.state_dict()`, by name."""
    return {name: tensor.shape for name, tensor in module.state_dict().items()}
