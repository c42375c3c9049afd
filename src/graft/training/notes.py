"""Notes to read beside the scores of a training run: that it improved nothing, learnt nothing, or took too long."""

from collections.abc import Iterator, Sequence

import numpy as np

from graft.evaluation.intervals import accuracy_interval, interval_in_words
from graft.training.history import Epoch, rank
from graft.training.recipe import ResolvedRecipe
from graft.training.schedules import stale_epochs
from graft.words import counted


def notes_on_curve(history: Sequence[Epoch], kept: int, recipe: ResolvedRecipe, refit: bool = False) -> Iterator[str]:
    """Yield sentences about training that stopped early, or ended no better than it began, and what to do about it.

    They quote the curve's numbers. With `refit`, the crown is fitted again on all images.
    """
    start, last = history[0], history[-1]
    if recipe.epochs == 0:
        yield "nothing was trained, as --epochs is 0: the scores are those of the start"
        return
    if start.val_loss is None or last.val_loss is None:
        return
    stale = stale_epochs([rank(each) for each in history])
    if recipe.patience is not None and last.epoch < recipe.epochs and stale >= recipe.patience:
        again = (
            ", and the fit on all images is stopped by its training loss: --no-refit chooses by val" if refit else ""
        )
        yield (
            f"stopped after epoch {last.epoch} of {recipe.epochs}, as val did best after epoch {last.epoch - stale} "
            f"(--patience {recipe.patience}); the weights of epoch {kept} are kept{again}"
        )
    curve = f"{_scores(start)} before training, {_scores(last)} after {counted(last.epoch, 'epoch')}"
    advice = f"lower --lr (its peak was {recipe.learning_rate:.2g}), or keep more of the base, as --level head does"
    if kept == 0:
        yield f"training improved nothing ({curve}), so the start is kept: {advice}"
    elif last.val_loss > start.val_loss:
        yield f"the val loss ended above its start ({curve}): {advice}"


def note_on_time(as_is: bool, past: float) -> str:
    """Return a sentence about work that is not cut short, and that ended `past` seconds after its time was up."""
    what = "the base is scored" if as_is else "a head is solved"
    return f"{what} however long it takes: {max(past, 0.1):.1f} s past --time"


def note_on_thresholds(count: int) -> str:
    """Return a sentence on thresholds that are chosen on the same `count` images of val that F1 is measured on."""
    return (
        "F1 on val is optimistic, as the thresholds were chosen for the highest F1 on the same "
        f"{counted(count, 'image')}: judge by mean average precision, or give a test split"
    )


def notes_on_baseline(
    logits: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None, of: str = "val"
) -> Iterator[str]:
    """Yield a sentence if logits (N, classes) `of` images are no better than always answering the majority class.

    Better means that the whole 95 % interval of the accuracy lies above; `labels` and `groups` are int (N,).
    """
    right, count = logits.argmax(1) == labels, len(labels)
    figure, majority = float(right.mean()), float(np.bincount(labels).max() / count)
    ends = accuracy_interval(right, groups)
    if ends[0] <= majority:
        verdict = "is no better than" if figure <= majority else "cannot be told from"
        interval = interval_in_words(ends, count, None if groups is None else len(np.unique(groups)))
        yield (
            f"{of} accuracy {figure:.1%} ({interval}) {verdict} always answering the "
            f"majority class ({majority:.1%}): check the labels, add images, or try another base or level"
        )


def _scores(epoch: Epoch) -> str:
    of = "accuracy" if epoch.val_mean_average_precision is None else "mean average precision"
    return f"val loss {epoch.val_loss:.3f} and {of} {epoch.score:.1%}"
