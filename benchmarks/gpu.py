"""Measures graft on a GPU, in one call: trunk, training and whole processes, each beside the usual alternative.

    python benchmarks/gpu.py [--device cuda] [--network resnet50] [--images 10000] [--pixels 224] [--out FILE.json]
    python benchmarks/gpu.py --device cpu --quick

Draws its own JPEGs and weights into a temporary folder and fetches nothing. Every figure is printed and stored in FILE
as soon as it is known, so a call that is cut short loses only the rest. Contestants take turns: figures are medians
over the rounds, and ratios are medians of the ratios within a round. A part that cannot run is left out and says why.
README.md beside this file describes each part.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from figures import Left, Record

BENCHMARKS = Path(__file__).resolve().parent
SOURCE = BENCHMARKS.parent / "src"
# The packages that graft requires, import name to distribution name; OpenVINO is not one of them.
NEEDED = {
    **{name: name for name in ("torch", "torchvision", "numpy", "scipy", "xxhash", "threadpoolctl", "simplejpeg")},
    **{name: name for name in ("safetensors", "filelock", "fsspec", "typer", "rich", "matplotlib", "pyarrow")},
    "PIL": "pillow",
    "yaml": "pyyaml",
    "huggingface_hub": "huggingface-hub",
}
NETWORKS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
# `graft train` without OpenVINO; it reports its peak memory at exit.
GRAFT = """
import json, os, sys
sys.modules["openvino"] = None
from graft.cli.app import main
from graft.cli.process import prepare_process
prepare_process()
code = 0
try:
    main()
except SystemExit as end:
    code = end.code or 0
import torch
on_device = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
sys.path.insert(0, os.environ["GRAFT_BENCHMARKS"])
from peers.memory import most_memory
open(os.environ["GRAFT_HELD"], "w").write(json.dumps({"device_bytes": on_device, "process_bytes": most_memory()}))
sys.stdout.flush()
os._exit(code if isinstance(code, int) else 1)
"""


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="What graft does on a GPU.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--network", choices=NETWORKS, help="default resnet50, with --quick resnet18")
    parser.add_argument("--images", type=int, help="JPEGs in all, default 10,000, with --quick 80")
    parser.add_argument("--pixels", type=int, help="side of the input, default 224, with --quick 64")
    parser.add_argument("--batch-size", type=int, help="of all that train, default 64, with --quick 16")
    parser.add_argument("--epochs", type=int, help="of all that train, default 3, with --quick 2; the first warms up")
    parser.add_argument("--rounds", type=int, help="of the trunk and of steps, default 3, with --quick 1")
    parser.add_argument("--minutes", type=float, default=9.0, help="nothing is begun after that (default 9)")
    parser.add_argument("--quick", action="store_true", help="small enough for a processor: whether the script works")
    parser.add_argument("--out", type=Path, help="keep the figures as JSON")
    given = parser.parse_args()
    usual = {"network": "resnet50", "images": 10_000, "pixels": 224, "batch_size": 64, "epochs": 3, "rounds": 3}
    quick = {"network": "resnet18", "images": 80, "pixels": 64, "batch_size": 16, "epochs": 2, "rounds": 1}
    for name, value in (quick if given.quick else usual).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    if given.images < 80 or given.epochs < 2 or given.rounds < 1:
        parser.error("expected 80 images, 2 epochs and 1 round or more: raise --images, --epochs or --rounds")
    return given


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_packages() -> None:
    missing = [package for name, package in NEEDED.items() if find_spec(name) is None]
    if missing:
        raise SystemExit(f"graft needs {', '.join(missing)}, which are not installed: pip install {' '.join(missing)}")
    if find_spec("openvino") is None:
        print("OpenVINO is not installed; nothing here needs it", file=sys.stderr)


def facts_of(given: argparse.Namespace) -> dict[str, Any]:
    import torch

    packages = ("torch", "torchvision", "timm", "numpy", "simplejpeg")
    facts: dict[str, Any] = {
        "arguments": {name: str(value) for name, value in vars(given).items()},
        "system": platform.platform(),
        "cores": cores(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages if find_spec(name) is not None},
    }
    if given.device == "cuda":
        driver = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        )
        facts["device"] = {
            "name": torch.cuda.get_device_name(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "nvidia_smi": driver.stdout.strip(),
        }
    return facts


def write_base(place: Path, network: str, pixels: int) -> None:
    """Write random weights as safetensors, with batch norm statistics that keep activations finite."""
    import torch
    from safetensors.torch import save_file

    from graft.weights.base import untrained_base

    module = untrained_base(network).network.train()
    for each in module.modules():
        if isinstance(each, torch.nn.BatchNorm2d):
            each.momentum = None  # the mean over the batches
    with torch.no_grad():
        for _ in range(2):
            module(torch.randn(8, 3, pixels, pixels))
    tensors = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, place, metadata={"architecture": network, "input_size": str(pixels)})


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its seconds, what it printed, the seconds of each epoch, and its peak memory."""

    seconds: float
    printed: dict[str, Any]
    epochs: list[float]
    device_bytes: int | None
    process_bytes: int | None


def run(record: Record, command: list[str], folder: Path) -> Ended:
    left = record.deadline - time.perf_counter()
    if left < 5:
        raise Left("no time is left for it: raise --minutes")
    held = folder / "held.json"
    environment = {
        **os.environ,
        "PYTHONPATH": f"{SOURCE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        "GRAFT_BENCHMARKS": str(BENCHMARKS),
        "GRAFT_HELD": str(held),
    }
    began = time.perf_counter()
    try:
        ended = subprocess.run(
            [sys.executable, *command], env=environment, cwd=folder, capture_output=True, text=True, timeout=left
        )
    except subprocess.TimeoutExpired:
        raise Left(f"it ran for {left:.0f} s, until the time of all was over: raise --minutes") from None
    seconds = time.perf_counter() - began
    if ended.returncode:
        raise Left(f"it ended with {ended.returncode}: {ended.stderr.strip()[-400:]}")
    printed = json.loads(ended.stdout)
    if "epochs" in printed:
        return Ended(seconds, printed, printed["epochs"], printed["device_bytes"], printed["process_bytes"])
    metrics = folder / printed["run"] / "metrics.jsonl"
    clock = [json.loads(line)["seconds"] for line in metrics.read_text().splitlines()] if metrics.is_file() else []
    epochs = [after - before for before, after in pairwise(clock)]
    return Ended(seconds, printed, epochs, **json.loads(held.read_text()))


def tell_process(record: Record, name: str, ended: Ended, images: int, bound: str = "") -> float | None:
    """Record the figures of a process; return the images a second of its epochs after the first, if any."""
    record.tell(f"{name}, whole process", ended.seconds, "s", bound=bound)
    parts = ended.printed.get("seconds", {})
    for part in ("features", "training"):
        if part in parts:
            record.tell(f"  of which {part}", parts[part], "s")
    # Images that a loader drops from an epoch do not count.
    rate = ended.printed.get("images_an_epoch", images) / median(ended.epochs[1:]) if len(ended.epochs) > 1 else None
    if rate is not None:
        record.tell("  an epoch after the first, with its validation", rate, "images/s")
    record.tell("  val top-1", ended.printed["val"]["top1"], "")
    if ended.device_bytes is not None:
        record.tell("  most memory of the device", ended.device_bytes / 2**30, "GiB")
    if ended.process_bytes is not None:
        record.tell("  most memory of the process", ended.process_bytes / 2**30, "GiB")
    return rate


def time_processes(given: argparse.Namespace, record: Record, data: Path, base_file: Path, folder: Path) -> None:
    """Time whole processes from JPEGs to a classifier."""
    inputs = [str(data), "--base", str(base_file)]
    train = ["-c", GRAFT, "train", *inputs, "--json", "--quiet", "--engine", "torch"]
    train += ["--image-size", str(given.pixels)]
    steps = ["--epochs", str(given.epochs), "--batch-size", str(given.batch_size)]
    images = sum(1 for _ in (data / "train").rglob("*.jpg"))
    bound = "<= 15" if (given.images, given.network, given.pixels) == (10_000, "resnet50", 224) else ""

    def head(name: str) -> None:
        out = ["--level", "head", "--out", str(folder / name.replace(" ", "-"))]
        tell_process(record, "graft", run(record, [*train, *out], folder), images, bound)

    for name in ("head, nothing kept", "head, again"):
        record.part(f"graft train --level {name}", partial(head, name))
    loop = [str(BENCHMARKS / "peers" / "loop.py"), *inputs, *steps, "--size", str(given.pixels)]
    loop += ["--workers", str(cores())]
    # By level: seconds of graft's process, and its images a second.
    ours: dict[str, tuple[float, float | None]] = {}

    def stages(level: str) -> None:
        out = ["--level", level, "--augment", "medium", "--flip", "--out", str(folder / level.replace(":", "-"))]
        ended = run(record, [*train, *steps, *out], folder)
        ours[level] = ended.seconds, tell_process(record, "graft", ended, images)

    def peer(name: str, flags: tuple[str, ...], level: str) -> None:
        if flags and find_spec("timm") is None:
            raise Left("timm is not installed: pip install timm")
        ended = run(record, [*loop, *flags, "--level", level], folder)
        rate = tell_process(record, name, ended, images)
        if level in ours:
            seconds, own = ours[level]
            if own and rate:
                asked = ">= 1.3" if level == "all" and not flags else ""
                record.tell("  images/s of graft / its own", own / rate, "x", bound=asked)
            record.tell("  its seconds / those of graft, whole process", ended.seconds / seconds, "x")

    for level in ("stages:2", "all"):
        record.part(f"graft train --level {level}", partial(stages, level))
        for name, flags in (("plain loop", ()), ("timm's loader and network in that loop", ("--timm",))):
            record.part(f"{name}, {level}", partial(peer, name, flags, level))


def main() -> None:
    given = read_arguments()
    check_packages()
    if given.device == "cpu":
        # Applies to this process and its children; set before torch looks for devices.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    sys.path[:0] = [str(SOURCE)]
    import torch

    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("expected a CUDA device, got none that torch can use: see the driver, or give --device cpu")
    began = time.perf_counter()
    with TemporaryDirectory(prefix="graft-gpu-") as name:
        folder = Path(name)
        os.environ["GRAFT_CACHE"] = str(folder / "cache")
        record = Record(given.out and given.out.resolve(), began + 60 * given.minutes, facts_of(given))
        print(json.dumps(record.facts, indent=1), flush=True)
        data, base_file = folder / "data", folder / f"{given.network}.safetensors"

        def make() -> None:
            command = [sys.executable, str(BENCHMARKS / "drawn_jpegs.py"), str(data), "--images", str(given.images)]
            subprocess.run([*command, "--processes", str(cores())], check=True)
            write_base(base_file, given.network, given.pixels)
            record.tell("making the images and the weights", time.perf_counter() - began, "s")

        record.part("images and weights", make)
        from gpu_rates import time_steps, time_trunk

        record.part("the trunk", lambda: time_trunk(given, record, data, base_file))
        record.part("training steps", lambda: time_steps(given, record, base_file))
        if given.device == "cuda":
            record.tell("most memory of the device so far", torch.cuda.max_memory_allocated() / 2**30, "GiB")
            torch.cuda.empty_cache()
        # Whole processes have a cache of their own.
        os.environ["GRAFT_CACHE"] = str(folder / "cache of processes")
        time_processes(given, record, data, base_file, folder)
        record.tell("all of it", time.perf_counter() - began, "s")


if __name__ == "__main__":
    main()
