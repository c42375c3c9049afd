"""Schedules, parameter groups, class weights and the settings that are refused."""

import copy
import inspect
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from graft.cli.train import train as train_command
from graft.errors import InputError
from graft.images.augmenting import STRENGTHS
from graft.images.letters import LATIN, dejavu_fonts, render_letters
from graft.models.catalog import build
from graft.models.network import Config
from graft.training.optimizer import build_optimizer, parameter_groups, stage_shares, weights_of_classes
from graft.training.recipe import (
    EPOCHS_PRETRAINED,
    EPOCHS_RANDOM,
    LIMITS,
    MOST_EPOCHS_PRETRAINED,
    RATED_PARAMETERS,
    STEPS_PRETRAINED,
    USUAL,
    Recipe,
    ResolvedRecipe,
    check_recipe,
)
from graft.training.schedules import learning_rate_at, lenet_table, one_cycle, plateau, stale_epochs, step_decay
from graft.workflows.train import train

# The largest values of whole-number settings.
WHOLE = {
    "epochs": "100,000",
    "batch_size": "65,536",
    "accumulate_steps": "65,536",
    "patience": "100,000",
    "views": "100,000",
}

# Settings that a recipe may leave open and a resolved one may not.
OPEN = set(ResolvedRecipe.__annotations__)


def test_the_rate_climbs_to_its_peak_and_falls_to_nothing() -> None:
    recipe = Recipe(learning_rate=1e-3, warmup=0.1).resolve()
    rates = [learning_rate_at(recipe, done, 1) for done in np.linspace(0, 1, 101)]
    assert 0 < rates[0] < 1e-3 / 5
    assert rates[10] == max(rates) == pytest.approx(1e-3)
    assert rates[55] == pytest.approx(5e-4)
    assert rates[100] == pytest.approx(0, abs=1e-12)


def test_a_pretrained_start_is_left_slowly_and_averaged_over_a_quarter_of_the_steps() -> None:
    usual = Recipe().resolve(pretrained=True, images=320)
    assert (usual.warmup, usual.epochs) == (0.3, 40)
    assert usual.ema_decay == pytest.approx(1 - 4 / 400)
    short = Recipe(epochs=2, accumulate_steps=2).resolve(pretrained=True, images=320)
    assert short.ema_decay == pytest.approx(1 - 4 / 10)
    assert Recipe(epochs=0).resolve(pretrained=True).ema_decay == 0
    assert Recipe(ema_decay=0.5, warmup=0.1).resolve(pretrained=True).ema_decay == 0.5
    assert (Recipe().resolve().warmup, Recipe().resolve().ema_decay) == (0.1, 0.0)


def test_one_cycle_starts_low_peaks_at_thirty_per_cent_and_ends_lower() -> None:
    expected = {0: 0.04, 0.15: 0.52, 0.3: 1.0, 0.65: (1 + 1e-4) / 2, 1: 1e-4}
    for done, rate in expected.items():
        assert one_cycle(1.0, done) == pytest.approx(rate)


def test_steps_come_at_half_and_at_three_quarters() -> None:
    rates = [step_decay(0.1, done) for done in (0, 0.49, 0.5, 0.74, 0.75, 1)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_lenet_follows_its_table_pass_by_pass() -> None:
    table = [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    assert [lenet_table(5e-4, epoch) for epoch in range(1, 21)] == pytest.approx(table)
    assert lenet_table(1.0, 3) == pytest.approx(0.4)


def test_a_plateau_divides_by_ten_when_accuracy_stops_improving() -> None:
    scores = [0.1, 0.5, 0.6, 0.6, 0.55, 0.58, 0.7, 0.7, 0.7, 0.69, 0.7, 0.7, 0.6]
    rates = [plateau(1.0, scores[:known]) for known in range(1, len(scores) + 1)]
    # Three epochs without improvement end at the sixth, the tenth and the thirteenth score.
    assert rates == pytest.approx([1, 1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.001])
    assert [stale_epochs(scores[:known]) for known in (1, 3, 6, 7, 10)] == [0, 0, 3, 0, 3]


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "step", "plateau", "constant", "lenet"])
def test_no_schedule_exceeds_the_rate_that_was_asked_for(schedule: str) -> None:
    recipe = Recipe(learning_rate=0.02, schedule=schedule).resolve()
    rates = [learning_rate_at(recipe, done, 1 + int(20 * done), [0.5]) for done in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(0.02)
    assert (min(rates) == max(rates)) == (schedule in ("constant", "plateau"))


def test_every_stage_trains_at_a_part_of_the_next_ones_rate() -> None:
    net = build(Config("resnet20", classes=5, channels=1))
    _, crown = net.split("stem")
    assert stage_shares(crown, 0.5) == {"stage1": 0.125, "stage2": 0.25, "stage3": 0.5, "head": 1.0}
    assert set(stage_shares(crown, 1.0).values()) == {1.0}
    shares = {id(parameter): group["share"] for group in parameter_groups(crown, 0.01, 0.5)
              for parameter in group["params"]}  # fmt: skip
    expected = {"layer1": 0.125, "layer2": 0.25, "layer3": 0.5}
    for name, parameter in crown.named_parameters():
        assert shares[id(parameter)] == expected.get(name.partition(".")[0], 1.0), name


def test_auxiliary_classifiers_train_at_the_rate_of_the_head() -> None:
    net = build(Config("googlenet", 3, batch_norm_eps=1e-3, auxiliary=True))
    _, crown = net.split("input")
    groups = parameter_groups(crown, 0.01, 0.5)
    head = {id(parameter) for group in groups if group["share"] == 1.0 for parameter in group["params"]}
    assert head == {id(each) for name, each in net.named_parameters() if name.startswith(("aux", "fc."))}


def test_weight_decay_spares_norms_and_biases() -> None:
    net = build(Config("resnet20", classes=5, channels=1))
    _, crown = net.split("input")
    decays = {id(each): group["weight_decay"] for group in parameter_groups(crown, 5e-4, 1.0)
              for each in group["params"]}  # fmt: skip
    assert len(decays) == sum(1 for _ in net.parameters())
    for name, parameter in net.named_parameters():
        spared = name.endswith("bias") or ".bn" in f".{name}" or parameter.ndim == 1
        assert decays[id(parameter)] == (0.0 if spared else 5e-4), name


@pytest.mark.parametrize(
    ("name", "kind", "decay"),
    [("adamw", torch.optim.AdamW, 1e-2), ("sgd", torch.optim.SGD, 5e-4), ("rmsprop", torch.optim.RMSprop, 4e-5)],
)
def test_every_optimizer_has_the_decay_that_suits_it(name: str, kind: type, decay: float) -> None:
    resolved = Recipe(optimizer=name).resolve()
    optimizer = build_optimizer(torch.nn.Linear(3, 2), resolved)
    assert isinstance(optimizer, kind)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [decay, 0.0]
    asked = Recipe(optimizer=name, weight_decay=0.02, learning_rate=0.3, epochs=7).resolve(pretrained=True)
    assert (asked.weight_decay, asked.learning_rate, asked.epochs) == (0.02, 0.3, 7)
    assert Recipe(optimizer=name).resolve(pretrained=True).learning_rate < resolved.learning_rate


@pytest.mark.parametrize(
    ("name", "kind", "settings"),
    [
        ("adamw", torch.optim.AdamW, {"fused": True}),
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ("rmsprop", torch.optim.RMSprop, {"alpha": 0.9, "momentum": 0.9}),
    ],
)
def test_an_optimizer_takes_torchs_own_steps_and_its_state_is_torchs(name: str, kind: Any, settings: Any) -> None:
    recipe = Recipe(optimizer=name).resolve()
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    ours, theirs = (torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 2)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    groups = parameter_groups(theirs, recipe.weight_decay, recipe.layer_decay)
    pairs = [(ours, build_optimizer(ours, recipe)), (theirs, kind(groups, lr=recipe.learning_rate, **settings))]
    for step in range(6):
        for network, optimizer in pairs:
            optimizer.zero_grad(set_to_none=True)
            network(x).square().sum().backward()
            optimizer.step()
        if step == 2:
            one, other = (copy.deepcopy(optimizer.state_dict()) for _, optimizer in pairs)
            for (_, optimizer), state in zip(pairs, (other, one), strict=True):
                optimizer.load_state_dict(state)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_pretrained_start_gets_a_rate_by_its_size_and_epochs_by_its_images() -> None:
    recipe = Recipe()
    usual = recipe.resolve(True, parameters=RATED_PARAMETERS).learning_rate
    assert usual == USUAL["adamw"].pretrained_rate
    # A sixteenth of the size is twice the rate.
    rates = [recipe.resolve(True, parameters=size).learning_rate for size in (RATED_PARAMETERS // 16, 4 * 10**8)]
    assert rates == pytest.approx([2 * usual, usual / 2])
    epochs = [recipe.resolve(True, images=count).epochs for count in (20, 320, 5_000_000)]
    # 20 images are one step an epoch, 320 are ten.
    assert epochs == [MOST_EPOCHS_PRETRAINED, math.ceil(STEPS_PRETRAINED / 10), EPOCHS_PRETRAINED]
    assert recipe.resolve(images=20).epochs == recipe.resolve().epochs == EPOCHS_RANDOM


def test_as_many_steps_are_taken_however_many_batches_make_one() -> None:
    alone, of_four = Recipe(), Recipe(accumulate_steps=4)
    # 1,280 images are 40 batches, and with four batches to a step ten steps.
    assert (alone.resolve(True, images=1_280).epochs, of_four.resolve(True, images=1_280).epochs) == (20, 40)
    assert of_four.resolve(True, images=1_280) == replace(
        Recipe(batch_size=128).resolve(True, images=1_280), batch_size=32, accumulate_steps=4
    )
    assert of_four.resolve(True, images=400).epochs == MOST_EPOCHS_PRETRAINED
    # An unknown number of images counts as many.
    assert Recipe(accumulate_steps=100).resolve(True).epochs == EPOCHS_PRETRAINED


def test_what_is_left_open_is_gentle_to_a_pretrained_network_and_plain_for_a_random_one() -> None:
    pretrained, random = Recipe().resolve(True), Recipe().resolve()
    assert (random.augment, random.label_smoothing, random.batch_norm, random.start_share) == ("none", 0.0, "batch", 0)
    assert pretrained.augment != "none" and pretrained.label_smoothing > 0
    assert pretrained.batch_norm == "stored" and 0 < pretrained.start_share < 1
    # Whether flips suit the images is left to a trial, but nothing is open any more.
    assert pretrained.flip and random.flip
    assert not any(value is None for name, value in vars(pretrained).items() if name in OPEN)


def test_weights_normalised_by_batches_are_not_mixed_with_those_at_the_start_unless_that_is_asked_for() -> None:
    assert Recipe(batch_norm="batch").resolve(True).start_share == 0.0
    assert Recipe(batch_norm="batch", start_share=0.3).resolve(True).start_share == 0.3


def test_what_was_asked_for_stands_even_where_it_is_nothing() -> None:
    asked = {"label_smoothing": 0.0, "start_share": 0.0, "flip": False, "augment": "none", "batch_norm": "batch"}
    resolved = Recipe(**asked, epochs=0, weight_decay=0.0).resolve(True)
    assert {name: getattr(resolved, name) for name in asked} == asked
    assert (resolved.epochs, resolved.weight_decay) == (0, 0.0)
    assert Recipe(augment="medium", flip=False).resolve(True).augmentation() == replace(STRENGTHS["medium"], flip=0.0)


def test_balanced_weights_give_every_class_the_same_sum() -> None:
    labels = np.array([0] * 6 + [1] * 3 + [3])
    weights = weights_of_classes(labels, "balanced")
    assert weights is not None
    assert weights[[0, 1, 3]].tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert float(weights[labels].mean()) == pytest.approx(1)
    assert weights_of_classes(labels, "none") is None
    # An image of a tenth of the weight is a tenth of an image.
    halves = weights_of_classes(np.array([0] * 10 + [1] * 10), "balanced", weights=np.repeat([1.0, 0.1], 10))
    assert halves is not None and float(halves[1] / halves[0]) == pytest.approx(10)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"optimizer": "adam"}, ["`optimizer`", "'adam'", "did you mean 'adamw'"]),
        ({"schedule": "one_cycle"}, ["`schedule`", "'one_cycle'", "did you mean 'one-cycle'"]),
        ({"class_weights": "balance"}, ["`class_weights`", "did you mean 'balanced'"]),
        ({"weight_decay": -0.1}, ["`weight_decay`", "-0.1"]),
        ({"label_smoothing": 1.0}, ["`label_smoothing`", "1.0"]),
        ({"clip_grad_norm": 0.0}, ["`clip_grad_norm`", "0.0"]),
        ({"accumulate_steps": 0}, ["`accumulate_steps`", "0"]),
        ({"patience": 0}, ["`patience`", "0"]),
        ({"batch_norm": "store"}, ["stored or batch for `batch_norm`", "'store'", "did you mean 'stored'"]),
        ({"start_share": 1}, ["a number from 0 and below 1 for `start_share`", "got 1"]),
        ({"ema_decay": 1.0}, ["`ema_decay`", "1.0"]),
        ({"layer_decay": 1.5}, ["`layer_decay`", "1.5"]),
        ({"learning_rate": float("nan")}, ["`learning_rate`", "nan"]),
        ({"learning_rate": 10}, ["a number above 0 and below 10 for `learning_rate`", "got 10"]),
        ({"layer_decay": 0}, ["a number above 0 and up to 1 for `layer_decay`"]),
        ({"epochs": 1.5}, ["a whole number from 0 to 100,000 for `epochs`", "got 1.5"]),
        ({"epochs": True}, ["`epochs`", "got True"]),
        *(({name: 10**9}, [f"to {most} for `{name}`", "got 1000000000"]) for name, most in WHOLE.items()),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_in_one_sentence(setting: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        check_recipe(Recipe(**setting))
    message = str(caught.value)
    assert message.startswith("expected ") and "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan"), 10**400, "1"])
@pytest.mark.parametrize("name", LIMITS)
def test_no_setting_may_be_infinite_or_no_number(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"number .* for `{name}`, got"):
        check_recipe(Recipe(**{name: value}))


def test_every_number_of_a_recipe_has_limits() -> None:
    numbers = {each.name for each in fields(Recipe) if "int" in str(each.type) or "float" in str(each.type)}
    assert numbers == set(LIMITS)


def test_the_command_has_every_setting_with_the_same_default() -> None:
    options = inspect.signature(train_command).parameters
    for field in fields(Recipe):
        if field.name != "warmup":
            assert options[field.name].default == field.default, field.name


def test_a_run_remembers_its_recipe_and_keywords_take_precedence(tmp_path: Path) -> None:
    images, labels = render_letters(LATIN[:3], dejavu_fonts(), 6, 0)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "letters" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(folder / f"{index}.png")
    recipe = Recipe(epochs=50, optimizer="sgd", schedule="step", ema_decay=0.9, layer_decay=0.5)
    out = tmp_path / "run"
    train(tmp_path / "letters", "latin_letters", "stages:2", out=out, epochs=2, recipe=recipe)
    remembered = yaml.safe_load((out / "args.yaml").read_text())
    assert remembered["epochs"] == 2
    assert (remembered["optimizer"], remembered["ema_decay"], remembered["layer_decay"]) == ("sgd", 0.9, 0.5)
    with pytest.raises(InputError, match="schedule was 'step'"):
        train(
            tmp_path / "letters",
            "latin_letters",
            "stages:2",
            out=out,
            epochs=2,
            recipe=Recipe(schedule="plateau"),
            resume=True,
        )
