"""Gather the values of a multi-label run's page from what the run left in its folder."""

from graft.data.dataset import TEST
from graft.evaluation.label_figures import measure_labels
from graft.evaluation.label_scores import LabelScores, sigmoid
from graft.evaluation.report.label_page import LabelReport
from graft.workflows.material import Material


def gather_labels(material: Material) -> LabelReport:
    """Return the values of the page; the first split that is not optimistic is the one to judge by."""
    import numpy as np

    run, kept = material.run, material.kept
    splits: dict[str, LabelScores] = {}
    optimistic = []
    for name in sorted(kept.splits, key=lambda name: (name != TEST, name)):
        split = kept.splits[name]
        thresholds = np.array(kept.thresholds)
        probabilities = sigmoid(split.logits)
        found = measure_labels(probabilities, split.labels, kept.classes, thresholds, split.groups, split.unseen)
        if found.unseen is not None:
            splits[name] = found.unseen
        else:
            splits[name] = found.whole
            optimistic.append(name)
    findings = tuple({name: row.get(name) for name in ("kind", "severity", "message")} for row in _found(material))
    seconds = {f"seconds, {name}": f"{value:.1f}" for name, value in run.seconds.items()}
    return LabelReport(
        title=f"{run.folder.name}: level {run.level} of {run.base}, several labels",
        base=run.base,
        level=run.level,
        cut=run.cut,
        splits=splits,
        optimistic=tuple(optimistic),
        findings=findings,
        notes=run.notes,
        reasons=tuple(map(str, material.plan.get("reasons", ()))),
        history=material.history,
        facts=(("images", f"{run.images:,}"), ("engine", run.engine), *seconds.items()),
    )


def _found(material: Material) -> list[dict[str, object]]:
    return list(material.audit.get("findings", ()))
