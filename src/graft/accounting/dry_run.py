"""The dry run: a network runs on torch's meta device, where tensors have shapes but no data and nothing is computed.

torch knows the result shapes of every operation there, but asking for most of them loads its compiler, which takes
longer than a whole account. So results are made here if `graft.accounting.shapes` knows their shapes, and torch is
asked only for the rest.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from graft.accounting.shapes import shapes_of
from graft.errors import InputError

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class DryRun(TorchDispatchMode):
    """A context in which operations run without computing; `saw` is called after each of them."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True would skip torch's compiler, but torch would have to load it first.
        return False

    def saw(self, func: Any, arguments: dict[str, Any], result: Any) -> None:
        """Called when `func` has run with `arguments`, named as in its schema, and returned `result`."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if len({tensor.device for tensor in tensors((args, kwargs))}) > 1:
            # The forward pass made a tensor on a real device, and combines it with the image.
            args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
        arguments = by_name(func, args, kwargs)
        result = _empty_result(func, arguments)
        if result is None:
            result = func(*args, **kwargs)
        self.saw(func, arguments, result)
        return result


def name_of(func: Any) -> str:
    """The name of an operation as `graft.accounting.shapes` uses it: "convolution", "relu_"."""
    name: str = func.overloadpacket.__name__
    return name


def tensors(value: object) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from tensors(one)
    elif isinstance(value, dict):
        for one in value.values():
            yield from tensors(one)


def empty_batch(module: nn.Module, input_shape: tuple[int, ...], batch_size: int = 1) -> Tensor:
    """A meta tensor (batch_size, *input_shape) in the dtype of the parameters.

    Raises InputError for sizes that are not positive whole numbers.
    """
    if not input_shape or not all(isinstance(size, int) and size > 0 for size in (batch_size, *input_shape)):
        raise InputError(
            f"expected positive sizes, got {batch_size!r} inputs of {input_shape!r}: give a batch size and the shape "
            "of one input"
        )
    dtypes = (p.dtype for p in module.parameters() if p.is_floating_point())
    return torch.empty(batch_size, *input_shape, dtype=next(dtypes, torch.get_default_dtype()), device="meta")


def reason(error: Exception) -> str:
    """The first line of an exception's message, or the name of its class."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def without_data(module: ModuleT) -> ModuleT:
    """A copy of `module` on the meta device, without hooks; no data is copied on the way."""
    copies: dict[int, Any] = {}  # replacements that copy.deepcopy uses instead of copying, by id of the original
    for part in module.modules():
        for hooks in (part._forward_hooks, part._forward_pre_hooks, part._backward_hooks, part._backward_pre_hooks):
            copies[id(hooks)] = OrderedDict()
        # Including tensors that are plain attributes, such as a grid of coordinates.
        for tensor in (*part._buffers.values(), *vars(part).values()):
            if isinstance(tensor, Tensor):
                copies[id(tensor)] = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        for parameter in part._parameters.values():
            if parameter is not None:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
                copies[id(parameter)] = nn.Parameter(empty, parameter.requires_grad)
    return copy.deepcopy(module, copies)


def by_name(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an operation by the names in its schema, with defaults filled in."""
    named = {}
    for index, argument in enumerate(func._schema.arguments):
        given = args[index] if index < len(args) else argument.default_value
        named[argument.name] = kwargs.get(argument.name, given)
    return named


# Operations whose second result is the indices of the maxima.
_WITH_INDICES = {"max_pool2d_with_indices", "adaptive_max_pool2d"}


def _empty_result(func: Any, arguments: dict[str, Any]) -> Any:
    """What an operation on the meta device returns, made without asking torch; None if torch has to be asked."""
    given = list(tensors(arguments))
    if not given or not all(tensor.is_meta for tensor in given):
        return None
    operation = name_of(func)
    # Integers with one floating-point dtype give that dtype; several floating-point dtypes are left to torch.
    dtypes = {tensor.dtype for tensor in given if tensor.is_floating_point()}
    if len(dtypes) != 1 and not operation.endswith("_"):
        return None
    shapes = shapes_of(operation, arguments)
    if shapes is None:
        return None
    if operation.endswith("_"):
        return arguments["self"]
    dtype = arguments.get("dtype") or dtypes.pop()
    results: list[Tensor | None] = []
    for shape in shapes:
        kind = torch.int64 if results and operation in _WITH_INDICES else dtype
        results.append(None if shape is None else torch.empty(shape, dtype=kind, device="meta"))
    return tuple(results) if len(func._schema.returns) > 1 else results[0]
