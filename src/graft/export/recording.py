"""Write a graph in the format that a runtime reads, with its facts inside."""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from graft.errors import GraftError, InputError
from graft.export.facts import KEY, Facts
from graft.export.graph import IMAGE, PROBABILITIES, FromPixels
from graft.export.openvino_pair import save_pair

# The example input for recording: two images, of a size that is neither square nor the network's.
EXAMPLE = (2, 97, 131, 3)
# It has every operation of the resizing and of all our networks, and runtimes of the last three years read it.
OPSET = 18


def write_onnx(graph: FromPixels, facts: Facts, path: Path) -> None:
    """Write one ONNX file with the facts in its metadata. Raises InputError if the package onnx is missing."""
    try:
        import onnx
    except ImportError:
        raise InputError(
            "expected the packages onnx and onnxruntime for --format onnx, got none: pip install 'graft-vision[onnx]'"
        ) from None
    with _recorded_quietly():
        # Recorded by tracing: the recorder through torch.export takes forty times as long, and gives the same.
        torch.onnx.export(
            graph,
            (example(),),
            str(path),
            dynamo=False,
            input_names=[IMAGE],
            output_names=[PROBABILITIES],
            dynamic_axes={IMAGE: {0: "images", 1: "height", 2: "width"}, PROBABILITIES: {0: "images"}},
            opset_version=OPSET,
        )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, {KEY: facts.to_json()})
    onnx.save(model, str(path))


def write_openvino(graph: FromPixels, facts: Facts, path: Path) -> None:
    """Write OpenVINO's intermediate representation: `path`, which ends in .xml, and a file of weights beside it."""
    from graft.features.openvino_import import convert_model, openvino

    # The same parameters: only how it computes is another.
    graph = copy.copy(graph)
    graph.whole = True
    with _recorded_quietly():
        model = convert_model(graph, example_input=example(), input=[([-1, -1, -1, 3], openvino.Type.u8)])
    model.input(0).set_names({IMAGE})
    model.output(0).set_names({PROBABILITIES})
    model.set_rt_info(facts.to_json(), KEY)
    save_pair(model, path)


def write_torch(graph: FromPixels, facts: Facts, path: Path) -> None:
    """Write an archive for `torch.export.load`; the facts are its extra file `graft`."""
    dimension = torch.export.Dim
    sizes = {0: dimension("images", min=0), 1: dimension("height", min=1), 2: dimension("width", min=1)}
    # Otherwise its weights, and with them its answers, require gradients, and NumPy refuses to read the answers.
    graph = copy.deepcopy(graph).requires_grad_(False)
    with _recorded_quietly():
        program = torch.export.export(graph, (example(),), dynamic_shapes=(sizes,))
        torch.export.save(program, str(path), extra_files={KEY: facts.to_json()})


def example() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, EXAMPLE).astype(np.uint8))


@contextmanager
def _recorded_quietly() -> Iterator[None]:
    """Silence recorders, which warn of each number taken from a shape and of themselves; the gate sees errors."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    except (RuntimeError, TypeError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GraftError(
            f"expected a network that can be recorded, got {type(error).__name__} ({first[:200]}): choose another "
            "--format"
        ) from error
    finally:
        logging.disable(level)


WRITERS: dict[str, tuple[str, Callable[[FromPixels, Facts, Path], None]]] = {
    "onnx": (".onnx", write_onnx),
    "openvino": (".xml", write_openvino),
    "torch": (".pt2", write_torch),
}
