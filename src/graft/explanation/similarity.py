"""How similarly two networks see the same images, stage by stage: from the general to the specific.

Linear centred kernel alignment: Kornblith, Norouzi, Lee and Hinton 2019, "Similarity of Neural Network Representations
Revisited", arXiv 1905.00414, section 3. For each stage, the means of its maps over positions are compared. With fewer
images than channels, the plain estimate is near 1 whatever is compared, so this is the unbiased one of Nguyen, Raghu
and Kornblith 2021, arXiv 2010.15327, equation 3.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch

from graft.data.dataset import Images
from graft.data.loading import batches
from graft.errors import DataError
from graft.explanation.model import BATCH, Seeing, as_input
from graft.progress import NOBODY, Reporter
from graft.words import counted

# With fewer images, the estimate is undefined.
FEWEST = 4


@dataclass(frozen=True)
class Similarity:
    """Linear CKA of every stage of one network, by row, with every stage of the other; about 0 to 1, on `n` images."""

    stages: tuple[str, ...]
    other_stages: tuple[str, ...]
    values: np.ndarray
    n: int

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "stages": list(self.stages),
            "other_stages": list(self.other_stages),
            "cka": self.values.tolist(),
            "n": self.n,
        }


def compare_stages(one: Seeing, other: Seeing, images: Images, reporter: Reporter = NOBODY) -> Similarity:
    """Return how similarly the stages of two networks see `images`, each through its own preprocessing.

    Raises DataError for fewer than four decodable images.
    """
    first, rows = stage_means(one, images, "stages of the network", reporter)
    second, others = stage_means(other, images, "stages of the other", reporter)
    both = np.intersect1d(rows, others)
    if len(both) < FEWEST:
        raise DataError(
            f"expected {FEWEST} images or more to compare networks on, got {counted(len(both), 'image')} that can be "
            "decoded: give more"
        )
    kernels = [
        {stage: _kernel(values[np.searchsorted(own, both)]) for stage, values in means.items()}
        for means, own in ((first, rows), (second, others))
    ]
    values = np.array([[_alignment(a, b) for b in kernels[1].values()] for a in kernels[0].values()])
    return Similarity(tuple(first), tuple(second), values, len(both))


@torch.no_grad()
def stage_means(
    model: Seeing, images: Images, step: str, reporter: Reporter = NOBODY
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return each stage's output means over positions, float64 (n, channels), except the head's, and their rows."""
    found: dict[str, list[np.ndarray]] = {}
    rows = [np.empty(0, np.int64)]
    with closing(batches(images, model.preprocessing, BATCH)) as decoded:
        for batch in decoded:
            if len(batch.indices):
                for stage, output in model.network.feature_maps(as_input(model, batch.pixels)).items():
                    means = output.mean((2, 3)) if output.ndim == 4 else output
                    found.setdefault(stage, []).append(means.double().cpu().numpy())
                rows.append(batch.indices)
                reporter.step(step, int(batch.indices[-1]) + 1, len(images))
    return {stage: np.concatenate(parts) for stage, parts in found.items()}, np.concatenate(rows)


def linear_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Return the CKA of features (n, p) and (n, q) of the same n >= 4 images; 0 if one of them is constant."""
    return _alignment(_kernel(x), _kernel(y))


def _kernel(features: np.ndarray) -> np.ndarray:
    """Return the products of all pairs of images (n, n), with a zero diagonal, from centred features."""
    centred = features - features.mean(0)
    kernel = centred @ centred.T
    np.fill_diagonal(kernel, 0)
    return np.asarray(kernel)


def _alignment(one: np.ndarray, other: np.ndarray) -> float:
    across, own, others = _hsic(one, other), _hsic(one, one), _hsic(other, other)
    return float(across / np.sqrt(own * others)) if own > 0 and others > 0 else 0.0


def _hsic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741  # as in the paper
    """Return the unbiased Hilbert-Schmidt independence criterion of kernels without their diagonals."""
    n = len(k)
    trace = (k * l).sum()
    all_pairs = k.sum() * l.sum() / ((n - 1) * (n - 2))
    in_common = 2 * (k.sum(0) @ l.sum(0)) / (n - 2)
    return float((trace + all_pairs - in_common) / (n * (n - 3)))
