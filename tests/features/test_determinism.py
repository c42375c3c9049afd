"""Work that is asked to be repeatable is so, whatever the process's settings were before."""

import os
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from trunks import in_batches, make_network, noise, painted, preprocessing_of

from graft.errors import GraftError, InputError
from graft.features.determinism import repeatable
from graft.features.engine import Choice, choose, open_engine
from graft.features.extraction import extract
from graft.images.preprocessing import normalise


@pytest.fixture
def threads() -> Iterator[None]:
    """Restore what a test sets."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def activations(choice: Choice) -> Tensor:
    network, preprocessing = make_network("lenet5"), preprocessing_of("lenet5")
    trunk, _ = network.split("head")
    with repeatable(choice):
        engine = open_engine(choice, trunk, preprocessing)
        return torch.cat([values for _, values in engine.run(in_batches(noise(64, preprocessing), [40, 24]))])


def gradient(choice: Choice) -> Tensor:
    """The gradient of one training step."""
    network, preprocessing = make_network("lenet5").train(), preprocessing_of("lenet5")
    with repeatable(choice):
        network(normalise(noise(64, preprocessing), preprocessing)).logsumexp(1).sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


@pytest.mark.parametrize(
    ("engine", "compute"), [("torch", gradient), ("torch", activations), ("openvino", activations)]
)
def test_the_same_bits_whatever_the_number_of_threads_was(
    engine: str, compute: Callable[[Choice], Tensor], threads: None
) -> None:
    pytest.importorskip(engine)
    found = {}
    for wanted in (1, 2):
        for before in (1, 2):
            torch.set_num_threads(before)
            found[wanted, before] = compute(choose(engine, "float32", deterministic=True, threads=wanted))
            assert torch.get_num_threads() == before
        assert torch.equal(found[wanted, 1], found[wanted, 2])
    if compute is gradient:
        # Otherwise the test would prove nothing.
        assert not torch.equal(found[1, 1], found[2, 1])


def test_settings_are_put_back_whatever_happens(threads: None) -> None:
    choice = choose("torch", "float32", deterministic=True, threads=3)
    with pytest.raises(ZeroDivisionError), repeatable(choice):
        assert torch.get_num_threads() == 3 and torch.are_deterministic_algorithms_enabled()
        assert "CUBLAS_WORKSPACE_CONFIG" in os.environ
        raise ZeroDivisionError
    assert torch.get_num_threads() == 1 and not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_a_choice_that_is_not_deterministic_changes_nothing() -> None:
    with repeatable(choose("torch", "float32")):
        assert not torch.are_deterministic_algorithms_enabled()


def test_what_cannot_be_repeated_is_named() -> None:
    choice = choose("torch", "float32", deterministic=True)
    with pytest.raises(GraftError, match="put_ does not have a deterministic implementation"), repeatable(choice):
        torch.zeros(4).put_(torch.tensor([1]), torch.tensor([1.0]))
    with pytest.raises(RuntimeError, match="another"), repeatable(choice):
        raise RuntimeError("another mistake")


def test_openvino_computes_one_request_at_a_time_with_all_threads() -> None:
    pytest.importorskip("openvino")
    network, preprocessing = make_network("resnet20"), preprocessing_of("resnet20")
    trunk, _ = network.split("stem")
    # The second is read from disk, where both choices share one entry.
    for choice in (choose("openvino", "float32"), choose("openvino", "float32", deterministic=True, threads=1)):
        (compiled,) = open_engine(choice, trunk, preprocessing)._compiled.values()
    assert compiled.get_property("NUM_STREAMS") == compiled.get_property("INFERENCE_NUM_THREADS") == 1


def test_kept_activations_are_those_of_the_same_number_of_threads() -> None:
    network, preprocessing = make_network("resnet20"), preprocessing_of("resnet20")
    trunk, _ = network.split("stage1")
    free, one, two = (
        choose("torch", "float32"),
        *(choose("torch", "float32", deterministic=True, threads=count) for count in (1, 2)),
    )
    cached = [
        extract(trunk, {"train": painted(5)}, preprocessing, choice)["train"].cached for choice in (free, one, two, one)
    ]
    assert cached == [False, False, False, True]


def test_the_number_of_threads_is_told(threads: None) -> None:
    torch.set_num_threads(2)
    assert str(choose("torch", "float32")).endswith("float32 on cpu with 2 threads")
    assert str(choose("torch", "float32", deterministic=True)).endswith(" on cpu with 2 threads, deterministic")
    assert str(choose("torch", "float32", deterministic=True, threads=1)).endswith("cpu with 1 thread, deterministic")


@pytest.mark.parametrize(("deterministic", "count", "came"), [(True, 0, "got 0"), (False, 2, "add `deterministic`")])
def test_threads_go_with_determinism(deterministic: bool, count: int, came: str) -> None:
    with pytest.raises(InputError, match=came):
        choose("torch", deterministic=deterministic, threads=count)
