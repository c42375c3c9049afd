"""Weights & Biases logger: a run of the project `WANDB_PROJECT`, by default graft; local with `WANDB_MODE=offline`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graft.workflows.run import Run


class WeightsAndBiases:
    def __init__(self) -> None:
        self._run: Any = None

    def begin(self, folder: Path, parameters: Mapping[str, Any]) -> None:
        import wandb

        # Without a key, wandb would prompt for one on the terminal and wait.
        if os.environ.get("WANDB_MODE") not in ("offline", "disabled", "dryrun") and not wandb.api.api_key:
            raise RuntimeError("nobody is logged in: run `wandb login`, or set WANDB_MODE=offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "graft"),
            name=folder.name,
            config=dict(parameters),
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", init_timeout=30),
        )

    def epoch(self, row: Mapping[str, Any]) -> None:
        values = {name: value for name, value in row.items() if name != "epoch" and value is not None}
        self._run.log(values, step=row["epoch"])

    def end(self, run: Run) -> None:
        import wandb

        for name, accuracy in (("val", run.val), ("test", run.test)):
            if accuracy is not None:
                self._run.summary[f"{name}_accuracy"] = accuracy.top1
        made = wandb.Artifact(f"{run.folder.name}-model", type="model")
        made.add_dir(str(run.folder / "model"), name="model")
        made.add_file(str(run.folder / "report.html"))
        self._run.log_artifact(made)
        self._run.finish()

    def fail(self) -> None:
        if self._run is not None:
            self._run.finish(exit_code=1)


def make() -> WeightsAndBiases:
    return WeightsAndBiases()
