"""What a network costs, layer by layer: shapes, parameters, multiply-adds, activation bytes, receptive field.

A multiply-add (MAC) is one use of a weight, batch 1: a convolution has out_channels x out_h x out_w x
(in_channels / groups) x k_h x k_w of them, a linear layer in x out, any other product of matrices rows x columns x
terms. Biases, normalisation, activations, pooling and additions are free. Counters that take the multiplication and
the addition for two operations (FLOPs) print twice these numbers.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from graft.accounting.receptive_field import Sights, follow, image_sights, receptive_field, stride
from graft.accounting.shapes import shape_of
from graft.errors import InputError


@dataclass(frozen=True)
class Layer:
    """One call of a layer: a module without children, or one that uses parameters or multiplies outside of them.

    Called again, or sharing parameters with an earlier layer, it has multiply-adds but no parameters, so that columns
    add up. `activation_bytes` is the size of its output, whether or not that was written in place.
    `receptive_field` is what one output sees along the longer axis in pixels of the input, not clipped to the image, 0
    if the output does not depend on it; `stride` is whole pixels of the input between neighbouring outputs.
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
class Account:
    """The table of a network for one input (C, H, W), layers in the order in which they end.

    `params` counts every parameter of the network once, also those of layers that evaluation does not run.
    """

    input_shape: tuple[int, int, int]
    layers: tuple[Layer, ...]
    params: int
    trainable_params: int

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def activation_bytes(self) -> int:
        """Bytes of all outputs for one image, as if none were freed or overwritten."""
        return sum(layer.activation_bytes for layer in self.layers)


def account(module: nn.Module, input_shape: tuple[int, int, int]) -> Account:
    """Count `module` in evaluation on one image (C, H, W), of which only the shape is used: nothing is computed.

    Works on any module that takes images (N, C, H, W), on any device, and leaves it alone: a copy without data runs in
    its place. Raises InputError, naming the layer that broke, if the module cannot run on such an image.
    """
    if len(input_shape) != 3 or not all(isinstance(size, int) and size > 0 for size in input_shape):
        raise InputError(f"expected an input of three positive sizes (C, H, W), got {input_shape!r}: give all three")
    channels, height, width = input_shape
    network = _without_data(module).eval()
    parameters = list(network.parameters())
    dtype = next((p.dtype for p in parameters if p.is_floating_point()), torch.get_default_dtype())
    image = torch.empty(1, channels, height, width, dtype=dtype, device="meta")
    count = _Count(network, image)
    try:
        with torch.no_grad(), count:
            network(image)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise InputError(
            f"expected an input that {type(module).__name__} can take, got {(channels, height, width)}, at which "
            f"{count.running()} broke ({reason}): give the channels and the size it was made for"
        ) from error
    return Account(
        (channels, height, width),
        tuple(count.layers),
        params=sum(p.numel() for p in parameters),
        trainable_params=sum(p.numel() for p in parameters if p.requires_grad),
    )


def _without_data(module: nn.Module) -> nn.Module:
    """A copy on the meta device, without hooks; no data is copied on the way."""
    copies: dict[int, Any] = {}  # what copy.deepcopy takes in place of its own copy, by id of the original
    for part in module.modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks):
            copies[id(hooks)] = OrderedDict()
        # Tensors kept as plain attributes too, such as a grid of coordinates.
        for tensor in (*part._buffers.values(), *vars(part).values()):
            if isinstance(tensor, Tensor):
                copies[id(tensor)] = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        for parameter in part._parameters.values():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
                copies[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
    return copy.deepcopy(module, copies)


@dataclass
class _Call:
    """A module that has begun and not ended, and what it did so far outside the modules that it called."""

    module: nn.Module
    parameters: set[int]  # ids of its own and of all that it used, such as those of a child that it never calls
    macs: int = 0


class _Count(TorchDispatchMode):
    """One forward pass of `network` on `image`: told of every operation, and of every module that begins and ends."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch asks; to skip its compiler would be to load it first.
        return False

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self._names = {module: name for name, module in network.named_modules()}
        self._running: list[_Call] = []  # the innermost last
        self._parameters = {id(parameter): parameter for parameter in network.parameters()}
        self._counted: set[int] = set()
        # By id of a tensor: what it sees, and the tensor whose elements it shows, if it is a view. The tensors are
        # kept, so that no id is given twice.
        self._sights: dict[int, tuple[Tensor, Sights]] = {id(image): (image, image_sights(image.shape))}
        self._bases: dict[int, tuple[Tensor, Tensor]] = {}
        for module in self._names:
            module.register_forward_pre_hook(self._begin)
            module.register_forward_hook(self._end)

    def running(self) -> str:
        """The innermost module that has begun and not ended, in words."""
        module = self._running[-1].module if self._running else None
        if module is None or not self._names[module]:
            return "the network itself"
        return f"layer {self._names[module]!r} ({type(module).__name__})"

    def _begin(self, module: nn.Module, inputs: object) -> None:
        self._running.append(_Call(module, {id(p) for p in module._parameters.values() if p is not None}))

    def _end(self, module: nn.Module, inputs: object, outputs: object) -> None:
        call = self._running.pop()
        while call.module is not module:  # this one broke off, and the network caught the exception
            call = self._running.pop()
        new = [self._parameters[key] for key in call.parameters - self._counted]
        if not call.macs and not new and next(module.children(), None) is not None:
            return
        self._counted |= call.parameters
        output = next(_tensors(outputs), None)
        sights = None if output is None else self._seen(output)
        self.layers.append(
            Layer(
                self._names[module],
                type(module).__name__,
                output_shape=() if output is None else tuple(output.shape[1:]),
                params=sum(p.numel() for p in new),
                trainable_params=sum(p.numel() for p in new if p.requires_grad),
                macs=call.macs,
                activation_bytes=0 if output is None else output.numel() * output.element_size(),
                receptive_field=0 if sights is None else receptive_field(sights),
                stride=None if output is None or sights is None else stride(sights, output.shape),
            )
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if len({tensor.device for tensor in _tensors((args, kwargs))}) > 1:
            # The image meets a tensor that the forward pass made on a real device.
            args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
        operation, arguments = func.overloadpacket.__name__, _by_name(func, args, kwargs)
        result = _empty_result(func, operation, arguments)
        if result is None:
            result = func(*args, **kwargs)
        call = self._running[-1]
        call.macs += _multiply_adds(operation, arguments, result)
        call.parameters |= self._parameters.keys() & {id(tensor) for tensor in _tensors(arguments)}
        if not operation.startswith("new_") and not operation.endswith("_like"):  # these take the shape only
            self._look(func, arguments, result)
        return result

    def _seen(self, tensor: Tensor) -> Sights | None:
        """What a tensor sees; None if it was not made from the image."""
        _, sights = self._sights.get(id(tensor), (None, None))
        return sights

    def _look(self, func: Any, arguments: dict[str, Any], result: object) -> None:
        """Note what the results of an operation see."""
        operation = func.overloadpacket.__name__
        views = any(returned.alias_info is not None for returned in func._schema.returns)
        inputs = []
        for name, value in arguments.items():
            for tensor in _tensors(value):
                sights = self._seen(tensor)
                if sights is not None:
                    inputs.append((name, tensor.shape, sights))
        source = arguments.get("self")
        for output in _tensors(result):
            if inputs:
                self._sights[id(output)] = (output, follow(operation, arguments, inputs, output.shape))
            if output is source:
                self._write_through(output)
            elif views and isinstance(source, Tensor):
                self._bases[id(output)] = (output, self._bases.get(id(source), (source, source))[1])

    def _write_through(self, part: Tensor) -> None:
        """What was written into a view of a tensor is seen in that tensor."""
        written = self._seen(part)
        if id(part) not in self._bases or written is None:
            return
        _, base = self._bases[id(part)]
        known = self._seen(base)
        inputs = [("self", part.shape, written)] + ([] if known is None else [("self", base.shape, known)])
        self._sights[id(base)] = (base, follow("copy_", {}, inputs, base.shape))


def _tensors(value: object) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from _tensors(one)


def _by_name(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an operation by the names in its schema, defaults filled in."""
    named = {}
    for index, argument in enumerate(func._schema.arguments):
        given = args[index] if index < len(args) else argument.default_value
        named[argument.name] = kwargs.get(argument.name, given)
    return named


def _empty_result(func: Any, operation: str, arguments: dict[str, Any]) -> Any:
    """What an operation on the meta device returns, made without asking torch; None if that takes asking."""
    given = list(_tensors(arguments))
    mixed = len({(tensor.device, tensor.dtype) for tensor in given}) != 1
    if mixed or not given[0].is_meta or not given[0].is_floating_point() or arguments.get("dtype") is not None:
        return None
    shape = shape_of(operation, arguments)
    if shape is None:
        return None
    if operation.endswith("_"):
        return arguments["self"]
    output = torch.empty(shape, dtype=given[0].dtype, device="meta")
    # The others are indices of maxima, or statistics which evaluation does not look at.
    others = [torch.empty(shape, dtype=torch.int64, device="meta") for _ in func._schema.returns[1:]]
    return (output, *others) if others else output


# The matrices that an operation multiplies, left and right, by the names of its arguments.
_FACTORS = {
    "mm": ("self", "mat2"),
    "bmm": ("self", "mat2"),
    "addmm": ("mat1", "mat2"),
    "baddbmm": ("batch1", "batch2"),
    "mv": ("self", "vec"),
    "addmv": ("mat", "vec"),
}


def _multiply_adds(operation: str, arguments: dict[str, Any], result: Any) -> int:
    if operation == "convolution":
        # A weight tensor is (out, in / groups, k_h, k_w), transposed (in, out / groups, k_h, k_w).
        places = arguments["input"] if arguments["transposed"] else result
        return int(places.numel() * prod(arguments["weight"].shape[1:]))
    factors = _FACTORS.get(operation.removesuffix("_"))
    if factors is None:
        return 0
    left, right = (arguments[name] for name in factors)
    return int(left.numel() * (right.shape[-1] if right.dim() > 1 else 1))
