"""The state of an unfinished training on disk: tensors and JSON, written aside and renamed, never a pickle."""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graft.errors import GraftError
from graft.files import write_aside
from graft.training.history import Epoch

# Of the time of a training, writing its state may take this part: where epochs are short, not every one is written.
SHARE_OF_TIME = 0.05


@dataclass
class TrainingState:
    """All that a training goes on from: the schedule and the patience follow from the history.

    `modules` are the crown and, where one is kept, the moving average of its weights; `kept` are the weights that the
    training would end with now.
    """

    modules: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    history: list[Epoch] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)


class Checkpoint:
    """The file, if any, that a training's state is kept in as it goes; `of`, which JSON must have words for, says of
    which training it is."""

    def __init__(self, path: Path | None, state: TrainingState, of: dict[str, Any]) -> None:
        self._path, self._state, self._of = path, state, of
        self._epochs, self._due = 0, 0.0

    def resume(self) -> None:
        """Go on from what the file says, where there is one. Raises GraftError when it is of another training."""
        if self._path is not None and self._path.exists():
            read_checkpoint(self._path, self._state, self._of)
            self._epochs = len(self._state.history)

    def keep(self, *, last: bool = False) -> None:
        """Write the state, unless it is too soon; the `last` one in any case."""
        began = time.perf_counter()
        if self._path is None or len(self._state.history) == self._epochs or (began < self._due and not last):
            return
        write_checkpoint(self._path, self._state, self._of)
        self._epochs, ended = len(self._state.history), time.perf_counter()
        self._due = ended + (ended - began) * (1 / SHARE_OF_TIME - 1)


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of `module` as they are now, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def write_checkpoint(path: Path, state: TrainingState, identity: dict[str, Any]) -> None:
    """Write `state`; `identity`, which JSON must have words for, says of which training it is."""
    from safetensors.torch import save

    tensors = {f"kept/{name}": tensor for name, tensor in state.kept.items()}
    for part, module in state.modules.items():
        tensors |= {f"{part}/{name}": tensor for name, tensor in copy_state(module).items()}
    for index, values in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value).cpu() for name, value in values.items()}
    facts = {"history": [asdict(epoch) for epoch in state.history], "of": identity}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"facts": json.dumps(facts)})
    write_aside(path, lambda file: file.write(data))


def read_checkpoint(path: Path, state: TrainingState, identity: dict[str, Any]) -> None:
    """Put what `write_checkpoint` wrote to `path` into `state`.

    Raises GraftError when it is of another training.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["facts"])
    if facts["of"] != identity:
        raise GraftError(
            f"expected a checkpoint of this training, got one of other settings in {path} ({facts['of']}): resume with "
            "the same arguments, or train into another folder"
        )
    parts: dict[str, dict[str, Tensor]] = {"kept": {}, "optimizer": {}, **{part: {} for part in state.modules}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    for part, module in state.modules.items():
        module.load_state_dict(parts[part])
    values: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, value = name.partition("/")
        values.setdefault(int(index), {})[value] = tensor
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": values})
    # Fused optimizers take it that their values lie in memory as the parameters do, which files do not keep.
    for parameter, of_parameter in state.optimizer.state.items():
        for value, tensor in of_parameter.items():
            if isinstance(tensor, Tensor) and tensor.shape == parameter.shape:
                of_parameter[value] = torch.empty_like(parameter).copy_(tensor)
    state.history, state.kept = [Epoch(**epoch) for epoch in facts["history"]], parts["kept"]
