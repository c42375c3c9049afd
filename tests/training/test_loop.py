"""The training loop."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from graft.data.letters import LATIN, dejavu_fonts, render_letters
from graft.errors import GraftError
from graft.images.preprocessing import Preprocessing
from graft.images.resizing import fit
from graft.models.catalog import build
from graft.models.network import Config, Network
from graft.training.inputs import ActivationInputs, PixelInputs
from graft.training.loop import Recipe, fit_crown, loss_of, rate_at

PREPROCESSING = Preprocessing(size=32, mean=(0.5,), std=(0.5,), crop_fraction=1.0)
RECIPE = Recipe(epochs=4, batch_size=16, rate=2e-3)


@pytest.fixture(scope="module")
def letters() -> tuple[PixelInputs, PixelInputs]:
    """Five Latin letters, twelve and six pictures of each."""
    splits = []
    for per_letter, seed in ((12, 0), (6, 1)):
        pictures, labels = render_letters(LATIN[:5], dejavu_fonts(), per_letter, seed)
        splits.append(PixelInputs(torch.stack([fit(each, PREPROCESSING) for each in pictures]), labels, PREPROCESSING))
    return splits[0], splits[1]


def network(seed: int = 0) -> Network:
    torch.manual_seed(seed)
    return build(Config("resnet20", classes=5, channels=1))


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_the_frozen_trunk_does_not_move_by_a_bit_and_the_crown_does(letters: tuple[PixelInputs, PixelInputs]) -> None:
    train, val = letters
    net = network().eval()
    trunk, crown = net.split("stage2")
    before = state(net)
    inputs = []
    for split in (train, val):
        x = torch.cat([trunk(x).detach() for x, _ in split.batches(np.arange(len(split.labels)), 64)])
        inputs.append(ActivationInputs(x, split.labels))
    found = fit_crown(crown, inputs[0], inputs[1], Recipe(epochs=8, rate=3e-3))
    assert found.best > 0
    for name, tensor in net.state_dict().items():
        frozen = name in trunk.state_dict()
        assert torch.equal(tensor, before[name]) == frozen or name.endswith("num_batches_tracked"), name
        if frozen:
            assert torch.equal(tensor, before[name]), name


def test_auxiliary_classifiers_train_with_their_share_of_the_loss() -> None:
    torch.manual_seed(0)
    net = build(Config("googlenet", 3, batch_norm_eps=1e-3, auxiliary=True))
    net.eval()
    trunk, crown = net.split("stage1")
    x = trunk(torch.randn(6, 3, 64, 64)).detach()
    inputs = ActivationInputs(x, np.array([0, 1, 2, 0, 1, 2]))
    with torch.no_grad():
        logits, others = crown.with_auxiliaries(x)
        labels = torch.from_numpy(inputs.labels)
        parts = [torch.nn.functional.cross_entropy(each, labels) for each in (logits, others["aux1"], others["aux2"])]
    assert torch.isclose(loss_of(crown, x, labels), parts[0] + 0.3 * parts[1] + 0.3 * parts[2])
    before = state(net)
    fit_crown(crown, inputs, inputs, Recipe(epochs=2, batch_size=6, rate=1e-3, warmup=0))
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"aux1.fc2.weight", "aux2.conv.conv.weight", "fc.weight"} <= moved
    assert not any(name in trunk.state_dict() for name in moved)


def test_training_learns_and_keeps_its_best_epoch(letters: tuple[PixelInputs, PixelInputs]) -> None:
    train, val = letters
    net = network()
    _, crown = net.split("input")
    found = fit_crown(crown, train, val, Recipe(epochs=16, batch_size=8, rate=3e-3))
    top1 = [epoch.val_top1 for epoch in found.history]
    assert found.history[found.best].val_top1 == max(top1) > 0.5
    with torch.inference_mode():
        x, y = next(val.batches(np.arange(len(val.labels)), 64))
        assert float((net.eval()(x).argmax(1) == y).float().mean()) == pytest.approx(max(top1))


def test_the_same_seed_gives_the_same_weights_and_another_does_not(letters: tuple[PixelInputs, PixelInputs]) -> None:
    results = []
    for seed in (3, 3, 4):
        net = network()
        fit_crown(net.split("input")[1], *letters, Recipe(epochs=1, rate=1e-3), seed=seed)
        results.append(state(net))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert not all(torch.equal(results[0][name], results[2][name]) for name in results[0])


def test_a_training_that_was_stopped_ends_where_it_would_have_ended(
    letters: tuple[PixelInputs, PixelInputs], tmp_path: Path
) -> None:
    whole = network()
    fit_crown(whole.split("input")[1], *letters, RECIPE, seed=1)
    checkpoint = tmp_path / "checkpoints" / "last.safetensors"

    class Stopped(Exception):
        pass

    def stop(history: tuple) -> None:
        if len(history) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        fit_crown(network().split("input")[1], *letters, RECIPE, seed=1, checkpoint=checkpoint, told=stop)
    resumed = network(seed=99)
    found = fit_crown(resumed.split("input")[1], *letters, RECIPE, seed=1, checkpoint=checkpoint)
    assert len(found.history) == RECIPE.epochs + 1
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_checkpoint_of_other_settings_is_refused(letters: tuple[PixelInputs, PixelInputs], tmp_path: Path) -> None:
    checkpoint = tmp_path / "last.safetensors"
    fit_crown(network().split("input")[1], *letters, Recipe(epochs=1), checkpoint=checkpoint)
    with pytest.raises(GraftError, match="other settings"):
        fit_crown(network().split("input")[1], *letters, Recipe(epochs=2), checkpoint=checkpoint)


def test_a_loss_that_is_no_number_stops_the_training(letters: tuple[PixelInputs, PixelInputs]) -> None:
    net = network()
    with pytest.raises(GraftError, match="finite loss"), torch.no_grad():
        net.head.weight.fill_(float("nan"))
        with torch.enable_grad():
            fit_crown(net.split("input")[1], *letters, Recipe(epochs=1))


def test_zero_epochs_leave_the_crown_as_it_was(letters: tuple[PixelInputs, PixelInputs]) -> None:
    net = network()
    before = copy.deepcopy(state(net))
    found = fit_crown(net.split("input")[1], *letters, Recipe(epochs=0))
    assert found.best == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_the_rate_climbs_to_its_peak_and_falls_to_nothing() -> None:
    recipe = Recipe(rate=1e-3, warmup=0.1)
    rates = [rate_at(done, recipe) for done in np.linspace(0, 1, 101)]
    assert 0 < rates[0] < 1e-3 / 5
    assert rates[10] == max(rates) == pytest.approx(1e-3)
    assert rates[55] == pytest.approx(5e-4)
    assert rates[100] == pytest.approx(0, abs=1e-12)


def test_a_single_picture_left_over_does_not_reach_batch_norm() -> None:
    # 17 pictures in batches of 16: a batch of one would make batch norm of 1 x 1 maps fail.
    values = torch.randn(17, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    inputs = ActivationInputs(values, np.arange(17) % 2)
    torch.manual_seed(0)
    crown = build(Config("mobilenet_v1_025", classes=2, channels=1)).split("input")[1]
    found = fit_crown(crown, inputs, inputs, Recipe(epochs=1, batch_size=16))
    assert np.isfinite(found.history[-1].train_loss)
