"""Whether the head of a crown sees one stage or several is tried, not assumed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from graft.data.dataset import TRAIN, VAL, Dataset
from graft.data.opening import open_dataset
from graft.features.engine import choose
from graft.training import reach
from graft.training.reach import with_reach_tried
from graft.training.recipe import Recipe
from graft.training.task import Task
from graft.transfer.levels import Plan, plan_level
from graft.weights.base import load_base, untrained_base

BASE = "mobilenet_v1_025_imagenet.safetensors"
WIDE = "stages:stage3"


def task_of(shared: Path, data: str, count: int, size: int, head: str | None = None) -> Task:
    dataset = open_dataset(shared / "datasets" / data)
    images = dataset.splits[TRAIN]
    images = images.take(np.sort(np.random.default_rng(0).permutation(len(images))[:count]))
    base = load_base(str(shared / "weights" / BASE))
    base = replace(base, preprocessing=replace(base.preprocessing, size=size))
    few: Dataset = replace(dataset, splits={TRAIN: images, VAL: images.take(np.arange(9))})
    return Task.of(few, base, choose("torch", "float32"), Recipe(head=head))


def planned(task: Task, level: str = "frozen:0.4") -> Plan:
    return with_reach_tried(task, plan_level(level, task.base.network, task.base.pretrained))


def test_the_head_sees_all_stages_where_folds_know_digits_better_that_way(shared: Path) -> None:
    task = task_of(shared, "mnist", 400, 64)
    plan = planned(task)
    assert (plan.cut, plan.head) == ("stage3", WIDE)
    assert plan.reasons[-1].startswith("the head sees all stages after stage3: over all stages after stage3 it gets ")
    assert plan == planned(task)
    # The network is as it was until it is given the head.
    assert task.base.network.config.head == "last"


def test_the_head_sees_the_last_stage_of_photographs_like_those_of_the_base(shared: Path) -> None:
    plan = planned(task_of(shared, "ants_bees", 160, 128))
    assert plan.head == "last" and plan.reasons[-1].startswith("the head sees the last stage alone: over all stages")


def test_a_doubt_counts_against_several_stages() -> None:
    values = {"cut": "input", "accuracy": 0.9, "of_last": 0.8, "n": 40}
    assert reach.Reach(gain=0.02, error=0.019, **values).wide
    assert not reach.Reach(gain=0.02, error=0.02, **values).wide
    said = str(reach.Reach(gain=0.2, error=0.01, **values))
    assert "the head sees all stages: over all stages it gets 90.0% of 40 held-out images" in said
    assert "90.0% of the labels of 40 held-out images" in str(reach.Reach(gain=0.2, error=0.01, several=True, **values))


def test_what_the_recipe_says_is_not_tried(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "_try_reach", lambda *_: pytest.fail("heads were tried"))
    of_last, of_all = (task_of(shared, "mnist", 60, 64, head) for head in ("last", "stages"))
    assert planned(of_last).head == "last"
    assert [planned(of_all, level).head for level in ("all", "stages:1", "scratch")] == [
        "stages",
        "stages:stage4",
        "stages",
    ]
    # A head that is solved says itself what it sees.
    assert [planned(of_all, level).head for level in ("head", "head:stages", "as-is")] == ["last", "stages", "last"]


def test_nothing_is_tried_from_random_weights_or_with_many_images(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "_try_reach", lambda *_: pytest.fail("heads were tried"))
    task = task_of(shared, "mnist", 60, 64)
    assert planned(task, "scratch").head == "last"
    assert planned(replace(task, base=untrained_base("resnet20")), "all").head == "last"
    monkeypatch.setattr(reach, "MOST_IMAGES", 59)
    assert planned(task).head == "last"


def test_with_one_image_per_class_the_head_sees_the_last_stage(shared: Path) -> None:
    task = task_of(shared, "mnist", 300, 64)
    images = task.dataset.splits[TRAIN]
    alone = images.take(np.sort(np.unique(images.labels, return_index=True)[1][:1]))
    task = replace(task, dataset=replace(task.dataset, splits={**task.dataset.splits, TRAIN: alone}))
    assert planned(task).head == "last"
