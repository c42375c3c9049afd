"""What a program has set for its own tensors, and graft's are made without."""

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
    """Within the block, tensors are as PyTorch makes them by itself: with gradients, float32, on the CPU unless they
    are placed elsewhere, in no lower precision than asked for, and not watched for anomalies; numpy warns as it does by
    itself.

    What the caller had set is put back; all of it but the default dtype is of this thread alone. Where PyTorch was not
    imported yet, nothing can have been set, and it is not imported. A process that was forked works alone from here on.
    """
    work_alone_when_forked()
    with ExitStack() as put_back:
        if (numpy := sys.modules.get("numpy")) is not None:
            # What rounds to zero is no error to graft.
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
    """A decorator: the function runs within `own_modes`."""

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        with own_modes():
            return function(*args, **kwargs)

    return called
