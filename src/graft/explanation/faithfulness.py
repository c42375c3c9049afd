"""Whether a map tells what the network looks at: deletion and insertion against random orders.

Petsiuk, Das and Saenko 2018, arXiv 1806.07421, section 4: hide the image cell by cell, starting with what the map ranks
as most important, and the evidence for the class should fall fast (deletion); show it cell by cell, and the evidence
should rise fast (insertion). There are three differences. Cells replace single pixels, whose noise alone misleads a
network. The mean colour of the image hides cells both times, so that deleting in one order equals inserting in the
reverse order and every random order serves twice. Log-odds replace probabilities, which hardly move where a network is
confident. On 24 images of ants and bees 79 % of the maps beat every random order in log-odds, 42 % in probabilities.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graft.explanation.class_maps import resized
from graft.explanation.model import Answers, Model, class_scores, log_odds
from graft.explanation.perturbation import TOGETHER, mean_colour_of

# Cells along a side, and how many random orders are drawn. With their reverses there are 20; a map that tells nothing
# beats all of them once in 21 times.
CELLS, ORDERS = 7, 10
# Steps from the whole image to the hidden one.
STEPS = 7
# The least difference of the two areas that matters, in log-odds: below it, the answer hardly depends on the image.
LEAST_EFFECT = 0.5


@dataclass(frozen=True)
class Faithfulness:
    """Mean log-odds of a class while the image is hidden and while it is shown, by a map's order and by random ones.

    `whole` and `hidden` are the log-odds for the image itself and for its mean colour alone. The map beats `beaten` of
    `orders` random orders.
    """

    whole: float
    hidden: float
    deletion: float
    insertion: float
    deletion_random: float
    insertion_random: float
    beaten: int
    orders: int

    @property
    def effect(self) -> float:
        """How far insertion is above deletion."""
        return self.insertion - self.deletion

    @property
    def passed(self) -> bool:
        return self.beaten == self.orders and self.effect >= LEAST_EFFECT


@dataclass(frozen=True)
class RandomOrders:
    """The areas under random orders for one image and class: deletion and insertion, float64 (orders,) each."""

    deletion: np.ndarray
    insertion: np.ndarray


class Hiding:
    """One image, uint8 (C, size, size), one of its classes by index, and answers for it with cells hidden."""

    def __init__(self, model: Model, pixels: Tensor, index: int, answers: Answers, seed: int = 0) -> None:
        self._model, self._pixels, self._index, self._answers = model, pixels, index, answers
        self._hiding = mean_colour_of(pixels)
        self._side = min(CELLS, pixels.shape[-1])
        self._random = np.random.default_rng(seed)
        whole = np.zeros((1, self._side**2), dtype=bool)
        self._ends = self._odds(np.concatenate([whole, ~whole]))
        self.random = self._random_orders()
        self._ties = self._random.permutation(self._side**2)

    def test(self, values: np.ndarray) -> Faithfulness:
        """Test whether the order of a map (h, w) tells more than random orders do; one that is flat has no order."""
        cells = without_noise(in_cells(values, self._side).ravel())
        # Equal cells in the order of the image would be hidden row by row, which no random order is, and beats most.
        order = self._ties[np.argsort(-cells[self._ties], kind="stable")]
        (deletion,), (insertion,) = self._areas(order[None])
        effects = self.random.insertion - self.random.deletion
        return Faithfulness(
            whole=float(self._ends[0]),
            hidden=float(self._ends[1]),
            deletion=float(deletion),
            insertion=float(insertion),
            deletion_random=float(self.random.deletion.mean()),
            insertion_random=float(self.random.insertion.mean()),
            beaten=int((insertion - deletion > effects).sum()) if np.ptp(cells) > 0 else 0,
            orders=len(effects),
        )

    def _random_orders(self) -> RandomOrders:
        orders = np.stack([self._random.permutation(self._side**2) for _ in range(ORDERS)])
        deletion, insertion = self._areas(orders)
        # In reverse, what was deleted first is inserted last.
        return RandomOrders(np.concatenate([deletion, insertion]), np.concatenate([insertion, deletion]))

    def _areas(self, orders: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the areas under deletion and insertion, (n,) each, for orders (n, cells), first to be hidden first."""
        cells = orders.shape[1]
        rank = np.argsort(orders, 1)
        counts = np.linspace(0, cells, STEPS + 1)[1:-1].round().astype(int)
        hidden = np.concatenate([rank < count for count in counts] + [rank >= count for count in counts])
        found = self._odds(hidden).reshape(2, len(counts), len(orders))
        whole, none = self._ends
        deletion = np.concatenate([np.full((1, len(orders)), whole), found[0], np.full((1, len(orders)), none)])
        insertion = np.concatenate([np.full((1, len(orders)), none), found[1], np.full((1, len(orders)), whole)])
        return _area(deletion), _area(insertion)

    def _odds(self, hidden: np.ndarray) -> np.ndarray:
        """Return the log-odds of the class, float64 (n,), with some cells hidden, bool (n, cells)."""
        size, found = self._pixels.shape[-1], []
        for part in torch.from_numpy(hidden).float().split(TOGETHER):
            masks = F.interpolate(part.view(-1, 1, self._side, self._side), (size, size), mode="nearest-exact")
            mixed = self._pixels + masks * (self._hiding - self._pixels)
            scores = class_scores(self._model, self._answers(mixed.round().to(torch.uint8)).double())
            found.append(log_odds(scores, [self._index] * len(part)).cpu())
        return torch.cat(found).numpy()


def in_cells(values: np.ndarray, side: int = CELLS) -> np.ndarray:
    """Return a map (h, w) as means over (side, side) cells of the image."""
    size = side * max(1, -(-max(values.shape) // side) * 2)
    return F.adaptive_avg_pool2d(torch.from_numpy(resized(values, size))[None], side)[0].numpy()


def without_noise(cells: np.ndarray) -> np.ndarray:
    """Return the values of cells relative to the largest, with those equal that differ by rounding alone."""
    return np.asarray(np.round(cells / max(float(np.abs(cells).max()), np.finfo(np.float32).tiny), 6))


def _area(curves: np.ndarray) -> np.ndarray:
    """Return the area under curves (steps, n) with equal steps from 0 to 1."""
    return np.asarray((curves[:-1] + curves[1:]).mean(0) / 2)
