"""Raise alarms that the audit and the scores of a run do not: damaged splits and mixed-up labels."""

from collections.abc import Mapping

import numpy as np

from graft.data.dataset import TRAIN, VAL
from graft.evaluation.answers import Answers
from graft.evaluation.calibration import softmax
from graft.evaluation.report.alarms import contradictions
from graft.evaluation.report.values import Alarm, Shown
from graft.words import counted
from graft.workflows.material import Material
from graft.workflows.thumbnails import Album

# Images shown with each alarm.
OF_ALARM = 4


def split_damage(material: Material) -> list[Alarm]:
    """Return an alarm for each split in which many images cannot be read."""
    if not material.run.skipped:
        return []
    alarms = []
    skipped = set(material.run.skipped)
    for split, rows in material.labels.items():
        kept = material.kept.splits.get(split)
        gone = len(rows) - len(kept.rows) if kept is not None else 0
        if kept is None and material.dataset is not None and split in material.dataset.splits:
            images = material.dataset.splits[split]
            gone = sum(images.name(index) in skipped for index in range(len(images)))
        if gone > max(2, 0.05 * len(rows)):
            alarms.append(
                Alarm(
                    "damaged_split",
                    "error",
                    f"{split} is damaged",
                    f"{gone:,} of {counted(len(rows), 'image')} in {split} cannot be read: restore the files.",
                )
            )
    return alarms


def label_alarms(material: Material, answers: Mapping[str, Answers], album: Album) -> list[Alarm]:
    """Return alarms for classes whose labels contradict the surest answers, over all images that no weights saw."""
    classes, folds = material.kept.classes, material.kept.folds
    # Each with the splits that its images may be of.
    parts: list[tuple[tuple[str, ...], Answers]] = [((name,), each.take(each.unseen)) for name, each in answers.items()]
    if folds is not None and len(folds[0]):
        keys, labels, logits = folds
        known = Answers(keys, labels, softmax(logits, material.kept.temperature), np.ones(len(labels), bool))
        # If val was trained on in the end, its images are among the folds already.
        refitted = material.plan.get("refit")
        parts = [part for part in parts if part[0] != (VAL,) or not refitted]
        parts.append(((TRAIN, VAL) if refitted else (TRAIN,), known))
    parts = [part for part in parts if len(part[1])]
    if not parts:
        return []
    whole = Answers(
        tuple(name for _, each in parts for name in each.names),
        np.concatenate([each.labels for _, each in parts]),
        np.concatenate([each.probabilities for _, each in parts]),
        np.concatenate([each.unseen for _, each in parts]),
    )
    # Splits from different places may have equal keys.
    splits = [names for names, each in parts for _ in range(len(each))]
    alarms = []
    index: dict[tuple[str, str], tuple[str, int]] = {}
    for found in contradictions(whole):
        if not index and material.dataset is not None:
            index = {
                (split, images.key(at)): (split, at)
                for split, images in material.dataset.splits.items()
                for at in range(len(images))
            }
        rows = list(found.rows[:OF_ALARM])
        of_row = {row: [(split, whole.names[row]) for split in splits[row]] for row in rows}
        places = {row: next((index[each] for each in keys if each in index), None) for row, keys in of_row.items()}
        album.make(place for place in places.values() if place is not None)
        images = []
        for row in rows:
            place = places[row]
            jpeg, size = album.jpeg(place) if place is not None else (None, (0, 0))
            lines = (f"labelled {classes[found.label]}", f"called {classes[found.answer]}")
            images.append(Shown(whole.names[row], lines, jpeg, size))
        label, answer = classes[found.label], classes[found.answer]
        alarms.append(
            Alarm(
                "swapped_labels",
                "error",
                f"labels mixed up: {answer} labelled {label}",
                f"{len(found.rows):,} of the {found.n:,} images most confidently classified as {answer} are labelled "
                f"{label}; hardly any would be if the labels were right: look at them and fix the labels.",
                tuple(images),
            )
        )
    return alarms
