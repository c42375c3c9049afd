"""Identify the architecture of a weight file: as stated, by its metadata, by its training script, or by its tensors."""

import json
from contextlib import suppress
from dataclasses import replace

from graft.errors import InputError, WeightsError
from graft.weights.architectures import TIMM, TIMM_NAMES, Architecture, at_width, resolve
from graft.weights.file import ARCH, WeightFile
from graft.weights.matching import Match, choose_reading, match
from graft.weights.timm_catalog import PREFIX

# Arguments of timm's networks that weights are used alike with and without, or that metadata and tensors tell of.
UNCHANGING = frozenset(("num_classes", "in_chans", "drop_rate", "drop_path_rate", "bn_eps", "pad_type", "global_pool"))


def identify(file: WeightFile, stated: Architecture | None = None) -> Match:
    """Return the architecture of a file's tensors: the stated one, else that of its metadata, else the one they fit.

    Of those that fit, a network that the training script named is preferred.

    Raises InputError for an unknown architecture name and WeightsError for tensors that fit none.
    """
    name = file.metadata.get("architecture")
    if stated is None and name:
        stated = _by_timms_name(name, file) if file.metadata.get("library") == TIMM else resolve(name)
    if stated is not None and "width" in file.metadata:
        stated = at_width(stated, file.metadata["width"])
    if stated is None:
        return _by_hint(file) or _warned_of_twins(choose_reading(file.tensors, None, file.source), file.source)
    return choose_reading(file.tensors, stated, file.source)


def _by_timms_name(name: str, file: WeightFile) -> Architecture:
    """Return the catalogue's network of that name if the tensors fit it, else timm's own."""
    with suppress(InputError):
        ours = resolve(name)
        if not _changed(file.metadata) and match(file.tensors, ours, ours.config).exact:
            return ours
    if _changed(file.metadata):
        raise WeightsError(
            f"expected timm's {name} unchanged, got {file.source} of one built with {file.metadata['model_args']}: "
            "choose a model without model_args in its config.json"
        )
    return resolve(f"{PREFIX}{name}")


def _changed(metadata: dict[str, str]) -> set[str]:
    """Return the arguments that make timm's network compute something other than usual."""
    try:
        arguments = json.loads(metadata.get("model_args", "{}"))
    except (ValueError, RecursionError):
        return set()
    return {str(argument) for argument in arguments} - UNCHANGING if isinstance(arguments, dict) else set()


def _by_hint(file: WeightFile) -> Match | None:
    """Return the match with the network that the training script named; None if it named none, or they do not fit.

    Only the name tells timm's `tf_` networks from the others.
    """
    name = file.metadata.get(ARCH, "").partition(".")[0]
    for candidate in (name, f"{PREFIX}{name}") if name else ():
        with suppress(InputError):
            found = choose_reading(file.tensors, resolve(candidate), file.source)
            if found.exact:
                return found
    return None


def _warned_of_twins(found: Match, source: str) -> Match:
    """Add a note if timm has two networks with these tensors, one of which follows TensorFlow's rules."""
    if found.layout != "timm" or found.architecture.family not in ("efficientnet", "mobilenet_v3"):
        return found
    ours = found.architecture.name
    name = next((theirs for theirs, own in TIMM_NAMES.items() if own == ours), ours)
    note = f"{source} was taken for timm's {name}; weights of its tf_{name} want --arch tf_{name}"
    return replace(found, notes=(*found.notes, note))
