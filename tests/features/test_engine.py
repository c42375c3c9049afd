"""Which engine is chosen."""

import pytest
import torch
from trunks import COLOUR, OPENVINO, TORCH, make_network

from graft.errors import InputError
from graft.features import engine
from graft.features.engine import choose, for_answers, open_engine


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Fake the machine that a test needs."""

    def describe(*, cuda: bool, openvino: bool, bfloat16: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bfloat16)
        monkeypatch.setattr(engine, "openvino_installed", lambda: openvino)
        monkeypatch.setattr(engine, "processor_has_bfloat16", lambda: bfloat16)

    return describe


@pytest.mark.parametrize(
    ("cuda", "openvino", "bfloat16", "asked", "precision", "chosen"),
    [
        (True, True, True, "auto", "auto", "torch bfloat16 on cuda"),
        (True, True, False, "auto", "auto", "torch float32 on cuda"),
        (True, True, True, "torch", "float32", "torch float32 on cuda"),
        (True, True, True, "openvino", "auto", "openvino bfloat16 on cpu with 1 thread"),
        (False, True, True, "auto", "auto", "openvino bfloat16 on cpu with 1 thread"),
        (False, True, False, "auto", "auto", "openvino float32 on cpu with 1 thread"),
        (False, True, False, "auto", "bfloat16", "openvino bfloat16 on cpu with 1 thread"),
        (False, True, True, "torch", "auto", "torch bfloat16 on cpu with 1 thread"),
        (False, False, True, "auto", "float32", "torch float32 on cpu with 1 thread"),
    ],
)
def test_the_fastest_engine_that_is_there(
    machine, cuda: bool, openvino: bool, bfloat16: bool, asked: str, precision: str, chosen: str
) -> None:
    machine(cuda=cuda, openvino=openvino, bfloat16=bfloat16)
    choice = choose(asked, precision)
    assert str(choice) == chosen and choice.reason


@pytest.mark.parametrize(
    ("name", "cuda", "asked", "precision"),
    [
        ("mobilenet_v2", False, "auto", "float32"),
        ("mobilenet_v2", False, "bfloat16", "bfloat16"),
        ("mobilenet_v2", True, "auto", "bfloat16"),
        ("resnet20", False, "auto", "bfloat16"),
        # Two groups, each of many channels.
        ("alexnet", False, "auto", "bfloat16"),
    ],
)
def test_depthwise_convolutions_answer_in_float32_on_a_processor(
    machine, name: str, cuda: bool, asked: str, precision: str
) -> None:
    machine(cuda=cuda, openvino=True, bfloat16=True)
    assert for_answers(choose("auto", asked), make_network(name), asked).precision == precision


def test_openvino_asked_for_and_not_there(machine) -> None:
    machine(cuda=True, openvino=False, bfloat16=True)
    with pytest.raises(InputError, match="pip install openvino"):
        choose("openvino")


@pytest.mark.parametrize(("asked", "precision", "came"), [("tpu", "auto", "'tpu'"), ("auto", "int8", "'int8'")])
def test_unknown_words_are_named(asked: str, precision: str, came: str) -> None:
    with pytest.raises(InputError, match=f"expected one of auto, .*{came}"):
        choose(asked, precision)


@pytest.mark.parametrize("threads", [0, -1, 10**6, 10**30, True, "2", 2.0])
def test_a_number_of_threads_that_is_none_or_far_beyond_the_cores_is_refused(threads: object) -> None:
    with pytest.raises(InputError, match=r"expected a whole number from 1 to .* for `threads`"):
        choose("torch", threads=threads, deterministic=True)  # type: ignore[arg-type]
    assert choose("torch", threads=64, deterministic=True).threads == 64


def test_the_engine_chosen_is_the_one_opened() -> None:
    trunk, _ = make_network("resnet20").split("stem")
    assert type(open_engine(TORCH, trunk, COLOUR)).__name__ == "TorchEngine"
    pytest.importorskip("openvino")
    assert type(open_engine(OPENVINO, trunk, COLOUR)).__name__ == "OpenVINOEngine"
