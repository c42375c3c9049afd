"""The learning-rate range test, alone and in a training run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from graft.cli.train import train as train_command
from graft.errors import GraftError, InputError
from graft.images.letters import CYRILLIC, LATIN, dejavu_fonts, render_letters
from graft.images.preprocessing import Preprocessing
from graft.images.resizing import to_square
from graft.models.catalog import build
from graft.models.network import Config, Network
from graft.progress import Reporter
from graft.training import descent
from graft.training.inputs import ActivationInputs, PixelInputs
from graft.training.learning_rate_range import RATE_RANGE_FILE, find_learning_rate, suggest
from graft.training.loop import CrownFit, Watcher, fit_crown
from graft.training.recipe import Recipe
from graft.weights.saved import load_model
from graft.workflows.train import train

PREPROCESSING = Preprocessing(size=32, mean=(0.5,), std=(0.5,), crop_fraction=1.0)
RECIPE = Recipe(epochs=8, batch_size=16).resolve()


@pytest.fixture(scope="module")
def letters() -> PixelInputs:
    """Five Latin letters, twelve images of each."""
    images, labels = render_letters(LATIN[:5], dejavu_fonts(), 12, 0)
    return PixelInputs((torch.stack([to_square(each, PREPROCESSING) for each in images]),), labels, PREPROCESSING)


@pytest.fixture(scope="module")
def cyrillic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six Cyrillic letters, ten images of each."""
    root = tmp_path_factory.mktemp("letters") / "cyrillic"
    images, labels = render_letters(CYRILLIC[:6], dejavu_fonts(), 10, 0)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / CYRILLIC[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(folder / f"{index:02}.png")
    return root


def network(architecture: str = "lenet5") -> Network:
    torch.manual_seed(0)
    return build(Config(architecture, classes=5, channels=1))


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_the_suggested_rate_trains_better_than_a_hundredth_of_it_and_than_one_that_diverged(
    letters: PixelInputs,
) -> None:
    recipe = Recipe(epochs=20, batch_size=8, optimizer="sgd").resolve()
    found = find_learning_rate(network().split("input")[1], letters, recipe)
    assert found.losses[-1] > 4 * min(found.losses)

    def loss(rate: float) -> float:
        trained = fit_crown(network().split("input")[1], letters, None, replace(recipe, learning_rate=rate))
        return trained.history[-1].train_loss

    suggested = loss(found.suggested)
    assert suggested < 0.5 * loss(found.suggested / 100)
    assert suggested < 0.5 * loss(found.rates[-1])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "rmsprop"])
def test_rates_grow_by_a_factor_around_that_of_the_recipe(optimizer: str, letters: PixelInputs) -> None:
    recipe = Recipe(epochs=40, batch_size=16, optimizer=optimizer).resolve()
    found = find_learning_rate(network().split("input")[1], letters, recipe)
    assert found.rates[0] == pytest.approx(recipe.learning_rate / 100)
    largest = min(100 * recipe.learning_rate, 10)
    growth = (largest / found.rates[0]) ** (1 / 79)  # half of 40 epochs of four steps are 80 steps
    assert np.divide(found.rates[1:], found.rates[:-1]) == pytest.approx(growth)
    assert len(found.losses) == len(found.rates) <= 80
    assert found.rates[0] < found.suggested < found.rates[-1]
    assert np.isfinite(found.losses).all()


def test_few_images_are_tried_for_fewer_steps(letters: PixelInputs) -> None:
    crown, told = network().split("input")[1], []
    few = replace(letters, views=(letters.views[0][:20],), labels=letters.labels[:20])
    for inputs, epochs in ((few, 10), (letters, 100)):
        # At such rates nothing moves, and no loss ends the test.
        find_learning_rate(
            crown, inputs, replace(RECIPE, epochs=epochs, learning_rate=1e-6), step=lambda *step: told.append(step)
        )
    assert told == [(step, total) for total in (50, 100) for step in range(1, total + 1)]


def test_the_crown_and_the_random_state_are_left_as_they_were(letters: PixelInputs) -> None:
    net = network("resnet20").eval()
    _, crown = net.split("stage2")
    crown.requires_grad_(True)
    trunk, _ = net.split("stage2")
    with torch.no_grad():
        shown = trunk(next(letters.batches(np.arange(60), 60))[0])
    before, random = state(net), torch.get_rng_state()
    found = find_learning_rate(crown, ActivationInputs((shown,), letters.labels), replace(RECIPE, dropout=0.5))
    assert min(found.losses) < 0.99 * found.losses[0]
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module.training for module in crown.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_same_seed_finds_the_same_rates_and_another_sees_other_batches(letters: PixelInputs) -> None:
    crown = network().split("input")[1]
    one, again, other = (find_learning_rate(crown, letters, RECIPE, seed=seed) for seed in (3, 3, 4))
    assert one == again
    assert one.losses[:5] != other.losses[:5]


def test_batches_that_do_not_fit_into_memory_are_halved(letters: PixelInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, whole = [], find_learning_rate(network().split("input")[1], letters, RECIPE)
    loss_of = descent.loss_of

    def limited(crown: torch.nn.Module, x: torch.Tensor, *rest: object) -> torch.Tensor:
        sizes.append(len(x))
        if len(x) > 8:
            raise RuntimeError("CUDA out of memory.")
        return loss_of(crown, x, *rest)

    monkeypatch.setattr(descent, "loss_of", limited)
    halved = find_learning_rate(network().split("input")[1], letters, RECIPE)
    assert sizes[:3] == [16, 8, 8]
    assert halved.losses[:10] == pytest.approx(whole.losses[:10], rel=1e-4)


def test_a_fifth_of_the_largest_harmless_rate_is_suggested() -> None:
    rates = np.logspace(-6, 0, 61)
    falls = np.concatenate([np.linspace(2, 1, 41), np.linspace(1.5, 4.5, 20)])  # least at 1e-2
    assert suggest(rates.tolist(), falls.tolist()) == pytest.approx(0.2 * 1e-2, rel=0.3)
    # A loss that is flat but for chance says nothing about the rates before it explodes.
    noise = 1 + 0.01 * np.random.default_rng(0).standard_normal(61)
    flat = np.where(rates < 2e-3, noise, 2.0)
    assert suggest(rates.tolist(), flat.tolist()) == pytest.approx(0.2 * rates[rates < 2e-3].max())
    rises = np.linspace(1, 2, 61) ** 3
    assert suggest(rates.tolist(), rises.tolist()) >= rates[0]


def test_a_loss_that_is_no_number_from_the_start_is_told(letters: PixelInputs) -> None:
    net = network()
    with torch.no_grad():
        net.head.weight.fill_(float("nan"))
    with pytest.raises(GraftError, match="expected a finite loss at a learning rate of"):
        find_learning_rate(net.split("input")[1], letters, RECIPE)


def test_the_rate_grows_with_the_time_where_there_is_little(
    letters: PixelInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(np.arange(0, 1000, 0.1).tolist())
    monkeypatch.setattr("graft.training.time_budget.time.perf_counter", lambda: next(clock))
    crown, recipe = network().split("input")[1], replace(RECIPE, epochs=100, learning_rate=1e-6)
    found = find_learning_rate(crown, letters, recipe, seconds=4.0)
    assert 25 <= len(found.rates) <= 30
    assert found.rates[-1] > 0.5 * 1e-4
    with pytest.raises(
        InputError, match=r"`time_limit` that allows at least 20 steps of `find_learning_rate`, got \d+ done"
    ):
        find_learning_rate(crown, letters, recipe, seconds=1.0)


def test_a_run_trains_as_if_the_rate_that_it_found_had_been_given(cyrillic: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    settings = {"epochs": 2, "engine": "torch", "precision": "float32"}
    found = train(cyrillic, "latin_letters", "stages:2", out=tmp_path / "found", find_learning_rate=True,
                  reporter=Reporter(note=notes.append), **settings)  # fmt: skip
    said = json.loads((found.folder / RATE_RANGE_FILE).read_text())
    assert len(said["rates"]) == len(said["losses"]) > 20
    assert any(f"rate {said['suggested']:.2g} in place of" in note for note in notes)
    given = train(
        cyrillic, "latin_letters", "stages:2", out=tmp_path / "given", learning_rate=said["suggested"], **settings
    )
    one, other = (load_model(run.folder / "model").network.state_dict() for run in (found, given))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert yaml.safe_load((found.folder / "args.yaml").read_text())["find_learning_rate"] is True
    assert yaml.safe_load((found.folder / "args.yaml").read_text())["learning_rate"] is None


def test_a_resumed_run_goes_on_at_the_rate_it_was_begun_with(
    cyrillic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rates = tmp_path / "run", []

    def stop(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    def seen(crown: torch.nn.Module, inputs: object, val: object, recipe: Recipe, **more: object) -> CrownFit:
        rates.append(recipe.learning_rate)
        return fit_crown(crown, inputs, val, recipe, **{**more, "watcher": Watcher()})

    settings = {"epochs": 1, "find_learning_rate": True}
    monkeypatch.setattr("graft.training.crowns.fit_crown", stop)
    with pytest.raises(KeyboardInterrupt):
        train(cyrillic, "latin_letters", "all", out=out, **settings)
    said = json.loads((out / RATE_RANGE_FILE).read_text())
    (out / RATE_RANGE_FILE).write_text(json.dumps({**said, "suggested": 1.25e-4}))
    monkeypatch.setattr("graft.training.crowns.fit_crown", seen)
    train(out, resume=True)
    # The first fit is on the training images, the last on all images.
    assert rates == [1.25e-4, 1.25e-4]


def test_a_rate_that_is_given_needs_no_finding(cyrillic: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"expected `learning_rate` or `find_learning_rate`, got both \(`learning_rate=0.01`\)"
    ):
        train_command(
            str(cyrillic),
            "latin_letters",
            "all",
            learning_rate=0.01,
            find_learning_rate=True,
            out=str(tmp_path / "run"),
        )
    assert not (tmp_path / "run").exists()
    notes: list[str] = []
    run = train(
        cyrillic,
        "latin_letters",
        "head",
        find_learning_rate=True,
        out=tmp_path / "head",
        reporter=Reporter(note=notes.append),
    )
    assert "recipe options are ignored at --level head: no stage is trained in steps (find_learning_rate)" in notes
    assert not (run.folder / RATE_RANGE_FILE).exists()
