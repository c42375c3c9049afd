"""The sections of a run's page, each made from values; one that the run did not measure is empty."""

from typing import Any

from graft.evaluation.report.charts import interval_chart, line_chart, stage_chart
from graft.evaluation.report.parts import (
    charts,
    definitions,
    interval,
    percent,
    scrolling,
    section,
    sentence,
    sentences,
    sheet,
    shortened,
)
from graft.evaluation.report.values import Report, Split
from graft.evaluation.scores import ClassScore
from graft.html import escaped
from graft.words import counted

# The most classes in tables and charts, keeping the worst; `report.json` has all of them.
CLASSES_IN_CONFUSION, CLASSES_IN_TABLE, CLASSES_IN_CHART, CLASSES_IN_COUNTS = 16, 60, 20, 60
ROWS_OF_SKIPPED, ROWS_OF_RACE = 50, 12


def verdict(report: Report) -> str:
    said = report.verdict
    alarms = "".join(
        f'<li class="{each.severity}"><b class="{each.severity}">{escaped(each.title)}</b>'
        f"{sentence(each.sentence)}{sheet(each.images)}</li>"
        for each in said.alarms
    )
    kept = f'<h3>What to fix, the most serious first</h3><ul class="alarms">{alarms}</ul>' if alarms else ""
    without = "" if report.without_images is None else sentence(report.without_images, "faint")
    body = "".join(map(sentence, said.sentences))
    return section("verdict", "Verdict", f'<div class="verdict">{body}</div>', kept, without)


def data(report: Report) -> str:
    splits = list(report.counts)
    names = sorted(report.classes, key=lambda name: report.counts[splits[0]].get(name, 0)) if splits else []
    shown = [(name, *(f"{report.counts[split].get(name, 0):,}" for split in splits)) for name in names]
    cut = f", the {CLASSES_IN_COUNTS} rarest of {len(names):,}" if len(names) > CLASSES_IN_COUNTS else ""
    total = {split: sum(report.counts[split].values()) for split in splits}
    parts = [
        sentence(
            f"{counted(len(report.classes), 'class', 'classes')}; "
            + ", ".join(f"{counted(count, 'image')} in {split}" for split, count in total.items())
            + "."
        ),
        scrolling(f"Images by class{cut}", ("class", *splits), shown[:CLASSES_IN_COUNTS]),
    ]
    for finding in report.findings:
        rest = (
            f'<p class="faint">{len(finding.images)} of {finding.total:,} images shown</p>'
            if len(finding.images) < finding.total and finding.images
            else ""
        )
        parts.append(
            f'<h3><b class="{escaped(finding.severity)}">{escaped(finding.severity)}</b> '
            f"{escaped(finding.kind.replace('_', ' '))}</h3>{sentence(finding.message)}{sheet(finding.images)}{rest}"
        )
    if report.skipped:
        rows_of = list(report.skipped.items())[:ROWS_OF_SKIPPED]
        cut = f", {len(rows_of)} of {len(report.skipped):,} shown" if len(rows_of) < len(report.skipped) else ""
        parts.append(scrolling(f"Images that were left out{cut}", ("image", "reason"), rows_of, texts=(1,)))
    return section("data", "Data", *parts)


def decision(report: Report) -> str:
    plan = report.plan
    if not plan:
        return ""
    evidence = plan.get("evidence") or {}
    parts = [
        sentence(f"Level {report.level}, cut {plan.get('cut', '–')}, of the base {report.base}, because:"),
        f"<ul>{sentences(plan.get('reasons', ()))}</ul>",
    ]
    drawn = []
    shift = [(row["stage"], row["value"]) for row in evidence.get("shift", ()) if row["value"] is not None]
    probe = [(row["stage"], row["accuracy"]) for row in evidence.get("probe", ())]
    if shift or probe:
        drawn.append(
            (
                stage_chart(f"shift and probe accuracy by stage: {_told(shift, probe)}", shift, probe),
                "Bars: how far the images are from the base's own, in nats per channel (figures on the bars). Line: "
                "the accuracy of a linear classifier on the features of each stage.",
            )
        )
    race = [row for row in evidence.get("race", ()) if row.get("expected") is not None][:ROWS_OF_RACE]
    if race:
        rows = [
            (
                row["level"],
                row["expected"],
                (row["expected"] - 1.96 * row["deviation"], row["expected"] + 1.96 * row["deviation"]),
            )
            for row in race
        ]
        said = "; ".join(f"{row['level']} {100 * row['expected']:+.1f} points" for row in race)
        drawn.append(
            (
                interval_chart(f"gain over the head: {said}", rows, "expected gain over the head", guide=0.0),
                "The race: what each level is expected to gain over the head, with its 95 % interval.",
            )
        )
        parts.append(charts(*drawn))
        cells = [
            (
                row["level"],
                percent(row.get("accuracy")),
                "–" if row.get("gain") is None else f"{100 * row['gain']:+.1f}",
                f"{100 * row['expected']:+.1f} ± {196 * row['deviation']:.1f}",
                "–" if row.get("seconds") is None else f"{row['seconds']:.1f}",
            )
            for row in race
        ]
        head = ("level", "accuracy when tried", "gain, points", "expected gain, points", "seconds")
        parts.append(scrolling("The race", head, cells))
    else:
        parts.append(charts(*drawn))
    parts.append(_cost(report, plan))
    return section("decision", "Decision", *parts)


def _told(shift: list[tuple[str, float]], probe: list[tuple[str, float]]) -> str:
    moved = ", ".join(f"{name} {value:.2f} nats" for name, value in shift[:8])
    return "; ".join(filter(None, [moved, ", ".join(f"{name} {value:.0%}" for name, value in probe[:8])]))


def _cost(report: Report, plan: dict[str, Any]) -> str:
    stages = (plan.get("outlook") or {}).get("stages", ())
    trained = sum(row["parameters"] for row in stages if row["trains"])
    frozen = sum(row["parameters"] for row in stages if not row["trains"])
    seconds = report.facts.get("seconds") or {}
    said = [
        ("trained parameters", f"{trained:,} of {trained + frozen:,}"),
        ("multiply-adds", f"{sum(row['total_macs'] for row in stages):.2g}"),
    ]
    said += [(f"seconds, {name}", f"{value:.1f}") for name, value in seconds.items() if isinstance(value, float)]
    return f"<h3>What it cost</h3>{definitions(said if stages else said[2:])}" if said else ""


def curves(report: Report) -> str:
    history = report.history
    if len(history) < 2:
        return ""
    loss = [
        (name, [(float(row["epoch"]), row[key]) for row in history if row.get(key) is not None])
        for name, key in (("train", "train_loss"), ("val", "val_loss"))
    ]
    top1 = [(float(row["epoch"]), row["val_top1"]) for row in history if row.get("val_top1") is not None]
    drawn = []
    if any(line for _, line in loss):
        last = "; ".join(f"{name} ends at {line[-1][1]:.3f}" for name, line in loss if line)
        drawn.append(
            (line_chart(f"loss by epoch: {last}", loss, "epoch", "loss", percent=(False, False), whole=True), "Loss.")
        )
    if top1:
        said = f"accuracy on val by epoch: from {percent(top1[0][1])} to {percent(top1[-1][1])}"
        drawn.append(
            (
                line_chart(said, [("val", top1)], "epoch", "accuracy", whole=True),
                "Accuracy on val; epoch 0 is the start.",
            )
        )
    rates = [(float(row["epoch"]), row["learning_rate"]) for row in history if row.get("learning_rate") is not None]
    if len(rates) > 1:
        chart = line_chart("learning rate by epoch", [("", rates)], "epoch", "rate", percent=(False, False), whole=True)
        drawn.append((chart, "Learning rate of the head."))
    return section("curves", "Training", charts(*drawn))


def classes(report: Report) -> str:
    parts = [_scores(report)]
    if report.main is not None:
        scores = report.main.scores
        present = sorted((row for row in scores.classes if row.n), key=lambda row: (row.recall or 0.0, row.name))
        parts += [_class_chart(present), _class_table(report.main, present), _confusion(report)]
    for pair in report.pairs:
        parts.append(
            f"<h3>{shortened(pair.label)} taken for {shortened(pair.answer)}: {pair.count:,} of {pair.of:,}</h3>"
            f"{sheet(pair.images)}"
        )
    return section("classes", "Classes and confusions", *parts) if report.splits else ""


def _scores(report: Report) -> str:
    rows = []
    for each in report.splits:
        scores = each.scores
        rows.append(
            (
                each.title,
                f"{scores.n:,}",
                percent(scores.top1),
                interval(scores.top1_ci95),
                percent(scores.top5),
                percent(scores.balanced_accuracy),
                percent(scores.macro.f1),
                percent(scores.majority),
                "–" if scores.roc_area is None else f"{scores.roc_area:.3f}",
                f"{scores.log_loss:.3f}",
                "–" if scores.brier is None else f"{scores.brier.score:.3f}",
                f"{scores.calibration_error:.3f}",
            )
        )
    head = ("split", "images", "accuracy", "95 % interval", "top 5", "balanced accuracy", "macro F1", "majority class")
    return scrolling("Scores", (*head, "ROC area", "log loss", "Brier score", "calibration error"), rows)


def _class_chart(present: list[ClassScore]) -> str:
    shown = present[:CLASSES_IN_CHART]
    if len(shown) < 2:
        return ""
    said = ", ".join(f"{row.name} {percent(row.recall or 0.0, 0)}" for row in shown[:6])
    rows = [(row.name, row.recall or 0.0, row.recall_ci95) for row in shown]
    cut = (
        f", the {len(shown)} worst of {len(present):,} classes"
        if len(shown) < len(present)
        else ", the worst class first"
    )
    chart = interval_chart(f"recall by class: {said}", rows, "recall", y_range=(0.0, 1.0))
    return charts((chart, f"How many images of each class are recognised, with 95 % intervals{cut}."))


def _class_table(split: Split, present: list[ClassScore]) -> str:
    shown = present[:CLASSES_IN_TABLE]
    label = f"Classes of {split.name}, the worst first"
    if len(shown) < len(present):
        label += f": {len(shown)} of {len(present):,}, all of them in report.json"
    rows = [
        (
            row.name,
            f"{row.n:,}",
            percent(row.recall),
            interval(row.recall_ci95),
            percent(row.precision),
            interval(row.precision_ci95),
            percent(row.f1),
            "–" if row.roc_area is None else f"{row.roc_area:.3f}",
        )
        for row in shown
    ]
    return scrolling(label, ("class", "images", "recall", "95 %", "precision", "95 %", "F1", "ROC area"), rows)


def _confusion(report: Report) -> str:
    assert report.main is not None
    scores = report.main.scores
    if len(scores.classes) > CLASSES_IN_CONFUSION:
        return ""
    names = [row.name for row in scores.classes]
    sums = scores.confusion.sum(1, keepdims=True).clip(1)
    body = []
    for name, counts, shares in zip(names, scores.confusion.tolist(), (scores.confusion / sums).tolist(), strict=True):
        cells = "".join(_cell(count, share) for count, share in zip(counts, shares, strict=True))
        body.append(f'<tr><th scope="row">{shortened(name)}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{shortened(name, 24)}</th>' for name in ("label \\ prediction", *names))
    label = f"Confusion of {escaped(report.main.name)}: rows are labels, columns predictions"
    return (
        f'<div class="scroll confusion" tabindex="0" role="region" aria-label="{label}"><table>'
        f"<caption>{label}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _cell(count: int, share: float) -> str:
    # Keep the shade light enough for the figure to be readable on it.
    shade = round(45 * share)
    style = f' style="background:color-mix(in srgb,var(--heat) {shade}%,transparent)"' if shade else ""
    return f"<td{style}>{count:,}</td>"


def images(report: Report) -> str:
    parts = []
    if report.mistakes:
        parts.append(f"<h3>Worst mistakes</h3>{sheet(report.mistakes)}")
    if report.doubtful:
        parts.append(f"<h3>Most doubtful</h3>{sheet(report.doubtful)}")
    if parts and report.on_evidence is not None:
        parts.insert(0, sentence(report.on_evidence, "faint"))
    if any(each.map_jpeg for each in (*report.mistakes, *report.doubtful)):
        said = (
            "To the right of an image is how the network sees it: orange marks evidence for its answer, blue "
            "evidence against it. These maps were not tested; graft explain tests them."
        )
        parts.insert(0, sentence(said))
    if parts and report.refitted:
        said = (
            "These are the answers of the fit that was measured. The saved classifier was then trained on all "
            "images, including these, so its answers to them may differ."
        )
        parts.insert(0, sentence(said))
    return section("images", "Mistakes and doubts", *parts) if parts else ""


def provenance(report: Report) -> str:
    facts = {name: value for name, value in report.facts.items() if name != "seconds" and value not in (None, {}, [])}
    seconds = report.facts.get("seconds") or {}
    pairs = [(name.replace("_", " "), _text(value)) for name, value in facts.items()]
    if seconds:
        pairs.append(("seconds", ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())))
    notes = f"<h3>Notes</h3><ul>{sentences(report.notes)}</ul>" if report.notes else ""
    return section("provenance", "Provenance", definitions(pairs), notes)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
