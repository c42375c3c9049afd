"""The page of a run: one HTML file that opens offline, without scripts or requests; all text is escaped."""

from graft.evaluation.report import reliance, sections
from graft.evaluation.report.style import STYLE
from graft.evaluation.report.values import Report
from graft.html import escaped

SECTIONS = (
    ("verdict", "Verdict", sections.verdict),
    ("data", "Data", sections.data),
    ("decision", "Decision", sections.decision),
    ("curves", "Training", sections.curves),
    ("classes", "Classes", sections.classes),
    ("images", "Mistakes", sections.images),
    ("trust", "Calibration", reliance.trust),
    ("robustness", "Robustness", reliance.robustness),
    ("slices", "Slices", reliance.slices),
    ("provenance", "Provenance", sections.provenance),
)


def render_report(report: Report) -> str:
    """Render the page; it has sections only for what the run measured."""
    made = [(anchor, title, section(report)) for anchor, title, section in SECTIONS]
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title, body in made if body)
    return document(report.title, links, "".join(body for _, _, body in made))


def document(title: str, links: str, body: str) -> str:
    """Return a page with this title, list of links and body; the last two are HTML."""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escaped(title)}</title><style>{STYLE}</style></head>
<body><a class="skip" href="#main">Skip to the verdict</a><header><h1>{escaped(title)}</h1></header>
<nav aria-label="Sections"><ol>{links}</ol></nav><main id="main">{body}</main></body></html>
"""
