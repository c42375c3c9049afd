"""OpenVINO against the plain module, in order, whatever the batches are."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from trunks import (
    BOTH_PRECISIONS,
    in_batches,
    make_network,
    needs_bfloat16,
    noise,
    plainly,
    preprocessing_of,
    relative_error,
)

from graft.data.loading import Batch

pytest.importorskip("openvino")

from graft.features.openvino_engine import OpenVINOEngine


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("name", "padding", "size"),
    [
        ("lenet5", "torch", 28),
        ("resnet20", "torch", 32),
        ("resnet18", "torch", 64),
        ("mobilenet_v1_025", "tensorflow", 64),
        ("mobilenet_v2", "torch", 64),
        ("mobilenet_v2", "tensorflow", 65),
        ("mobilenet_v3_small", "tensorflow", 65),
        ("efficientnet_b0", "torch", 64),
        ("googlenet", "torch", 64),
        ("googlenet_2014", "torch", 64),
        ("inception_v3", "torch", 80),
        ("densenet121", "torch", 64),
        ("xception", "torch", 64),
        ("preact_resnet18", "torch", 64),
        ("alexnet_2012", "torch", 99),
    ],
)
def test_float32_agrees_with_torch(name: str, padding: str, size: int, own_cache: Path) -> None:
    network, preprocessing = make_network(name, padding), preprocessing_of(name, size)
    pixels = noise(5, preprocessing)
    for cut in {network.cuts[1], network.cuts[len(network.cuts) // 2], "head"}:
        trunk, _ = network.split(cut)
        engine = OpenVINOEngine(trunk, preprocessing, "float32")
        ((_, values),) = engine.run(in_batches(pixels, [5]))
        assert values.dtype == torch.float32 and tuple(values.shape[1:]) == engine.output_shape
        assert relative_error(values, plainly(trunk, pixels, preprocessing)) < 1e-4, cut


@needs_bfloat16
def test_bfloat16_error_is_that_of_eight_bits(own_cache: Path) -> None:
    network, preprocessing = make_network("resnet20"), preprocessing_of("resnet20")
    trunk, _ = network.split("stage2")
    pixels = noise(8, preprocessing)
    ((_, values),) = OpenVINOEngine(trunk, preprocessing, "bfloat16").run(in_batches(pixels, [8]))
    assert values.dtype == torch.bfloat16
    error = relative_error(values, plainly(trunk, pixels, preprocessing))
    assert error < 0.03
    # Half a unit in the last of eight bits, at least, since the result itself is rounded.
    assert error > 1e-4
    # Computed in bfloat16 and not only rounded at the end.
    assert not torch.equal(values, plainly(trunk, pixels, preprocessing).bfloat16())


@pytest.fixture(scope="module")
def engine() -> Iterator[tuple[OpenVINOEngine, torch.Tensor, torch.Tensor]]:
    """A small engine, 75 images, and what torch makes of them."""
    network, preprocessing = make_network("resnet20"), preprocessing_of("resnet20", 8)
    trunk, _ = network.split("pool")
    pixels = noise(75, preprocessing)
    yield OpenVINOEngine(trunk, preprocessing, "float32"), pixels, plainly(trunk, pixels, preprocessing)


@pytest.mark.parametrize(
    "sizes",
    [[8, 8], [1], [7, 9, 1], [0], [0, 0, 3], [5, 0, 4], [3, 0], [32, 32, 11], [75], [1] * 20, []],
    ids=str,
)
def test_batches_of_any_size_keep_their_order(sizes: list[int], engine: tuple) -> None:
    compiled, pixels, expected = engine
    made = list(compiled.run(in_batches(pixels, sizes)))
    assert [len(values) for _, values in made] == sizes
    assert [len(batch.indices) for batch, _ in made] == sizes
    for batch, values in made:
        assert values.shape[1:] == expected.shape[1:]
        assert torch.allclose(values, expected[batch.indices], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sizes", [[1], [1] * 9, [8, 3, 0, 6], [7, 15, 17], [0], []], ids=str)
def test_single_images_take_requests_of_their_own_where_that_is_asked_for(sizes: list[int], engine: tuple) -> None:
    _, pixels, expected = engine
    network, preprocessing = make_network("resnet20"), preprocessing_of("resnet20", 8)
    compiled = OpenVINOEngine(network.split("pool")[0], preprocessing, "float32", singles=True)
    made = list(compiled.run(in_batches(pixels, sizes)))
    assert [len(values) for _, values in made] == sizes
    for batch, values in made:
        assert torch.allclose(values, expected[batch.indices], rtol=1e-3, atol=1e-4)


def test_one_batch_after_the_other_is_asked_for(engine: tuple) -> None:
    compiled, pixels, _ = engine
    asked = 0

    def counted() -> Iterator[Batch]:
        nonlocal asked
        for batch in in_batches(pixels, [8] * 9):
            asked += 1
            yield batch

    run = compiled.run(counted())
    next(run)
    # Never more batches in flight than there are requests.
    assert asked <= compiled._in_flight + 2
    run.close()


def test_runs_at_the_same_time_do_not_touch_each_other(engine: tuple) -> None:
    compiled, pixels, _ = engine
    other = pixels.flip(0)
    alone = [[values for _, values in compiled.run(in_batches(each, [32, 32, 11]))] for each in (pixels, other)]
    runs = [compiled.run(in_batches(each, [32, 32, 11])) for each in (pixels, other)]
    together = [[values for _, values in turns] for turns in zip(*zip(*runs, strict=True), strict=True)]
    for one, two in zip(alone, together, strict=True):
        assert all(torch.equal(left, right) for left, right in zip(one, two, strict=True))


@pytest.mark.parametrize("precision", BOTH_PRECISIONS)
def test_an_image_gives_the_same_bits_in_any_company(precision: str, own_cache: Path) -> None:
    network, preprocessing = make_network("mobilenet_v2"), preprocessing_of("mobilenet_v2", 64)
    trunk, _ = network.split("head")
    engine = OpenVINOEngine(trunk, preprocessing, precision)
    image = noise(1, preprocessing)
    ((_, alone),) = engine.run(in_batches(image, [1]))
    for size, place in ((2, 1), (8, 0), (8, 5), (11, 8), (32, 31)):
        pixels = noise(size, preprocessing, seed=size + place)
        pixels[place] = image[0]
        ((_, values),) = engine.run(in_batches(pixels, [size]))
        assert torch.equal(values[place], alone[0]), (size, place)


def test_stopping_early_leaves_the_engine_usable(engine: tuple) -> None:
    compiled, pixels, expected = engine
    run = compiled.run(in_batches(pixels, [32, 32, 11]))
    next(run)
    run.close()
    ((_, values),) = compiled.run(in_batches(pixels[:3], [3]))
    assert torch.allclose(values, expected[:3], rtol=1e-3, atol=1e-4)


def test_a_failing_source_of_batches_leaves_the_engine_usable(engine: tuple) -> None:
    compiled, pixels, expected = engine

    def failing() -> Iterator[Batch]:
        yield from in_batches(pixels, [32])
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        list(compiled.run(failing()))
    ((_, values),) = compiled.run(in_batches(pixels, [75]))
    assert torch.allclose(values, expected, rtol=1e-3, atol=1e-4)
