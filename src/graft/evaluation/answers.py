"""A classifier's answers about labelled images, image by image, and which of them deserve a look."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Answers:
    """Answers about N images of a split.

    `labels` are int (N,), the rows of `probabilities` (N, classes) sum to one, and `names` are those of the images.
    `unseen`, bool (N,), says which images have no copy among those trained on.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    unseen: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def answers(self) -> np.ndarray:
        return np.asarray(self.probabilities.argmax(1))

    @property
    def right(self) -> np.ndarray:
        return np.asarray(self.answers == self.labels)

    @property
    def confidences(self) -> np.ndarray:
        return np.asarray(self.probabilities.max(1))

    @property
    def of_label(self) -> np.ndarray:
        """The probability of each image's own label, (N,)."""
        return np.asarray(self.probabilities[np.arange(len(self)), self.labels])

    def take(self, rows: np.ndarray) -> "Answers":
        """Return the answers at `rows`, int or bool."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        names = tuple(self.names[row] for row in rows.tolist())
        return Answers(names, self.labels[rows], self.probabilities[rows], self.unseen[rows])


def worst_mistakes(answers: Answers, most: int) -> list[int]:
    """Return rows of wrong answers, those whose own label had the least probability first."""
    wrong = np.flatnonzero(~answers.right)
    return wrong[np.argsort(answers.of_label[wrong], kind="stable")][:most].tolist()


def most_doubtful(answers: Answers, most: int) -> list[int]:
    """Return rows of the answers that another class came closest to."""
    if answers.probabilities.shape[1] < 2:
        return []
    two = np.partition(answers.probabilities, -2, axis=1)[:, -2:]
    return np.argsort(two[:, 1] - two[:, 0], kind="stable")[:most].tolist()


def worst_pairs(confusion: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """Return (label, answer, images) of the most frequent mistakes in the confusion matrix, int (classes, classes)."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    places = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(label), int(answer), int(wrong[label, answer])) for label, answer in places if wrong[label, answer]]
