"""The report of a run: one HTML page that opens offline."""

from collections.abc import Mapping
from typing import Any

from graft.evaluation.scores import Scores
from graft.html import escaped, table

# With more classes than this a confusion table is unreadable and is left out.
CLASSES_IN_TABLE = 30
# Of more classes than this, the worst ones are listed.
MOST_CLASSES = 100

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; }
td { font-variant-numeric: tabular-nums; } th { text-align: left; }
"""


def html_report(title: str, facts: Mapping[str, Any], splits: Mapping[str, Scores]) -> str:
    """A page with the scores of every split, its classes worst first, and the skipped images; all text is escaped."""
    parts = [f"<h1>{escaped(title)}</h1>", _facts(facts)]
    for name, split in splits.items():
        parts.append(f"<h2>{escaped(name)}: {split.top1:.1%} of {split.n:,} images</h2>")
        low, high = split.top1_ci95
        parts.append(
            f"<p>95 % confidence interval: {low:.1%} to {high:.1%}. Baseline, always the majority class: "
            f"{split.majority:.1%}. Log loss {split.log_loss:.3f}, calibration error {split.calibration_error:.3f}.</p>"
        )
        parts += [_classes(split), _confusion(split)]
    skipped = facts.get("skipped") or {}
    if skipped:
        rows = "".join(
            f"<tr><td>{escaped(name)}</td><td>{escaped(reason)}</td></tr>" for name, reason in skipped.items()
        )
        parts.append(f"<h2>Skipped: {len(skipped)}</h2><table>{rows}</table>")
    body = "\n".join(parts)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escaped(title)}</title><style>{STYLE}</style></head>
<body>{body}</body></html>
"""


def _facts(facts: Mapping[str, Any]) -> str:
    shown = {name: facts[name] for name in ("base", "level", "cut", "engine", "images") if name in facts}
    rows = "".join(f"<tr><th>{escaped(name)}</th><td>{escaped(value)}</td></tr>" for name, value in shown.items())
    notes = "".join(f"<li>{escaped(note)}</li>" for note in facts.get("notes", ()))
    return f"<table>{rows}</table>" + (f"<ul>{notes}</ul>" if notes else "")


def _classes(split: Scores) -> str:
    present = sorted((row for row in split.classes if row.n), key=lambda row: row.recall or 0.0)
    rows = [(row.name, f"{row.n:,}", _percent(row.recall), _percent(row.precision)) for row in present[:MOST_CLASSES]]
    return table(("class, worst first", "images", "recall", "precision"), rows)


def _confusion(split: Scores) -> str:
    if len(split.classes) > CLASSES_IN_TABLE:
        return ""
    names = [row.name for row in split.classes]
    rows = [(name, *counts) for name, counts in zip(names, split.confusion.tolist(), strict=True)]
    return table(("label \\ prediction", *names), rows)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
