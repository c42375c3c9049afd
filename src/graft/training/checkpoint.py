"""The on-disk state of unfinished training: tensors and JSON, written aside and renamed, never a pickle."""

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graft.errors import GraftError
from graft.files import write_aside
from graft.training.history import Epoch
from graft.training.processes import ALONE, Processes

# The share of the training time that writing the state may take: when epochs are short, some are not written.
SHARE_OF_TIME = 0.05


@dataclass(frozen=True)
class CheckpointFile:
    """Where to keep the state of a training run: after epochs, and every `every` seconds within one."""

    path: Path
    every: float = math.inf


@dataclass(frozen=True)
class Within:
    """The state of an unfinished epoch: `images` of its order are done, `seconds` after training began.

    `losses` are the losses of its steps, float32 (), times their images; `random` is the state of its generators.
    """

    images: int
    seconds: float
    losses: list[Tensor]
    random: dict[str, Tensor]


@dataclass
class TrainingState:
    """All that training resumes from; the schedule and the patience follow from the history.

    `modules` are the crown and, if there is one, the moving average of its weights. `kept` are the weights that
    training would end with now. `within` is set while an epoch is unfinished.
    """

    modules: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    history: list[Epoch] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)
    within: Within | None = None


class Checkpoint:
    """The file, if any, that holds the state of a training run as it goes.

    `of` identifies the training run and must be JSON-serialisable. With several processes, the first one writes and
    reads the file, and tells the others.
    """

    def __init__(
        self, file: CheckpointFile | None, state: TrainingState, of: dict[str, Any], processes: Processes = ALONE
    ) -> None:
        self._path = file.path if file is not None and processes.first else None
        self._every = math.inf if file is None else file.every
        self._state, self._of, self._processes = state, of, processes
        self._epochs, self._due, self._written = 0, 0.0, time.perf_counter()

    def resume(self) -> None:
        """Restore the state from the file, if there is one. Raises GraftError if it belongs to other training."""
        found: tuple[dict[str, Tensor], Any] = ({}, None)
        if self._path is not None and self._path.exists():
            found = read_checkpoint(self._path, self._of)
        tensors, facts = self._processes.of_first(*found)
        if facts is not None:
            restore(self._state, tensors, facts)
            self._epochs = len(self._state.history)

    def keep(self, *, last: bool = False) -> None:
        """Write the state, unless it is too soon; always write the `last` one."""
        began = time.perf_counter()
        if self._path is None or len(self._state.history) == self._epochs:
            return
        if began < self._due and not last and not self.within_due():
            return
        self._state.within = None
        self._write(self._path)
        self._epochs, ended = len(self._state.history), time.perf_counter()
        self._due = ended + (ended - began) * (1 / SHARE_OF_TIME - 1)

    def within_due(self) -> bool:
        """Return whether it is time to write the state in the middle of an epoch."""
        return self._path is not None and time.perf_counter() - self._written >= self._every

    def keep_within(self, within: Within) -> None:
        """Write the state in the middle of an epoch."""
        assert self._path is not None
        self._state.within = within
        self._write(self._path)

    def _write(self, path: Path) -> None:
        write_checkpoint(path, self._state, self._of)
        self._written = time.perf_counter()


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the tensors of `module`, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def write_checkpoint(path: Path, state: TrainingState, identity: dict[str, Any]) -> None:
    """Write `state`; `identity`, which must be JSON-serialisable, says which training run it belongs to."""
    from safetensors.torch import save

    tensors = {f"kept/{name}": tensor for name, tensor in state.kept.items()}
    for part, module in state.modules.items():
        tensors |= {f"{part}/{name}": tensor for name, tensor in copy_state(module).items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value).cpu() for name, value in values.items()}
    facts = {"history": [asdict(epoch) for epoch in state.history], "of": identity}
    if state.within is not None:
        facts["within"] = {"images": state.within.images, "seconds": state.within.seconds}
        tensors["within/losses"] = torch.stack(state.within.losses).cpu()
        tensors |= {f"random/{name}": values for name, values in state.within.random.items()}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"facts": json.dumps(facts)})
    write_aside(path, lambda file: file.write(data))


def read_checkpoint(path: Path, identity: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and facts that `write_checkpoint` wrote to `path`.

    Raises GraftError if they belong to other training.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts: dict[str, Any] = json.loads(file.metadata()["facts"])
    if facts["of"] != identity:
        raise GraftError(
            f"expected a checkpoint of this training run, got one with other settings in {path} ({facts['of']}): "
            "resume with the same arguments, or train into another folder"
        )
    return tensors, facts


def restore(state: TrainingState, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Load the tensors and facts of a checkpoint into `state`. Raises GraftError if it is of other layers."""
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in ("kept", "optimizer", "within", "random")}
    parts |= {part: {} for part in state.modules}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    for part, module in state.modules.items():
        try:
            module.load_state_dict(parts[part])
        except RuntimeError:
            raise GraftError(
                f"expected a checkpoint of the layers being trained, got one of other layers ({part}): restore the "
                "files of the run, or train into another folder"
            ) from None
    values: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, value = name.partition("/")
        values.setdefault(int(index), {})[value] = tensor
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": values})
    # Fused optimizers expect their state in the memory layout of the parameters, which files do not keep.
    for parameter, of_parameter in state.optimizer.state.items():
        for value, tensor in of_parameter.items():
            if isinstance(tensor, Tensor) and tensor.shape == parameter.shape:
                of_parameter[value] = torch.empty_like(parameter).copy_(tensor)
    state.history, state.kept = [Epoch(**epoch) for epoch in facts["history"]], parts["kept"]
    if "within" in facts:
        state.within = Within(**facts["within"], losses=list(parts["within"]["losses"]), random=parts["random"])
