"""Layers that behave differently while a crown trains: dropout, and batch norm of single values."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from graft.training.folding import norms_folded
from graft.training.recipe import ResolvedRecipe
from graft.training.shared_layers import norms_shared

# ReLU can compute its gradient from its output; these cannot (ReLU6 is a Hardtanh).
NEED_THEIR_INPUT = (nn.Hardtanh, nn.SiLU, nn.Hardswish)


@contextmanager
def training_mode(crown: nn.Module, recipe: ResolvedRecipe, example: Tensor, in_pieces: bool = False) -> Iterator[None]:
    """Set up the layers of `crown` as `recipe` says while the block trains it, even if batches come `in_pieces`.

    The head's inputs are dropped out, batch norm accepts single values, and with stored statistics it is folded.
    `example` is an input (1, …) of the crown, on its device. Activation functions keep the inputs that gradients need.
    """
    folded = norms_folded(crown, example) if recipe.batch_norm == "stored" else nullcontext()
    norms = norms_shared(crown, recipe.batch_norm) if in_pieces else single_values_normalised(crown)
    with drop_out(crown, recipe.dropout), norms, folded, inputs_left(crown):
        yield


def put_in_training_mode(crown: nn.Module, batch_norm: str) -> None:
    """Put `crown` in training mode, with maps normalised by the statistics of a `batch` or by `stored` ones.

    Stored statistics stay as they are; a layer that has none normalises by the batch. The initial head of a pretrained
    crown was solved on features normalised by stored statistics. Statistics of small batches give other features, and
    the loss then began at three to five times its value.
    """
    crown.train()
    if batch_norm == "stored":
        for module in crown.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                module.eval()


@contextmanager
def drop_out(crown: nn.Module, part: float | None) -> Iterator[None]:
    """While the block trains `crown`, drop this part of the head's inputs; None leaves it to the network.

    Srivastava et al. 2014, JMLR 15. If the crown has dropout layers, they get the new value permanently. If it has
    none, the inputs of its last linear layer are dropped, and the network is left as it was.
    """
    layers = [module for module in crown.modules() if isinstance(module, nn.Dropout)]
    linear = [module for module in crown.modules() if isinstance(module, nn.Linear)]
    if part is None or not (layers or linear):
        yield
        return
    for layer in layers:
        layer.p = part
    if layers:
        yield
        return
    head = linear[-1]
    hook = head.register_forward_pre_hook(lambda _, inputs: (functional.dropout(inputs[0], part, head.training),))
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def inputs_left(crown: nn.Module) -> Iterator[None]:
    """While the block trains `crown`, keep activation functions whose gradient needs their input from overwriting it.

    If they worked in place, torch would have to copy the input first: two passes over every map instead of one. Without
    that, MobileNet 0.25 trains 1.12 times as fast and MobileNetV2 1.03 times (two cores, from 40 % of the layers on).
    """
    in_place = [module for module in crown.modules() if isinstance(module, NEED_THEIR_INPUT) and module.inplace]
    for layer in in_place:
        layer.inplace = False
    try:
        yield
    finally:
        for layer in in_place:
            layer.inplace = True


@contextmanager
def single_values_normalised(crown: nn.Module) -> Iterator[None]:
    """While the block trains `crown`, batch norm uses its running statistics where it sees one value per channel.

    A single image whose maps are one pixel has no variance, and torch refuses to train on it. An epoch of 33 images in
    batches of 32 ends with one. Such a batch leaves the running statistics unchanged.
    """

    def before(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0]
        if norm.training and x.numel() == x.shape[1]:
            norm.training = False
            single.add(norm)

    def after(norm: nn.Module, *_: Any) -> None:
        if norm in single:
            norm.training = True
            single.remove(norm)

    single: set[nn.Module] = set()
    with ExitStack() as hooks:
        for norm in crown.modules():
            if isinstance(norm, _BatchNorm) and norm.track_running_stats:
                hooks.callback(norm.register_forward_pre_hook(before).remove)
                hooks.callback(norm.register_forward_hook(after, always_call=True).remove)
        yield
