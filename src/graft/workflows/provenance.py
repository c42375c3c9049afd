"""The provenance of a run: the command, versions and machine."""

import platform
import shlex
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graft import __version__
from graft.weights.model_files import ARGUMENTS_FILE
from graft.workflows.arguments import OPTIONS, PATHS, Arguments, read_arguments
from graft.workflows.material import Material
from graft.workflows.run import near

# Recipe fields without an option of their own.
SET_ALONE = ("warmup",)


def facts_of(material: Material) -> dict[str, Any]:
    """Return the provenance of a run."""
    run = material.run
    facts: dict[str, Any] = {"folder": near(run.folder)}
    if (material.folder / ARGUMENTS_FILE).is_file():
        arguments = read_arguments(material.folder)
        command = command_of(arguments)
        facts |= {**({} if command is None else {"command": command}), "seed": arguments.seed}
    facts |= {
        "images": run.images,
        "engine": run.engine,
        "level": run.level,
        "cut": run.cut,
        "base weights (digest)": material.plan.get("base"),
        "seconds": run.seconds,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    facts |= {"graft": __version__, "torch": str(torch.__version__), "numpy": np.__version__}
    if "openvino" in run.engine:
        with suppress(PackageNotFoundError):
            facts["openvino"] = version("openvino")
    return facts


def command_of(arguments: Arguments) -> str | None:
    """The command that asks for the same, with file names but no folders; None for images that were in memory."""
    return None if arguments.in_memory else shlex.join(["graft", *words_of(arguments, lambda named: Path(named).name)])


def words_of(arguments: Arguments, shown: Callable[[str], str]) -> list[str]:
    """Return the words of the command after `graft`, with absolute paths as `shown` gives them."""

    def named(path: str) -> str:
        return shown(path) if Path(path).is_absolute() else path

    usual = Arguments(arguments.data).to_dict()
    words = ["train", named(arguments.data)]
    for name, value in arguments.to_dict().items():
        if name == "data" or value == usual.get(name) or value is None:
            continue
        if name in SET_ALONE:
            words += ["--set", f"{name}={value}"]
            continue
        flag = OPTIONS.get(name, name).replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", named(value) if name in PATHS else str(value)]
    return words
