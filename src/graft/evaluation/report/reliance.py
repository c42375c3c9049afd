"""The sections on how far to rely on answers: calibration and doubt, corrupted images, parts of the images."""

from collections.abc import Iterator, Sequence

from graft.evaluation.error_budget import Threshold, why_unreachable
from graft.evaluation.report.charts import line_chart
from graft.evaluation.report.parts import charts, interval, percent, scrolling, section, sentence
from graft.evaluation.report.values import Report
from graft.words import counted, independent

# The most slices in the table; `report.json` has all of them.
ROWS_OF_SLICES = 40


def trust(report: Report) -> str:
    found = report.trust
    if found is None or report.main is None:
        return ""
    scores = report.main.scores
    blocks = scores.reliability.blocks
    curve = [point for block in blocks for point in ((block.low, block.rate), (block.high, block.rate))]
    error = f"calibration error {scores.calibration_error:.3f}"
    drawn = [
        (
            line_chart(
                f"how often answers are right at each confidence: {error}",
                [("", curve)],
                "stated probability",
                "share that is right",
                percent=(True, True),
                band=scores.reliability.band,
                diagonal=True,
            ),
            "How often answers are right (line) at each stated probability. The closer to the dotted diagonal, the "
            "better; differences inside the band are within chance.",
        ),
    ]
    if len(found.risk_coverage) > 1:
        points = [(coverage, risk) for coverage, risk, _ in found.risk_coverage]
        drawn.append(
            (
                line_chart(
                    f"share of wrong answers by share answered: {percent(points[-1][1])} wrong when all are answered",
                    [("", points)],
                    "share of images answered, the surest first",
                    "share that is wrong",
                    percent=(True, True),
                ),
                "Share of wrong answers when the least sure images are left to a person.",
            )
        )
    parts = [
        sentence(f"Mean confidence is {percent(found.confidence)}, accuracy {percent(found.accuracy)}; {error}."),
        charts(*drawn),
    ]
    if found.budgets:
        rows = [
            (
                f"{each.budget:.0%}",
                "not reachable" if each.at is None else f"{each.at:.3f}",
                "–" if each.at is None else percent(each.answered / each.n),
                "–" if each.at is None else f"{each.wrong:,} of {each.answered:,}",
            )
            for each in found.budgets
        ]
        label = "Largest share of wrong answers among those given, with 95 % confidence"
        head = ("wrong at most", "from probability", "answered", "wrong here")
        parts += [scrolling(label, head, rows), *map(sentence, _out_of_reach(found.budgets, found.held_out))]
    if found.sets:
        rows_of_sets = [
            (f"{coverage:.0%}", f"{threshold:.3f}", f"{mean:.2f}", f"{largest:,}")
            for coverage, threshold, mean, largest in found.sets
        ]
        of_sets = ("holds the right class", "classes from probability", "classes, mean", "classes, most")
        parts.append(scrolling("Sets of classes in place of one answer", of_sets, rows_of_sets))
    return section("trust", "Calibration and doubt", *parts)


def _out_of_reach(budgets: Sequence[Threshold], held_out: int) -> Iterator[str]:
    """Yield why budgets are not reachable, one sentence per reason."""
    by_reason: dict[str, list[str]] = {}
    for each in budgets:
        if each.at is None:
            reason = f"with {independent(each.n, held_out)}: {why_unreachable(each.n, each.needed)}"
            by_reason.setdefault(reason, []).append(f"{each.budget:.0%}")
    for reason, shares in by_reason.items():
        yield f"At most {' or '.join(shares)} wrong cannot be guaranteed {reason}."


def slices(report: Report) -> str:
    if not report.slices:
        return ""
    rows = [
        (
            each.name,
            f"{each.n:,}",
            percent(each.top1),
            interval(each.top1_ci95),
            percent(each.expected),
            "worse than chance explains" if each.flagged else "",
        )
        for each in sorted(report.slices, key=lambda each: (not each.flagged, each.top1))[:ROWS_OF_SLICES]
    ]
    head = ("images", "number", "accuracy", "95 % interval", "expected", "")
    cut = f", {len(rows)} of {len(report.slices):,}" if len(rows) < len(report.slices) else ""
    return section(
        "slices",
        "Slices",
        sentence(
            "Slices of the images by their appearance, and by folder and group if there are any. Expected is the "
            "accuracy if each image were as hard as others of its class; flags are corrected for the number of "
            "slices, and for groups if images come in them."
        ),
        scrolling(f"Accuracy by slice{cut}", head, rows, texts=(5,)),
    )


def robustness(report: Report) -> str:
    found = report.robustness
    if not found:
        return ""
    severities = sorted({row["severity"] for row in found["rows"]})
    by_place = {(row["corruption"], row["severity"]): row for row in found["rows"]}
    rows = []
    for name, mean in found["by_corruption"].items():
        each = [by_place[name, severity] for severity in severities if (name, severity) in by_place]
        error = sum(row["calibration_error"] for row in each) / len(each)
        rows.append((name.replace("_", " "), percent(mean), *(percent(row["top1"], 0) for row in each), f"{error:.3f}"))
    head = ("corruption", "mean accuracy", *(f"severity {severity}" for severity in severities), "calibration error")
    return section(
        "robustness",
        "Robustness",
        sentence(
            f"Corrupted in {counted(len(rows), 'way')} at {len(severities)} severities, {percent(found['mean'])} of "
            f"{counted(found['n'], 'image')} are right on average; uncorrupted, {percent(found['clean'])}."
        ),
        scrolling("Accuracy by corruption, the worst first", head, rows),
    )
