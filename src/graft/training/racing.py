"""Trials for the advisor's race: levels trained on folds of the training images, from kept activations."""

import copy
import math
import time
from dataclasses import replace
from functools import cache

import numpy as np

from graft.data.dataset import TRAIN, Images
from graft.data.splitting import stratified_folds
from graft.models.network import Network, body_parameter_count
from graft.seeding import seeded
from graft.training.fitting import Task, crown_inputs, crown_precision, frozen_features, put_head
from graft.training.inputs import Inputs, SomeInputs
from graft.training.loop import crown_logits, fit_crown
from graft.training.outlook import outlook
from graft.transfer.advisor import TextbookRule, expected_gain, frozen_fraction, plausible
from graft.transfer.head import HeadFit, fit_head
from graft.transfer.levels import plan_level
from graft.transfer.race import RACE_FOLDS, Contestant, FitLevel, Trial

# More images would change the order of levels no more, and cost more.
MOST_IMAGES = 4000


def sample(images: Images, seed: int, most: int = MOST_IMAGES) -> Images:
    """At most so many of the images, drawn by `seed`, in their order."""
    if len(images) <= most:
        return images
    return images.take(np.sort(np.random.default_rng(seed).permutation(len(images))[:most]))


def contestants(task: Task, rule: TextbookRule) -> list[Contestant]:
    """Every plausible level with what is expected of it and the multiply-adds of its training on all the images."""
    network, images = task.base.network, len(task.dataset.splits[TRAIN])
    per_image = body_parameter_count(network) / images
    found = []
    for level, cut in plausible(network).items():
        planned = plan_level(level, network, True)
        rows = outlook(network, planned, task.recipe, len(task.dataset.classes), images, task.input_shape).stages
        expected = expected_gain(rule.similar, frozen_fraction(network, cut), per_image)
        found.append(Contestant(level, *expected, float(sum(row.total_macs for row in rows))))
    return found


def trials(task: Task) -> FitLevel:
    """Trains a level on all folds but one, without augmentation, for a share of the epochs it would have."""
    task = replace(task, recipe=replace(task.recipe, augment="none", mixup=0.0, cutmix=0.0, patience=None))
    whole = len(task.dataset.splits[TRAIN])
    images = sample(task.dataset.splits[TRAIN], task.seed)
    network, classes = task.base.network, len(task.dataset.classes)
    features, shown = frozen_features(task, images, crops=True)
    labels = shown.labels
    fold = stratified_folds(labels, RACE_FOLDS, task.seed, shown.groups)

    @cache
    def head(held_out: int, views: int) -> HeadFit:
        kept, seen = fold != held_out, np.unique(labels[fold != held_out])
        every_label = np.tile(np.searchsorted(seen, labels[kept]), views)
        of_kept = np.concatenate([each[kept] for each in features[:views]])
        some = shown.take(np.flatnonzero(kept))
        return fit_head(of_kept, every_label, len(seen), task.seed, views, some.groups, some.weights)

    @cache
    def inputs(level: str) -> Inputs:
        return crown_inputs(task, plan_level(level, network, True).cut, TRAIN, images, epochs=1)[0]

    def fit(level: str, held_out: int, share: float) -> Trial:
        started = time.perf_counter()
        rows, out = np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out)
        known = np.unique(labels[rows])
        if level == "head":
            solved = head(held_out, len(features))
            answers = known[(features[0][out] @ solved.weight.T + solved.bias).argmax(1)]
            return Trial(answers == labels[out], time.perf_counter() - started)
        given = inputs(level)
        started = time.perf_counter()
        # As many images are shown as in that share of the training; of many, each at most once.
        shown = share * task.recipe.epochs * min(whole, len(images))
        epochs = max(1, round(shown / len(rows)))
        some = np.random.default_rng(task.seed).permutation(rows)[
            : max(task.recipe.batch_size, math.ceil(shown / epochs))
        ]
        with seeded(task.seed):
            crown_of = _with_head(network, head(held_out, 1), classes, known)
        _, crown = crown_of.split(plan_level(level, network, True).cut)
        crown.requires_grad_(True)
        precision, device = crown_precision(crown, task.choice), task.choice.device
        short = replace(task.recipe, epochs=epochs)
        fit_crown(
            crown, SomeInputs(given, np.sort(some)), None, short, seed=task.seed, device=device, precision=precision
        )
        seconds = time.perf_counter() - started
        answers = crown_logits(crown, SomeInputs(given, out), device, precision).argmax(1)
        return Trial(answers == labels[out], seconds * whole / len(images))

    return fit


def _with_head(network: Network, solved: HeadFit, classes: int, known: np.ndarray) -> Network:
    """A copy of `network` with that head, in which classes that it was not fitted on have no chance to begin with."""
    weight = np.zeros((classes, solved.weight.shape[1]), np.float32)
    bias = np.full(classes, solved.bias.min() - 10, np.float32)
    weight[known], bias[known] = solved.weight, solved.bias
    own = copy.deepcopy(network)
    put_head(own, replace(solved, weight=weight, bias=bias))
    return own
