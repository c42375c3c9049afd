"""Convert a section to an OpenVINO model, at the cost of running it once on a blank image.

That pass records the functions that the section calls in evaluation mode and translates each to OpenVINO's opset. It
takes a tenth of a second, where OpenVINO's own converter, which traces several times, takes seconds. (A pass over meta
tensors would make torch load its compiler, which takes longer still.) A section that calls a function without a
translation goes to that converter instead.
"""

import warnings
from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from graft.features.openvino_functions import FUNCTIONS, SPLITS, Node, UnknownFunctionError, constant
from graft.features.openvino_import import convert_model, openvino
from graft.features.openvino_import import opset8 as opset
from graft.images.preprocessing import Preprocessing, normalise

_ONE_AT_A_TIME = Lock()


class ConversionError(Exception):
    """The fault of a model made from a section; its message is a clause without a subject."""


def record(section: nn.Module, preprocessing: Preprocessing, batch: int) -> openvino.Model:
    """Build a model from pixels uint8 (batch, C, size, size) to activations float32: normalisation, then the section.

    Raises UnknownFunctionError if the section calls a function without a translation.
    """
    shape = (batch, preprocessing.channels, preprocessing.size, preprocessing.size)
    pixels = opset.parameter(list(shape), dtype=np.uint8, name="pixels")
    per_channel = (1, preprocessing.channels, 1, 1)
    mean = 255 * np.asarray(preprocessing.mean, np.float32).reshape(per_channel)
    std = 255 * np.asarray(preprocessing.std, np.float32).reshape(per_channel)
    image = opset.divide(opset.subtract(opset.convert(pixels, np.float32), constant(mean)), constant(std))
    values = {id(tensor): tensor.detach() for tensor in (*section.parameters(), *section.buffers())}
    recorder = Recorder(values, batch)
    blank = torch.zeros((1, *shape[1:]))
    recorder.nodes[id(blank)] = image
    with torch.no_grad(), recorder:
        end = section(blank)
    return openvino.Model([opset.result(recorder.node(end))], [pixels], "trunk")


def convert(section: nn.Module, preprocessing: Preprocessing, batch: int) -> openvino.Model:
    """Build the same model with OpenVINO's converter. Raises ConversionError."""
    shape = (batch, preprocessing.channels, preprocessing.size, preprocessing.size)

    class FromPixels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.section = section

        def forward(self, pixels: Tensor) -> Tensor:
            activations: Tensor = self.section(normalise(pixels, preprocessing))
            return activations

    # Tracing keeps its state in globals of torch, and the filters of warnings belong to the process.
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        # Tracing warns of every number taken from a shape; shapes are fixed here.
        warnings.simplefilter("ignore")
        try:
            return convert_model(
                FromPixels().eval(),
                example_input=torch.zeros(shape, dtype=torch.uint8),
                input=[(list(shape), openvino.Type.u8)],
            )
        except Exception as error:
            # Depending on the network, torch's tracing and OpenVINO's frontend may raise any error.
            raise ConversionError(f"failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})") from None


class Recorder(TorchFunctionMode):
    """Track tensors by identity: `nodes` for those computed from the image, `values` for weights and their results.

    The recorded pass has one image, the model a batch of `batch` images.
    """

    def __init__(self, values: dict[int, Tensor], batch: int) -> None:
        super().__init__()
        self.batch = batch
        self.nodes: dict[int, Node] = {}
        self.values = values
        # An id is unique only while its tensor is alive.
        self._alive: list[Any] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        self._alive.append((args, output))
        name = getattr(function, "__name__", "").strip("_")
        if name in SPLITS and isinstance(output, tuple):
            self._split(args[0], output, kwargs.get("dim", 0) if kwargs and "dim" in kwargs else (*args, 0)[2])
            return output
        if not isinstance(output, Tensor):
            return output
        if self._of_weights((*args, *(kwargs or {}).values())):
            self.values[id(output)] = output.detach()
            return output
        if name not in FUNCTIONS:
            raise UnknownFunctionError(name)
        try:
            node = FUNCTIONS[name](self, output, *args, **(kwargs or {}))
        except (TypeError, ValueError, RuntimeError) as error:
            raise UnknownFunctionError(f"{name}: {error}") from None
        # A wrong translation, or one that mixes up images of a batch, mostly shows in the shape.
        expected = (self.batch, *output.shape[1:]) if output.shape[:1] == (1,) else tuple(output.shape)
        if tuple(node.output(0).shape) != expected:
            raise UnknownFunctionError(f"{name}: {expected} became {tuple(node.output(0).shape)}")
        self.nodes[id(output)] = node
        return output

    def _of_weights(self, arguments: Sequence[Any]) -> bool:
        """Return whether a result is computed from weights alone, as when a layer standardises its weights."""
        tensors = [value for value in arguments if isinstance(value, Tensor)]
        return bool(tensors) and all(id(value) in self.values for value in tensors)

    def _split(self, whole: Tensor, parts: Sequence[Tensor], axis: int) -> None:
        """Record the parts of a tensor split along an axis other than the batch."""
        if axis % whole.ndim == 0:
            raise UnknownFunctionError("a split of the batch")
        lengths = np.array([part.shape[axis] for part in parts])
        pieces = opset.variadic_split(self.node(whole), np.array(axis), lengths)
        for part, piece in zip(parts, pieces.outputs(), strict=True):
            self.nodes[id(part)] = piece

    def node(self, value: Any) -> Node:
        """Return the node of an operand: a computed tensor, a weight or a number."""
        if isinstance(value, Tensor):
            return self.nodes[id(value)] if id(value) in self.nodes else constant(self.numpy(value))
        return constant(np.float32(value))

    def numpy(self, value: Tensor) -> np.ndarray:
        """Return the values of a weight, float32."""
        if id(value) not in self.values:
            raise UnknownFunctionError("a tensor that is neither computed from the input nor a weight")
        return np.asarray(self.values[id(value)].float().cpu().numpy())
