"""The observers that come with autocompress pass the kit, and what they write can be read by what they write it for."""

from pathlib import Path
from typing import Any

import pytest

from autocompress.plugin.contract import FileMeasured, SearchStarted
from autocompress.testing import ObserverConformance
from autocompress.testing.observer_conformance import events_of_a_search, told
from autocompress_plugins.observers.mlflow import EXPERIMENT, PARENT, Mlflow
from autocompress_plugins.observers.tensorboard import TensorBoard


@pytest.fixture(scope="module", autouse=True)
def tracking(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """MLflow keeps what it is told in a folder."""
    store = tmp_path_factory.mktemp("mlruns")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.as_uri())
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # the quickest one
        patch.delenv(EXPERIMENT, raising=False)
        yield store


class TestMlflow(ObserverConformance):
    observer = Mlflow


class TestTensorBoard(ObserverConformance):
    observer = TensorBoard


def test_mlflow_has_a_run_with_the_files_nested_in_it_and_what_was_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv(EXPERIMENT, "of this test")
    events = events_of_a_search(tmp_path / "run")
    told(Mlflow(), events)
    client = MlflowClient()
    runs = client.search_runs([client.get_experiment_by_name("of this test").experiment_id])
    (whole,) = (run for run in runs if PARENT not in run.data.tags)
    files = [run for run in runs if run.data.tags.get(PARENT) == whole.info.run_id]
    assert whole.info.status == "FINISHED"
    assert (whole.data.params["speedup"], whole.data.params["profile"]) == ("3.0", "cpu")
    assert whole.data.metrics["test"] == 0.9
    assert whole.data.metrics["speedup"] == pytest.approx(5)
    assert {run.data.tags["id"] for run in files} == {e.file.id for e in events if isinstance(e, FileMeasured)}
    (quantized,) = (run for run in files if run.data.tags["id"] == "b-1")
    assert quantized.data.params == {
        "narrow.ratio": "0.5",
        "train.batch_size": "64",
        "train.lr": "0.001",
        "round.bits": "8",
    }
    delivered = {artifact.path for artifact in client.list_artifacts(whole.info.run_id, "recommended")}
    assert delivered == {"recommended/model.onnx", "recommended/recipe.toml"}


def test_tensorboard_reads_the_score_of_each_file_and_a_search_that_goes_on_counts_none_twice(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = events_of_a_search(tmp_path / "run")
    for _ in range(2):
        told(TensorBoard(), events)
    started = events[0]
    assert isinstance(started, SearchStarted)
    found = EventAccumulator(str(started.folder / "tensorboard"))
    found.Reload()
    assert [scalar.step for scalar in found.Scalars("file/score")] == [1, 2, 3]
    assert [scalar.value for scalar in found.Scalars("file/speedup")] == pytest.approx([1.0, 2.5, 5.0])
    assert (started.folder / "tensorboard" / "b-1").is_dir(), "the recipes of the front are under HParams"
