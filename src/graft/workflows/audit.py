"""Look over labelled images and report what is wrong with them, before anything is trained."""

import time
from dataclasses import replace
from math import ceil

import numpy as np

from graft.audit.auditing import Audit, Suspect, audit_features, gravest_first
from graft.audit.looking import Looks
from graft.features.engine import choose
from graft.features.extraction import check_input_size, extract
from graft.given import truth, with_hints
from graft.images.preprocessing import Preprocessing
from graft.progress import Reporter, reporting
from graft.torch_modes import in_own_modes
from graft.transfer.streamed_head import StoredRows
from graft.weights.packaged import DEFAULT_BASE
from graft.workflows.prepare import DATA_KINDS, BaseOptions, Data, Prepared, prepare

# Images are enlarged at most this many times for the base, and to at least this side in px. CIFAR-10's images, 32 px
# wide, are thus shown at 96 px: enough to find wrong labels (docs/audit.md), in a fifth of the time of 224 px.
ENLARGED, LEAST_SIZE = 3, 96


@with_hints(*DATA_KINDS, BaseOptions)
@in_own_modes
def audit(
    data: Data,
    base: str | BaseOptions = DEFAULT_BASE,
    *,
    with_features: bool = True,
    engine: str = "auto",
    precision: str = "auto",
    seed: int = 0,
    reporter: Reporter | None = None,
    quiet: bool = False,
) -> Audit:
    """Look over every image of `data` and report what is wrong. Nothing is written except to the cache.

    `data` and `base` are names, or options objects for further settings. The features of `base` reveal likely wrong
    labels and outliers; if its weights cannot be fetched, a note says that these were not looked for. Images far
    smaller than the base's input are enlarged less than the base would have them, unless its options set an image size.
    Progress goes to `reporter`, by default to stderr unless `quiet`. Raises InputError and its subclasses for unusable
    input.
    """
    started, with_features = time.perf_counter(), truth(with_features, "with_features")
    with reporting(reporter, quiet) as told:
        prepared = prepare(
            data,
            base if with_features else None,
            choose(engine, precision),
            splittable=False,
            base_optional=True,
            multi_label=True,
            seed=seed,
            reporter=told,
        )
        findings = prepared.findings
        suspects: tuple[Suspect, ...] = ()
        if prepared.dataset.label_sets is not None:
            note = "likely wrong labels and outliers are not looked for where images have several labels"
            notes = (*prepared.dataset.notes, note)
            prepared = replace(prepared, base=None, dataset=replace(prepared.dataset, notes=notes))
        if prepared.base is not None:
            judged = _as_large_as_needed(prepared, isinstance(base, BaseOptions) and base.image_size is not None)
            by_features, suspects = audit_features(prepared.dataset, *_features(prepared, judged, told), seed)
            findings = gravest_first(findings + by_features)
            if not suspects:
                note = (
                    "likely wrong labels are not looked for: that takes two classes, one of them with two or more "
                    "groups"
                )
                prepared = replace(prepared, dataset=replace(prepared.dataset, notes=(*prepared.dataset.notes, note)))
    dataset, seconds = prepared.dataset, time.perf_counter() - started
    return Audit(prepared.source, dataset, findings, suspects, dataset.notes, seconds, prepared.levels)


def _as_large_as_needed(prepared: Prepared, size_is_given: bool) -> Preprocessing:
    """Return how the base sees the images that it judges."""
    base = prepared.start
    if size_is_given or prepared.looks is None:
        return base.preprocessing
    preprocessing = replace(base.preprocessing, size=_size_to_see(base.preprocessing.size, prepared.looks))
    check_input_size(base.network, preprocessing)
    return preprocessing


def _size_to_see(size: int, looks: Looks) -> int:
    """Return the side at which the base sees images, px: at most `size`, less if ENLARGED times theirs is enough."""
    sides = np.minimum(looks.width, looks.height)[looks.decoded]
    enough = ENLARGED * float(np.median(sides)) if len(sides) else size
    return min(size, max(LEAST_SIZE, 32 * ceil(enough / 32)))


def _features(prepared: Prepared, preprocessing: Preprocessing, reporter: Reporter) -> tuple[np.ndarray, StoredRows]:
    """Return the indices, over all splits, of decodable images, int (n,), and the head's input for each, (n, D).

    The inputs stay where extraction left them, which for many images is a file.
    """
    network, splits = prepared.start.network, prepared.dataset.splits
    trunk, _ = network.split(network.cuts[-2])
    trunk.eval()
    # By split, so that a training run on the same data finds them in the cache.
    found = extract(trunk, splits, preprocessing, prepared.choice, reporter=reporter)
    starts = np.cumsum([0, *map(len, splits.values())])
    indices = [start + found[name].indices for start, name in zip(starts, splits, strict=False)]
    return np.concatenate(indices), StoredRows(tuple(found[name].values for name in splits))
