"""What timm publishes, under names as `timm:resnest50d` or, for one recipe of its weights, `timm:resnest50d.in1k`."""

import re
from types import ModuleType
from typing import Any

from graft.errors import InputError, WeightsError, did_you_mean
from graft.models.network import Config
from graft.weights.download import Download

PREFIX = "timm:"


def timm_name(name: str) -> str:
    """`timm:resnest50d.in1k` without the tag. Raises InputError where timm lacks it, or is not installed."""
    bare = name.removeprefix(PREFIX).partition(".")[0]
    known = installed_timm(name).list_models()
    if bare not in known:
        raise InputError(
            f"expected the name of a network of timm after {PREFIX}, got {bare!r}{did_you_mean(bare, known)}: "
            "`timm.list_models()` lists them all"
        )
    return f"{PREFIX}{bare}"


def published_settings(name: str) -> dict[str, Any]:
    """timm's `pretrained_cfg` of a network, of one recipe where `name` has a tag; empty where it publishes none."""
    architecture, timm = timm_name(name), installed_timm(name)
    try:
        settings = timm.get_pretrained_cfg(name.removeprefix(PREFIX))
    except RuntimeError:
        recipes = timm.list_models(f"{architecture.removeprefix(PREFIX)}.*", pretrained=True)
        raise InputError(
            f"expected a recipe of timm for {architecture}, got {name!r}"
            f"{did_you_mean(name.removeprefix(PREFIX), recipes)}: choose from {', '.join(recipes) or 'none'}"
        ) from None
    return settings.to_dict() if settings is not None else {}


def published_weights(name: str) -> str | Download:
    """Where timm's weights for `name` are: a repository on the Hub, or a file. Raises WeightsError for none."""
    settings = published_settings(name)
    if settings.get("hf_hub_id") and not settings.get("hf_hub_filename"):
        return str(settings["hf_hub_id"])
    url = str(settings.get("url") or "")
    # The names of timm's own files end in the first digits of their sha256.
    digest = re.search(r"-([0-9a-f]{8,64})\.(?:pth|pt|safetensors)$", url)
    if digest:
        return Download(url, digest[1])
    raise WeightsError(
        f"expected published weights for {name}, got {f'only {url}, whose digest nobody states' if url else 'none'}: "
        f"give a file of them as --base FILE --arch {timm_name(name)}, or start at random with --level scratch"
    )


def timm_config(name: str) -> Config:
    """The network as timm publishes it. Its padding and epsilon go with its name (`tf_…`) and are not set here."""
    classes = published_settings(name).get("num_classes") or 1000
    return Config(timm_name(name), classes=classes, channels=timm_input_size(name)[0])


def timm_input_size(name: str) -> tuple[int, int, int]:
    """(C, H, W) of the images that the published weights are for."""
    channels, height, width = published_settings(name).get("input_size", (3, 224, 224))
    return channels, height, width


def installed_timm(name: str) -> ModuleType:
    try:
        import timm
    except ImportError:
        raise InputError(
            f"expected timm to be installed for {name}, got none: pip install 'graft-vision[timm]'"
        ) from None
    return timm
