"""Chart a training run, epoch by epoch."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.files import write_aside
from graft.workflows.run import Run


@dataclass(frozen=True, repr=False)
class Chart:
    """An SVG chart, which notebooks display and `save` writes."""

    svg: str
    text: str

    def __repr__(self) -> str:
        return f"Chart({self.text!r})"

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> Path:
        """Write the chart to a file, atomically. Raises OSError."""
        place = Path(path).expanduser()
        write_aside(place, lambda file: file.write(self.svg.encode()))
        return place


def chart_of(run: Run) -> Chart:
    """Draw the chart of `Run.plot`. It needs no display and no backend."""
    from matplotlib.figure import Figure

    rows = run.logs
    figure = Figure(figsize=(9 if rows else 5, 3.2), layout="constrained")
    if rows:
        left, right = figure.subplots(1, 2)
        for name in ("train_loss", "val_loss"):
            known = [(row["epoch"], row[name]) for row in rows if row[name] is not None]
            left.plot(*zip(*known, strict=True), label=name.replace("_", " "))
        left.set_xlabel("epoch")
        left.legend()
        score = "val_mean_average_precision" if run.multi_label else "val_top1"
        known = [(row["epoch"], row[score]) for row in rows if row.get(score) is not None]
        if known:
            right.plot(*zip(*known, strict=True), label="val")
        right.set_xlabel("epoch")
    else:
        right = figure.subplots()
    split = "val" if run.test is None else "test"
    measured = run.val if run.test is None else run.test
    told: dict[str, Any] = measured.to_dict()
    name = "mean_average_precision" if run.multi_label else "top1"
    if told[name] is not None and told[f"{name}_ci95"] is not None:
        right.axhspan(*told[f"{name}_ci95"], alpha=0.15, color="tab:green")
        right.axhline(told[name], color="tab:green", label=f"{split} at the end, with its 95 % interval")
    if not run.multi_label:
        right.axhline(run.majority, color="tab:gray", linestyle=":", label="majority-class baseline")
    elif told["baseline"] is not None:
        right.axhline(told["baseline"], color="tab:gray", linestyle=":", label="a random order")
    right.set_ylabel("mean average precision" if run.multi_label else "accuracy")
    right.set_ylim(0, 1)
    right.legend()
    figure.suptitle(f"{run.folder.name}: {run.level}")
    file = io.StringIO()
    figure.savefig(file, format="svg")
    return Chart(file.getvalue(), f"{run.folder.name}: {split} {measured}")
