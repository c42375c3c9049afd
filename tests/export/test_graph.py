"""A graph from pixels resizes, normalises and answers as graft does."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trunks import needs_bfloat16

from graft.export.facts import Facts
from graft.export.graph import FromPixels, PoolAsProducts, scaled, to_squares
from graft.export.recording import write_onnx, write_openvino, write_torch
from graft.export.running import open_exported, open_torch
from graft.features.openvino_import import openvino, opset8
from graft.images import squares
from graft.images.preprocessing import Preprocessing
from graft.images.resizing import mean_colour, to_square
from graft.models.catalog import build
from graft.models.network import Config
from graft.weights.saved import SavedModel, class_logits

SIZES = [(1, 1), (2, 3), (17, 600), (6000, 17), (333, 500), (64, 64), (147, 201), (1500, 1000), (5, 900), (116, 120)]
MODES = ("crop", "squash", "letterbox")


def image(height: int, width: int) -> np.ndarray:
    """Smooth where it is large, noise where it is small: uint8 (H, W, 3)."""
    random = np.random.default_rng(height * 10_007 + width)
    coarse = random.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3)).astype(np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_images_of_any_size_are_resized_as_graft_resizes_them(mode: str, channels: int, whole: bool) -> None:
    preprocessing = Preprocessing(96, (0.4, 0.5, 0.6)[:channels], (0.5,) * channels, mode, 0.875)
    around = mean_colour(preprocessing).float()[:, None, None]
    for height, width in SIZES:
        pixels = image(height, width)
        expected = to_square(pixels, preprocessing).float()
        (found,) = to_squares(torch.from_numpy(pixels)[None], preprocessing, around, whole)
        difference = (found - expected).abs()
        assert difference.max() <= 1, (height, width)
        assert (difference > 0).float().mean() <= 1e-4, (height, width)


@needs_bfloat16
@pytest.mark.parametrize("channels", [1, 3])
def test_openvino_resizes_alike_in_bfloat16_which_it_chooses_by_itself(channels: int, tmp_path: Path) -> None:
    preprocessing = Preprocessing(96, (0.0,) * channels, (1 / 255,) * channels, "crop", 0.875)
    head = build(Config("mobilenet_v1_025", classes=3, channels=channels)).eval()
    graph = FromPixels(SavedModel(head, preprocessing, tuple("abc")))
    write_openvino(graph, Facts.of(SavedModel(head, preprocessing, tuple("abc")), "0"), tmp_path / "model.xml")
    model = openvino.Core().read_model(tmp_path / "model.xml")
    first = next(each for each in model.get_ordered_ops() if each.get_type_name() == "Convolution")
    # A convolution behind the resizing, or OpenVINO would leave that in float32: it passes every other pixel on.
    kernel = np.zeros((channels, channels, 1, 1), np.float32)
    kernel[range(channels), range(channels)] = 1
    passed = opset8.convolution(first.input_value(0), kernel, [2, 2], [0, 0], [0, 0], [1, 1])
    resizing = openvino.Model([passed.output(0)], model.get_parameters(), "resizing")
    compiled = openvino.Core().compile_model(resizing, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    for height, width in [(97, 131), (333, 500), (1500, 1000), (423, 845)]:
        pixels = image(height, width)
        expected = to_square(pixels, preprocessing).float().numpy()[:, ::2, ::2]
        difference = np.abs(compiled(pixels[None])[0][0] - expected)
        assert difference.max() <= 1 and (difference > 0.5).mean() <= 1e-3, (height, width)


@pytest.mark.parametrize(("size", "side"), [(7, 4), (7, 7), (6, 13), (2, 5)])
def test_regions_of_unequal_size_are_averaged_as_torch_does(size: int, side: int) -> None:
    x = torch.randn(2, 3, side, side + 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(PoolAsProducts(size)(x), torch.nn.functional.adaptive_avg_pool2d(x, size))


def saved(outputs: tuple[tuple[int, ...], ...] | None = None) -> SavedModel:
    torch.manual_seed(0)
    network = build(Config("mobilenet_v1_025", classes=5)).eval()
    preprocessing = Preprocessing(64, (0.48, 0.45, 0.4), (0.23, 0.22, 0.22))
    classes = tuple("abcde"[: 5 if outputs is None else len(outputs)])
    return SavedModel(network, preprocessing, classes, temperature=1.7, outputs=outputs)


@pytest.mark.parametrize(("ending", "write"), [(".onnx", write_onnx), (".pt2", write_torch)])
def test_of_no_images_there_are_no_answers(
    ending: str, write: Callable[[FromPixels, Facts, Path], None], tmp_path: Path
) -> None:
    model, file = saved(), tmp_path / f"a{ending}"
    write(FromPixels(model), Facts.of(model, "0"), file)
    run = (open_torch if ending == ".pt2" else open_exported)(file).run
    assert run(np.zeros((0, 40, 50, 3), np.uint8)).shape == (0, 5)
    pixels = np.stack([image(40, 50), image(40, 50)[::-1]])
    np.testing.assert_allclose(run(pixels)[:1], run(pixels[:1]), atol=1e-6)


@pytest.mark.parametrize("outputs", [None, ((0, 2), (4,))])
def test_probabilities_are_those_of_the_saved_model(outputs: tuple[tuple[int, ...], ...] | None) -> None:
    model = saved(outputs)
    pixels = np.stack([image(80, 120), image(80, 120)[::-1]])
    preprocessing = model.preprocessing
    mean, std = (torch.tensor(each)[:, None, None] for each in (preprocessing.mean, preprocessing.std))
    x = torch.stack([to_square(each, preprocessing) for each in pixels]).double()
    with torch.no_grad():
        logits = model.network.double()((x / 255 - mean) / std)
        expected = torch.softmax(class_logits(logits, outputs) / model.temperature, 1)
        model.network.float()
        found = FromPixels(model)(torch.from_numpy(pixels.copy()))
    assert not any(module.training for module in FromPixels(model).modules())
    assert found.shape == (2, len(model.classes)) and found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_a_network_with_parts_named_as_its_list_of_stages_is_recorded_by_torch(tmp_path: Path) -> None:
    network = build(Config("preact_resnet20", classes=3)).eval()
    saved = SavedModel(network, Preprocessing(32, (0.5,) * 3, (0.25,) * 3), tuple("abc"))
    graph = FromPixels(saved)
    write_torch(graph, Facts.of(saved, "test"), tmp_path / "model.pt2")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 40, 50, 3)).astype(np.uint8)
    with torch.no_grad():
        expected = graph(torch.from_numpy(pixels)).numpy()
    assert np.abs(open_torch(tmp_path / "model.pt2").run(pixels) - expected).max() < 1e-6
    # Called as users do, without turning gradients off; the network itself is unchanged.
    alone = torch.export.load(str(tmp_path / "model.pt2")).module()(torch.from_numpy(pixels))
    assert np.abs(alone.numpy() - expected).max() < 1e-6
    assert all(each.requires_grad for each in saved.network.parameters())


def test_a_letterboxed_side_is_the_same_whole_number() -> None:
    for size in (96, 160, 224, 299):
        for longer in (*range(1, 400), 1537, 4000, 65_535):
            sides = range(1, longer + 1, max(1, longer // 400))
            found = scaled(torch.tensor(sides, dtype=torch.int32), torch.tensor(longer, dtype=torch.int32), size)
            assert found.tolist() == [squares.scaled(side, longer, size) for side in sides], (size, longer)
    # A tie, which fractions may round either way.
    preprocessing = Preprocessing(160, (0.5,) * 3, (0.5,) * 3, "letterbox")
    pixels = np.full((135, 192, 3), 255, np.uint8)
    (found,) = to_squares(torch.from_numpy(pixels)[None], preprocessing, mean_colour(preprocessing)[:, None, None])
    assert torch.equal(found, to_square(pixels, preprocessing).float())
