"""The input and the outcome of training: the values passed between its steps."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graft.data.dataset import TRAIN, VAL, Dataset, Images
from graft.errors import DataError
from graft.evaluation.domain import FittedDomain
from graft.features.engine import Choice
from graft.images.preprocessing import Preprocessing
from graft.models.network import body_parameter_count
from graft.progress import NOBODY, Reporter
from graft.training.history import Epoch
from graft.training.processes import ALONE, Processes
from graft.training.recipe import Recipe, ResolvedRecipe
from graft.weights.base import Base
from graft.weights.saved import Outputs

# With more images than this, training on those set aside for val as well adds little, and takes as long again.
REFIT_UP_TO = 5000
# This many images are enough to judge what a base makes of them: its stages, and mirror images.
ENOUGH_TO_TELL = 500


@dataclass(frozen=True)
class Task:
    """The input of training: labelled images, a base to start from, an engine, and a fully resolved recipe.

    Decisions about it, a level and its cut, make a `Plan`. `asked` is the recipe as it was asked for. `refit` means
    that graft set val aside itself, and trains on it too once it has been measured on.
    """

    dataset: Dataset
    base: Base
    choice: Choice
    recipe: ResolvedRecipe
    asked: Recipe
    seed: int = 0
    reporter: Reporter = NOBODY
    # When everything must be done, on the clock of time.perf_counter.
    deadline: float | None = None
    refit: bool = False
    # Whether a single image that cannot be decoded ends it.
    strict: bool = False
    # Whether levels are raced on this task: heads over the last stage and over all stages then share one pass.
    raced: bool = False
    # The processes that share the steps, and the seconds between checkpoints in the middle of an epoch.
    processes: Processes = ALONE
    checkpoint_every: float = math.inf

    @classmethod
    def of(cls, dataset: Dataset, base: Base, choice: Choice, recipe: Recipe, **others: Any) -> "Task":
        """Create a task with `recipe` resolved for this base and the number of training images in the dataset.

        Raises DataError if all of those images have weight 0.
        """
        weights = dataset.splits[TRAIN].weights
        if weights is not None and not weights.any():
            raise DataError(
                f"expected weights above 0 for images to train on, got 0 for all {len(weights):,}: correct the "
                "weights, or leave them out"
            )
        parameters, images = body_parameter_count(base.network), len(dataset.splits[TRAIN])
        if dataset.label_sets is not None and recipe.label_smoothing is None:
            # Each label is a question of its own, which few images answer with yes.
            recipe = replace(recipe, label_smoothing=0.0)
        resolved = recipe.resolve(base.pretrained, parameters=parameters, images=images)
        return cls(dataset, base, choice, resolved, recipe, **others)

    @property
    def preprocessing(self) -> Preprocessing:
        return self.base.preprocessing

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of an image as the network sees it."""
        return (self.preprocessing.channels, self.preprocessing.size, self.preprocessing.size)

    @property
    def to_train_on(self) -> tuple[str, ...]:
        """The splits that the final classifier is trained on."""
        return (TRAIN, VAL) if self.refit else (TRAIN,)

    def on_a_copy(self) -> "Task":
        """Return the task with its own copy of the network, so that changes leave this one intact."""
        return replace(self, base=replace(self.base, network=copy.deepcopy(self.base.network)))


@dataclass(frozen=True)
class Trained:
    """The outcome of a level: logits (n, classes) and labels by split, the temperature, and the time spent.

    `cross_validated`, bool (n,), says which training images a head classifies right in folds it was not fitted on, in
    an order that is the same for all heads of a task. `held_out` are logits and labels of images that no weights saw,
    if these are not the images of val; `folds` are their keys and `fold_groups` their groups. `domain` describes
    images as the network sees them: those a head was solved on, or those of val where stages were trained. Where images
    have several labels, labels are float32 (n, classes) of 0 and 1, and `thresholds`, float64 (classes,), is the
    probability from which on each label is answered.
    """

    logits: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    temperature: float
    skipped: dict[str, str]
    feature_seconds: float
    training_seconds: float
    history: tuple[Epoch, ...] = ()
    # For a network with more outputs than classes, the outputs of each class.
    outputs: Outputs | None = None
    notes: tuple[str, ...] = ()
    cross_validated: np.ndarray | None = None
    held_out: tuple[np.ndarray, np.ndarray] | None = None
    folds: tuple[str, ...] = ()
    fold_groups: np.ndarray | None = None
    domain: FittedDomain | None = None
    thresholds: np.ndarray | None = None


def readable_rows(images: Images, skipped: Mapping[str, str]) -> np.ndarray:
    """Return the indices of all images but those `skipped` by name as unreadable, int64 (n,)."""
    if not skipped:
        return np.arange(len(images))
    return np.array([index for index in range(len(images)) if images.name(index) not in skipped], dtype=np.int64)


def groups_of_split(dataset: Dataset, trained: Trained, name: str) -> np.ndarray | None:
    """Return the groups of the images of a split that have logits, int64 (n,), in their order; None without groups."""
    images = dataset.splits[name]
    return None if images.groups is None else images.groups[readable_rows(images, trained.skipped)]


def sample(images: Images, seed: int, most: int) -> Images:
    """Return at most `most` of the images, drawn by `seed`, in their order."""
    if len(images) <= most:
        return images
    return images.take(np.sort(np.random.default_rng(seed).permutation(len(images))[:most]))
