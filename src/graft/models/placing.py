"""Where a module computes: its caller's own stays where it is."""

from __future__ import annotations

import copy
from itertools import chain
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def on_device(module: ModuleT, device: str | torch.device) -> ModuleT:
    """`module` itself where all its tensors lie on `device`, otherwise a copy of it there.

    `nn.Module.to` would move the caller's own tensors, and with them every network that shares them, away from those
    who go on to use them where they were.
    """
    kind = torch.device(device).type
    if all(tensor.device.type == kind for tensor in chain(module.parameters(), module.buffers())):
        return module
    return copy.deepcopy(module).to(device)
