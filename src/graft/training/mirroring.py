"""Whether mirror images keep their class: tried on the frozen features, not assumed.

A flip helps with most photographs. It is wrong for digits, letters, signs and anything else whose mirror image is
another thing or nothing, and class names do not say which. So a linear probe that has seen only unflipped images is
asked for the classes of other images, mirrored: if it classifies them as well as the images themselves, flips are used.

Flips have the benefit of the doubt up to one standard error, and are left out when mirror images do worse by more than
that. One is enough, as little is lost without flips: in 14 pairs of runs (MobileNet 0.25, stages from 40 % on), they
were worth -1.8 points on average on digits, -3.0 at worst, and +0.3 elsewhere, from -1.8 on small photographs of
objects to +4.2 on sketches.
"""

from dataclasses import dataclass, replace

import numpy as np

from graft.data.dataset import TRAIN
from graft.data.splitting import answerable, stratified_folds
from graft.images.augmenting import STRENGTHS, Augmentation, View
from graft.training.examples import frozen_features
from graft.training.task import ENOUGH_TO_TELL, Task, sample
from graft.transfer.probe import PROBE_FOLDS, held_out_answers
from graft.transfer.race import paired_gain

MIRROR = Augmentation(flip=1.0)


@dataclass(frozen=True)
class Mirroring:
    """A probe's accuracy on `n` held-out images and on their mirror images, and what that means for flips."""

    accuracy: float
    mirrored: float
    error: float
    n: int

    @property
    def harmless(self) -> bool:
        """Whether mirror images are classified as well, up to one standard error."""
        return self.mirrored - self.accuracy >= -self.error

    def __str__(self) -> str:
        verdict = "flips are used" if self.harmless else "flips are left out"
        return (
            f"{verdict}: a probe recognises {self.accuracy:.1%} of {self.n:,} held-out images and {self.mirrored:.1%} "
            "of their mirror images"
        )


def with_flips_tried(task: Task) -> Task:
    """Return the task; its recipe does not flip if that was left open and mirror images turn out to be other things."""
    if task.asked.flip is not None or not (task.base.pretrained and STRENGTHS[task.recipe.augment].flip):
        return task
    tried = try_mirroring(task)
    if tried is None:
        task.reporter.note(
            "flips are used without a trial: to tell whether mirror images keep their class takes a second class, "
            "and two images of one class in different groups"
        )
        return task
    task.reporter.note(str(tried))
    return replace(task, recipe=replace(task.recipe, flip=tried.harmless))


def try_mirroring(task: Task) -> Mirroring | None:
    """Test a probe on the frozen features of mirror images; None if no class has two images, in two groups if there are
    any.
    """
    from threadpoolctl import threadpool_limits

    images = sample(task.dataset.splits[TRAIN], task.seed, ENOUGH_TO_TELL)
    plain, shown = frozen_features(task, images)
    mirrored, _ = frozen_features(task, images, view=View(MIRROR, task.seed, 1))
    classes, labels = np.unique(shown.labels, return_inverse=True)
    fold = stratified_folds(labels, PROBE_FOLDS, task.seed, shown.groups)
    held_out = answerable(labels, fold)
    if len(classes) < 2 or not held_out.any():
        return None
    with threadpool_limits(1):
        right = (held_out_answers(plain[0], labels, fold) == labels)[held_out]
        of_mirrored = (held_out_answers(plain[0], labels, fold, mirrored[0]) == labels)[held_out]
    groups = None if shown.groups is None else shown.groups[held_out]
    _, error = paired_gain(of_mirrored, right, groups)
    return Mirroring(float(right.mean()), float(of_mirrored.mean()), error, len(right))
