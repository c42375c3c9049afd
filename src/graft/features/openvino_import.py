"""The one place from which graft imports OpenVINO: without its telemetry, and never where it would hang.

On import, OpenVINO starts a process that reports to an analytics service, and leaves a client id in the home folder,
through the package `openvino_telemetry`. It does neither if that package is missing, so the import hides it.
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
    """Make `import package` raise ImportError in the block, as if it were not installed."""
    names = [name for name in sys.modules if name.partition(".")[0] == package]
    loaded = {name: sys.modules.pop(name) for name in names}
    sys.modules[package] = None  # type: ignore[assignment]  # Python's own convention for this
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(loaded)


with missing(TELEMETRY):
    import openvino
    import openvino.opset1 as opset1
    import openvino.opset8 as opset8

# The process in which OpenVINO was first used: its threads exist only there.
_process: int | None = None
_kept_when_forked: WeakSet[Any] = WeakSet()


def core() -> openvino.Core:
    """Return OpenVINO's core, to compile with. Raises GraftError in a process forked from one that has used it."""
    global _process
    check_not_forked()
    _process = os.getpid()
    return openvino.Core()


def forked() -> bool:
    """Return whether this process was forked from one in which OpenVINO was used.

    OpenVINO's threads do not survive a fork. Any work left to them, by a model compiled before or after the fork, waits
    forever or ends the process.
    """
    return _process not in (None, os.getpid())


def check_not_forked() -> None:
    """Raise GraftError if `forked`."""
    if forked():
        raise GraftError(
            "expected a process that OpenVINO can work in, got one forked from a process that has already used it: "
            "start processes with the `spawn` method, fork before the first prediction, or choose the engine torch"
        )


def keep_when_forked(owner: object) -> None:
    """Never destroy, in a forked process, the OpenVINO objects of `owner`: that, too, waits for threads."""
    _kept_when_forked.add(owner)


def _keep() -> None:
    for owner in _kept_when_forked:
        # A reference that nothing releases, not even Python at exit.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep)


def convert_model(*arguments: Any, **settings: Any) -> openvino.Model:
    """Run `openvino.convert_model` without telemetry, even if a host program imported OpenVINO with it before graft."""
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
