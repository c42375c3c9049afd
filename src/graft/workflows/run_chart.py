"""What a training came to, epoch by epoch, as a chart."""

import io
from dataclasses import dataclass
from pathlib import Path

from graft.files import write_aside
from graft.workflows.run import Run


@dataclass(frozen=True, repr=False)
class Chart:
    """A chart as SVG, which notebooks show and `save` writes."""

    svg: str
    text: str

    def __repr__(self) -> str:
        return f"Chart({self.text!r})"

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: str | Path) -> Path:
        """Write it as a file, atomically. Raises OSError."""
        place = Path(path).expanduser()
        write_aside(place, lambda file: file.write(self.svg.encode()))
        return place


def chart_of(run: Run) -> Chart:
    """See `Run.plot`. It needs no display and no backend."""
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
        known = [(row["epoch"], row["val_top1"]) for row in rows if row["val_top1"] is not None]
        if known:
            right.plot(*zip(*known, strict=True), label="val")
        right.set_xlabel("epoch")
    else:
        right = figure.subplots()
    split = "val" if run.test is None else "test"
    measured = run.val if run.test is None else run.test
    if measured.top1 is not None and measured.top1_ci95 is not None:
        right.axhspan(*measured.top1_ci95, alpha=0.15, color="tab:green")
        right.axhline(measured.top1, color="tab:green", label=f"{split} in the end, with its 95 % interval")
    right.axhline(run.majority, color="tab:gray", linestyle=":", label="majority-class baseline")
    right.set_ylabel("accuracy")
    right.set_ylim(0, 1)
    right.legend()
    figure.suptitle(f"{run.folder.name}: {run.level}")
    file = io.StringIO()
    figure.savefig(file, format="svg")
    return Chart(file.getvalue(), f"{run.folder.name}: {split} {measured}")
