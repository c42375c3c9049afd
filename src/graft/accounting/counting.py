"""The account of a network, layer by layer: shapes, parameters, multiply-adds, activation bytes, receptive field.

A multiply-add (MAC) is one use of a weight, for one image: a convolution has out_channels x out_h x out_w x
(in_channels / groups) x k_h x k_w of them, a linear layer in x out, and any other matrix product rows x columns x
terms. Biases, normalisation, activations, pooling and additions are free. Tools that count the multiplication and the
addition as two operations (FLOPs) print twice these numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from graft.accounting.dry_run import DryRun, empty_batch, name_of, reason, tensors, without_data
from graft.accounting.receptive_field import Sights, follow, image_sights, receptive_field, stride
from graft.errors import InputError


@dataclass(frozen=True)
class Layer:
    """One call of a layer: a module without children, or one that uses parameters or multiplies outside its children.

    A layer that is called again, or that shares parameters with an earlier one, has multiply-adds but no parameters, so
    that columns add up. `activation_bytes` is the size of the output, whether or not it was written in place.
    `receptive_field` is the number of input pixels that one output sees along the longer axis, not clipped to the
    image; it is 0 if the output does not depend on the image. `stride` is the number of input pixels between
    neighbouring outputs, rounded to whole pixels.
    """

    name: str  # dotted path in the network, empty for the network itself
    type: str  # class of the module: "Conv2d", "Linear"
    output_shape: tuple[int, ...]  # (C, H, W) or (D,), without the batch
    params: int
    trainable_params: int
    macs: int
    activation_bytes: int
    receptive_field: int
    stride: int | None  # None once there is no map


@dataclass(frozen=True)
class Output:
    """What one call of a module returned: a layer, or a block that ends in its own sum or concatenation."""

    name: str
    shape: tuple[int, ...]
    receptive_field: int
    stride: int | None
    layers: int  # number of rows in the table when the call ended
    sights: Sights | None = None  # where on the image each element sees; None if it does not come from the image


@dataclass(frozen=True)
class Account:
    """The table of a network for one input (C, H, W), with the layers in the order in which their calls end.

    `params` counts every parameter of the network once, including those of layers that do not run in evaluation, such
    as auxiliary classifiers. `ends` holds the outputs of all modules, in the order in which their calls end.
    """

    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    ends: tuple[Output, ...]
    params: int
    trainable_params: int

    def __repr__(self) -> str:
        counts = f"layers={len(self.layers)}, params={self.params:,}, macs={self.macs:,}"
        return f"Account(input_shape={self.input_shape}, {counts})"

    @property
    def outputs(self) -> dict[str, Output]:
        """The last output of every module that ran, by the module's path."""
        return {end.name: end for end in self.ends}

    @property
    def macs(self) -> int:
        """Multiply-adds for one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all layers' outputs for one image, as if none were freed or overwritten."""
        return sum(layer.activation_bytes for layer in self.layers)


def account(module: nn.Module, input_shape: tuple[int, int, int]) -> Account:
    """Account for `module` in evaluation on one image of shape (C, H, W), without computing anything.

    Works on any module that takes images (N, C, H, W), on any device, and leaves it unchanged: a copy without data runs
    in its place. Raises InputError, naming the layer that failed, if the module cannot run on such an image.
    """
    if len(input_shape) != 3:
        raise InputError(f"expected an input of three sizes (C, H, W), got {input_shape!r}: give all three")
    network = without_data(module).eval()
    image = empty_batch(network, input_shape)
    count = _Count(network, image)
    try:
        with torch.no_grad(), count:
            network(image)
    except InputError:  # the network itself says what it accepts
        raise
    except Exception as error:
        raise InputError(
            f"expected an input that {type(module).__name__} accepts, got {input_shape}, on which {count.running()} "
            f"failed ({reason(error)}): give the channels and the size that it was built for"
        ) from error
    parameters = list(network.parameters())
    return Account(
        input_shape,
        tuple(count.layers),
        tuple(count.ends),
        params=sum(p.numel() for p in parameters),
        trainable_params=sum(p.numel() for p in parameters if p.requires_grad),
    )


# The last row of a table by groups, if the network has parameters that evaluation does not use.
NOT_RUN = "not run in evaluation"


@dataclass(frozen=True)
class Group:
    """The sums over the layers of a group, such as a stage; shape, receptive field and stride are those at its end."""

    name: str
    output_shape: tuple[int, ...]
    params: int
    trainable_params: int
    macs: int
    activation_bytes: int
    receptive_field: int
    stride: int | None


def by_group(table: Account, groups: Mapping[str, Sequence[str]]) -> tuple[Group, ...]:
    """Sum a table over groups of layers, such as stages, each given by the paths of the modules that run in it.

    The columns add up to those of the table: parameters that no layer used appear in a last row, `NOT_RUN`. Raises
    InputError if a layer is in no group, or if the modules do not run in the given order.
    """
    rows, outside, begin = [], [], 0
    for (name, paths), end in zip(groups.items(), ends_of(table, groups), strict=True):
        layers = table.layers[begin : end.layers]
        outside += [layer.name for layer in layers if not any(_inside(layer.name, path) for path in paths)]
        rows.append(_sum(name, end, layers))
        begin = end.layers
    outside += [layer.name for layer in table.layers[begin:]]
    if outside:
        raise InputError(
            f"expected every layer to be in one of the groups {', '.join(groups)}, got {', '.join(outside)} outside "
            "them: add their paths to a group"
        )
    params = table.params - sum(row.params for row in rows)
    trainable_params = table.trainable_params - sum(row.trainable_params for row in rows)
    if params:
        rows.append(Group(NOT_RUN, (), params, trainable_params, 0, 0, 0, None))
    return tuple(rows)


def ends_of(table: Account, groups: Mapping[str, Sequence[str]]) -> tuple[Output, ...]:
    """What the last module of each group of `by_group` returned. Raises InputError if they run in another order."""
    ends, place = [], 0
    for name, paths in groups.items():
        for path in paths:
            runs = [index for index, end in enumerate(table.ends) if end.name == path and index >= place]
            if not runs:
                raise InputError(
                    f"expected groups of modules in the order in which they run, got {path!r} in {name}, which does "
                    "not run after the modules before it: correct the paths"
                )
            place = runs[0] + 1
        ends.append(table.ends[place - 1])
    return tuple(ends)


def _inside(name: str, path: str) -> bool:
    """Whether the module `name` is the one at `path` or inside it."""
    return not path or f"{name}.".startswith(f"{path}.")


def _sum(name: str, end: Output, layers: Sequence[Layer]) -> Group:
    return Group(
        name,
        end.shape,
        params=sum(layer.params for layer in layers),
        trainable_params=sum(layer.trainable_params for layer in layers),
        macs=sum(layer.macs for layer in layers),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        receptive_field=end.receptive_field,
        stride=end.stride,
    )


@dataclass
class _Call:
    """A module whose call has begun and not ended, and what it has done so far outside the modules that it calls."""

    module: nn.Module
    parameters: set[int]  # ids of its own parameters, and of others that it used, such as those of an uncalled child
    macs: int = 0


class _Count(DryRun):
    """Counts one forward pass of `network` on `image`, observing every operation and every module's begin and end."""

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.ends: list[Output] = []
        self._names = {module: name for name, module in network.named_modules()}
        self._running: list[_Call] = []  # the innermost last
        self._parameters = {id(parameter): parameter for parameter in network.parameters()}
        self._counted: set[int] = set()
        # By id of a tensor: what it sees; and, if it is a view, the tensor that it shows. Tensors are kept alive, so
        # that no id is reused.
        self._sights: dict[int, tuple[Tensor, Sights]] = {id(image): (image, image_sights(image.shape))}
        self._bases: dict[int, tuple[Tensor, Tensor]] = {}
        for module in self._names:
            module.register_forward_pre_hook(self._begin)
            module.register_forward_hook(self._end)

    def running(self) -> str:
        """The innermost module whose call has not ended, in words."""
        module = self._running[-1].module if self._running else None
        if module is None or not self._names[module]:
            return "the network itself"
        return f"layer {self._names[module]!r} ({type(module).__name__})"

    def _begin(self, module: nn.Module, inputs: object) -> None:
        self._running.append(_Call(module, {id(p) for p in module._parameters.values() if p is not None}))

    def _end(self, module: nn.Module, inputs: object, outputs: object) -> None:
        call = self._running.pop()
        while call.module is not module:  # that call raised an exception, which the network caught
            call = self._running.pop()
        name, output = self._names[module], next(tensors(outputs), None)
        shape = () if output is None else tuple(output.shape[1:])
        sights = None if output is None else self._seen(output)
        seen = 0 if sights is None else receptive_field(sights)
        apart = None if output is None or sights is None else stride(sights, output.shape)
        new = [self._parameters[key] for key in call.parameters - self._counted]
        if call.macs or new or next(module.children(), None) is None:
            self._counted |= call.parameters
            self.layers.append(
                Layer(
                    name,
                    type(module).__name__,
                    shape,
                    params=sum(p.numel() for p in new),
                    trainable_params=sum(p.numel() for p in new if p.requires_grad),
                    macs=call.macs,
                    activation_bytes=0 if output is None else output.numel() * output.element_size(),
                    receptive_field=seen,
                    stride=apart,
                )
            )
        self.ends.append(Output(name, shape, seen, apart, len(self.layers), sights))

    def saw(self, func: Any, arguments: dict[str, Any], result: Any) -> None:
        operation, call = name_of(func), self._running[-1]
        call.macs += multiply_adds(operation, arguments, result)
        call.parameters |= self._parameters.keys() & {id(tensor) for tensor in tensors(arguments)}
        if not operation.startswith("new_") and not operation.endswith("_like"):  # these use only the shape
            self._look(func, arguments, result)

    def _seen(self, tensor: Tensor) -> Sights | None:
        """What a tensor sees; None if it does not come from the image."""
        _, sights = self._sights.get(id(tensor), (None, None))
        return sights

    def _look(self, func: Any, arguments: dict[str, Any], result: object) -> None:
        """Record what the results of an operation see."""
        operation = func.overloadpacket.__name__
        views = any(returned.alias_info is not None for returned in func._schema.returns)
        inputs = []
        for name, value in arguments.items():
            for tensor in tensors(value):
                sights = self._seen(tensor)
                if sights is not None:
                    inputs.append((name, tensor.shape, sights))
        source = arguments.get("self")
        for output in tensors(result):
            if inputs:
                self._sights[id(output)] = (output, follow(operation, arguments, inputs, output.shape))
            if output is source:
                self._write_through(output)
            elif views and isinstance(source, Tensor):
                self._bases[id(output)] = (output, self._bases.get(id(source), (source, source))[1])

    def _write_through(self, part: Tensor) -> None:
        """Let a tensor see what was written into `part`, a view of it."""
        written = self._seen(part)
        if id(part) not in self._bases or written is None:
            return
        _, base = self._bases[id(part)]
        known = self._seen(base)
        inputs = [("self", part.shape, written)] + ([] if known is None else [("self", base.shape, known)])
        self._sights[id(base)] = (base, follow("copy_", {}, inputs, base.shape))


# For each operation, the names of the arguments that hold its left and right matrix.
_FACTORS = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
    "mv": ("self", "vec"),
    "addmv": ("mat", "vec"),
}


def multiply_adds(operation: str, arguments: dict[str, Any], result: Any) -> int:
    """The multiply-adds of one operation; `operation` and `arguments` are named as in torch's dispatcher."""
    if operation == "convolution":
        # The weight is (out, in / groups, k_h, k_w); of a transposed convolution it is (in, out / groups, k_h, k_w).
        places = arguments["input"] if arguments["transposed"] else result
        return int(places.numel() * prod(arguments["weight"].shape[1:]))
    factors = _FACTORS.get(operation.removesuffix("_"))
    if factors is None:
        return 0
    left, right = (arguments[name] for name in factors)
    return int(left.numel() * (right.shape[-1] if right.dim() > 1 else 1))
