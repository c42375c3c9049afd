"""Turn what a training script saved into tensors by name, through its dictionaries, records and wrappers.

Nested values become one dictionary of dotted names, for example `state_dict.module.conv1.weight`. A prefix shared by
all weights is then stripped. A prefix that only some names have is left to `graft.weights.matching`, which knows what
the tensors should be.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft.errors import WeightsError
from graft.weights.inert import Record

# Parts of the keys of entries beside the weights that hold tensors of their own.
BESIDE = (
    "optim",
    "sched",
    "scaler",
    "rng",
    "callbacks",
    "loops",
    "hparams",
    "hyper_parameters",
    "queue",
    "message_hub",
)
# Keys under which training scripts, wrappers and compilers put weights.
WRAPPERS = frozenset(
    (
        "state_dict",
        "model_state_dict",
        "model_state",
        "model_weights",
        "model",
        "net",
        "network",
        "weights",
        "params",
        "module",
        "_orig_mod",
        "_forward_module",
    )
)
# Averages of the weights over the steps of a training run, which score better than the last step's weights.
AVERAGED = frozenset(
    (
        "state_dict_ema",
        "ema_state_dict",
        "model_state_dict_ema",
        "model_ema_state_dict",
        "model_ema",
        "ema_model",
        "ema",
        "ema_weights",
        "ema_params",
        "shadow",
        "averaged_model",
        "swa_model",
        "swa_state_dict",
        "teacher",
    )
)
# Wrappers of single modules inside a network during training, as torch and its libraries name them.
INNER = frozenset(("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"))
# The deepest nesting of entries, and the largest number of tensors.
DEEPEST, MOST = 24, 200_000


@dataclass(frozen=True)
class Unwrapped:
    """Tensors by name, and the choices made on the way, as sentences."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()


def unwrap(value: Any, source: str) -> Unwrapped:
    """Return the tensors in a checkpoint's content. Raises WeightsError if there are none with a name."""
    tensors = dict(_flatten(value)) if isinstance(value, dict | list | tuple | Record) else {}
    named = {name for name in tensors if not name.rpartition(".")[2].isdigit()}
    if not named:
        what = (
            f"a dictionary of {', '.join(map(repr, list(value)[:6])) or 'nothing'}"
            if isinstance(value, dict)
            else value.name
            if isinstance(value, Record)
            else type(value).__name__
        )
        raise WeightsError(
            f"expected a dictionary of tensors, bare or under 'state_dict', 'model_state_dict', 'model', got {what} "
            f"in {source}: save the network's state_dict()"
        )
    return without_wrappers(tensors)


def without_wrappers(tensors: dict[str, Tensor]) -> Unwrapped:
    """Strip what precedes all names; when an averaged copy stands beside the weights, keep the average."""
    notes: list[str] = []
    stripped: list[str] = []
    tensors = _without_inner_wrappers(tensors)
    while True:
        parts = by_first_word(tensors)
        # A counter beside the weights, like that of torch's AveragedModel, is not a weight.
        words = [word for word, inside in parts.items() if inside or tensors[word].ndim]
        averaged = [word for word in words if word in AVERAGED]
        plain = [word for word in words if word in WRAPPERS or word == "student"]
        if not words or len(averaged) + len(plain) != len(words) or not all(parts[word] for word in words):
            return Unwrapped(tensors, (*_taken_under(stripped), *notes))
        chosen, *others = [*averaged, *plain]
        stripped.append(chosen)
        tensors = parts[chosen]
        if others:
            alternatives = {word: without_wrappers(parts[word]).tensors for word in others}
            mean = without_wrappers(tensors).tensors
            other = next((word for word, those in alternatives.items() if _covers(those, mean)), None)
            if chosen not in AVERAGED or other is None:
                # Several networks that are not one and its average: their shapes must tell which is meant.
                return Unwrapped(_join(parts, words), (*_taken_under(stripped[:-1]), *notes))
            # An average of parameters only is completed with the statistics of the weights that it averages.
            tensors = {**alternatives[other], **mean}
            notes.append(f"the averaged weights {chosen!r} were used, not {', '.join(map(repr, others))}")


def _taken_under(stripped: list[str]) -> tuple[str, ...]:
    return (f"the weights under {'.'.join(stripped)!r} were used",) if stripped else ()


def _without_inner_wrappers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip wrappers of single modules: `layer1.0._orig_mod.conv1.weight` is `layer1.0.conv1.weight`."""
    bare = {".".join(word for word in name.split(".") if word not in INNER): name for name in tensors}
    # If two names coincide, these are not the wrappers of one network.
    return {new: tensors[name] for new, name in bare.items()} if len(bare) == len(tensors) else tensors


def by_first_word(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Group the tensors by the first word of their names; a name of one word has nothing under it."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        first, dot, rest = name.partition(".")
        inside = parts.setdefault(first, {})
        if dot:
            inside[rest] = tensor
    return parts


def _join(parts: dict[str, dict[str, Tensor]], words: list[str]) -> dict[str, Tensor]:
    return {f"{word}.{name}": tensor for word in words for name, tensor in parts[word].items()}


def _covers(weights: dict[str, Tensor], mean: dict[str, Tensor]) -> bool:
    """Whether `mean` can be an average of some of these weights."""
    return all(name in weights and weights[name].shape == tensor.shape for name, tensor in mean.items())


def _flatten(value: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield every tensor inside with its dotted path; visit each container once, so that cycles end."""
    seen: set[int] = set()
    found = 0
    waiting: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while waiting:
        path, item = waiting.pop()
        tensor = _as_tensor(item)
        if tensor is not None:
            found += 1
            if found > MOST:
                return
            yield ".".join(path), tensor
        elif isinstance(item, dict | list | tuple | Record) and id(item) not in seen and len(path) < DEEPEST:
            seen.add(id(item))
            inside = [(path + key, each) for key, each in _entries(item) if not _is_beside(key, each)]
            waiting.extend(reversed(inside))


def _is_beside(key: tuple[str, ...], value: Any) -> bool:
    return isinstance(value, dict | list | tuple) and any(word in part.lower() for word in BESIDE for part in key)


def _entries(item: Any) -> list[tuple[tuple[str, ...], Any]]:
    if isinstance(item, dict):
        return [((str(key),), each) for key, each in item.items()]
    if isinstance(item, list | tuple):
        return [((str(index),), each) for index, each in enumerate(item)]
    if not isinstance(item.state, dict):
        return []
    if not isinstance(item.state.get("_parameters"), dict):
        return [((str(key),), each) for key, each in item.state.items()]
    # A whole network: its tensors, under the names that its state_dict() would give them.
    passing = item.state.get("_non_persistent_buffers_set") or ()
    return [
        ((str(key),), each)
        for kind in ("_parameters", "_buffers", "_modules")
        if isinstance(item.state.get(kind), dict)
        for key, each in item.state[kind].items()
        if not (kind == "_buffers" and key in passing)
    ]


def _as_tensor(item: Any) -> Tensor | None:
    """Return a tensor, or a NumPy array as one; None for anything else."""
    if isinstance(item, Tensor):
        return item.detach()
    if not isinstance(item, Record) or not item.name.endswith("multiarray._reconstruct"):
        return None
    try:
        _, shape, kind, by_column, content = item.state
        letters, order = kind.arguments[0], kind.state[1]
        if not isinstance(content, bytes | bytearray) or letters[0] not in "fiub":
            return None
        stored = np.dtype(letters).newbyteorder(order if order in "<>" else "=")
        array = np.frombuffer(content, stored)
        if array.size != prod(shape):
            return None
        array = array.reshape(shape, order="F" if by_column else "C")
        return torch.from_numpy(array.astype(stored.newbyteorder("="), order="C", copy=True))
    except (TypeError, ValueError, IndexError, AttributeError, KeyError):
        return None
