"""The reference engine: the module itself, no more and no less."""

import pytest
import torch
from trunks import in_batches, make_network, noise, plainly, preprocessing_of, relative_error

from graft.errors import GraftError
from graft.features.torch_engine import TorchEngine
from graft.sending import one_behind


@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mobilenet_v2"])
def test_float32_equals_the_plain_module_bit_for_bit(name: str) -> None:
    network, preprocessing = make_network(name), preprocessing_of(name)
    for cut in (network.cuts[1], network.cuts[-2], network.cuts[-1]):
        trunk, _ = network.split(cut)
        pixels = noise(11, preprocessing)
        engine = TorchEngine(trunk, preprocessing, "float32", "cpu")
        made = list(engine.run(in_batches(pixels, [8, 0, 3])))
        assert [batch.indices.tolist() for batch, _ in made] == [list(range(8)), [], [8, 9, 10]]
        for batch, values in made:
            assert values.dtype == torch.float32 and tuple(values.shape[1:]) == engine.output_shape
            if len(values):
                assert torch.equal(values, plainly(trunk, batch.pixels, preprocessing))


def test_a_section_in_training_mode_is_run_in_evaluation_mode() -> None:
    network, preprocessing = make_network("mobilenet_v2"), preprocessing_of("mobilenet_v2")
    trunk, _ = network.split("head")
    pixels = noise(4, preprocessing)
    expected = plainly(trunk, pixels, preprocessing)
    engine = TorchEngine(trunk, preprocessing, "float32", "cpu")
    trunk.train()
    ((_, values),) = engine.run(in_batches(pixels, [4]))
    assert torch.equal(values, expected)


def test_bfloat16_is_near() -> None:
    network, preprocessing = make_network("resnet20"), preprocessing_of("resnet20")
    trunk, _ = network.split("stage2")
    pixels = noise(9, preprocessing)
    made = list(TorchEngine(trunk, preprocessing, "bfloat16", "cpu").run(in_batches(pixels, [8, 0, 1])))
    values = torch.cat([values for _, values in made])
    assert values.dtype == torch.bfloat16 and made[1][1].dtype == torch.bfloat16 and len(values) == 9
    error = relative_error(values, plainly(trunk, pixels, preprocessing))
    # Eight bits of mantissa: above zero, or it was not bfloat16, and below three in a hundred.
    assert 1e-4 < error < 0.03


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_image_gives_the_same_bits_in_any_company_of_the_same_size(precision: str) -> None:
    network, preprocessing = make_network("mobilenet_v2"), preprocessing_of("mobilenet_v2", 64)
    trunk, _ = network.split("head")
    engine = TorchEngine(trunk, preprocessing, precision, "cpu")
    image, made = noise(1, preprocessing), {}
    for size in (1, 2, 8, 32):
        for place in (0, size // 2, size - 1):
            pixels = noise(size, preprocessing, seed=size + place)
            pixels[place] = image[0]
            ((_, values),) = engine.run(in_batches(pixels, [size]))
            assert torch.equal(made.setdefault(size, values[place]), values[place]), (size, place)
    # In a batch of another size it is the same up to the order of additions.
    for values in made.values():
        assert relative_error(values, made[1]) < (1e-5 if precision == "float32" else 0.01)


def test_what_is_waited_for_a_batch_later_is_the_same() -> None:
    network, preprocessing = make_network("resnet20"), preprocessing_of("resnet20")
    trunk, _ = network.split("stem")
    engine = TorchEngine(trunk, preprocessing, "float32", "cpu")
    pixels = noise(7, preprocessing)
    at_once = list(engine.run(in_batches(pixels, [3, 0, 4])))
    # As on a device, which computes a batch while the previous one is being used.
    later = list(one_behind((batch, engine._begun(batch.pixels)) for batch in in_batches(pixels, [3, 0, 4])))
    for (batch, values), (batch_later, values_later) in zip(at_once, later, strict=True):
        assert batch.indices.tolist() == batch_later.indices.tolist()
        assert torch.equal(values, values_later)


def test_an_accelerator_that_the_parent_process_used_is_refused_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    trunk, _ = make_network("resnet20").split("stem")
    with pytest.raises(GraftError, match="start processes with the `spawn` method"):
        TorchEngine(trunk, preprocessing_of("resnet20"), "float32", "cuda")
