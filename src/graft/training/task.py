"""What a training is given and what it makes of it: the values between its steps."""

import copy
import math
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

# Of more images, those that are set aside for val add little when they are trained on too, and it takes as long again.
REFIT_UP_TO = 5000
# So many images tell what a base makes of them: its stages, and mirror images.
ENOUGH_TO_TELL = 500


@dataclass(frozen=True)
class Task:
    """What a training is given: labelled images, a base to start from, an engine, and a recipe with nothing left open.

    What is decided about it, a level and its cut, is a `Plan`. `asked` is the recipe as it was asked for. With `refit`,
    val was set aside by graft itself: when it has been measured on, it is trained on too.
    """

    dataset: Dataset
    base: Base
    choice: Choice
    recipe: ResolvedRecipe
    asked: Recipe
    seed: int = 0
    reporter: Reporter = NOBODY
    # By when all is to be done, on the clock of time.perf_counter.
    deadline: float | None = None
    refit: bool = False
    # Whether levels are tried on it: heads over the last stage and over all stages are, for which one pass is made.
    raced: bool = False
    # Who takes part in the steps, and how often their state is kept in the middle of an epoch, in seconds.
    processes: Processes = ALONE
    checkpoint_every: float = math.inf

    @classmethod
    def of(cls, dataset: Dataset, base: Base, choice: Choice, recipe: Recipe, **others: Any) -> "Task":
        """The task in which `recipe` is resolved for this base and as many images as the dataset has to train on.

        Raises DataError where none of these images counts for anything.
        """
        weights = dataset.splits[TRAIN].weights
        if weights is not None and not weights.any():
            raise DataError(
                f"expected weights above 0 of images to train on, got 0 for all {len(weights):,}: correct the weights, "
                "or leave them out"
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
        """(C, H, W) of an image as the network sees it."""
        return (self.preprocessing.channels, self.preprocessing.size, self.preprocessing.size)

    @property
    def to_train_on(self) -> tuple[str, ...]:
        """The splits whose images the classifier that is kept is trained on."""
        return (TRAIN, VAL) if self.refit else (TRAIN,)

    def on_a_copy(self) -> "Task":
        """The same with a network of its own, so that what is done to it leaves this one as it is."""
        return replace(self, base=replace(self.base, network=copy.deepcopy(self.base.network)))


@dataclass(frozen=True)
class Trained:
    """What a level made: logits (n, classes) and labels by split, the temperature, and where the time went.

    `cross_validated`, bool (n,), says of a head which training images it knows in folds that it was not fitted on, in
    an order that is the same for all heads of a task. `held_out` are logits and labels of images that no weights saw,
    where these are not those of val, `folds` their keys and `fold_groups` their groups; `domain` is what the images
    trained on are like to the network. Where images have several labels, labels are float32 (n, classes) of 0 and 1,
    and `thresholds`, float64 (classes,), say from which probability on each is answered.
    """

    logits: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    temperature: float
    skipped: dict[str, str]
    feature_seconds: float
    training_seconds: float
    history: tuple[Epoch, ...] = ()
    # For a network that has more outputs than there are classes, those of each class.
    outputs: Outputs | None = None
    notes: tuple[str, ...] = ()
    cross_validated: np.ndarray | None = None
    held_out: tuple[np.ndarray, np.ndarray] | None = None
    folds: tuple[str, ...] = ()
    fold_groups: np.ndarray | None = None
    domain: FittedDomain | None = None
    thresholds: np.ndarray | None = None


def sample(images: Images, seed: int, most: int) -> Images:
    """At most so many of the images, drawn by `seed`, in their order."""
    if len(images) <= most:
        return images
    return images.take(np.sort(np.random.default_rng(seed).permutation(len(images))[:most]))
