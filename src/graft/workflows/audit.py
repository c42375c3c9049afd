"""Look at labelled images and say what is wrong with them, before anything is trained."""

import time
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np

from graft.audit.auditing import Audit, Suspect, audit_features, in_order, look_over
from graft.audit.looking import Looks
from graft.data.dataset import Dataset
from graft.data.opening import open_dataset
from graft.errors import FetchError, WeightsError
from graft.features.engine import Choice, choose
from graft.features.extraction import check_input_size, extract
from graft.images.preprocessing import Preprocessing, ResizeMode, with_choices
from graft.progress import NOBODY, Reporter
from graft.weights.architectures import resolve
from graft.weights.base import Base, load_base

# Images are enlarged so many times for the base to see them, and to this side at least, px. CIFAR-10's, of 32 px, are
# then shown at 96 px: enough to find wrong labels by (docs/audit.md), in a fifth of the time of 224 px.
ENLARGED, LEAST_SIZE = 3, 96


def audit(
    data: str | Path,
    base: str = "mobilenet_v2",
    *,
    arch: str | None = None,
    group: str | None = None,
    split_file: str | Path | None = None,
    with_features: bool = True,
    image_size: int | None = None,
    resize: ResizeMode | None = None,
    engine: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    progress: bool = False,
    reporter: Reporter | None = None,
) -> Audit:
    """Look at every image of `data` and say what is wrong; nothing is written but in the cache.

    Likely wrong labels and outliers are told by the features of `base`; without them, or where its weights are not at
    hand, a note says so. Unless `image_size` says otherwise, images far smaller than the base's input are enlarged
    less than it would have them. Raises InputError and its kinds for what cannot be used.
    """
    started = time.perf_counter()
    reporter = reporter or NOBODY
    dataset = open_dataset(data, group, split_file)
    choice = choose(engine, precision)
    notes, start = list(dataset.notes), None
    if with_features:
        try:
            start = load_base(base, architecture=arch, reporter=reporter)
        except FetchError as error:
            notes.append(f"likely wrong labels and outliers were not looked for: {error}")
    if start is not None and not start.pretrained:
        raise WeightsError(
            f"expected a base with weights to judge labels by, got {base!r} without: name a file of them"
        )
    usual = resolve("mobilenet_v2").preprocessing if start is None else start.preprocessing
    preprocessing = with_choices(usual, image_size, resize)
    looked = look_over(dataset, preprocessing, reporter)
    dataset, findings = looked.dataset, looked.findings
    suspects: tuple[Suspect, ...] = ()
    if start is not None:
        if image_size is None:
            preprocessing = replace(preprocessing, size=_size_to_see(preprocessing.size, looked.looks))
        check_input_size(start.network, preprocessing)
        indices, features = _features(dataset, start, preprocessing, choice, reporter)
        by_features, suspects = audit_features(dataset, indices, features, seed)
        findings = in_order(findings + by_features)
    return Audit(str(data), dataset, findings, suspects, tuple(notes), time.perf_counter() - started)


def _size_to_see(size: int, looks: Looks) -> int:
    """The side that images are shown to a base at, px: `size`, or ENLARGED times theirs if that is less."""
    sides = np.minimum(looks.width, looks.height)[looks.decoded]
    enough = ENLARGED * float(np.median(sides)) if len(sides) else size
    return min(size, max(LEAST_SIZE, 32 * ceil(enough / 32)))


def _features(
    dataset: Dataset, base: Base, preprocessing: Preprocessing, choice: Choice, reporter: Reporter
) -> tuple[np.ndarray, np.ndarray]:
    """Which images through all splits can be decoded, int (n,), and what a head would see of them, float32 (n, D)."""
    trunk, _ = base.network.split(base.network.cuts[-2])
    trunk.eval()

    def tell(done: int, total: int) -> None:
        reporter.step("features", done, total)

    # By split, as a training on the same data asks for them.
    found = extract(trunk, dataset.splits, preprocessing, choice, progress=tell)
    starts = np.cumsum([0, *map(len, dataset.splits.values())])
    indices = [start + found[name].indices for start, name in zip(starts, dataset.splits, strict=False)]
    values = [found[name].values.float().numpy() for name in dataset.splits]
    return np.concatenate(indices), np.concatenate(values)
