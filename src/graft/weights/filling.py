"""Fill a network with the tensors of a checkpoint that matches its architecture."""

import copy

import torch
from torch import Tensor, nn

from graft.errors import WeightsError
from graft.models.network import Config, Network
from graft.weights.architectures import TIMM, Architecture
from graft.weights.matching import Match, check_fit
from graft.weights.shapes import is_free, same_numbers, without_data


def unfilled(architecture: Architecture, config: Config) -> Network:
    """Return the network for `fill`, on torch's default device and in its default dtype.

    Its tensors hold whatever their memory held: numbers drawn for a random start, which are replaced at once, would
    take longer than those of the checkpoint (2 s for VGG-16). Raises what `Architecture.build` raises.
    """
    if architecture.family == TIMM:
        # These may hold tensors that no checkpoint has.
        return architecture.build(config)
    network = copy.deepcopy(without_data(architecture, config)).to(torch.get_default_dtype())
    device = torch.get_default_device()
    # `Module.to_empty` would import a library for symbolic shapes, which takes longer than all the rest.
    empty = {
        name: torch.empty(each.shape, dtype=each.dtype, device=device) for name, each in network.state_dict().items()
    }
    network.load_state_dict(empty, assign=True)
    return network


@torch.no_grad()
def fill(network: Network, tensors: dict[str, Tensor], found: Match, source: str) -> None:
    """Copy the tensors into `network`, in its dtypes. All of its own must be present, save the head if none came.

    A head that did not come starts at random, and counters of batches that did not come at zero. Raises WeightsError,
    which lists the tensors that are missing, left over or of another shape, or names one that is quantized or not
    finite.
    """
    check_fit(tensors, found, source)
    own, heads = network.state_dict(), network.head_names
    theirs = {found.rename(name): tensor for name, tensor in tensors.items()}
    absent = []
    for name, target in own.items():
        free = is_free(name, heads)
        if name not in theirs or (free and not (found.has_head and same_numbers(theirs[name].shape, target.shape))):
            absent.append(name)
            continue
        if target.is_floating_point() and not theirs[name].is_floating_point():
            raise WeightsError(
                f"expected floating-point weights, got {theirs[name].dtype} in {name!r} of {source}: save them "
                "before they are quantized"
            )
        target.copy_(theirs[name].view_as(target))
        # After the copy, so that a value too large for the network's dtype counts as well.
        if not torch.isfinite(target).all():
            raise WeightsError(
                f"expected finite weights, got NaN or infinity in {name!r} of {source}: fetch the file again"
            )
    for name in absent:
        if name.endswith("num_batches_tracked"):
            own[name].zero_()
    for path in heads:
        if any(name.rpartition(".")[0] == path for name in absent):
            head = network.get_submodule(path)
            assert isinstance(head, nn.Linear)
            head.reset_parameters()
