"""A forward pass with real values, recorded: every operation, what it took and what it made.

What `graft.accounting.graph` shows of a network without data, this keeps with its data, so that each number of a map
can be followed back to the numbers that made it (`graft.accounting.arithmetic`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from graft.accounting.dry_run import by_name, name_of, tensors


@dataclass(eq=False)
class Made:
    """A result of an operation: its name in torch's dispatcher, the module that ran it, its arguments by name.

    `sources` holds the operation that made each tensor among the arguments, by the tensor's `id`; those that are not
    in it were there before the recording. `users` counts the operations that took the result; `fixed` says that it
    comes from the module's own tensors alone, as a reshaped weight does, and `own` has the `id` of each of these.
    """

    operation: str
    path: str
    arguments: dict[str, Any]
    value: Tensor
    sources: dict[int, "Made"]
    own: set[int]
    users: int = 0
    fixed: bool = False

    def source(self, tensor: Tensor) -> "Made | None":
        """The operation that made one of the arguments; None for what was there before, such as a weight."""
        return self.sources.get(id(tensor))

    def is_fixed(self, tensor: Tensor) -> bool:
        """Whether one of the arguments does not depend on what the module was called with."""
        source = self.source(tensor)
        return id(tensor) in self.own if source is None else source.fixed


class Recording(TorchDispatchMode):
    """A context in which `module`'s operations are recorded; `run` calls it on a batch, in evaluation."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._own = {id(each) for each in (*module.parameters(), *module.buffers())}
        self._running: list[str] = []
        self._made: dict[int, Made] = {}
        self._kept: list[Any] = []  # so that no `id` is used twice
        self._handles = [
            handle
            for name, part in module.named_modules()
            for handle in (
                part.register_forward_pre_hook(self._begin(name)),
                part.register_forward_hook(self._end),
            )
        ]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # As in the dry run: True would load torch's compiler first.
        return False

    def _begin(self, name: str) -> Callable[..., None]:
        return lambda *_: self._running.append(name)

    def _end(self, *_: object) -> None:
        self._running.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments, operation = by_name(func, args, kwargs), name_of(func)
        given = list(tensors(arguments))
        sources = {id(each): self._made[id(each)] for each in given if id(each) in self._made}
        if operation.endswith("_") and isinstance(arguments.get("self"), Tensor):
            # What it overwrites is what it was made of.
            before = arguments["self"].clone()
            found = sources.pop(id(arguments["self"]), None)
            if found is not None:
                found.value = before
                sources[id(before)] = found
            arguments = {**arguments, "self": before}
        result = func(*args, **kwargs)
        self._kept.append((args, kwargs, result))
        for each in set(sources.values()):
            each.users += 1
        fixed = all(sources[id(each)].fixed if id(each) in sources else id(each) in self._own for each in given)
        for output in tensors(result):
            path = self._running[-1] if self._running else ""
            made = Made(operation.removesuffix("_"), path, arguments, output, sources, self._own, fixed=fixed)
            self._made[id(output)] = made
        return result

    def made(self, tensor: Tensor) -> Made | None:
        """The operation that made `tensor`."""
        return self._made.get(id(tensor))

    def close(self) -> None:
        """Take the hooks off the module."""
        for handle in self._handles:
            handle.remove()


def record(module: nn.Module, run: Callable[[], Tensor]) -> tuple[Tensor, Made | None]:
    """What `run` returns, and how it was made by `module` or its parts; paths are those in `module`.

    Everything that was computed on the way is kept in memory as long as the second result is.
    """
    recording = Recording(module)
    try:
        with torch.no_grad(), recording:
            result = run()
        return result, recording.made(result)
    finally:
        recording.close()
