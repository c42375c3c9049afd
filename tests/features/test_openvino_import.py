"""OpenVINO is imported in one place, and its telemetry reports it to nobody."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from trunks import COLOUR

import graft

pytest.importorskip("openvino")

from graft.features.openvino_graph import convert

SOURCE = Path(graft.__file__).parent

WORK = """
import sys
# Which asks for libraries, by a process, as it is imported.
import torch

def guard(event, arguments):
    if event.startswith(("socket.", "subprocess.", "os.fork", "os.posix_spawn", "os.exec", "os.system")):
        print(event, arguments, flush=True)

sys.addaudithook(guard)

from trunks import COLOUR, in_batches, make_network, noise
from graft.features.openvino_functions import FUNCTIONS
from graft.features.openvino_engine import OpenVINOEngine

for name in ("recorded", "converted"):
    if name == "converted":
        FUNCTIONS.clear()
    trunk, _ = make_network("resnet20").split("stem" if name == "recorded" else "stage1")
    ((_, values),) = OpenVINOEngine(trunk, COLOUR, "float32").run(in_batches(noise(1, COLOUR), [1]))
    print(name, len(values))
"""


def test_nothing_is_sent_or_left_behind(tmp_path: Path) -> None:
    home, calls = tmp_path / "home", tmp_path / "calls"
    home.mkdir()
    # On CI services the telemetry is silent by itself.
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    environment |= {"HOME": str(home), "GRAFT_CACHE": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = os.pathsep.join([str(SOURCE.parent), str(Path(__file__).parent)])
    # Audit hooks report Python's own calls; for libraries and child processes, the system reports them.
    watcher = ["strace", "-f", "-qq", "-e", "trace=network", "-e", "signal=none", "-o", str(calls)]
    command = [*(watcher if shutil.which("strace") else []), sys.executable, "-c", WORK]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["recorded 1", "converted 1"], done.stderr
    assert not calls.exists() or calls.read_text() == ""
    assert list(home.iterdir()) == []


def test_a_host_that_has_openvino_report_is_not_reported_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    from openvino.tools.ovc import convert_impl, telemetry_utils

    told = []

    class Telemetry:
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            told.append(arguments)

        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: told.append(arguments)

    class Package:
        pass

    Package.Telemetry = Telemetry
    for module in (convert_impl, telemetry_utils):
        monkeypatch.setattr(module, "tm", Package)
    convert(torch.nn.Conv2d(3, 4, 3), COLOUR, 1)
    assert told == []
    assert convert_impl.tm is telemetry_utils.tm is Package


def test_openvino_is_imported_in_one_place() -> None:
    importing = []
    for path in [*SOURCE.rglob("*.py"), *(SOURCE.parents[1] / "benchmarks").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            if any(name.partition(".")[0] == "openvino" for name in names):
                importing.append(path.name)
    assert set(importing) == {"openvino_import.py"}
