"""Heads of a network: solved on features for a task, and put into the network."""

import numpy as np
import torch

from graft.data.dataset import Dataset, Images
from graft.evaluation.label_scores import best_thresholds, sigmoid
from graft.models.cuts import LAST, HeadKind
from graft.models.network import Network
from graft.training.optimizer import weights_of_classes
from graft.training.task import Task
from graft.transfer.head import HeadFit, fit_head, log_softmax
from graft.transfer.label_head import fit_label_head, log_loss_of_labels
from graft.transfer.streamed_head import StoredRows, fit_streamed_head


def targets_of(dataset: Dataset, shown: Images) -> np.ndarray:
    """Return the labels to train on: int64 (n,), or float32 (n, C) of 0 and 1 where images have several."""
    return shown.labels if dataset.label_sets is None else dataset.label_matrix(shown.labels)


def thresholds_of(task: Task, logits: np.ndarray, labels: np.ndarray) -> np.ndarray | None:
    """Return the probability from which on each label is answered, float64 (C,), chosen for the highest F1 on `logits`.

    None where images have one label.
    """
    if task.dataset.label_sets is None:
        return None
    return best_thresholds(sigmoid(logits), labels)


def solve_head(task: Task, features: np.ndarray, shown: Images, kind: HeadKind = LAST) -> HeadFit:
    """Solve a head of this kind on features (views, n, D) of n images, for the classes present among them, in order."""
    views, _, width = features.shape
    if task.dataset.label_sets is not None:
        matrix = np.tile(targets_of(task.dataset, shown), (views, 1))
        own = task.base.network.head_blocks(kind) if kind != LAST else None
        return fit_label_head(features.reshape(-1, width), matrix, task.seed, views, shown.groups, shown.weights, own)
    seen, labels = np.unique(shown.labels, return_inverse=True)
    blocks = task.base.network.head_blocks(kind) if kind != LAST else None
    every_label = np.tile(labels, views)
    weights = _weights_of(task, shown)
    return fit_head(
        features.reshape(-1, width), every_label, len(seen), task.seed, views, shown.groups, weights, blocks
    )


def _weights_of(task: Task, shown: Images) -> np.ndarray | None:
    """Return the loss weight of each image, (n,): its own, times that of its class if classes are balanced."""
    of_classes = weights_of_classes(shown.labels, task.recipe.class_weights, weights=shown.weights)
    if of_classes is None:
        return shown.weights
    balanced = of_classes.double().numpy()[shown.labels]
    return balanced if shown.weights is None else balanced * shown.weights


def solve_head_on_crops(task: Task, features: np.ndarray, shown: Images, kind: HeadKind = LAST) -> HeadFit:
    """Solve the head on features (crops, n, D) of all crops, unless the first alone is known to do better.

    Better means by more than one standard error of the log loss, image by image on the first crop, in the folds by
    which each head chose its penalty. Over 23 sets, all crops were better by 0.6 points (docs/recipe.md), so they get
    the benefit of the doubt, as flips do.
    """
    alone = solve_head(task, features[:1], shown, kind)
    if len(features) == 1:
        return alone
    every = solve_head(task, features, shown, kind)
    lost = losses_of(every) - losses_of(alone)
    known_better = len(lost) > 1 and lost.mean() > lost.std(ddof=1) / np.sqrt(len(lost))
    return alone if known_better else every


def losses_of(head: HeadFit) -> np.ndarray:
    """Return the log loss of every image that the penalty was chosen on, (n,), each by a head that had not seen it."""
    if head.labels.ndim > 1:
        return np.asarray(log_loss_of_labels(head.logits, head.labels).sum(1))
    return np.asarray(-log_softmax(head.logits)[np.arange(len(head.labels)), head.labels])


def solve_stored_head(task: Task, features: StoredRows, shown: Images, kind: HeadKind = LAST) -> HeadFit:
    """Solve a head on features that stay in storage, for those that memory cannot hold."""
    seen, labels = np.unique(shown.labels, return_inverse=True)
    blocks = task.base.network.head_blocks(kind) if kind != LAST else None
    return fit_streamed_head(
        features, labels, len(seen), task.seed, shown.groups, _weights_of(task, shown), blocks, reporter=task.reporter
    )


def put_head(network: Network, head: HeadFit, kind: HeadKind = LAST) -> None:
    """Replace the head of `network` by one of this kind with the weight and bias of `head`."""
    layer = network.new_head(len(head.bias), kind)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(head.weight).view_as(layer.weight))
        layer.bias.copy_(torch.from_numpy(head.bias))
