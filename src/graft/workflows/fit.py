"""Train a classifier in memory, without a run folder, for callers that train many."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from graft.data.dataset import TRAIN, Dataset, Images, together
from graft.errors import ImageError, InputError
from graft.evaluation.calibration import softmax
from graft.features.determinism import repeatable
from graft.features.engine import Choice, for_answers
from graft.progress import NOBODY, Reporter
from graft.seeding import seeded
from graft.serving.predictor import Classifier
from graft.torch_modes import in_own_modes
from graft.training.examples import frozen_features
from graft.training.fitting import fit_unmeasured
from graft.training.recipe import Recipe
from graft.training.task import Task
from graft.transfer.levels import Plan
from graft.weights.base import Base
from graft.weights.saved import SavedModel
from graft.workflows.arguments import Arguments
from graft.workflows.deciding import checked, choice_of, decide


@dataclass(frozen=True)
class Fitted:
    """A classifier trained in memory, with what prediction needs.

    `choice` is the engine that computes its answers, as for the saved model; `base` is its network as a base to start
    from.
    """

    saved: SavedModel
    choice: Choice
    plan: Plan
    base: Base
    notes: tuple[str, ...]

    def classifier(self) -> Classifier:
        return Classifier(self.saved, self.choice)

    def probabilities(self, images: Dataset) -> np.ndarray:
        """Return probabilities, float64 (N, classes), of all images in the order of their rows. Raises ImageError."""
        whole = together(images.splits.values())
        if self.plan.level not in ("head", "head:stages"):
            return self.classifier().predict_proba(images)
        features, shown = frozen_features(self._task(images), whole, self.plan.head)
        if len(shown) < len(whole):
            seen = set(shown.rows.tolist())
            missing = next(index for index, row in enumerate(whole.rows.tolist()) if row not in seen)
            raise ImageError(
                f"expected images that can be read, got one that cannot, {whole.name(missing)}: leave it out"
            )
        with torch.inference_mode():
            logits = self.saved.network.split(self.saved.network.cuts[-2])[1](torch.from_numpy(features[0]))
        return softmax(logits.double().numpy(), self.saved.temperature).astype(np.float64)

    def _task(self, images: Dataset) -> Task:
        empty: Images = next(iter(images.splits.values()))
        dataset = replace(images, splits={TRAIN: empty})
        return Task.of(dataset, self.base, self.choice, Recipe())


@in_own_modes
def fit(arguments: Arguments, images: Dataset, reporter: Reporter = NOBODY) -> Fitted:
    """Train on `images` as `graft.train` does with these arguments, but without a run folder or figures.

    Raises what `graft.train` raises.
    """
    if images.label_sets is not None:
        raise InputError("expected one label for each image here, got several: use graft.train")
    arguments = checked(arguments)
    choice, started = choice_of(arguments), time.perf_counter()
    with seeded(arguments.seed), repeatable(choice):
        decided = decide(arguments, images, None, reporter, started, writes=False)
        task = decided.task
        trained = fit_unmeasured(task, decided.plan, decided.measured)
    network = task.base.network.cpu().eval()
    facts = {"base": task.base.name, "level": decided.plan.level, "cut": decided.plan.cut}
    saved = SavedModel(network, task.preprocessing, task.dataset.classes, trained.temperature, facts, trained.outputs)
    notes = (*decided.notes, *trained.notes)
    return Fitted(saved, for_answers(choice, network, arguments.precision), decided.plan, task.base, notes)
