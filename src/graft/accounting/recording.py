"""A recorded forward pass with real values: every operation, its arguments and its results.

`graft.accounting.graph` shows a network without data; this module keeps the data, so that each number of a map can be
traced back to the numbers that produced it (`graft.accounting.arithmetic`).
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

    `sources` holds the operation that produced each tensor among the arguments, by the tensor's `id`; tensors that are
    missing in it existed before the recording. `users` counts the operations that used the result. `fixed` says that it
    derives from the module's own tensors alone, as a reshaped weight does, and `own` has the `id` of each of these.
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
        """Return the operation that produced an argument; None for one that existed before, such as a weight."""
        return self.sources.get(id(tensor))

    def is_fixed(self, tensor: Tensor) -> bool:
        """Return whether an argument does not depend on the module's inputs."""
        source = self.source(tensor)
        return id(tensor) in self.own if source is None else source.fixed


class Recording(TorchDispatchMode):
    """A context in which `module`'s operations are recorded; `run` calls it on a batch, in evaluation."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._own = {id(each) for each in (*module.parameters(), *module.buffers())}
        self._running: list[str] = []
        self._made: dict[int, Made] = {}
        self._kept: list[Any] = []  # keeps every `id` unique
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
            # An operation in place overwrites its own argument, so a copy stands for it.
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
        """Return the operation that produced `tensor`."""
        return self._made.get(id(tensor))

    def close(self) -> None:
        """Remove the hooks from the module."""
        for handle in self._handles:
            handle.remove()


def record(module: nn.Module, run: Callable[[], Tensor]) -> tuple[Tensor, Made | None]:
    """Return what `run` returns, and how `module` or its parts produced it; paths are those in `module`.

    All intermediate results stay in memory as long as the second return value does.
    """
    recording = Recording(module)
    try:
        with torch.no_grad(), recording:
            result = run()
        return result, recording.made(result)
    finally:
        recording.close()
