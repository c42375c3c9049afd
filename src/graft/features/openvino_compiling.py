"""Sections compiled for OpenVINO: checked against PyTorch when first compiled, then kept on disk."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from graft.errors import GraftError, WeightsError
from graft.features.cache import section_digest
from graft.features.engine import Precision, has_depthwise
from graft.features.openvino_functions import UnknownFunctionError
from graft.features.openvino_graph import ConversionError, convert, record
from graft.features.openvino_import import core, openvino
from graft.features.openvino_requests import BATCH, MOST_MAP_BYTES, TYPES, read_compiled
from graft.files import COMPILED, cache_folder, keep
from graft.images.preprocessing import Preprocessing, normalise
from graft.models.network import Section
from graft.progress import NOBODY, Reporter

# How far activations may be from PyTorch's in float32, relative to their norm. Over 30 networks at several cuts, the
# largest error was 5e-6 in float32 and 0.05 in bfloat16, where PyTorch's own bfloat16 is as far off.
TOLERANCES = {"float32": 1e-3, "bfloat16": 0.06}


def images_per_request(section: Section, preprocessing: Preprocessing) -> int:
    """Return the number of images per request in float32, a power of two: see MOST_MAP_BYTES."""
    if not has_depthwise(section):
        return BATCH
    fitting = max(1, MOST_MAP_BYTES // max(1, _largest_map(section, preprocessing)))
    return int(min(BATCH, 2 ** (fitting.bit_length() - 1)))


def _largest_map(section: nn.Module, preprocessing: Preprocessing) -> int:
    """Return the size in bytes of the largest layer output for one image in float32.

    It is found by computing one: meta tensors would cost torch seconds of imports.
    """
    sizes = _Sizes()
    shape = (1, preprocessing.channels, preprocessing.size, preprocessing.size)
    with torch.inference_mode(), sizes:
        section.eval()(torch.zeros(shape))
    return sizes.largest


class _Sizes(TorchFunctionMode):
    """Note the size in bytes of the largest tensor that any function returns; hooks would see other threads' runs."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), settings: Any = None) -> Any:
        made = function(*arguments, **(settings or {}))
        if isinstance(made, Tensor):
            self.largest = max(self.largest, 4 * made.numel())
        return made


def compile_section(
    section: Section,
    preprocessing: Preprocessing,
    precision: Precision,
    batch: int,
    options: dict[str, Any],
    reporter: Reporter = NOBODY,
) -> tuple[str, openvino.CompiledModel]:
    """Compile a section with the `options` of OpenVINO's CPU device; return its cache key and the compiled model.

    The model takes pixels uint8 (batch, C, size, size) to activations float32. A section compiled before comes from the
    cache, which holds only those that agreed with PyTorch. `reporter` receives notes on a cache that is damaged or
    cannot be written, and on a conversion that did not agree. Raises GraftError if OpenVINO computes something else,
    and in a forked process.
    """
    # Cropping is not part of the graph: one compiled section serves all views.
    in_graph = replace(preprocessing, resize_mode="squash", crop_fraction=1.0)
    key = section_digest(section, in_graph, precision, f"openvino {openvino.__version__} batch {batch}, checked")
    found = read_compiled(key, options, reporter)
    if found is not None:
        return key, found
    compiled = _compile(section.eval(), preprocessing, precision, batch, options, reporter)
    try:
        exported = compiled.export_model()
    except RuntimeError:
        # This plugin cannot export; caching would only save time.
        return key, compiled
    content = exported if isinstance(exported, bytes) else exported.getvalue()
    keep(cache_folder() / COMPILED / key, content, reporter)
    return key, compiled


def _compile(
    section: nn.Module,
    preprocessing: Preprocessing,
    precision: Precision,
    batch: int,
    options: dict[str, Any],
    reporter: Reporter,
) -> openvino.CompiledModel:
    """Compile the section as graft records it or, if that fails or disagrees with PyTorch, as OpenVINO converts it."""
    sample = _sample(section, preprocessing, batch)
    try:
        return _checked(record(section, preprocessing, batch), precision, options, sample)
    except UnknownFunctionError:
        # A function without a translation is left to OpenVINO's converter.
        pass
    except ConversionError as error:
        reporter.note(
            f"graft's conversion of this network to OpenVINO {error}, so OpenVINO's own is used. This is a bug in "
            "graft; report it with the name of the network."
        )
    try:
        return _checked(convert(section, preprocessing, batch), precision, options, sample)
    except ConversionError as error:
        raise GraftError(
            f"expected OpenVINO to compute what PyTorch computes, got a conversion that {error}: use --engine torch"
        ) from None


@dataclass(frozen=True)
class Sample:
    """Noise, uint8 (n, C, size, size), and PyTorch's float32 output for its last image, (…)."""

    pixels: np.ndarray
    expected: Tensor

    def error(self, compiled: openvino.CompiledModel) -> float:
        """Return the norm of the difference relative to that of the output; not finite if the output is not.

        The images of the batch are all different, so an image mixed up with another is detected.
        """
        output = torch.from_numpy(compiled(self.pixels)[0][-1])
        norm = max(float(self.expected.norm()), torch.finfo(torch.float32).tiny)
        return float((output.double() - self.expected).norm()) / norm


def _sample(section: nn.Module, preprocessing: Preprocessing, batch: int) -> Sample:
    shape = (batch, preprocessing.channels, preprocessing.size, preprocessing.size)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with torch.inference_mode():
        expected = section(normalise(torch.from_numpy(pixels[-1:]), preprocessing))[0].double()
    if not expected.isfinite().all():
        raise WeightsError(
            "expected weights that give finite numbers, got some that give NaN or infinity for an image of noise: "
            "use another weight file or an earlier checkpoint"
        )
    return Sample(pixels, expected)


def _checked(
    model: openvino.Model, precision: Precision, options: dict[str, Any], sample: Sample
) -> openvino.CompiledModel:
    """Compile the model. Raises ConversionError if that fails, or if its output for the sample is wrong."""
    try:
        compiled = core().compile_model(model, "CPU", options)
        error = sample.error(compiled)
        if precision != "float32" and math.isfinite(error) and error > TOLERANCES[precision]:
            # In some networks, bfloat16 itself is off by as much; float32 shows whether the model is right.
            precision = "float32"
            exact = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": TYPES[precision]})
            error = sample.error(exact)
    except RuntimeError as failure:
        raise ConversionError(f"cannot be compiled ({' '.join(str(failure).split())[:200]})") from None
    if not math.isfinite(error):
        raise ConversionError("computes NaN or infinity where PyTorch does not")
    if error > TOLERANCES[precision]:
        raise ConversionError(f"is off by {error:.2g} of the output's norm, where {TOLERANCES[precision]:g} is allowed")
    return compiled
