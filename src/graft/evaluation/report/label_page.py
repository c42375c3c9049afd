"""The page of a run that gives images several labels: its verdict, each label, and how it was made."""

from dataclasses import dataclass
from typing import Any

from graft.evaluation.label_scores import LabelScores
from graft.evaluation.report.charts import line_chart
from graft.evaluation.report.page import document
from graft.evaluation.report.parts import charts, definitions, percent, scrolling, section, sentence, sentences
from graft.words import counted, first_few

# A label counts as better than chance when its average precision exceeds its share of the images by this much.
ABOVE_CHANCE = 0.05


@dataclass(frozen=True, repr=False)
class LabelReport:
    """What the page shows: scores by split, `test` first, and how the run came to them.

    `optimistic` names the splits whose figures include images that have copies among those trained on.
    """

    title: str
    base: str
    level: str
    cut: str
    splits: dict[str, LabelScores]
    optimistic: tuple[str, ...]
    findings: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]
    reasons: tuple[str, ...]
    history: tuple[dict[str, Any], ...]
    facts: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return f"LabelReport({self.title!r}, {None if self.main is None else self.main[1]!r})"

    @property
    def main(self) -> tuple[str, LabelScores] | None:
        """The first split whose figures count no copies of training images, and its scores; None if there is none."""
        return next(((name, each) for name, each in self.splits.items() if name not in self.optimistic), None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The verdict in words."""
        if self.main is None:
            return ("Nothing was measured: too few images have no copy among those trained on.",)
        name, scores = self.main
        figure = scores.mean_average_precision
        if figure is None:
            return (f"Nothing was measured on {name}: no label is present on some images and absent from others.",)
        said = [
            f"Mean average precision on {name} is {percent(figure)} ({scores.interval}, "
            f"{counted(scores.n, 'image')}); a random order gets {percent(scores.baseline or 0.0)}.",
            f"At the thresholds of the model, micro F1 is {scores.micro_f1:.3f} and macro F1 {scores.macro_f1:.3f}; "
            f"all labels of an image are correct for {percent(scores.exact)} of them.",
        ]
        poor = [
            row.name
            for row in scores.classes
            if row.average_precision is not None and row.average_precision < row.baseline + ABOVE_CHANCE
        ]
        if poor:
            shown = first_few(map(repr, poor), 6)
            said.append(f"Barely better than chance: {shown}. Check these labels, or add images that have them.")
        unknown = [row.name for row in scores.classes if row.average_precision is None]
        if unknown:
            shown = first_few(map(repr, unknown), 6)
            said.append(f"Not measured, as none or all of the images have the label: {shown}.")
        return tuple(said)

    def to_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "multi_label": True,
            "verdict": {"sentences": list(self.sentences)},
            "splits": {name: scores.to_dict() for name, scores in self.splits.items()},
            "optimistic": list(self.optimistic),
            "findings": list(self.findings),
            "notes": list(self.notes),
        }


def render_label_report(report: LabelReport) -> str:
    """Render the page; it opens offline, without scripts or requests, and all text is escaped."""
    made = [
        ("verdict", "Verdict", section("verdict", "Verdict", "".join(map(sentence, report.sentences)))),
        ("labels", "Labels", _labels(report)),
        ("curves", "Training", _curves(report)),
        ("data", "Data", _data(report)),
        ("decision", "Decision", _decision(report)),
    ]
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title, body in made if body)
    return document(report.title, links, "".join(body for _, _, body in made))


def _labels(report: LabelReport) -> str:
    tables = []
    for name, scores in report.splits.items():
        rows = [
            (
                row.name,
                f"{row.n:,}",
                percent(row.average_precision),
                percent(row.baseline),
                f"{row.threshold:.3f}",
                percent(row.precision),
                percent(row.recall),
                "–" if row.f1 is None else f"{row.f1:.3f}",
            )
            for row in sorted(
                scores.classes, key=lambda row: (row.average_precision is None, row.average_precision or 0.0)
            )
        ]
        head = ("label", "images", "average precision", "by chance", "threshold", "precision", "recall", "F1")
        of = f"{name}, counting copies of training images (optimistic)" if name in report.optimistic else name
        tables.append(scrolling(f"Labels on {of}, the worst first", head, rows))
    why = (
        "Average precision says how many of the images ranked above each image with the label have it too, and needs "
        "no threshold. Precision, recall and F1 count answers at or above the threshold, which was chosen for the "
        "highest F1 on held-out images."
    )
    return section("labels", "Labels", *tables, sentence(why, "faint")) if tables else ""


def _curves(report: LabelReport) -> str:
    if len(report.history) < 2:
        return ""
    drawn = []
    for keys, what in (
        (("train_loss", "val_loss"), "loss"),
        (("val_mean_average_precision",), "mean average precision"),
    ):
        lines = [
            (
                key.replace("_", " "),
                [(float(row["epoch"]), float(row[key])) for row in report.history if row.get(key) is not None],
            )
            for key in keys
        ]
        lines = [(name, points) for name, points in lines if points]
        if lines:
            chart = line_chart(f"{what} by epoch", lines, "epoch", what, percent=(False, what != "loss"))
            drawn.append((chart, f"{what} by epoch"))
    return section("curves", "Training", charts(*drawn)) if drawn else ""


def _data(report: LabelReport) -> str:
    found = [f"{each.get('kind', '')}: {each.get('message', '')}".replace("_", " ") for each in report.findings]
    return section("data", "Data", f"<ul>{sentences((*found, *report.notes))}</ul>") if found or report.notes else ""


def _decision(report: LabelReport) -> str:
    said = f"Level {report.level}, cut {report.cut}, of the base {report.base}, because:"
    return section(
        "decision", "Decision", sentence(said), f"<ul>{sentences(report.reasons)}</ul>", definitions(report.facts)
    )
