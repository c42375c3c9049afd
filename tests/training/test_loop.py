"""The training loop."""

import copy
import math
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graft.errors import GraftError
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.images.preprocessing import Preprocessing
from graft.images.resizing import to_square
from graft.models.catalog import build
from graft.models.network import Config, Network, freeze
from graft.training.checkpoint import CheckpointFile
from graft.training.descent import loss_of, mixed, shuffled
from graft.training.history import Epoch, epoch_to_keep
from graft.training.inputs import ActivationInputs, PixelInputs, SomeInputs
from graft.training.loop import CrownFit, Watcher, crown_logits, fit_crown
from graft.training.recipe import Recipe, ResolvedRecipe
from graft.training.time_budget import Budget

PREPROCESSING = Preprocessing(size=16, mean=(0.5,), std=(0.5,), crop_fraction=1.0)
RECIPE = Recipe(epochs=4, batch_size=16, learning_rate=2e-3).resolve()


def rendered(preprocessing: Preprocessing) -> tuple[PixelInputs, PixelInputs]:
    """Five Latin letters, twelve and six images of each."""
    splits = []
    for per_letter, seed in ((12, 0), (6, 1)):
        images, labels = render_letters(LATIN[:5], dejavu_fonts(), per_letter, seed)
        pixels = torch.stack([to_square(each, preprocessing) for each in images])
        splits.append(PixelInputs((pixels,), labels, preprocessing))
    return splits[0], splits[1]


@pytest.fixture(scope="module")
def letters() -> tuple[PixelInputs, PixelInputs]:
    return rendered(PREPROCESSING)


@pytest.fixture(scope="module")
def large_letters() -> tuple[PixelInputs, PixelInputs]:
    """Large enough for LeNet."""
    return rendered(replace(PREPROCESSING, size=32))


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
        inputs.append(ActivationInputs((x,), split.labels))
    found = fit_crown(crown, inputs[0], inputs[1], Recipe(epochs=8, learning_rate=3e-3).resolve())
    assert found.kept > 0
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
    inputs = ActivationInputs((x,), np.array([0, 1, 2, 0, 1, 2]))
    with torch.no_grad():
        logits, others = crown.with_auxiliaries(x)
        labels = torch.from_numpy(inputs.labels)
        parts = [torch.nn.functional.cross_entropy(each, labels) for each in (logits, others["aux1"], others["aux2"])]
    assert torch.isclose(loss_of(crown, x, labels), parts[0] + 0.3 * parts[1] + 0.3 * parts[2])
    before = state(net)
    fit_crown(crown, inputs, inputs, Recipe(epochs=2, batch_size=6, learning_rate=1e-3, warmup=0).resolve())
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"aux1.fc2.weight", "aux2.conv.conv.weight", "fc.weight"} <= moved
    assert not any(name in trunk.state_dict() for name in moved)


def test_a_small_difference_in_accuracy_does_not_undo_later_epochs() -> None:
    def history(*top1: float) -> list[Epoch]:
        return [Epoch(number, None, 0.0, value, 0.0) for number, value in enumerate(top1)]

    # Of 100 images 80 +- 4 are right: 77 may be as good, 75 is not.
    assert epoch_to_keep(history(0.5, 0.80, 0.77), 100) == 2
    assert epoch_to_keep(history(0.5, 0.80, 0.75), 100) == 1
    assert epoch_to_keep(history(0.5, 0.80, 0.77), 1000) == 1
    assert epoch_to_keep(history(0.9, 0.5, 0.5), 100) == 0
    assert epoch_to_keep(history(0.9, 1.0, 0.99, 1.0), 10) == 3


def test_training_learns_and_keeps_one_of_its_best_epochs(letters: tuple[PixelInputs, PixelInputs]) -> None:
    train, val = letters
    net = network()
    _, crown = net.split("input")
    found = fit_crown(crown, train, val, Recipe(epochs=16, batch_size=8, learning_rate=3e-3).resolve())
    kept = found.history[found.kept].val_top1
    assert found.kept == epoch_to_keep(found.history, len(val.labels))
    assert kept > 0.5
    with torch.inference_mode():
        x, y = next(val.batches(np.arange(len(val.labels)), 64))
        assert float((net.eval()(x).argmax(1) == y).float().mean()) == pytest.approx(kept)


def test_the_same_seed_gives_the_same_weights_and_another_does_not(letters: tuple[PixelInputs, PixelInputs]) -> None:
    results = []
    for seed in (3, 3, 4):
        net = network()
        fit_crown(net.split("input")[1], *letters, Recipe(epochs=1, learning_rate=1e-3).resolve(), seed=seed)
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
        fit_crown(
            network().split("input")[1],
            *letters,
            RECIPE,
            seed=1,
            checkpoint=CheckpointFile(checkpoint),
            watcher=Watcher(stop),
        )
    resumed = network(seed=99)
    found = fit_crown(resumed.split("input")[1], *letters, RECIPE, seed=1, checkpoint=CheckpointFile(checkpoint))
    assert len(found.history) == RECIPE.epochs + 1
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_training_that_was_stopped_ends_in_the_same_share_of_its_start(
    letters: tuple[PixelInputs, PixelInputs], tmp_path: Path
) -> None:
    recipe = replace(RECIPE, batch_norm="stored", start_share=0.4)
    whole, resumed = network(), network()
    fit_crown(whole.split("input")[1], *letters, recipe, seed=1)
    checkpoint = tmp_path / "last.safetensors"

    def stop(history: tuple) -> None:
        if len(history) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_crown(
            network().split("input")[1],
            *letters,
            recipe,
            seed=1,
            checkpoint=CheckpointFile(checkpoint),
            watcher=Watcher(stop),
        )
    fit_crown(resumed.split("input")[1], *letters, recipe, seed=1, checkpoint=CheckpointFile(checkpoint))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_schedule_comes_to_its_end_when_the_time_does(
    letters: tuple[PixelInputs, PixelInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = count()
    # A second passes whenever somebody looks.
    monkeypatch.setattr("graft.training.time_budget.time.perf_counter", lambda: float(next(moments)))
    found = fit_crown(network().split("input")[1], *letters, Recipe(1000).resolve(), budget=Budget(50.0))
    rates = [epoch.learning_rate for epoch in found.history]
    assert 2 < len(rates) < 100 and rates[-1] < 0.1 * max(rates)


def test_a_budget_that_is_not_used_up_changes_no_bit(
    letters: tuple[PixelInputs, PixelInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    unlimited, limited = network(), network()
    recipe = replace(RECIPE, epochs=4)
    fit_crown(unlimited.split("input")[1], *letters, recipe, seed=1)
    moments = count()
    monkeypatch.setattr("graft.training.time_budget.time.perf_counter", lambda: float(next(moments)))
    steps = 4 * math.ceil(len(letters[0].labels) / recipe.batch_size)
    # The clock is looked at once a step, and a few times before and after.
    fit_crown(limited.split("input")[1], *letters, recipe, seed=1, budget=Budget(8.0 * steps))
    for name, tensor in unlimited.state_dict().items():
        assert torch.equal(tensor, limited.state_dict()[name]), name


def test_a_checkpoint_of_other_settings_is_refused(letters: tuple[PixelInputs, PixelInputs], tmp_path: Path) -> None:
    checkpoint = tmp_path / "last.safetensors"
    fit_crown(network().split("input")[1], *letters, Recipe(epochs=1).resolve(), checkpoint=CheckpointFile(checkpoint))
    with pytest.raises(GraftError, match="other settings"):
        fit_crown(
            network().split("input")[1], *letters, Recipe(epochs=2).resolve(), checkpoint=CheckpointFile(checkpoint)
        )


def test_a_loss_that_is_no_number_stops_the_training(letters: tuple[PixelInputs, PixelInputs]) -> None:
    net = network()
    with pytest.raises(GraftError, match="finite loss"), torch.no_grad():
        net.head.weight.fill_(float("nan"))
        with torch.enable_grad():
            fit_crown(net.split("input")[1], *letters, Recipe(epochs=1).resolve())


def test_zero_epochs_leave_the_crown_as_it_was(letters: tuple[PixelInputs, PixelInputs]) -> None:
    net = network()
    before = copy.deepcopy(state(net))
    found = fit_crown(net.split("input")[1], *letters, Recipe(epochs=0).resolve())
    assert found.kept == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize(("images", "batch_size"), [(17, 16), (5, 1), (2, 1), (1, 32)])
def test_a_single_image_trains_where_batch_norm_has_no_statistics_of_it(images: int, batch_size: int) -> None:
    # Maps of one pixel, which batch norm of a batch of one would refuse.
    values = torch.randn(images, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    inputs = ActivationInputs((values,), np.arange(images) % 2)
    torch.manual_seed(0)
    net = build(Config("mobilenet_v1_025", classes=2, channels=1))
    before = state(net)
    found = fit_crown(net.split("input")[1], inputs, None, Recipe(epochs=1, batch_size=batch_size).resolve())
    assert np.isfinite(found.history[-1].train_loss)
    assert not torch.equal(net.head.weight, before[f"{net.head_name}.weight"])
    assert all(torch.isfinite(tensor).all() for tensor in net.state_dict().values())


def test_every_image_counts_in_every_epoch() -> None:
    inputs = ActivationInputs((torch.zeros(33, 1),), np.arange(33) % 2)
    assert sorted(shuffled(inputs, "uniform", 0, 1)) == list(range(33))


def test_a_recipe_that_leaves_something_open_is_refused(letters: tuple[PixelInputs, PixelInputs]) -> None:
    # Open settings would be resolved for a random start, with ten times the learning rate of a pretrained one.
    with pytest.raises(TypeError, match="expected a recipe with nothing left open, got a Recipe: call its `resolve`"):
        fit_crown(network().split("input")[1], *letters, Recipe(epochs=1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="learning_rate"):
        ResolvedRecipe(epochs=1)  # type: ignore[call-arg]


def lenet(seed: int = 0) -> Network:
    """A network without batch norm."""
    torch.manual_seed(seed)
    return build(Config("lenet5", classes=5, channels=1))


def steps_of(
    net: Network, splits: tuple[PixelInputs, PixelInputs], recipe: ResolvedRecipe, **more: Any
) -> tuple[CrownFit, list]:
    """The result of training, and the weights of `net` after every epoch, whichever were kept."""
    states: list[dict[str, torch.Tensor]] = []
    found = fit_crown(
        net.split("input")[1], *splits, recipe, watcher=Watcher(lambda history: states.append(state(net))), **more
    )
    return found, states


def test_smoothing_and_class_weights_change_the_loss_as_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0], [0.0, 1.0, 3.0]])
    labels, weights = torch.tensor([0, 1, 1]), torch.tensor([1.5, 0.75, 9.0])
    log_chances = logits - logits.exp().sum(1, keepdim=True).log()
    # A tenth of each label is spread over all three classes.
    targets = torch.full((3, 3), 0.1 / 3)
    targets[torch.arange(3), labels] += 0.9
    each = -(targets * log_chances).sum(1)
    whole = torch.nn.Identity()
    torch.testing.assert_close(loss_of(whole, logits, labels, 0.1), each.mean())
    expected = (1.5 * each[0] + 0.75 * each[1] + 0.75 * each[2]) / 3
    torch.testing.assert_close(loss_of(whole, logits, labels, 0.1, weights), expected)


@pytest.mark.parametrize("clip", [1e-3, 1e6])
def test_clipping_bounds_the_norm_of_the_gradient(clip: float, large_letters: tuple[PixelInputs, PixelInputs]) -> None:
    net = lenet()
    before = state(net)
    recipe = Recipe(1, 60, 0.01, weight_decay=0.0, optimizer="sgd", schedule="constant", clip_grad_norm=clip).resolve()
    _, (_, after) = steps_of(net, large_letters, recipe)
    # Nesterov's first step is 1.9 times the gradient.
    moved = torch.cat([(after[name] - before[name]).flatten() for name in before]).norm() / (1.9 * 0.01)
    if clip == 1e-3:
        assert float(moved) == pytest.approx(clip, rel=1e-2)
    else:
        assert 1e-2 < float(moved) < clip


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_accumulated_batches_make_the_step_of_a_larger_one(
    class_weights: str, large_letters: tuple[PixelInputs, PixelInputs]
) -> None:
    train, val = large_letters
    # Uneven classes, and a last step with fewer images than the others.
    train = replace(train, views=(train.views[0][:54],), labels=train.labels[:54])
    results = []
    for batch_size, accumulate in ((16, 1), (8, 2), (4, 4)):
        net = lenet()
        recipe = Recipe(
            2, batch_size, 0.05, optimizer="sgd", accumulate_steps=accumulate, class_weights=class_weights
        ).resolve()
        results.append(steps_of(net, (train, val), recipe)[1][-1])
    for other in results[1:]:
        for name, tensor in results[0].items():
            torch.testing.assert_close(other[name], tensor, rtol=0, atol=1e-6)
    assert not torch.equal(results[0]["c1.weight"], state(lenet())["c1.weight"])


def test_training_stops_when_patience_is_at_an_end(
    large_letters: tuple[PixelInputs, PixelInputs], tmp_path: Path
) -> None:
    # Nothing is learnt at such a rate, and nothing gets better.
    recipe = Recipe(30, 16, 5.0, optimizer="sgd", schedule="constant", clip_grad_norm=1.0, patience=2).resolve()
    checkpoint = tmp_path / "last.safetensors"
    found, _ = steps_of(lenet(), large_letters, recipe, checkpoint=CheckpointFile(checkpoint))
    best = max(found.history, key=lambda epoch: (epoch.val_top1, -epoch.val_loss))
    assert found.history[-1].epoch == best.epoch + 2 < 30
    again, states = steps_of(lenet(), large_letters, recipe, checkpoint=CheckpointFile(checkpoint))
    assert again == found
    assert states == []


@pytest.mark.parametrize("start_share", [0.0, 0.2])
def test_the_moving_average_is_the_one_computed_by_hand_and_is_what_is_kept(
    start_share: float, letters: tuple[PixelInputs, PixelInputs]
) -> None:
    net = network()
    # One step per epoch, so that the weights after every step are seen.
    found, states = steps_of(net, letters, Recipe(6, 60, 2e-3, ema_decay=0.6, start_share=start_share).resolve())
    assert found.kept > 0
    average = states[0]
    for step, after in enumerate(states[1 : found.kept + 1], 1):
        # A start worth keeping counts like any step; a random one is soon forgotten.
        decay = 0.6 if start_share else min(0.6, (1 + step) / (10 + step))
        average = {name: decay * average[name] + (1 - decay) * after[name] for name in average}
    parameters = {name for name, _ in net.named_parameters()}
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            share = start_share if name in parameters else 0.0
            expected = share * states[0][name] + (1 - share) * average[name]
            torch.testing.assert_close(tensor, expected, rtol=1e-5, atol=1e-6)
            assert not torch.equal(tensor, states[found.kept][name]) or name.endswith("running_mean")
    # The scores are those of the average too.
    logits = torch.from_numpy(crown_logits(net, letters[1]))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(letters[1].labels))
    assert float(loss) == pytest.approx(found.history[found.kept].val_loss, rel=1e-6)


def test_every_stage_moves_at_the_rate_that_the_table_says(letters: tuple[PixelInputs, PixelInputs]) -> None:
    net = network()
    recipe = Recipe(1, 60, 1e-3, weight_decay=0.0, schedule="constant", layer_decay=0.5).resolve()
    _, (before, after) = steps_of(net, letters, recipe)
    # Adam's first step is the rate itself, whatever the gradient.
    rates = {"conv1": 0.0625e-3, "layer1": 0.125e-3, "layer2": 0.25e-3, "layer3": 0.5e-3, "linear": 1e-3}
    for part, rate in rates.items():
        moved = [
            (after[name] - before[name]).abs().max() for name, _ in net.named_parameters() if name.startswith(part)
        ]
        assert float(max(moved)) == pytest.approx(rate, rel=0.01), part


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_plateau_and_average_go_on_as_if_never_stopped(
    optimizer: str, large_letters: tuple[PixelInputs, PixelInputs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.training.schedules.PLATEAU_EPOCHS", 1)
    monkeypatch.setattr("graft.training.checkpoint.SHARE_OF_TIME", 1.0)
    recipe = Recipe(
        7, 16, 0.02, optimizer=optimizer, schedule="plateau", ema_decay=0.5, patience=5, layer_decay=0.8
    ).resolve()
    whole = lenet()
    found, _ = steps_of(whole, large_letters, recipe)
    assert found.history[-1].learning_rate < 0.02
    checkpoint = tmp_path / "last.safetensors"

    class Stopped(Exception):
        pass

    def stop(history: tuple) -> None:
        if len(history) == 4:
            raise Stopped

    with pytest.raises(Stopped):
        fit_crown(
            lenet().split("input")[1],
            *large_letters,
            recipe,
            checkpoint=CheckpointFile(checkpoint),
            watcher=Watcher(stop),
        )
    resumed = lenet(seed=99)
    assert steps_of(resumed, large_letters, recipe, checkpoint=CheckpointFile(checkpoint))[0] == found
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_no_optimizer_moves_what_is_frozen(optimizer: str, letters: tuple[PixelInputs, PixelInputs]) -> None:
    net = network().eval()
    trunk, crown = net.split("stage2")
    freeze(trunk)
    for parameter in crown.get_submodule("layer3.0").parameters():
        parameter.requires_grad_(False)
    inputs = []
    for split in letters:
        x = torch.cat([trunk(x) for x, _ in split.batches(np.arange(len(split.labels)), 64)])
        inputs.append(ActivationInputs((x,), split.labels))
    before = state(net)
    recipe = Recipe(
        2, 16, 1e-3, weight_decay=0.1, optimizer=optimizer, ema_decay=0.5, layer_decay=0.5, clip_grad_norm=1.0
    ).resolve()
    states: list[dict[str, torch.Tensor]] = []
    fit_crown(crown, *inputs, recipe, watcher=Watcher(lambda history: states.append(state(net))))
    for name, parameter in net.named_parameters():
        assert torch.equal(states[-1][name], before[name]) != parameter.requires_grad, name
    assert all(torch.equal(states[-1][name], before[name]) for name in trunk.state_dict())


@pytest.mark.parametrize("schedule", ["one-cycle", "step", "plateau", "constant", "lenet"])
def test_every_schedule_learns(schedule: str, large_letters: tuple[PixelInputs, PixelInputs]) -> None:
    found = fit_crown(lenet().split("input")[1], *large_letters, Recipe(12, 16, 3e-3, schedule=schedule).resolve())
    assert max(epoch.val_top1 for epoch in found.history) > 0.5


class Cramped(torch.nn.Module):
    """A network that runs out of memory, with torch's error, on more than eight images at once."""

    def __init__(self, net: torch.nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and len(x) > 8:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return self.net(x)


def test_a_batch_that_memory_has_no_room_for_is_run_in_parts_that_make_the_same_step(
    large_letters: tuple[PixelInputs, PixelInputs],
) -> None:
    recipe = Recipe(2, 32, 0.05, optimizer="sgd").resolve()
    cramped, roomy = Cramped(lenet()), lenet()
    fit_crown(cramped, *large_letters, recipe)
    fit_crown(roomy, *large_letters, replace(recipe, batch_size=8, accumulate_steps=4))
    start = state(lenet())
    for name, tensor in state(roomy).items():
        torch.testing.assert_close(state(cramped.net)[name], tensor, rtol=0, atol=1e-6)
    assert not torch.equal(state(roomy)["c1.weight"], start["c1.weight"])


def test_other_errors_are_not_taken_for_a_lack_of_memory(large_letters: tuple[PixelInputs, PixelInputs]) -> None:
    class Broken(Cramped):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit_crown(Broken(lenet()), *large_letters, Recipe(epochs=1).resolve())


def test_without_anything_held_out_the_last_epoch_is_kept(large_letters: tuple[PixelInputs, PixelInputs]) -> None:
    with_val, without = lenet(), lenet()
    found = fit_crown(without.split("input")[1], large_letters[0], None, RECIPE)
    assert found.kept == RECIPE.epochs
    assert all(epoch.val_top1 is None for epoch in found.history)
    states = steps_of(with_val, large_letters, RECIPE)[1]
    assert all(torch.equal(tensor, states[-1][name]) for name, tensor in state(without).items())


def test_balanced_sampling_draws_rare_classes_as_often() -> None:
    labels = np.array([0] * 900 + [1] * 90 + [2] * 10)
    inputs = ActivationInputs((torch.zeros(1000, 1),), labels)
    drawn = np.bincount(labels[shuffled(inputs, "balanced", 0, 1)], minlength=3) / 1000
    assert drawn == pytest.approx([1 / 3] * 3, abs=0.05)
    assert np.bincount(labels[shuffled(inputs, "uniform", 0, 1)]).tolist() == [900, 90, 10]


@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_an_image_of_three_times_the_weight_is_drawn_three_times_as_often(sampling: str) -> None:
    labels = np.repeat([0, 1], 500)
    weights = np.tile(np.array([0, 1, 1, 3], np.float32), 250)
    inputs = SomeInputs(ActivationInputs((torch.zeros(1000, 1),), labels, weights), np.arange(1000))
    drawn = shuffled(inputs, sampling, 0, 1)
    assert np.bincount(drawn % 4) / len(drawn) == pytest.approx([0, 0.2, 0.2, 0.6], abs=0.05)
    assert (labels[drawn] == 0).mean() == pytest.approx(0.5, abs=0.05)


def test_a_class_whose_images_all_have_no_weight_is_not_drawn() -> None:
    labels, weights = np.repeat([0, 1, 2], [600, 300, 100]), np.repeat([1, 1, 0], [600, 300, 100]).astype(np.float32)
    drawn = labels[shuffled(ActivationInputs((torch.zeros(1000, 1),), labels, weights), "balanced", 0, 1)]
    assert np.bincount(drawn, minlength=3) / 1000 == pytest.approx([0.5, 0.5, 0], abs=0.05)


@pytest.mark.parametrize("weight", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_equal_weights_are_as_none(sampling: str, weight: float) -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    weighted, plain = (
        shuffled(ActivationInputs((torch.zeros(1000, 1),), labels, weights), sampling, 0, 1)
        for weights in (np.full(1000, weight, np.float32), None)
    )
    assert (weighted == plain).all()
    assert sampling == "balanced" or sorted(weighted) == list(range(1000))


def test_classes_of_equal_size_miss_no_image_when_they_are_balanced() -> None:
    inputs = ActivationInputs((torch.zeros(90, 1),), np.arange(90) % 3)
    assert sorted(shuffled(inputs, "balanced", 0, 1)) == list(range(90))


@pytest.mark.parametrize("way", ["mixup", "cutmix"])
def test_mixed_images_train_towards_mixed_labels(way: str, letters: tuple[PixelInputs, PixelInputs]) -> None:
    net = network()
    crown = net.split("input")[1]
    settings = Recipe(**{way: 1.0}).resolve()
    x, y = next(letters[0].batches(np.arange(16), 16))
    batches = list(mixed([(x, y)], settings, crown, torch.Generator().manual_seed(0)))
    again = list(mixed([(x, y)], settings, crown, torch.Generator().manual_seed(0)))
    assert torch.equal(batches[0][0], again[0][0]) and not torch.equal(batches[0][0], x)
    assert batches[0][1].shape == (16, 5)
    # The loss for mixed targets is the same mixture of the losses for single classes.
    logits, targets = torch.randn(16, 5), batches[0][1]
    each = -(targets * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss_of(torch.nn.Identity(), logits, targets), each)
    found = fit_crown(crown, *letters, replace(RECIPE, epochs=1, **{way: 0.5}))
    assert np.isfinite(found.history[-1].train_loss)


def test_bfloat16_trains_nearly_as_float32(letters: tuple[PixelInputs, PixelInputs]) -> None:
    results = {}
    for precision in ("float32", "bfloat16"):
        net = network()
        found = fit_crown(net.split("input")[1], *letters, Recipe(4, 16, 1e-3).resolve(), precision=precision)
        results[precision] = found.history[-1].train_loss
        assert all(tensor.dtype != torch.bfloat16 for tensor in net.state_dict().values())
    assert results["bfloat16"] == pytest.approx(results["float32"], rel=0.1)
    assert results["bfloat16"] != results["float32"]


# Two epochs of two steps move weights and statistics.
SHORT = replace(RECIPE, epochs=2, batch_size=32)


def settled(letters: tuple[PixelInputs, PixelInputs]) -> Network:
    """A network whose stored statistics come from images, like those of published weights."""
    net = network().train()
    with torch.no_grad():
        for _ in range(5):
            net(next(letters[1].batches(np.arange(30), 30))[0])
    return net.eval()


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_what_is_kept_is_a_share_of_the_start_and_the_rest_of_the_end(
    ema_decay: float | None, letters: tuple[PixelInputs, PixelInputs]
) -> None:
    recipe = replace(SHORT, batch_norm="stored", ema_decay=ema_decay)
    start, ends = settled(letters).state_dict(), {}
    for share in (0.1, 0.2):
        net = settled(letters)
        found = fit_crown(net.split("input")[1], *letters, replace(recipe, start_share=share), keep_last=True)
        ends[share] = net.state_dict()
        # The scores are those of the weights that are kept.
        logits = torch.from_numpy(crown_logits(net.split("input")[1], letters[1]))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(letters[1].labels))
        assert found.history[-1].val_loss == pytest.approx(float(loss), rel=1e-5)
    parameters = dict(network().named_parameters())
    for name, end in ends[0.1].items():
        kept = ends[0.2][name]
        if name in parameters:
            assert not torch.equal(end, start[name]), name
            of_end = (end.double() - 0.1 * start[name].double()) / 0.9
            expected = 0.2 * start[name].double() + 0.8 * of_end
            torch.testing.assert_close(kept.double(), expected, atol=1e-7, rtol=0)
        else:
            assert torch.equal(kept, start[name]) and torch.equal(end, start[name]), name


def test_a_share_of_the_start_does_not_change_what_is_trained(letters: tuple[PixelInputs, PixelInputs]) -> None:
    recipe = replace(SHORT, batch_norm="stored")
    losses = []
    for share in (0.0, 0.2, 0.8):
        crown = settled(letters).split("input")[1]
        found = fit_crown(crown, *letters, replace(recipe, start_share=share))
        losses.append([each.train_loss for each in found.history])
        assert all(parameter.requires_grad for parameter in crown.parameters())
    assert losses[0] == losses[1] == losses[2]


def test_stored_statistics_stay_to_the_bit_and_those_of_batches_move(
    letters: tuple[PixelInputs, PixelInputs],
) -> None:
    before = settled(letters).state_dict()
    for batch_norm in ("stored", "batch"):
        net = settled(letters)
        fit_crown(net.split("input")[1], *letters, replace(SHORT, batch_norm=batch_norm), keep_last=True)
        for name, buffer in net.named_buffers():
            assert torch.equal(buffer, before[name]) == (batch_norm == "stored"), name
        # Scales and shifts train either way.
        assert not torch.equal(net.state_dict()["bn1.weight"], before["bn1.weight"])


def test_with_stored_statistics_training_begins_at_the_loss_that_the_start_is_scored_with(
    letters: tuple[PixelInputs, PixelInputs],
) -> None:
    train = letters[0]
    logits = torch.from_numpy(crown_logits(settled(letters).split("input")[1], train))
    at_start = float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(train.labels)))
    # All images in one step: the loss is that before it.
    recipe = replace(RECIPE, epochs=1, batch_size=len(train.labels))
    first = {}
    for batch_norm in ("stored", "batch"):
        crown = settled(letters).split("input")[1]
        first[batch_norm] = fit_crown(crown, *letters, replace(recipe, batch_norm=batch_norm)).history[1].train_loss
    assert first["stored"] == pytest.approx(at_start, rel=1e-5)
    assert first["batch"] != pytest.approx(at_start, rel=1e-5)
