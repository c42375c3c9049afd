"""What every level trains, what it leaves alone, and that caching changes nothing."""

import copy
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from graft.features.cache import Activations
from graft.images.letters import CYRILLIC, dejavu_fonts, render_letters
from graft.images.preprocessing import Preprocessing
from graft.models.catalog import build
from graft.models.network import Config, Network
from graft.progress import Reporter
from graft.training import fitting
from graft.training.examples import computed
from graft.training.recipe import Recipe
from graft.training.task import Task
from graft.weights.base import load_base, untrained_base
from graft.weights.saved import SavedModel, load_model, save_model
from graft.workflows.evaluate import evaluate
from graft.workflows.train import train

BASE = "resnet20-12fca82f.th"
# Final weights, and images without augmentation.
PLAIN = {"label_smoothing": 0.0, "augment": "none", "batch_norm": "batch", "ema_decay": 0.0, "start_share": 0.0}
CUTS = {
    "head": "pool",
    "head:stages": "pool",
    "stages:1": "stage2",
    "stages:2": "stage1",
    "frozen:0.7": "stage2",
    "all": "input",
    "scratch": "input",
}


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three letters, ten images of each to train on and six to validate on."""
    root = tmp_path_factory.mktemp("letters")
    for split, count in (("train", 10), ("val", 6)):
        images, labels = render_letters(CYRILLIC[:3], dejavu_fonts(), count, seed=count)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = root / split / CYRILLIC[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[:, :, 0]).save(folder / f"{index}.png")
    return root


def owners(network: Network) -> dict[str, str]:
    """The stage of every tensor, by name."""
    return {
        name: stage.name
        for name in network.state_dict()
        for stage in network.stages
        if any(name.startswith(f"{part}.") for part in stage.parts)
    }


@pytest.mark.parametrize("level", CUTS)
def test_a_level_moves_its_crown_at_the_rates_it_announced_and_nothing_else(
    level: str, letters: Path, shared: Path, tmp_path: Path
) -> None:
    base = str(shared / "weights" / BASE)
    # One step of Adam has the length of the learning rate wherever there is a gradient.
    recipe = Recipe(1, 64, 1e-4, weight_decay=0.0, schedule="constant", layer_decay=0.5, **PLAIN)
    run = train(letters, base, level, recipe=recipe, out=tmp_path / "run", precision="float32", image_size=32)
    start = untrained_base(base) if level == "scratch" else load_base(base)
    before, trained = start.network.state_dict(), load_model(run.folder / "model").network
    assert run.cut == CUTS[level]
    outlook = json.loads((run.folder / "plan.json").read_text())["outlook"]["stages"]
    cuts = trained.cuts
    assert [row["trains"] for row in outlook if row["parameters"]] == [
        cuts.index(row["stage"]) > cuts.index(run.cut) for row in outlook if row["parameters"]
    ]
    by_stage = {row["stage"]: row for row in outlook}
    moved = dict.fromkeys(by_stage, 0.0)
    for name, tensor in trained.state_dict().items():
        stage, frozen = owners(trained)[name], cuts.index(owners(trained)[name]) <= cuts.index(run.cut)
        if frozen:
            assert torch.equal(tensor, before[name]), name
        elif tensor.shape == before[name].shape and name in dict(trained.named_parameters()):
            moved[stage] = max(moved[stage], float((tensor - before[name]).abs().max()))
        elif name.endswith(("running_mean", "running_var")):
            assert not torch.equal(tensor, before[name]), name
    for stage, row in by_stage.items():
        if row["learning_rate"] is not None and stage != "head":
            assert moved[stage] == pytest.approx(row["learning_rate"], rel=0.02), stage
    rates = [row["learning_rate"] for row in outlook if row["learning_rate"] is not None]
    assert rates == pytest.approx([1e-4 * 0.5**behind for behind in reversed(range(len(rates)))])
    assert bool(rates) == (not level.startswith("head"))


def test_statistics_that_came_with_the_weights_are_kept_unless_those_of_batches_are_asked_for(
    letters: Path, shared: Path, tmp_path: Path
) -> None:
    base = str(shared / "weights" / BASE)
    start = load_base(base).network
    for batch_norm, kept in ((None, True), ("batch", False)):
        recipe = Recipe(1, batch_norm=batch_norm)
        run = train(letters, base, "stages:1", recipe=recipe, out=tmp_path / str(batch_norm), image_size=32)
        trained = load_model(run.folder / "model").network
        crown = dict(trained.split(run.cut)[1].named_buffers())
        assert len(crown) > 0
        for name, buffer in trained.named_buffers():
            assert torch.equal(buffer, dict(start.named_buffers())[name]) == (kept or name not in crown), name
        assert any(not torch.equal(tensor, dict(start.named_parameters())[name])
                   for name, tensor in trained.named_parameters() if name.startswith("layer3"))  # fmt: skip


def test_as_is_moves_nothing(shared: Path, tmp_path: Path) -> None:
    base = shared / "weights" / "mobilenet_v1_025_imagenet.safetensors"
    data = tmp_path / "insects"
    for name, source in (("bee", "bees"), ("ant, emmet, pismire", "ants")):
        (data / name).mkdir(parents=True)
        for image in sorted((shared / "datasets" / "ants_bees" / "val" / source).iterdir())[:4]:
            (data / name / image.name).write_bytes(image.read_bytes())
    run = train(data, str(base), "as-is", out=tmp_path / "run")
    before, after = load_base(str(base)).network.state_dict(), load_model(run.folder / "model").network.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


@pytest.mark.parametrize("augment", ["none", "light"])
def test_kept_and_recomputed_activations_train_the_same_weights(
    augment: str, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "insects"
    for split, count in (("train", 20), ("val", 5)):
        for name in ("ants", "bees"):
            (data / split / name).mkdir(parents=True)
            for image in sorted((shared / "datasets" / "ants_bees" / split / name).glob("*.jpg"))[:count]:
                (data / split / name / image.name).write_bytes(image.read_bytes())
    settings = {
        "recipe": Recipe(epochs=3, augment=augment, views=3),
        "image_size": 64,
        "engine": "torch",
        "precision": "float32",
    }
    base = str(shared / "weights" / "mobilenet_v1_025_imagenet.safetensors")
    kept = train(data, base, "stages:2", out=tmp_path / "kept", **settings)
    monkeypatch.setenv("GRAFT_CACHE_BYTES", "0")
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "empty"))
    recomputed = train(data, base, "stages:2", out=tmp_path / "recomputed", **settings)
    assert not any((tmp_path / "empty").rglob("values.bin"))
    one, other = (load_model(run.folder / "model").network.state_dict() for run in (kept, recomputed))
    start = load_base(base).network.state_dict()
    assert not torch.equal(one["blocks.4.1.conv_pw.weight"], start["blocks.4.1.conv_pw.weight"])
    assert max(float((one[name].double() - tensor.double()).abs().max()) for name, tensor in other.items()) <= 1e-5
    assert np.isclose(kept.val.top1, recomputed.val.top1)


def test_kept_views_come_in_turn_and_differ(shared: Path, tmp_path: Path) -> None:
    from graft.data.dataset import TRAIN
    from graft.data.opening import open_dataset
    from graft.features.engine import choose
    from graft.training.examples import crown_inputs
    from graft.training.task import Task
    from graft.transfer.levels import plan_level

    base = load_base(str(shared / "weights" / BASE))
    dataset = open_dataset(shared / "datasets" / "ants_bees")
    images = dataset.splits[TRAIN].take(np.arange(8))
    for level in ("stages:2", "all"):
        chosen = plan_level(level, base.network, pretrained=True)
        recipe = Recipe(augment="medium", views=2)
        task = Task.of(dataset, base, choose("torch", "float32"), recipe)
        inputs, failures = crown_inputs(task, chosen.cut, TRAIN, images, epochs=5)
        assert failures == {}
        shown = [next(inputs.batches(np.arange(8), 8, epoch))[0] for epoch in (1, 2, 3)]
        assert torch.equal(shown[0], shown[2])
        assert not torch.equal(shown[0], shown[1])
        plain, _ = crown_inputs(task, chosen.cut, "val", images, epochs=5)
        assert not torch.equal(next(plain.batches(np.arange(8), 8))[0], shown[0])


@pytest.mark.parametrize(
    ("limit", "kept", "expected"),
    [(None, 0, [32]), (40.0, 0, [1, 4, 5]), (40.0, 1, [1, 4, 6]), (4.0, 0, [1]), (1e6, 0, [1, 4, 16, 11])],
)
def test_as_many_views_are_made_as_a_part_of_the_time_allows(
    limit: float | None, kept: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each view takes a second, except the first ones, which are already kept."""
    from graft.training import examples

    now = 100.0
    monkeypatch.setattr(examples.time, "perf_counter", lambda: now)
    parts = []
    for part in examples._in_time(None if limit is None else now + limit, [None] * 32):
        parts.append(len(part))
        now += max(0, len(part) - (kept if len(parts) == 1 else 0))
    assert parts == expected


def test_in_a_limited_time_images_are_seen_in_fewer_views(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graft.data.dataset import TRAIN
    from graft.data.opening import open_dataset
    from graft.features.engine import choose
    from graft.training import examples
    from graft.transfer.levels import plan_level

    base = load_base(str(shared / "weights" / BASE))
    dataset = open_dataset(shared / "datasets" / "ants_bees")
    images = dataset.splits[TRAIN].take(np.arange(8))
    task = Task.of(dataset, base, choose("torch", "float32"), Recipe(views=12))
    cut = plan_level("stages:2", base.network, pretrained=True).cut
    for where in ("input", cut):
        every, _ = examples.crown_inputs(task, where, TRAIN, images, epochs=20)
        monkeypatch.setattr(examples, "VIEWS_SHARE", 1e-9)
        late = replace(task, deadline=time.perf_counter() + 1.0)
        some, failures = examples.crown_inputs(late, where, TRAIN, images, epochs=20)
        monkeypatch.setattr(examples, "VIEWS_SHARE", 1.0)
        early, _ = examples.crown_inputs(
            replace(task, deadline=time.perf_counter() + 1e5), where, TRAIN, images, epochs=20
        )
        given, _ = examples.crown_inputs(late, where, TRAIN, images, epochs=20, views=3)
        assert failures == {}
        assert [len(each.views) for each in (every, some, early, given)] == [12, 1, 12, 3]
        for number in range(12):
            assert torch.equal(every.views[number], early.views[number])
        assert torch.equal(given.views[2], every.views[2])


def test_a_head_over_all_stages_is_what_its_features_give_on_either_engine(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs OpenVINO, the engine to compare with")
    from graft.data.dataset import TRAIN
    from graft.data.opening import open_dataset
    from graft.features.engine import choose
    from graft.training.examples import frozen_features
    from graft.training.heads import put_head, solve_head
    from graft.training.task import Task

    base = load_base(str(shared / "weights" / "mobilenet_v1_025_imagenet.safetensors"))
    base = replace(base, preprocessing=replace(base.preprocessing, size=96))
    dataset = open_dataset(shared / "datasets" / "ants_bees")
    images = dataset.splits[TRAIN].take(np.arange(0, 240, 6))
    found = {}
    for engine in ("torch", "openvino"):
        task = Task.of(dataset, base, choose(engine, "float32"), Recipe())
        features, shown = frozen_features(task, images, kind="stages")
        assert features.shape == (1, 40, sum(base.network.head_blocks("stages")))
        found[engine] = features
    np.testing.assert_allclose(found["openvino"], found["torch"], rtol=1e-3, atol=1e-3)
    # On some rows, as in a fold; nothing in the network changes until it is given the head.
    assert base.network.config.head == "last"
    rows = np.arange(0, 40, 2)
    head = solve_head(task, features[:, rows], shown.take(rows), "stages")
    network = copy.deepcopy(base.network)
    put_head(network, head, "stages")
    pixels = torch.rand(2, 3, 96, 96)
    with torch.no_grad():
        vectors = base.network.before_head("stages")(pixels)
        expected = vectors @ torch.from_numpy(head.weight).T + torch.from_numpy(head.bias)
        torch.testing.assert_close(network(pixels), expected)


def test_the_rate_that_was_announced_is_the_one_that_is_used(letters: Path, shared: Path, tmp_path: Path) -> None:
    # The base has ten classes, the images three: the rate must not depend on which head is there when it is settled.
    recipe = Recipe(epochs=1, schedule="constant")
    run = train(letters, str(shared / "weights" / BASE), "stages:1", recipe=recipe, out=tmp_path / "run", image_size=32)
    announced = json.loads((run.folder / "plan.json").read_text())["outlook"]["stages"][-1]["learning_rate"]
    used = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[-1])["learning_rate"]
    assert announced == used


@pytest.mark.parametrize("level", ["head", "as-is"])
def test_the_score_is_of_the_answers_where_features_are_computed_in_fewer_bits(
    level: str, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Depthwise convolutions compute their outputs in float32, whatever they are trained in."""
    told = {}

    def noted(*given: Any, **named: Any) -> dict[str, Activations]:
        found = computed(*given, **named)
        told.update({name: each.values.dtype for name, each in found.items()})
        return found

    monkeypatch.setattr(fitting, "computed", noted)
    torch.manual_seed(0)
    preprocessing = Preprocessing(32, (0.5,) * 3, (0.25,) * 3)
    classes = tuple(sorted(CYRILLIC[:3]))
    save_model(tmp_path / "model", SavedModel(build(Config("mobilenet_v1_025", 3)), preprocessing, classes))
    base = str(tmp_path / "model")
    run = train(letters, base, level, out=tmp_path / "run", precision="bfloat16", engine="torch", quiet=True)
    assert told["val"] == torch.float32 and told.get("train", torch.bfloat16) == torch.bfloat16
    found = evaluate(run.folder, letters, split="val", engine="torch", quiet=True)
    # A letter in two identical fonts counts once in a run.
    assert found.scores is not None and found.scores.top1 == (run.val.with_copies or run.val).top1


def test_a_head_on_more_than_memory_holds_is_the_same_and_what_it_takes_is_said(
    letters: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"base": str(shared / "weights" / BASE), "level": "head", "audit": False}
    notes: list[str] = []
    monkeypatch.setattr(fitting, "more_crops", lambda task: ())
    train(str(letters), **asked, out=tmp_path / "whole", quiet=True)
    monkeypatch.setattr(fitting, "note_on_streaming", lambda *shape: f"in passes over {shape}")
    train(str(letters), **asked, out=tmp_path / "passes", reporter=Reporter(note=notes.append))
    whole, passes = (load_model(tmp_path / name / "model").network.state_dict() for name in ("whole", "passes"))
    assert "in passes over (30, 64, 3)" in notes
    torch.testing.assert_close(passes, whole, atol=1e-3, rtol=1e-3)
