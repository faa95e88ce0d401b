"""A search as a run of MLflow, with a nested run for each file.

The run has what was asked as parameters, the metrics of the recommended file, and ``recommended/`` (or ``nearest/``)
and ``front.json`` as artifacts. Where it goes is MLflow's own setting: ``MLFLOW_TRACKING_URI``,
``MLFLOW_EXPERIMENT_NAME`` (without one the experiment has the task's name).
https://mlflow.org/docs/latest/ml/tracking
"""

import os
import time
from collections.abc import Mapping
from typing import Any

from autocompress.errors import one_line
from autocompress.plugin.contract import (
    FileMeasured,
    MeasuredFile,
    Observer,
    SearchEvent,
    SearchFinished,
    SearchStarted,
    TaskOpened,
)
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.observers.tables import metrics_of, parameters_of

autocompress_api = 2

EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
PARENT = "mlflow.parentRunId"
ENDED = {"feasible": "FINISHED", "infeasible": "FINISHED", "interrupted": "KILLED", "failed": "FAILED"}


class Mlflow(Observer):
    """Nothing is made before the task is open: a search that is refused leaves no run."""

    name = "mlflow"
    summary = "a run of MLflow, with the files of the search as nested runs"

    def __init__(self) -> None:
        self._client: Any = None
        self._started: SearchStarted | None = None
        self._experiment = self._run = ""

    @classmethod
    def unavailable(cls) -> str | None:
        try:
            import mlflow  # noqa: F401
        except ImportError as error:
            return f"mlflow cannot be imported ({one_line(error, 80)}): pip install 'autocompress[mlflow]'"
        return None

    def observe(self, event: SearchEvent) -> None:
        if isinstance(event, SearchStarted):
            self._started = event
        elif isinstance(event, TaskOpened) and self._started is not None:
            self._open(event, self._started)
        elif isinstance(event, FileMeasured):
            self._add(event.file)
        elif isinstance(event, SearchFinished) and self._run:
            self._finish(event)

    def _open(self, opened: TaskOpened, started: SearchStarted) -> None:
        from mlflow import MlflowClient

        self._client = MlflowClient()
        experiment = os.environ.get(EXPERIMENT) or opened.name
        found = self._client.get_experiment_by_name(experiment)
        self._experiment = found.experiment_id if found is not None else self._client.create_experiment(experiment)
        name = f"{opened.name} on {started.profile}"
        self._run = self._client.create_run(self._experiment, run_name=name).info.run_id
        asked = {"task": started.task, "profile": started.profile, "metric": opened.metric, "folder": started.folder}
        given = {**started.budget, **started.settings}
        self._log(self._run, {**asked, **{k: v for k, v in given.items() if v is not None}}, {})
        reference = {f"reference.{name}": value for name, value in metrics_of(opened.reference).items()}
        self._log(self._run, {}, reference)

    def _add(self, file: MeasuredFile) -> None:
        tags = {PARENT: self._run, "id": file.id, "techniques": file.techniques}
        run = self._client.create_run(self._experiment, tags=tags, run_name=f"{file.techniques} {file.id}").info.run_id
        self._log(run, parameters_of(file.recipe), metrics_of(file))
        self._client.set_terminated(run)

    def _finish(self, finished: SearchFinished) -> None:
        chosen = finished.recommended or finished.nearest
        if chosen is not None:
            self._log(self._run, {}, metrics_of(chosen))
            self._client.set_tag(self._run, "recommended" if finished.recommended else "nearest", chosen.id)
        if finished.delivered is not None:
            self._client.log_artifacts(self._run, str(finished.delivered), finished.delivered.name)
        if finished.front_json is not None:
            self._client.log_artifact(self._run, str(finished.front_json))
        self._client.set_tag(self._run, "status", finished.status)
        self._client.set_terminated(self._run, ENDED[finished.status])

    def _log(self, run: str, params: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric, Param

        now = time.time_ns() // 1_000_000
        self._client.log_batch(
            run,
            metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
            params=[Param(name, str(value)) for name, value in params.items()],
        )


@hookimpl
def autocompress_observers() -> list[type[Observer]]:
    return [Mlflow]
