"""`graft.create`: a network by name, with weights and classes as asked."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

from graft.errors import InputError, WeightsError
from graft.models.network import Network, PaddingRule
from graft.weights.architectures import build, default_config, family, is_timm
from graft.weights.base import load_base
from graft.weights.layouts import WITH_AUXILIARIES, known_architecture


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
    """A network in evaluation mode: `name` from the catalogue, or `timm:NAME`, random or with `weights`.

    `weights` is whatever `--base` takes, and then `channels`, `padding` and `batch_norm_eps` are theirs unless stated.
    With `classes` the head has so many outputs: the weights' own head where that is its size, else a fresh one.
    `auxiliary` says whether GoogLeNet and Inception v3 have the classifiers that only training uses; without a word
    they have what their weights or their usual checkpoints have, and stated ones that weights lack start at random.
    Raises InputError, WeightsError and FetchError.
    """
    for what, number in (("classes", classes), ("channels", channels)):
        if number is not None and number < 1:
            raise InputError(f"expected {what} to be one or more, got {number}: leave it out for the usual number")
    if padding is not None and padding not in get_args(PaddingRule):
        raise InputError(f"expected padding to be {' or '.join(get_args(PaddingRule))}, got {padding!r}: name one")
    if is_timm(name) and (padding is not None or batch_norm_eps is not None):
        raise InputError(
            f"expected padding and batch_norm_eps to be left to timm for {name}, got them stated: timm has networks of "
            "their own with TensorFlow's rules, whose names begin with tf_"
        )
    if auxiliary and (is_timm(name) or family(name) not in WITH_AUXILIARIES):
        raise InputError(
            f"expected a network with auxiliary classifiers ({', '.join(WITH_AUXILIARIES)}), got {name!r}: leave "
            "auxiliary out"
        )
    stated = {"channels": channels, "padding": padding, "batch_norm_eps": batch_norm_eps, "auxiliary": auxiliary}
    stated = {key: value for key, value in stated.items() if value is not None}
    if weights is None:
        config = replace(default_config(name), **stated)  # type: ignore[arg-type]
        return build(replace(config, classes=classes or config.classes)).eval()
    network = load_base(str(weights), architecture=name).network
    if network.config.architecture != known_architecture(name):
        raise WeightsError(f"expected weights of {name}, got those of {network.config.architecture}: name that one")
    if channels is not None and channels != network.config.channels:
        raise WeightsError(
            f"expected weights for {channels} input channel(s), got those for {network.config.channels} in {weights}: "
            "leave channels out, or start without weights"
        )
    if stated:
        config = replace(network.config, **stated)  # type: ignore[arg-type]
        other = build(config)
        own = other.state_dict()
        kept = {key: tensor for key, tensor in network.state_dict().items() if key in own}
        other.load_state_dict({**own, **kept})
        network = other.eval()
    if classes is not None and classes != network.config.classes:
        network.new_head(classes)
    return network
