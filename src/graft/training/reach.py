"""Whether the new head of a crown sees its last stage or all of them: tried on the frozen features, not assumed.

Trained stages begin with a head that was solved on the features of the base as it is. On images far from the base's
own, a head over the means and maxima of all stages after the cut is more accurate than one over the last (Evci et al.
2022, "Head2Toe", arXiv 2201.03529), and training from there ends higher.

In doubt the last stage alone is used, because other tools support such a network too. In 14 pairs of runs (MobileNet
0.25, stages from 40 % on), the wider head was worth +1.5 points where it was better in the folds, on digits and
sketches, from 0.0 to +2.5, and -0.4 elsewhere, from -5.4 on cells to +2.6 on ants and bees (docs/recipe.md).
"""

from dataclasses import dataclass, replace

import numpy as np

from graft.data.dataset import TRAIN
from graft.models.cuts import ALL_STAGES, INPUT, LAST, HeadKind, head_over_all_after
from graft.models.network import Network
from graft.training.examples import frozen_features
from graft.training.heads import losses_of, solve_head
from graft.training.task import Task
from graft.transfer.levels import Plan
from graft.words import counted

# With more images the start matters less, and features of all stages take up room.
MOST_IMAGES = 5000
# This many of them are enough to decide.
ENOUGH = 1000


@dataclass(frozen=True)
class Reach:
    """How heads over all stages after a cut and over the last one do in folds, on `n` held-out training images.

    `gain` is by how much the log loss of the first is smaller, and `error` its standard error. Where an image may have
    `several` labels, accuracies are shares of labels.
    """

    cut: str
    accuracy: float
    of_last: float
    gain: float
    error: float
    n: int
    several: bool = False

    @property
    def wide(self) -> bool:
        """Whether the head over all stages is better by more than one standard error."""
        return self.gain > self.error

    def __str__(self) -> str:
        after = "all stages" if self.cut == INPUT else f"all stages after {self.cut}"
        verdict = f"the head sees {after}" if self.wide else "the head sees the last stage alone"
        of = f"{'the labels of ' if self.several else ''}{counted(self.n, 'held-out image')}"
        return (
            f"{verdict}: over {after} it gets {self.accuracy:.1%} of {of} correct before training, log loss "
            f"{-self.gain:+.3f} (± {1.96 * self.error:.3f}) relative to that over the last, which gets "
            f"{self.of_last:.1%}"
        )


def with_reach_tried(task: Task, plan: Plan) -> Plan:
    """Return the plan, with a head over all stages if the recipe asks for it, or leaves it open and it does better.

    A head that is solved at its own level, and a network whose head has no parameters, are left as they are.
    """
    network, asked = task.base.network, task.recipe.head
    wide = _wide(network, plan.cut)
    if wide is None or asked == LAST:
        return plan
    if asked == ALL_STAGES:
        return replace(plan, head=wide)
    images = task.dataset.splits[TRAIN]
    if not task.base.pretrained or plan.level == "scratch" or len(images) > MOST_IMAGES:
        return plan
    tried = _try_reach(task, plan.cut, wide)
    if tried is None:
        return plan
    return replace(plan, head=wide if tried.wide else LAST, reasons=(*plan.reasons, str(tried)))


def _wide(network: Network, cut: str) -> HeadKind | None:
    """Return the head over all stages after the cut; None if there is none, or if the last stage is the only one."""
    if cut in network.cuts[-2:] or not any(True for _ in network.head.parameters()):
        return None
    kind = head_over_all_after(cut)
    return kind if len(network.head_blocks(kind)) > 1 else None


def _try_reach(task: Task, cut: str, wide: HeadKind) -> Reach | None:
    """Compare both heads in folds; None if there are too few images."""
    heads = []
    for kind in (wide, LAST):
        # Computed for all images, as the head that training begins with needs them all.
        features, shown = frozen_features(task, task.dataset.splits[TRAIN], kind)
        rows = np.sort(np.random.default_rng(task.seed).permutation(len(shown))[:ENOUGH])
        heads.append(solve_head(task, features[:, rows], shown.take(rows), kind))
    lost, of_last = (losses_of(head) for head in heads)
    if len(lost) < 2:
        return None
    gained = of_last - lost
    right, right_of_last = (_right(head.logits, head.labels) for head in heads)
    error = float(gained.std(ddof=1) / np.sqrt(len(gained)))
    several = task.dataset.label_sets is not None
    return Reach(cut, right, right_of_last, float(gained.mean()), error, len(gained), several)


def _right(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of correctly answered images, or of labels where an image may have several."""
    if labels.ndim > 1:
        return float(((logits > 0) == (labels > 0)).mean())
    return float((logits.argmax(1) == labels).mean())
