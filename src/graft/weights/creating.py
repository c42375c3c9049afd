"""`graft.create`: a network by name, with weights and classes as asked."""

from dataclasses import replace
from pathlib import Path

from graft.errors import WeightsError
from graft.models.catalog import build, default_config
from graft.models.network import Network, PaddingRule
from graft.weights.base import load_base


def create(
    name: str,
    classes: int | None = None,
    *,
    weights: str | Path | None = None,
    channels: int | None = None,
    padding: PaddingRule | None = None,
    batch_norm_eps: float | None = None,
) -> Network:
    """A network in evaluation mode: `name` from the catalogue, random or with `weights`.

    `weights` is whatever `--base` takes, and then `channels`, `padding` and `batch_norm_eps` are theirs unless stated.
    With `classes` the head has so many outputs: the weights' own head where that is its size, else a fresh one.
    Raises InputError, WeightsError and FetchError.
    """
    stated = {"channels": channels, "padding": padding, "batch_norm_eps": batch_norm_eps}
    stated = {key: value for key, value in stated.items() if value is not None}
    if weights is None:
        config = replace(default_config(name), **stated)  # type: ignore[arg-type]
        return build(replace(config, classes=classes or config.classes)).eval()
    network = load_base(str(weights), architecture=name).network
    if network.config.architecture != name:
        raise WeightsError(f"expected weights of {name}, got those of {network.config.architecture}: name that one")
    if stated:
        config = replace(network.config, **stated)  # type: ignore[arg-type]
        other = build(config)
        other.load_state_dict(network.state_dict())
        network = other.eval()
    if classes is not None and classes != network.config.classes:
        network.new_head(classes)
    return network
