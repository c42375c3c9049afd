"""What layers of a crown do otherwise while it trains: dropout, and batch norm of single values."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from graft.training.folding import norms_folded
from graft.training.recipe import ResolvedRecipe
from graft.training.shared_layers import norms_shared

# A ReLU is told from its output, these (ReLU6 is a Hardtanh) are not.
NEED_THEIR_INPUT = (nn.Hardtanh, nn.SiLU, nn.Hardswish)


@contextmanager
def training_mode(crown: nn.Module, recipe: ResolvedRecipe, example: Tensor, in_pieces: bool = False) -> Iterator[None]:
    """While the block trains `crown`, its layers do what `recipe` says of them, be a batch computed `in_pieces`.

    The head's inputs are dropped out, batch norm takes single values, and with stored statistics is folded: `example`
    is an input (1, …) of the crown, on its device. Activation functions leave to torch the inputs that gradients need.
    """
    folded = norms_folded(crown, example) if recipe.batch_norm == "stored" else nullcontext()
    norms = norms_shared(crown, recipe.batch_norm) if in_pieces else single_values_normalised(crown)
    with drop_out(crown, recipe.dropout), norms, folded, inputs_left(crown):
        yield


def put_in_training_mode(crown: nn.Module, batch_norm: str) -> None:
    """Let `crown` learn, with maps normalised by the statistics of a `batch` or by those that are `stored`.

    Stored statistics stay as they are; a layer that has none normalises by the batch. The head at the start of a
    pretrained crown was solved on features normalised by stored statistics: by those of small batches they are others,
    and the loss began at three to five times what it was.
    """
    crown.train()
    if batch_norm == "stored":
        for module in crown.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                module.eval()


@contextmanager
def drop_out(crown: nn.Module, part: float | None) -> Iterator[None]:
    """While the block trains `crown`, leave out this part of the head's inputs; None leaves it to the network.

    Srivastava et al. 2014, JMLR 15. Layers of dropout that the crown has get the new value, for good; without any, the
    inputs of its last linear layer are dropped, and the network is left as it was.
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
    """While the block trains `crown`, activation functions whose gradient needs their input do not overwrite it.

    Built to work in place, they would have torch copy it first: two passes over every map in place of one. Without,
    MobileNet 0.25 trains 1.12 times as fast and MobileNetV2 1.03 times (two cores, from 40 % of the layers on).
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
    """While the block trains `crown`, batch norm that sees a single value per channel uses its running statistics.

    One image whose maps are of one pixel has no variance, and torch refuses to train on it: so ends an epoch of 33
    images in batches of 32. The running statistics are left as they are by such a batch.
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
