"""Two runs on one page, side by side: their results, where they differ, and their curves in one chart."""

from graft.evaluation.report.charts import interval_chart, line_chart
from graft.evaluation.report.page import document
from graft.evaluation.report.parts import charts, interval, percent, scrolling, section, sentence, sheet, shortened
from graft.evaluation.report.values import Beside, Report
from graft.words import counted

# The most classes whose recalls are compared, those that differ most first.
MOST_CLASSES = 40
# The chance at which the exact test says what an interval of 95 % does.
LEVEL = 0.05


def render_beside(beside: Beside) -> str:
    """Render the page of two runs, as `render_report` does for one."""
    one, other = beside.one, beside.other
    parts = [
        section("verdict", "Verdict", _difference(beside), _verdicts(one, other)),
        section("scores", "Scores", _scores(one, other), _intervals(one, other)),
        section("data", "Data", _counts(one, other)),
        _classes(one, other),
        _images(one, other),
        _curves(one, other),
        section("provenance", "What differs", _facts(one, other)),
    ]
    anchors = (
        *(("verdict", "Verdict"), ("scores", "Scores"), ("data", "Data"), ("classes", "Classes")),
        *(("images", "Mistakes"), ("curves", "Training"), ("provenance", "What differs")),
    )
    links = "".join(
        f'<li><a href="#{anchor}">{title}</a></li>'
        for (anchor, title), body in zip(anchors, parts, strict=True)
        if body
    )
    return document(f"{named(one)} beside {named(other)}", links, "".join(parts))


def named(report: Report) -> str:
    return str(report.facts.get("folder") or report.title)


def _difference(beside: Beside) -> str:
    found = beside.difference
    if found is None:
        return sentence(f"Their answers are not compared image by image: {beside.reason}.")
    low, high = found.ci95
    apart = not low <= 0 <= high
    sure = "the difference is more than chance explains" if apart else "chance can explain that"
    if found.p_value is not None and (found.p_value <= LEVEL) != apart:
        # The exact test needs six images where the interval takes five.
        sure = "that is at the edge of what chance explains"
    over = "" if found.groups is None else f" over {counted(found.groups, 'group')}"
    test = "" if found.p_value is None else f"; McNemar's exact test gives {found.p_value:.2g}"
    return sentence(
        f"On the {found.n:,} images that both were measured on, {named(beside.one)} gets "
        f"{100 * found.difference:+.1f} points (95 % interval {100 * low:+.1f} to {100 * high:+.1f}{over}) against "
        f"{named(beside.other)}: {found.first:,} images are right only with the first and {found.second:,} only with "
        f"the second; {sure}{test}."
    )


def _verdicts(one: Report, other: Report) -> str:
    return f'<div class="two-runs">{_verdict(one)}{_verdict(other)}</div>'


def _verdict(report: Report) -> str:
    alarms = "".join(
        f'<li class="{each.severity}"><b class="{each.severity}">{shortened(each.title)}</b></li>'
        for each in report.verdict.alarms
    )
    listed = f'<ul class="alarms">{alarms}</ul>' if alarms else ""
    said = "".join(map(sentence, report.verdict.sentences))
    return f"<div><h3>{shortened(named(report))}</h3>{said}{listed}</div>"


def _scores(one: Report, other: Report) -> str:
    rows = []
    for report in (one, other):
        for each in report.splits:
            scores = each.scores
            rows.append(
                (
                    named(report),
                    each.title,
                    f"{scores.n:,}",
                    percent(scores.top1),
                    interval(scores.top1_ci95),
                    percent(scores.balanced_accuracy),
                    percent(scores.macro.f1),
                    f"{scores.log_loss:.3f}",
                    f"{scores.calibration_error:.3f}",
                )
            )
    head = ("run", "split", "images", "accuracy", "95 % interval", "balanced accuracy", "macro F1", "log loss")
    return scrolling("Scores", (*head, "calibration error"), rows, texts=(1,))


def _intervals(one: Report, other: Report) -> str:
    rows = [
        (named(report), report.main.scores.top1, report.main.scores.top1_ci95)
        for report in (one, other)
        if report.main is not None
    ]
    if len(rows) < 2:
        return ""
    said = ", ".join(f"{name} {percent(value)}" for name, value, _ in rows)
    return charts((interval_chart(f"accuracy: {said}", rows, "accuracy"), "Accuracy with its 95 % interval."))


def _classes(one: Report, other: Report) -> str:
    if one.main is None or other.main is None:
        return ""
    of_other = {row.name: row for row in other.main.scores.classes}
    rows = []
    for row in one.main.scores.classes:
        second = of_other.get(row.name)
        if row.recall is not None and second is not None and second.recall is not None:
            rows.append((row.name, row.n, row.recall, second.recall, second.recall - row.recall))
    rows.sort(key=lambda row: (-abs(row[4]), row[0]))
    cells = [
        (name, f"{n:,}", percent(first), percent(second), f"{100 * gain:+.1f}")
        for name, n, first, second, gain in rows[:MOST_CLASSES]
    ]
    label = "Recall by class, the largest differences first"
    head = ("class", "images", named(one), named(other), "points")
    return section("classes", "Classes", scrolling(label, head, cells)) if cells else ""


def _counts(one: Report, other: Report) -> str:
    splits = list(dict.fromkeys([*one.counts, *other.counts]))
    columns = [(report, split) for split in splits for report in (one, other)]
    names = list(dict.fromkeys([*one.classes, *other.classes]))
    rows = [
        (name, *(f"{report.counts.get(split, {}).get(name, 0):,}" for report, split in columns))
        for name in names[:MOST_CLASSES]
    ]
    total = ("all", *(f"{sum(report.counts.get(split, {}).values()):,}" for report, split in columns))
    cut = f", {len(rows)} of {len(names):,}" if len(rows) < len(names) else ""
    head = ("class", *(f"{split}, {named(report)}" for report, split in columns))
    return scrolling(f"Images by class and split{cut}", head, [total, *rows])


def _images(one: Report, other: Report) -> str:
    if not any((each.mistakes or each.doubtful) for each in (one, other)):
        return ""
    columns = "".join(
        f"<div><h3>{'Worst mistakes' if report.mistakes else 'Most doubtful'} of {shortened(named(report))}</h3>"
        f"{sheet(report.mistakes or report.doubtful)}</div>"
        for report in (one, other)
    )
    return section("images", "Mistakes", f'<div class="two-runs">{columns}</div>')


def _curves(one: Report, other: Report) -> str:
    lines = [
        (
            named(report),
            [(float(row["epoch"]), row["val_top1"]) for row in report.history if row.get("val_top1") is not None],
        )
        for report in (one, other)
    ]
    if max(len(line) for _, line in lines) < 2:
        return ""
    chart = line_chart("accuracy on val by epoch of both runs", lines, "epoch", "accuracy", whole=True)
    return section("curves", "Training", charts((chart, "Accuracy on val by epoch.")))


def _facts(one: Report, other: Report) -> str:
    first = {"data": one.data, "base": one.base, **one.facts}
    second = {"data": other.data, "base": other.base, **other.facts}
    rows = [
        (name, _text(first.get(name)), _text(second.get(name)))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]
    return scrolling("What differs", ("", named(one), named(other)), rows, texts=(1, 2))


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each:.1f}" for name, each in value.items())
    return "–" if value is None else str(value)
