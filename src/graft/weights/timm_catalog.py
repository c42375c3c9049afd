"""Networks that timm publishes, named `timm:resnest50d` or, for one recipe's weights, `timm:resnest50d.in1k`."""

import json
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from graft.errors import InputError, did_you_mean
from graft.weights.download import Download

PREFIX = "timm:"


@dataclass(frozen=True)
class TimmEntry:
    """A network as timm publishes it, or one recipe of its weights.

    `name` is `timm:NAME` without the recipe's tag; `input_size` (C, H, W) describes the images that the weights are
    for; `metadata` is what timm says about these images, in the keys of a weight file's metadata; `published` is where
    the weights are: a repository on the Hub, a file with a stated digest, or None.
    """

    name: str
    classes: int
    input_size: tuple[int, int, int]
    metadata: dict[str, str]
    published: str | Download | None


def timm_entry(name: str) -> TimmEntry:
    """Return the network that `timm:NAME[.TAG]` names. Raises InputError if timm lacks it, or is not installed."""
    timm, (bare, _, tag) = installed_timm(name), name.removeprefix(PREFIX).partition(".")
    known = timm.list_models()
    if bare not in known:
        raise InputError(
            f"expected the name of a timm network after {PREFIX}, got {bare!r}{did_you_mean(bare, known)}: "
            "`timm.list_models()` lists them all"
        )
    try:
        found = timm.get_pretrained_cfg(f"{bare}.{tag}" if tag else bare)
    except RuntimeError:
        recipes = timm.list_models(f"{bare}.*", pretrained=True)
        raise InputError(
            f"expected a timm recipe for {bare}, got {name!r}{did_you_mean(f'{bare}.{tag}', recipes)}: choose from "
            f"{', '.join(recipes) or 'none'}"
        ) from None
    settings = found.to_dict() if found is not None else {}
    channels, height, width = settings.get("input_size", (3, 224, 224))
    return TimmEntry(
        f"{PREFIX}{bare}",
        settings.get("num_classes") or 1000,
        (channels, height, width),
        _image_metadata(settings),
        _where(settings),
    )


def timm_metadata(config: dict[str, Any]) -> dict[str, str]:
    """Convert a timm `config.json` to the keys of a weight file's metadata; empty for any other JSON."""
    settings, architecture = config.get("pretrained_cfg"), config.get("architecture")
    if not isinstance(settings, dict) or not isinstance(architecture, str):
        return {}
    metadata = {"library": "timm", "architecture": architecture}
    metadata |= {**naming_rules(architecture), **_image_metadata(settings)}
    arguments = config.get("model_args")
    if arguments:
        metadata["model_args"] = json.dumps(arguments)
    if isinstance(arguments, dict):
        # Of the changed arguments, two are numbers of the network itself.
        for theirs, ours, words in (("bn_eps", "bn_eps", {}), ("pad_type", "padding", {"same": "tensorflow"})):
            if theirs in arguments:
                metadata[ours] = words.get(str(arguments[theirs]), str(arguments[theirs]) or "torch")
    if isinstance(settings.get("interpolation"), str):
        metadata["interpolation"] = settings["interpolation"]
    if isinstance(config.get("label_names"), list):
        metadata["classes"] = json.dumps(config["label_names"])
    return metadata


def naming_rules(architecture: str) -> dict[str, str]:
    """Return the network numbers that a timm name implies: those beginning with `tf_` keep TensorFlow's."""
    return {"padding": "tensorflow", "bn_eps": "1e-3"} if architecture.startswith("tf_") else {}


def installed_timm(name: str) -> ModuleType:
    """Return the timm module. Raises InputError, which says what to install for the network `name`."""
    try:
        import timm
    except ImportError:
        raise InputError(
            f"expected timm to be installed for {name}, but it is not: pip install 'graft-vision[timm]'"
        ) from None
    return timm


def _image_metadata(settings: dict[str, Any]) -> dict[str, str]:
    metadata = {}
    for theirs, ours in (("mean", "mean"), ("std", "std"), ("crop_pct", "crop_fraction")):
        value = settings.get(theirs)
        if value is not None:
            metadata[ours] = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if isinstance(settings.get("input_size"), list | tuple) and settings["input_size"]:
        metadata["input_size"] = str(settings["input_size"][-1])
    if settings.get("crop_mode") == "squash":
        metadata["resize_mode"] = "squash"
    return metadata


def _where(settings: dict[str, Any]) -> str | Download | None:
    if settings.get("hf_hub_id") and not settings.get("hf_hub_filename"):
        return str(settings["hf_hub_id"])
    # The names of timm's own files end in the first digits of their sha256.
    url = str(settings.get("url") or "")
    digest = re.search(r"-([0-9a-f]{8,64})\.(?:pth|pt|safetensors)$", url)
    return Download(url, digest[1]) if digest else None
