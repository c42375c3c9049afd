"""Reports with made-up figures, for tests of pages."""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from graft.evaluation.report.values import Alarm, Finding, Pair, Report, Shown, Split, Trust, Verdict
from graft.evaluation.scores import score
from graft.evaluation.slices import Slice

EVIL = '<script>alert("1")</script>'


def jpeg(side: int = 96) -> bytes:
    stream = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "jpeg", quality=70)
    return stream.getvalue()


def corrupted(name: str) -> dict[str, Any]:
    row = {"corruption": name, "severity": 1, "top1": 0.5, "calibration_error": 0.1}
    return {"n": 20, "clean": 0.9, "mean": 0.5, "by_corruption": {name: 0.5}, "rows": [row]}


def report(number: int = 3, name: str = "class", thumbnails: int = 4, images: int = 300) -> Report:
    """A report on classes of these names, with every section."""
    random = np.random.default_rng(0)
    classes = tuple(f"{name} {index}" for index in range(number))
    labels = np.arange(images) % number
    logits = random.normal(size=(images, number)) + 3 * np.eye(number)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scores = score(probabilities, labels, classes)
    shown = tuple(
        Shown(f"{name}/{index}.jpg", (f"labelled {name}", f"called {name} 51%"), jpeg(), (96, 96), jpeg())
        for index in range(thumbnails)
    )
    history = tuple(
        {
            "epoch": epoch,
            "train_loss": 1 / (epoch + 1),
            "val_loss": 1.1 / (epoch + 1),
            "val_top1": 1 - 0.5 / (epoch + 1),
        }
        | {"learning_rate": 0.01 * epoch}
        for epoch in range(6)
    )
    race = [
        {"level": level, "accuracy": 0.9, "gain": gain, "expected": gain, "deviation": 0.01, "seconds": 2.0}
        for level, gain in (("head", 0.0), ("frozen:0.4", 0.03))
    ]
    stages = ("stem", "stage1", "stage2")
    evidence = {
        "shift": [{"stage": stage, "value": 0.1 * at} for at, stage in enumerate(stages)],
        "probe": [{"stage": stage, "accuracy": 0.5 + 0.1 * at} for at, stage in enumerate(stages)],
        "race": race,
    }
    confidences = probabilities.max(1)
    return Report(
        title=name,
        data=name,
        base=name,
        level="frozen:0.4",
        classes=classes,
        counts={"train": dict.fromkeys(classes, 10), "val": dict.fromkeys(classes, 5)},
        splits=(Split("val", scores),),
        judged=0,
        majority_class=classes[0],
        verdict=Verdict((f"It is {name}.",), True, (Alarm("leak", "error", name, name, shown[:2]),)),
        plan={"level": "frozen:0.4", "cut": name, "reasons": [name], "evidence": evidence},
        frozen_head=0.5,
        findings=(Finding("near_duplicates", "warning", name, 5, shown),),
        skipped={name: name},
        notes=(name,),
        history=history,
        pairs=(Pair(classes[0], classes[-1], 2, 5, shown),),
        mistakes=shown,
        doubtful=shown,
        trust=Trust(float(confidences.mean()), scores.top1, False, ((0.5, 0.0, 0.9), (1.0, 0.2, 0.3))),
        slices=(Slice("folder", name, 12, 0.3, (0.1, 0.6), 0.9, 0.8, 0.001, True),),
        robustness=corrupted(name),
        facts={"command": name, "seed": 0, "seconds": {"total": 1.0}},
    )
