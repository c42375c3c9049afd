"""Isolation from the torch and NumPy settings of the calling program."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from graft.forking import work_alone_when_forked

P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def own_modes() -> Iterator[None]:
    """Restore PyTorch's and NumPy's defaults within the block.

    Tensors record gradients, are float32, live on the CPU unless placed elsewhere, use no lower precision than asked
    for and are not checked for anomalies; NumPy warns as usual. The caller's settings come back afterwards; all but the
    default dtype belong to this thread alone. If PyTorch has not been imported yet, there is nothing to restore, and it
    is not imported. A forked process computes with one thread from here on.
    """
    work_alone_when_forked()
    with ExitStack() as put_back:
        if (numpy := sys.modules.get("numpy")) is not None:
            # To graft, underflow to zero is not an error.
            put_back.enter_context(numpy.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        if (torch := sys.modules.get("torch")) is not None:
            _set_own(torch, put_back)
        yield


def _set_own(torch: Any, put_back: ExitStack) -> None:
    put_back.enter_context(torch.inference_mode(False))
    put_back.enter_context(torch.enable_grad())
    for kind in ("cpu", "cuda"):
        if torch.is_autocast_enabled(kind):
            put_back.enter_context(torch.autocast(kind, enabled=False))
    if torch.is_anomaly_enabled():
        put_back.enter_context(torch.autograd.set_detect_anomaly(False))
    if torch.get_default_device().type != "cpu":
        put_back.enter_context(torch.device("cpu"))
    if torch.get_default_dtype() != torch.float32:
        put_back.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)


def in_own_modes(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to run within `own_modes`."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with own_modes():
            return function(*args, **kwargs)

    return called
