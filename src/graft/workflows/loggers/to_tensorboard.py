"""TensorBoard logger: event files in `tensorboard/` of the run; `tensorboard --logdir runs` shows all runs side by
side.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from graft.workflows.run import Run

FOLDER = "tensorboard"


class TensorBoard:
    def __init__(self) -> None:
        self._writer: SummaryWriter | None = None

    def begin(self, folder: Path, parameters: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / FOLDER))
        lines = "\n".join(f"| {name} | {value} |" for name, value in parameters.items())
        self._writer.add_text("parameters", f"| | |\n| --- | --- |\n{lines}")

    def epoch(self, row: Mapping[str, Any]) -> None:
        assert self._writer is not None
        for name, value in row.items():
            if name != "epoch" and value is not None:
                self._writer.add_scalar(name, value, row["epoch"])
        self._writer.flush()

    def end(self, run: Run) -> None:
        assert self._writer is not None
        for name, accuracy in (("val", run.val), ("test", run.test)):
            if accuracy is not None and accuracy.top1 is not None:
                self._writer.add_scalar(f"{name}/top1", accuracy.top1, 0)
        # TensorBoard stores no files, so record where they are.
        self._writer.add_text("report", str(run.folder / "report.html"))
        self._writer.add_text("model", str(run.folder / "model"))
        self._writer.close()

    def fail(self) -> None:
        if self._writer is not None:
            self._writer.close()


def make() -> TensorBoard:
    return TensorBoard()
