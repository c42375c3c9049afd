"""`graft.create`: build a network by name, with the weights and classes asked for."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from graft.errors import InputError, WeightsError
from graft.given import text, whole_number
from graft.models.network import Config, Network, PaddingRule
from graft.weights.architectures import TIMM, WITH_AUXILIARIES, Architecture, resolve
from graft.weights.base import load_base
from graft.words import counted

# A head with more outputs would take the memory of a large machine.
MOST_OUTPUTS = 10_000_000


def create(
    name: str,
    classes: int | None = None,
    *,
    weights: str | Path | None = None,
    channels: int | None = None,
    padding: PaddingRule | None = None,
    batch_norm_eps: float | None = None,
    auxiliary: bool | None = None,
) -> Network:
    """Return a network in evaluation mode, with a random start or with weights.

    Images are float (N, C, H, W), normalized as the weights expect; the output is logits (N, classes).

    name: an architecture of the catalogue (`graft.list_models()`), or `timm:NAME`.
    classes: outputs of the head. The weights' own head is kept if it has that many, else a fresh one takes its
        place. Unless stated, those of the weights, or as published.
    weights: whatever `--base` takes: a file, a run folder, `hf:owner/name`, or a name whose weights are published.
    channels: 3 for color, 1 for gray images; with weights, theirs.
    padding: "torch" puts the zeros of a strided convolution evenly around the image, "tensorflow" puts more at the
        bottom and right. Unless stated, that of the weights, or "torch".
    batch_norm_eps: the epsilon of batch norm. Unless stated, that of the weights, or the architecture's usual one.
    auxiliary: whether GoogLeNet and Inception v3 have the classifiers that only training uses; those that the weights
        lack start at random. Unless stated, as in the weights, or as in the usual checkpoints.

    Raises InputError for an unknown name or an invalid number, WeightsError for weights that cannot be used or are of
    another architecture, FetchError for those that cannot be downloaded.
    """
    architecture = resolve(text(name, "the name"))
    classes, channels = _whole(classes, "classes"), _whole(channels, "channels")
    numbers = {"channels": channels, "padding": padding, "batch_norm_eps": batch_norm_eps, "auxiliary": auxiliary}
    stated: dict[str, Any] = {what: number for what, number in numbers.items() if number is not None}
    _check(architecture, stated)
    if weights is None:
        config = replace(architecture.config, **stated)
        return architecture.build(replace(config, classes=classes or config.classes)).eval()
    network = load_base(str(weights), architecture=architecture).network
    if network.config.architecture != architecture.name:
        raise WeightsError(f"expected weights of {name}, got those of {network.config.architecture}: name that one")
    if channels is not None and channels != network.config.channels:
        raise WeightsError(
            f"expected weights for {counted(channels, 'input channel')}, got those for {network.config.channels} in "
            f"{weights}: leave channels out, or start without weights"
        )
    if stated:
        network = _rebuilt(architecture, replace(network.config, **stated), network)
    if classes is not None and classes != network.config.classes:
        network.new_head(classes)
    return network


def _whole(number: int | None, what: str) -> int | None:
    return None if number is None else whole_number(number, what, 1, MOST_OUTPUTS, "leave it out for the usual number")


def _check(architecture: Architecture, stated: dict[str, Any]) -> None:
    """Refuse numbers that are invalid for this architecture. Raises InputError."""
    padding = stated.get("padding", "torch")
    if padding not in get_args(PaddingRule):
        raise InputError(f"expected padding to be {' or '.join(get_args(PaddingRule))}, got {padding!r}: choose one")
    if architecture.family == TIMM and stated.keys() & {"padding", "batch_norm_eps"}:
        raise InputError(
            f"expected padding and batch_norm_eps to be left to timm for {architecture.name}, got them stated: choose "
            "a network whose name begins with tf_ for TensorFlow's"
        )
    if stated.get("auxiliary") and not architecture.has_auxiliary_variant:
        raise InputError(
            f"expected a network with auxiliary classifiers ({', '.join(WITH_AUXILIARIES)}), got "
            f"{architecture.name!r}: leave auxiliary out"
        )


def _rebuilt(architecture: Architecture, config: Config, network: Network) -> Network:
    """Return the network with other numbers and the same weights; what `network` lacks starts at random."""
    other = architecture.build(config)
    own = other.state_dict()
    kept = {name: tensor for name, tensor in network.state_dict().items() if name in own}
    other.load_state_dict({**own, **kept})
    return other.eval()
