"""Reduce the precision of graphs: weights in bfloat16 (OpenVINO), or weights and activations in eight bits (also ONNX).

A graph with weights in bfloat16 still computes in float32. Otherwise OpenVINO would also resize images in bfloat16;
with a MobileNetV2, this changed a probability of one of 153 photographs by 0.58. Resizing and normalisation stay as
they are: only the network, from its first convolution on, is changed.

Eight-bit weights use only seven bits. Processors without VNNI add pairs of products in sixteen bits, where products of
eight by eight bits overflow: a file that passed its check on one machine would answer wrongly on another.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from graft.errors import GraftError, InputError
from graft.export.graph import IMAGE
from graft.export.openvino_pair import read_pair, save_pair

ExportPrecision = Literal["fp32", "bf16", "int8"]
PRECISIONS = get_args(ExportPrecision)
# The formats that support each reduced precision.
IN_FEWER_BITS = {"bf16": ("openvino",), "int8": ("openvino", "onnx")}
# Images by number, uint8 (H, W, 3).
Numbered = Callable[[int], np.ndarray]
CONVOLUTIONS = ("Convolution", "GroupConvolution")


def to_bfloat16(file: Path) -> None:
    """Round the weights of the graph in `file` (.xml, with .bin beside it) to bfloat16, in place."""
    from graft.features.openvino_import import openvino, opset8

    model = read_pair(file)
    kept = _before_network(model)
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.f32:
            continue
        if node.get_friendly_name() in kept or not node.data.size:
            continue
        bits = np.ascontiguousarray(node.data).view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        tensor = openvino.Tensor(openvino.Type.bf16, openvino.Shape(list(node.data.shape)))
        tensor.data[...] = rounded.astype(np.uint16).view(tensor.data.dtype)
        widened = opset8.convert(openvino.op.Constant(tensor), np.float32)
        widened.set_friendly_name(f"{node.get_friendly_name()}/widened")
        for taker in node.output(0).get_target_inputs():
            taker.replace_source_output(widened.output(0))
    save_pair(model, file)


def to_int8(file: Path, count: int, image: Numbered, progress: Callable[[int], None]) -> None:
    """Quantise the network in the graph of `file` after training, in place, over the value ranges of `count` images.

    `image` returns the images by number, and `progress` is called for each. Raises InputError if the package that
    quantises is not installed, and GraftError if it fails.
    """
    (_onnx_to_int8 if file.suffix.lower() == ".onnx" else _openvino_to_int8)(file, count, image, progress)


def _onnx_to_int8(file: Path, count: int, image: Numbered, progress: Callable[[int], None]) -> None:
    """Quantise with ONNX Runtime: QuantizeLinear and DequantizeLinear pairs, one scale per channel of the weights."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.numbers = iter(range(count))

        def get_next(self) -> dict[str, np.ndarray] | None:
            number = next(self.numbers, None)
            if number is None:
                return None
            progress(number + 1)
            return {IMAGE: image(number)[None]}

    model = onnx.load(str(file))
    before = logging.root.manager.disable
    # It recommends a shape inference step, which the resizing in the graph prevents.
    logging.disable(logging.WARNING)
    try:
        quantize_static(
            model,
            str(file),
            Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=sorted(_before_network_of_onnx(model)),
        )
        _drop_unused(file)
    except GraftError:
        raise
    except Exception as error:  # its errors have no base class of their own
        raise _cannot("ONNX Runtime", error) from error
    finally:
        logging.disable(before)


def _drop_unused(file: Path) -> None:
    """Remove the constants of a file that quantising has replaced: ONNX Runtime warns of each whenever it opens it."""
    import onnx

    model = onnx.load(str(file))
    used = {name for node in model.graph.node for name in node.input} | {each.name for each in model.graph.output}
    kept = [each for each in model.graph.initializer if each.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.save(model, str(file))


def _before_network_of_onnx(model: Any) -> set[str]:
    """Return the names of all nodes that feed images to the first convolution."""
    makers = {output: node for node in model.graph.node for output in node.output}
    first = next((node for node in model.graph.node if node.op_type == "Conv"), None)
    if first is None:
        raise _without_convolutions()
    found: set[str] = set()
    upcoming = [first.input[0]]
    while upcoming:
        node = makers.get(upcoming.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            upcoming += node.input
    return found


def _openvino_to_int8(file: Path, count: int, image: Numbered, progress: Callable[[int], None]) -> None:
    """Quantise with NNCF."""
    nncf = _nncf()
    model = read_pair(file)

    def shown(number: int) -> np.ndarray:
        progress(number + 1)
        return image(number)[None]

    scope = nncf.IgnoredScope(names=sorted(_before_network(model)), validate=False)
    before = nncf.common.logging.logger.nncf_logger.level
    nncf.set_log_level(logging.ERROR)
    try:
        # Its progress bars and tables are neither results nor graft's progress.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            data = nncf.Dataset(range(count), shown)
            quantised = nncf.quantize(
                model,
                data,
                subset_size=count,
                ignored_scope=scope,
                advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
            )
    except Exception as error:  # its errors have no base class of their own
        raise _cannot("NNCF", error) from error
    finally:
        nncf.set_log_level(before)
    save_pair(quantised, file)


def _cannot(package: str, error: Exception) -> GraftError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return GraftError(
        f"expected a network that {package} can quantise, got {type(error).__name__} ({first[:200]}): leave out "
        "--precision int8"
    )


def _without_convolutions() -> GraftError:
    return GraftError("expected a network with convolutions, got a graph without any: leave --precision out")


def _nncf() -> Any:
    """Return NNCF, imported without the package by which it reports to an analytics service."""
    from graft.features.openvino_import import TELEMETRY, missing

    if "nncf" in sys.modules:
        return sys.modules["nncf"]
    try:
        with missing(TELEMETRY):
            import nncf
            import nncf.common.logging.logger
    except ImportError:
        raise InputError(
            "expected the package nncf for --precision int8, got none: pip install 'graft-vision[int8]'"
        ) from None
    return nncf


def _before_network(model: Any) -> set[str]:
    """Return the names of all operations and constants that feed images to the first convolution."""
    first = next((node for node in model.get_ordered_ops() if node.get_type_name() in CONVOLUTIONS), None)
    if first is None:
        raise _without_convolutions()
    found: set[str] = set()
    upcoming = [first.input(0).get_source_output().get_node()]
    while upcoming:
        node = upcoming.pop()
        if node.get_friendly_name() not in found:
            found.add(node.get_friendly_name())
            upcoming += [each.get_source_output().get_node() for each in node.inputs()]
    return found
