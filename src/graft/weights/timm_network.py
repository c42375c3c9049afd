"""timm's convolutional networks as `Network`: `timm:NAME` or `timm:NAME.TAG`, with the extra `timm` installed.

timm's networks declare no stages, so they are found by watching one forward pass. A module whose submodules run one
after another, each on exactly the tensor that the previous one returned, is a chain of them and can be cut between any
two. The chain is grouped into stages at the modules that timm's feature information names. A network that computes
something between its submodules is refused.

Tensor names are timm's, so its checkpoints fit, and timm loads what is saved here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from graft.errors import InputError
from graft.models.blocks import PointwiseHead
from graft.models.cuts import HEAD, LAST
from graft.models.network import Config, Network, Stage
from graft.weights.timm_catalog import PREFIX, installed_timm

# Side, in pixels, of the image that finds the chain, for networks that take other sizes than their own.
SIDE = 192
# A convolution over one pixel and the equivalent matrix product differ by rounding.
TOLERANCE = 1e-5
# Paths of the parameterless layers inserted between timm's.
FLATTEN, UNFLATTEN, DROPOUT = "flatten_map", "unflatten_vector", "dropout_of_vector"


# The chain of a forward pass


@dataclass
class _Call:
    """One call of a submodule. Tensors are compared by identity and by version, which an in-place write increments."""

    path: str
    module: nn.Module
    given: tuple[Tensor, int] | None  # None unless it was exactly one tensor
    gave: tuple[Tensor, int] | None = None
    calls: list["_Call"] = field(default_factory=list)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the output, without the batch axis."""
        return tuple(self.gave[0].shape[1:]) if self.gave else ()

    @property
    def layers(self) -> int:
        """How many convolutions and linear layers are inside."""
        return sum(isinstance(module, nn.Conv2d | nn.Linear) for module in self.module.modules())

    def all(self) -> Iterator["_Call"]:
        """Yield this call and all calls inside it, in the order in which they began."""
        yield self
        for call in self.calls:
            yield from call.all()

    def break_in_chain(self) -> str | None:
        """Return where the inner calls stop forming a chain from input to output; None if they do form one."""
        now, seen = self.given, set[nn.Module]()
        for call in self.calls:
            if not _same(call.given, now):
                return f"before {call.path}"
            if call.module in seen and any(True for _ in call.module.parameters()):
                return f"at {call.path}, which runs twice"
            seen.add(call.module)
            now = call.gave
        if not self.calls:
            return f"at {self.path}"
        return None if _same(self.gave, now) else f"after {self.calls[-1].path}"

    def parts(self, ends: list[str]) -> Iterator["_Call"]:
        """Yield the chain, split only as finely as cuts after the paths in `ends` require."""
        if any(path != self.path and _holds(self.path, path) for path in ends) and self.break_in_chain() is None:
            for call in self.calls:
                yield from call.parts(ends)
        else:
            yield self


def _same(one: tuple[Tensor, int] | None, other: tuple[Tensor, int] | None) -> bool:
    return one is not None and other is not None and one[0] is other[0] and one[1] == other[1]


def _holds(outer: str, inner: str) -> bool:
    return outer in ("", inner) or inner.startswith(f"{outer}.")


def _watch(model: nn.Module, image: Tensor) -> _Call:
    """Run `model` on `image` and return its call, with all calls inside."""
    paths = {module: path for path, module in model.named_modules()}
    running = [_Call("", nn.Identity(), None)]

    def begin(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = [value for value in (*inputs, *named.values()) if isinstance(value, Tensor)]
        call = _Call(paths[module], module, (tensors[0], tensors[0]._version) if len(tensors) == 1 else None)
        running[-1].calls.append(call)
        running.append(call)

    def end(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        running.pop().gave = (output, output._version) if isinstance(output, Tensor) else None

    hooks = [module.register_forward_pre_hook(begin, with_kwargs=True) for module in paths]
    hooks += [module.register_forward_hook(end) for module in paths]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return running[0].calls[0]


# The network


class UnflattenVector(nn.Module):
    """Reshapes (N, D) to (N, D, 1, 1), for convolutions after the pooling."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1, 1, 1)


class TimmNetwork(Network):
    """A timm network, images (N, C, H, W) to logits (N, classes), in stages `stem`, `stage1` … `pool`, `head`.

    A stage begins with a convolution and ends at a module that timm's feature information names, or at the norm,
    activation or pooling after it. Layers with weights between the pooled vector and the head form the stage `fc`.
    """

    def __init__(self, config: Config, model: nn.Module, forward: _Call) -> None:
        super().__init__()
        self.config = config
        for name, child in model.named_children():
            self.attach(name, child)
        path, layer = _classifier(config, model, forward)
        if isinstance(layer, nn.Conv2d):
            self.attach(path, _pointwise(layer))
        self.attach(FLATTEN, nn.Flatten())
        self.attach(UNFLATTEN, UnflattenVector())
        # Some networks name no module for a feature, or name themselves.
        features = [each["module"] for each in getattr(model, "feature_info", []) if each.get("module")]
        stages = _stages(config, forward, features, path)
        rate = float(getattr(model, "drop_rate", 0.0) or 0.0)
        if rate and not any(isinstance(module, nn.Dropout) for module in model.modules()):
            # Dropout called as a function, which no pass in evaluation mode shows, comes before the classifier.
            self.attach(DROPOUT, nn.Dropout(rate))
            stages[-1] = replace(stages[-1], parts=(DROPOUT, *stages[-1].parts))
        self.arrange(stages, path)


def build_timm(config: Config, input_size: tuple[int, int, int]) -> Network:
    """Build an untrained timm network, which usually takes images of `input_size` (C, H, W).

    Raises InputError for a network that is not a chain of parts from maps to a vector.
    """
    name = config.architecture.removeprefix(PREFIX)
    timm = installed_timm(config.architecture)
    model = timm.create_model(name, num_classes=config.classes, in_chans=config.channels).eval()
    try:
        image = _image(model, config.channels, (SIDE, SIDE))
        forward = _watch(model, image)
    except (RuntimeError, AssertionError):
        # The network takes only its own size.
        image = _image(model, config.channels, input_size[1:])
        forward = _watch(model, image)
    network = TimmNetwork(replace(config, head="last"), model, forward).eval()
    network.input_size = (config.channels, *input_size[1:])
    with torch.no_grad():
        found = network(image)
    # Equal by construction; this verifies the construction for every network in use.
    expected = forward.gave[0] if forward.gave else found
    if not found.is_meta and not (found - expected).abs().max() <= TOLERANCE * expected.abs().max():
        raise _refusal(config, "whose parts, run in order, give another result than the whole")
    if config.head != LAST:
        network.new_head(config.classes, config.head)
    return network.train()


def _image(model: nn.Module, channels: int, size: tuple[int, int]) -> Tensor:
    """Return a ramp from -1 to 1, (1, C, H, W), on the network's device.

    Random numbers would advance the user's generator.
    """
    like = next(model.parameters())
    ramp = torch.linspace(-1, 1, channels * size[0] * size[1], dtype=like.dtype, device=like.device)
    return ramp.view(1, channels, *size)


def _classifier(config: Config, model: nn.Module, forward: _Call) -> tuple[str, nn.Conv2d | nn.Linear]:
    """Return the layer that outputs the classes, and its path: the last layer in what timm calls the classifier."""
    ask: Any = getattr(model, "get_classifier", None)
    named = ask() if ask else None
    inside = set(named.modules()) if isinstance(named, nn.Module) else set()
    found = [
        (call.path, call.module)
        for call in forward.all()
        if call.module in inside and isinstance(call.module, nn.Conv2d | nn.Linear)
    ]
    weight = found[-1][1].weight if found else torch.empty(0)
    if len(weight) != config.classes or weight[0].numel() != weight.shape[1]:
        raise _refusal(config, "whose classifier is not one linear layer")
    if found[-1][1].bias is None:
        raise _refusal(config, "whose classifier has no bias")
    return found[-1]


def _pointwise(convolution: nn.Conv2d) -> PointwiseHead:
    """Return the same tensors in a layer from vectors to vectors."""
    assert isinstance(convolution.bias, nn.Parameter)
    head = PointwiseHead(convolution.in_channels, convolution.out_channels, device="meta")
    head.weight, head.bias = convolution.weight, convolution.bias
    return head


def _stages(config: Config, forward: _Call, features: list[str], classifier: str) -> list[Stage]:
    """Group the chain into stages: the maps, the vector that they are pooled to, the head."""
    broken = forward.break_in_chain()
    parts = list(forward.parts([*features, classifier]))
    at = next(index for index, part in enumerate(parts) if _holds(part.path, classifier))
    if broken or parts[at].path != classifier:
        raise _refusal(config, f"whose chain of parts breaks {broken or parts[at].break_in_chain()}")
    count = sum(_is_map(part.shape) for part in parts)
    maps, vectors = parts[:count], parts[count:at]
    pooled = vectors and all(part.shape[1:] in ((), (1, 1)) for part in vectors)
    if not maps or not all(_is_map(part.shape) for part in maps) or not pooled:
        raise _refusal(config, "whose parts do not pass on maps (N, C, H, W) until these are pooled to a vector")
    while isinstance(vectors[-1].module, nn.Dropout):
        vectors.pop()
    head = [part.path for part in parts[count + len(vectors) :]]
    assert forward.given is not None
    stages = [*_map_stages(maps, features, forward.given[0].shape[-1]), *_vector_stages(vectors)]
    return [*stages, Stage(HEAD, tuple(head), config.classes, None)]


def _map_stages(maps: list[_Call], features: list[str], side: int) -> Iterator[Stage]:
    start, stride = 0, 1
    for number, end in enumerate(_ends(maps, features)):
        for part in maps[start:end]:
            # Rounded, because layers without padding also crop a border, which is not a stride.
            stride *= round(side / part.shape[1])
            side = part.shape[1]
        paths = tuple(part.path for part in maps[start:end])
        yield Stage(f"stage{number}" if number else "stem", paths, maps[end - 1].shape[0], stride)
        start = end


def _vector_stages(vectors: list[_Call]) -> Iterator[Stage]:
    """Yield `pool`, without weights, then `fc`, with weights. Each starts and ends with vectors (N, D)."""
    dense = next((index for index, part in enumerate(vectors) if part.layers), len(vectors))
    before: tuple[str, ...] = ()
    for name, members in (("pool", vectors[:dense]), ("fc", vectors[dense:])):
        if members:
            shape = members[-1].shape
            pointwise = len(shape) == 3
            after = (FLATTEN,) if pointwise else ()
            yield Stage(name, (*before, *(part.path for part in members), *after), shape[0], None)
            before = (UNFLATTEN,) if pointwise else ()


def _is_map(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3 and shape[1] == shape[2] > 1


def _ends(maps: list[_Call], features: list[str]) -> list[int]:
    """Return how many parts have run by the end of each stage."""
    ends = {len(maps)}
    for path in features:
        # A feature inside an uncuttable part ends where that part ends.
        within = [
            number for number, part in enumerate(maps, start=1) if _holds(path, part.path) or _holds(part.path, path)
        ]
        ends.add(max(within, default=len(maps)))
    first = min(ends) - 1
    # A block at the first feature is a stage of its own if layers with weights come before it.
    if maps[first].layers > 1 and any(part.layers for part in maps[:first]):
        ends.add(first)
    # Norms, activations and pooling belong to the convolution before them.
    return sorted({next((at for at in range(end, len(maps)) if maps[at].layers), len(maps)) for end in ends})


def _refusal(config: Config, reason: str) -> InputError:
    return InputError(
        f"expected a convolutional timm network whose parts run one after another, got {config.architecture}, "
        f"{reason}: choose another"
    )
