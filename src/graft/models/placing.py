"""Moving modules between devices without touching the caller's own."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def on_device(module: ModuleT, device: str | torch.device) -> ModuleT:
    """Return `module` itself if all its tensors lie on `device`, otherwise a copy of it there.

    `nn.Module.to` would move the caller's own tensors, and with them every network that shares them, away from code
    that still uses them.
    """
    kind = torch.device(device).type
    if all(tensor.device.type == kind for tensor in chain(module.parameters(), module.buffers())):
        return module
    return copy.deepcopy(module).to(device)
