"""OpenVINO, which everything in graft imports from here: without its telemetry, and never where it would hang.

As it is imported, OpenVINO starts a process that reports to an analytics service, and leaves a client id in the home
folder, by way of the package `openvino_telemetry`. It does without where that package is missing, so during the import
it is made to be missing.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from graft.errors import GraftError

__all__ = [
    "check_not_forked",
    "convert_model",
    "core",
    "forked",
    "keep_when_forked",
    "missing",
    "openvino",
    "opset1",
    "opset8",
]

TELEMETRY = "openvino_telemetry"


@contextmanager
def missing(package: str) -> Iterator[None]:
    """Let `import package` raise ImportError in the block, as if it were not installed."""
    names = [name for name in sys.modules if name.partition(".")[0] == package]
    loaded = {name: sys.modules.pop(name) for name in names}
    sys.modules[package] = None  # type: ignore[assignment]  # Python's own way to say so
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(loaded)


with missing(TELEMETRY):
    import openvino
    import openvino.opset1 as opset1
    import openvino.opset8 as opset8

# The process in which OpenVINO was used first: its threads are there and nowhere else.
_process: int | None = None
_kept_when_forked: WeakSet[Any] = WeakSet()


def core() -> openvino.Core:
    """OpenVINO's core, to compile with. Raises GraftError in a process forked from one that has done so."""
    global _process
    check_not_forked()
    _process = os.getpid()
    return openvino.Core()


def forked() -> bool:
    """Whether this process was forked from one in which OpenVINO was used.

    None of its threads lives here, and whatever is left to them, by what was compiled before the fork or after it,
    waits for ever or ends the process.
    """
    return _process not in (None, os.getpid())


def check_not_forked() -> None:
    """Raises GraftError where `forked`."""
    if forked():
        raise GraftError(
            "expected a process that OpenVINO can work in, got one forked from a process that has already used it: "
            "start processes with the `spawn` method, fork before the first prediction, or choose the engine torch"
        )


def keep_when_forked(owner: object) -> None:
    """Never take apart, in a forked process, what `owner` holds of OpenVINO: that too waits for threads."""
    _kept_when_forked.add(owner)


def _keep() -> None:
    for owner in _kept_when_forked:
        # A reference that nobody gives back, not even Python at its end.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep)


def convert_model(*arguments: Any, **settings: Any) -> openvino.Model:
    """`openvino.convert_model`, silent even where a host program imported OpenVINO, telemetry and all, before graft."""
    from openvino.tools.ovc import telemetry_stub

    modules = [module for name, module in sys.modules.items() if name.startswith("openvino.tools.ovc.")]
    reporting = {module: module.tm for module in modules if hasattr(module, "tm")}
    for module in reporting:
        module.tm = telemetry_stub  # type: ignore[attr-defined]
    try:
        return openvino.convert_model(*arguments, **settings)
    finally:
        for module, package in reporting.items():
            module.tm = package  # type: ignore[attr-defined]
