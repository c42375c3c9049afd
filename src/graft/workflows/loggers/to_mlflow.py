"""MLflow logger: a run of the experiment `MLFLOW_EXPERIMENT_NAME`, by default graft, at `MLFLOW_TRACKING_URI`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from graft.workflows.run import Run

# The longest string that every server accepts as a parameter.
LONGEST = 500


class MLflow:
    def __init__(self) -> None:
        self._client: MlflowClient | None = None
        self._run = ""

    def begin(self, folder: Path, parameters: Mapping[str, Any]) -> None:
        # The client is used because the module's functions keep one run per thread, which may be the user's own.
        from mlflow import MlflowClient
        from mlflow.entities import Param

        client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "graft")
        known = client.get_experiment_by_name(name)
        experiment = client.create_experiment(name) if known is None else known.experiment_id
        self._run = client.create_run(experiment, run_name=folder.name).info.run_id
        self._client = client
        client.log_batch(self._run, params=[Param(name, str(value)[:LONGEST]) for name, value in parameters.items()])

    def epoch(self, row: Mapping[str, Any]) -> None:
        assert self._client is not None
        for name, value in row.items():
            if name != "epoch" and value is not None:
                self._client.log_metric(self._run, name, value, step=row["epoch"])

    def end(self, run: Run) -> None:
        assert self._client is not None
        for name, accuracy in (("val", run.val), ("test", run.test)):
            if accuracy is not None and accuracy.top1 is not None:
                self._client.log_metric(self._run, f"{name}_accuracy", accuracy.top1)
        self._client.log_artifact(self._run, str(run.folder / "report.html"))
        self._client.log_artifacts(self._run, str(run.folder / "model"), "model")
        self._client.set_terminated(self._run, "FINISHED")

    def fail(self) -> None:
        if self._client is not None:
            self._client.set_terminated(self._run, "FAILED")


def make() -> MLflow:
    return MLflow()
