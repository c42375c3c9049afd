"""The state of a training on disk: tensors and JSON, written aside and renamed, never a pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graft.errors import GraftError
from graft.files import write_aside


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of `module` as they are now, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.state_dict().items()}


def keep(
    path: Path,
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, Any]],
    kept: dict[str, Tensor],
    identity: dict[str, Any],
) -> None:
    """Write the last state of `modules` and `optimizer`, the state to keep so far, and what led there.

    `identity` says of which training it is.
    """
    from safetensors.torch import save

    tensors = {f"kept/{name}": tensor for name, tensor in kept.items()}
    for part, module in modules.items():
        tensors |= {f"{part}/{name}": tensor for name, tensor in copy_state(module).items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value).cpu() for name, value in state.items()}
    # The schedule and the patience follow from the history: nothing else needs keeping.
    facts = {"history": history, "of": identity}
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"facts": json.dumps(facts)})
    write_aside(path, lambda file: file.write(data))


def resume(
    path: Path | None, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, identity: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Put back the state that `keep` wrote and return its history and the weights to keep; nothing where there is none.

    Raises GraftError when it is the state of another training.
    """
    from safetensors import safe_open

    if path is None or not path.exists():
        return [], {}
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = json.loads(file.metadata()["facts"])
    if facts["of"] != identity:
        raise GraftError(
            f"expected a checkpoint of this training, got one of other settings in {path} ({facts['of']}): resume with "
            "the same arguments, or train into another folder"
        )
    parts: dict[str, dict[str, Tensor]] = {"kept": {}, "optimizer": {}, **{part: {} for part in modules}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition("/")
        parts[part][rest] = tensor
    for part, module in modules.items():
        module.load_state_dict(parts[part])
    state = optimizer.state_dict()
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, what = name.partition("/")
        states.setdefault(int(index), {})[what] = tensor
    optimizer.load_state_dict({**state, "state": states})
    return facts["history"], parts["kept"]
