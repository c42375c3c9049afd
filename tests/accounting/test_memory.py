"""Memory found without computing, against arithmetic by hand and against torch's profiler on real runs."""

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile

from graft.accounting.memory import TrainingMemory, forward_memory, training_memory
from graft.errors import InputError
from graft.models.catalog import CATALOG, build, default_config
from graft.models.network import Network

NOTHING = nn.Sequential()


def test_a_chain_holds_the_input_and_output_of_the_layer_that_needs_most() -> None:
    # Maps of 100 places: 3, then 8, 8, 2 channels. The first is the batch, which stays.
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1), nn.ReLU())
    assert forward_memory(network, (3, 10, 10), batch_size=5) == 5 * 4 * 100 * (3 + 8 + 8)


def test_what_is_written_in_place_takes_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Unflatten(1, (8, 100)))
    assert forward_memory(network, (3, 10, 10)) == 4 * 100 * (3 + 8)


def test_a_shortcut_holds_its_map_until_the_sum() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x)) + x

    stem = nn.Conv2d(1, 4, 1)
    # Batch, shortcut, two maps on the way.
    assert forward_memory(nn.Sequential(stem, Residual()), (1, 10, 10)) == 400 * (1 + 4 + 4 + 4)


def test_bytes_follow_the_dtype() -> None:
    assert forward_memory(nn.Conv2d(3, 8, 1).bfloat16(), (3, 10, 10)) == 2 * 100 * (3 + 8)


def test_a_training_step_keeps_what_the_way_back_needs() -> None:
    crown = nn.Sequential(nn.Linear(10, 20), nn.ReLU(), nn.Linear(20, 30, bias=False))
    memory = training_memory(NOTHING, crown, (10,), batch_size=7)
    parameters = 4 * (10 * 20 + 20 + 20 * 30)
    batch, labels, logits = 4 * 7 * 10, 8 * 7, 4 * 7 * 30
    # The first layer's output is gone: ReLU needs only its own. Cross-entropy keeps log-probabilities and two sums.
    saved = batch + labels + 4 * 7 * 20 + logits + logits + 4 + 4
    assert (memory.parameters, memory.gradients, memory.trunk) == (parameters, parameters, batch)
    assert memory.saved == pytest.approx(saved, abs=8)
    # The backward pass of the last layer adds its own and its input's gradient; the logits' gradient is there already.
    assert memory.working >= saved + 4 * 20 * 30
    assert memory.activations < memory.working < memory.activations + memory.gradients


def test_a_trunk_keeps_nothing_but_its_output() -> None:
    trunk = nn.Sequential(*(layer for _ in range(5) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.Sigmoid())))
    crown = nn.Sequential(nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    frozen = training_memory(trunk, crown, (4, 10, 10), 6)
    trained = training_memory(NOTHING, nn.Sequential(trunk, crown), (4, 10, 10), 6)
    feature_map = 6 * 4 * 4 * 100
    assert frozen.trunk == 3 * feature_map  # the batch, in and out
    assert trained.saved - frozen.saved == 4 * feature_map  # of five outputs the last is the crown's either way
    assert frozen.gradients == 4 * (4 * 2 + 2)
    assert frozen.parameters == trained.parameters == trained.gradients


def test_an_empty_crown_is_a_forward_pass() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(800, 2))
    memory = training_memory(network, NOTHING, (3, 10, 10), 5)
    assert memory.trunk == memory.working == memory.activations == forward_memory(network, (3, 10, 10), 5)
    assert (memory.gradients, memory.saved) == (0, 5 * 4 * (300 + 2))
    assert memory.peak("adamw") == memory.parameters + memory.working
    assert training_memory(NOTHING, NOTHING, (3, 10, 10), 5).peak("adamw") == 5 * 4 * 300


def test_what_needs_no_gradient_gets_none() -> None:
    crown = nn.Sequential(nn.Linear(10, 20), nn.Linear(20, 30))
    crown[0].requires_grad_(False)
    memory = training_memory(NOTHING, crown, (10,), 2)
    assert memory.gradients == 4 * (20 * 30 + 30)


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [
        ("sgd", lambda parameters: torch.optim.SGD(parameters, lr=0.1)),
        ("momentum", lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)),
        ("adamw", lambda parameters: torch.optim.AdamW(parameters, lr=0.1)),
    ],
)
def test_optimizers_keep_what_torch_does(kind, optimizer) -> None:
    crown = nn.Sequential(nn.Linear(10, 20), nn.BatchNorm1d(20), nn.Linear(20, 30))
    real = optimizer(crown.parameters())
    F.cross_entropy(crown(torch.rand(4, 10)), torch.zeros(4, dtype=torch.int64)).backward()
    real.step()
    remembered = [
        value
        for state in real.state.values()
        for name, value in state.items()
        if isinstance(value, Tensor) and name != "step"
    ]
    memory = training_memory(NOTHING, crown, (10,), 4)
    assert memory.optimizer_state(kind) == sum(tensor.nbytes for tensor in remembered)
    assert memory.peak(kind) == memory.parameters + memory.working + memory.optimizer_state(kind)


def test_the_modules_are_left_alone() -> None:
    trunk, crown = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    crown.eval()
    before = {name: tensor.clone() for name, tensor in nn.ModuleList([trunk, crown]).state_dict().items()}
    training_memory(trunk, crown, (3, 4, 4), 2)
    assert trunk.training and not crown.training and crown[1].weight.grad is None
    after = nn.ModuleList([trunk, crown]).state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("measure", [forward_memory, lambda *given: training_memory(NOTHING, *given)])
def test_a_batch_that_does_not_fit_is_refused(measure) -> None:
    with pytest.raises(InputError, match=r"got \(2, 4, 5, 5\) \(the convolution takes 3 channels, not 4\)"):
        measure(nn.Conv2d(3, 2, 1), (4, 5, 5), 2)
    with pytest.raises(InputError, match="positive sizes, got 0 inputs"):
        measure(nn.Conv2d(3, 2, 1), (3, 5, 5), 0)


class WithAuxiliaries(nn.Module):
    """A network in training: its logits, and those of its auxiliary classifiers."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.network.with_auxiliaries(x)


def test_all_outputs_of_a_crown_are_logits() -> None:
    with torch.device("meta"):
        network = build(default_config("googlenet"))
    alone, beside = (training_memory(NOTHING, crown, (3, 96, 96), 2) for crown in (network, WithAuxiliaries(network)))
    assert beside.gradients - alone.gradients == 4 * (13004888 - 6624904)
    assert beside.parameters == alone.parameters
    assert beside.saved > alone.saved


def taken(run: Callable[[], None]) -> int:
    """Peak bytes that torch's allocator had given out in a real run.

    Memory that a convolution takes and returns before it ends, for copies in its own layout, is left out.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    bookings: list[tuple[int, int, int, int | None]] = []  # time, bytes, address, convolution that runs

    def read(event, convolution: int | None) -> None:
        kind, facts = event.typed
        if kind == _EventType.Allocation:
            bookings.append((event.start_time_ns, facts.alloc_size, facts.ptr, convolution))
        if convolution is None and kind == _EventType.TorchOp and "conv" in event.name.lower():
            convolution = event.id
        for child in event.children:
            read(child, convolution)

    for event in profiler.profiler.kineto_results.experimental_event_tree():
        read(event, None)
    bookings.sort(key=lambda booking: booking[0])
    taken_at: dict[int, int] = {}
    sizes = [size for _, size, _, _ in bookings]
    for index, (_, size, address, convolution) in enumerate(bookings):
        if size > 0:
            taken_at[address] = index
        elif address in taken_at:
            begin = taken_at.pop(address)
            if convolution is not None and bookings[begin][3] == convolution:
                sizes[begin] = sizes[index] = 0
    return max(accumulate(sizes, initial=0))


@pytest.mark.parametrize(
    ("name", "side", "cut"),
    [
        ("resnet18", 64, "stage2"),
        ("mobilenet_v2", 96, "stage3"),
        ("vgg11", 64, "stage5"),
        ("densenet121", 64, "stage2"),
        ("googlenet", 96, "stage1"),
        ("efficientnet_b0", 64, "stage4"),
    ],
)
def test_real_runs_take_as_much(name: str, side: int, cut: str) -> None:
    with torch.device("meta"):
        network = build(default_config(name))
    network = network.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    shape = (CATALOG[name].input_size[0], side, side)
    images, labels = torch.zeros(4, *shape), torch.zeros(4, dtype=torch.int64)

    @torch.no_grad()
    def evaluate() -> None:
        network(images)

    def step(trunk: nn.Module, crown: nn.Module) -> None:
        with torch.no_grad():
            boundary = trunk(images)
        F.cross_entropy(crown(boundary), labels).backward()

    network.eval()
    assert forward_memory(network, shape, 4) == pytest.approx(taken(evaluate) + images.nbytes, rel=0.002)
    for where in ("input", cut):
        trunk, crown = network.split(where)
        trunk.eval()
        crown.train()
        real = taken(lambda: step(trunk, crown)) + images.nbytes + labels.nbytes  # noqa: B023
        memory: TrainingMemory = training_memory(trunk, crown, shape, 4)
        # Where branches meet, torch sums gradients in place, but not under the profiler: one map too many.
        assert real * 0.999 < memory.working < real * 1.025
        network.zero_grad()
