"""Whole searches in this process, observed, and what they return."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autocompress import load_result
from autocompress.errors import UsageError
from autocompress.plugin.contract import FileMeasured, Observer, PhaseBegan, SearchEvent, SearchFinished, SearchStarted
from autocompress.storage.record import open_record

READ = """
import json, optuna, sys
study = optuna.load_study(study_name="autocompress", storage=f"sqlite:///{sys.argv[1]}")
print(json.dumps([[trial.state.name, trial.values, len(trial.params)] for trial in study.trials]))
"""


def test_a_search_returns_what_a_finished_run_gives_again(finished: Any) -> None:
    assert load_result(finished.root) == finished.result
    assert finished.result.recommended == load_result(str(finished.root)).recommended
    assert finished.result.model.is_file()
    assert (finished.root / finished.result.recommended.artifact).is_file()


def test_an_observer_is_told_of_the_search_from_its_start_to_its_end(finished: Any, fake_toml: str) -> None:
    started, opening, *_, last = finished.events
    assert isinstance(started, SearchStarted)
    assert (started.task, started.folder, started.profile) == ("tiny", finished.root.resolve(), "fake")
    assert (started.budget["speedup"], started.settings["trials"]) == (3, 1)
    assert opening == PhaseBegan(opening.elapsed_s, "open")
    files = [event.file.id for event in finished.events if isinstance(event, FileMeasured)]
    assert sorted(files) == sorted(file.id for file in finished.result.candidates)
    assert isinstance(last, SearchFinished)
    assert (last.status, last.recommended, last.front) == (
        "feasible",
        finished.result.recommended,
        finished.result.front,
    )
    assert json.loads(last.front_json.read_text()) == finished.document
    assert last.delivered == finished.result.model.parent.resolve()


def test_a_finished_search_asked_again_tells_what_it_found(finished: Any, run: Any, tmp_path: Path) -> None:
    finished.copied_to(tmp_path / "run")
    told: list[SearchEvent] = []

    class Told(Observer):
        name = "told"

        def observe(self, event: SearchEvent) -> None:
            told.append(event)

    run(trials=1, speedup=3, observe=[Told()])
    assert len([event for event in told if isinstance(event, FileMeasured)]) == len(finished.result.candidates)
    last = told[-1]
    assert isinstance(last, SearchFinished)
    assert last.recommended == finished.result.recommended


@pytest.mark.parametrize("observe", [["mlfow"], "mlfow"])
def test_an_observer_that_is_not_installed_is_refused_before_anything_is_made(
    observe: Any, run: Any, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="unknown observer 'mlfow'"):
        run(observe=observe)
    assert not (tmp_path / "run").exists()


def test_another_process_reads_the_study_with_optuna_while_the_search_holds_it(finished: Any, tmp_path: Path) -> None:
    finished.copied_to(tmp_path / "run")
    path = tmp_path / "run" / "study.db"
    record = open_record(path)
    trials = record.trials()
    record.add(trials[0])  # what was written last lies in the log beside the file
    try:
        read = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
        record.set("elapsed_s", 1.0)
    finally:
        record.close()
    seen = json.loads(read.stdout)
    assert len(seen) == len(trials) + 1
    assert seen == [[trial.state.name, trial.values, len(trial.params)] for trial in (*trials, trials[0])]
    assert any(values is not None and len(values) == 2 for _, values, _ in seen)
