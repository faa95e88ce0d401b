"""``study.db``: written at exactly its path, refused and left alone when it is something else, whole after a kill."""

import resource
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.engine import Engine

from autocompress.errors import AutocompressError, UsageError
from autocompress.storage.ownership import is_run
from autocompress.storage.record import open_record

NAMES = ["plain", "with space, ünïcode 漢字, {braces} and quo'te", "a#b?c=d&e;f+g%25"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_path_is_used_exactly(name: str, tmp_path: Path):
    folder = tmp_path / name
    folder.mkdir()
    record = open_record(folder / "study.db")
    record.set("k", name)
    record.close()
    assert [p.relative_to(tmp_path) for p in tmp_path.rglob("*")] == [Path(name), Path(name) / "study.db"]
    again = open_record(folder / "study.db")
    assert again.get("k") == name
    again.close()


def test_relative_path_is_used_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("a?b").mkdir()
    open_record(Path("a?b/study.db")).close()
    open_record(Path("a?b/study.db")).close()
    assert (tmp_path / "a?b" / "study.db").is_file()


def test_attributes_survive_reopening(tmp_path: Path):
    value = {"recipe": [{"strategy": "a", "params": {"ratio": 0.1}}], "none": None, "text": "ü" * 10_000}
    record = open_record(tmp_path / "study.db")
    record.set("opening", value)
    record.set("opening", {**value, "none": 1})
    for number in range(12):
        record.append("event", {"number": number})
    record.append("eventful", "of another prefix")
    record.close()
    again = open_record(tmp_path / "study.db")
    assert again.get("opening") == {**value, "none": 1}
    assert again.get("absent", 5) == 5
    assert [e["number"] for e in again.every("event")] == list(range(12))  # by number: 10 comes after 9
    assert again.every("eventful") == ["of another prefix"]
    again.append("event", {"number": 12})
    assert len(again.every("event")) == 13
    again.close()


def test_trials_survive_reopening(tmp_path: Path):
    record = open_record(tmp_path / "study.db")
    distributions = {"carve": CategoricalDistribution([True, False]), "carve.ratio": IntDistribution(0, 4)}
    for state, values in ((TrialState.COMPLETE, [0.9, 0.5]), (TrialState.PRUNED, None), (TrialState.FAIL, None)):
        trial = create_trial(
            state=state,
            values=values,
            params={"carve": True, "carve.ratio": 3},
            distributions=distributions,
            user_attrs={"state": state.name},
        )
        record.add(trial)
    record.close()
    again = open_record(tmp_path / "study.db")
    assert [(t.state.name, t.values) for t in again.trials()] == [
        ("COMPLETE", [0.9, 0.5]),
        ("PRUNED", None),
        ("FAIL", None),
    ]
    assert all(t.params == {"carve": True, "carve.ratio": 3} for t in again.trials())
    assert [t.user_attrs["state"] for t in again.trials()] == ["COMPLETE", "PRUNED", "FAIL"]
    again.close()


READ = (
    "state", "values", "params", "distributions", "user_attrs", "constraints", "datetime_start", "datetime_complete",
)  # fmt: skip
COMPLETE = {"state": TrialState.COMPLETE, "constraints": {"over": -0.25}}


@pytest.mark.parametrize(
    "ended",
    [
        {**COMPLETE, "values": [0.9, 0.5]},
        {**COMPLETE, "values": [float("-inf"), float("inf")]},
        {"state": TrialState.PRUNED, "constraints": {"over": 0.1}},
        {"state": TrialState.FAIL},
    ],
    ids=["complete", "infinite", "pruned", "failed"],
)
def test_trials_are_optunas_own(ended: dict[str, Any], tmp_path: Path):
    """A study that people open with Optuna's own tools. What is written here by its schema is what its own functions
    write; a version that writes something else is found out by this.
    """
    trial = create_trial(
        params={"carve": False, "carve.ratio": 3, "kind": "l2"},
        distributions={
            "carve": CategoricalDistribution([True, False]),
            "carve.ratio": IntDistribution(0, 4),
            "kind": CategoricalDistribution(["l1", "l2"]),
        },
        user_attrs={"recipe": {"steps": [1, 2]}},
        **ended,
    )
    for _ in range(2):  # numbers go on after it is opened again
        record = open_record(tmp_path / "study.db")
        record.add(trial)
        record.close()
    study = optuna.load_study(study_name="autocompress", storage=f"sqlite:///{tmp_path / 'study.db'}")
    study.add_trial(trial)
    study = optuna.load_study(study_name="autocompress", storage=f"sqlite:///{tmp_path / 'study.db'}")
    by_us, _, by_optuna = study.trials
    assert [t.number for t in study.trials] == [0, 1, 2]
    for name in READ:
        assert getattr(by_us, name) == getattr(by_optuna, name)


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    connection = sqlite3.connect(path)
    tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
    found = {table: connection.execute(f"select * from {table}").fetchall() for table in tables}
    connection.close()
    return found


def test_a_study_is_written_as_optuna_writes_it(tmp_path: Path):
    """Row by row: what another program of Optuna's would find in the file."""
    distributions = {"carve": CategoricalDistribution([True, False]), "carve.ratio": IntDistribution(0, 4)}
    params = {"carve": True, "carve.ratio": 3}
    trials = [
        create_trial(state=TrialState.COMPLETE, values=[0.9, float("inf")], params=params, distributions=distributions),
        create_trial(state=TrialState.PRUNED, constraints={"over": 0.1}, user_attrs={"recipe": []}),
    ]
    attributes = {"opening": {"ü": [1, None]}, "elapsed_s": 0.5, "fact:0": [], "opening ": True}
    record = open_record(tmp_path / "ours.db")
    for trial in trials:
        record.add(trial)
    for key, value in (*attributes.items(), ("elapsed_s", 1.5)):
        record.set(key, value)
    record.close()
    study = optuna.create_study(
        study_name="autocompress", storage=f"sqlite:///{tmp_path / 'optunas.db'}", directions=["maximize", "minimize"]
    )
    study.add_trials(trials)
    for key, value in (*attributes.items(), ("elapsed_s", 1.5)):
        study.set_user_attr(key, value)
    assert rows(tmp_path / "ours.db") == rows(tmp_path / "optunas.db")


def another_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("create table notes (text)")
    connection.commit()
    connection.close()


def newer_version(path: Path) -> None:
    open_record(path).close()
    connection = sqlite3.connect(path)
    connection.execute("update alembic_version set version_num = 'v99.0.0'")
    connection.execute("update version_info set schema_version = 99")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"not a database at all" * 500),
        another_database,
        newer_version,
    ],
    ids=["garbage", "another database", "newer version"],
)
def test_what_is_no_study_is_refused_and_left_byte_identical(make: object, tmp_path: Path):
    path = tmp_path / "study.db"
    make(path)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="move it away or choose another --out") as caught:
        open_record(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["study.db"]


def test_another_programs_studies_are_left_byte_identical(tmp_path: Path):
    path = tmp_path / "study.db"
    connection = sqlite3.connect(path)
    connection.execute("create table studies (title)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UsageError):
        open_record(path)
    assert path.read_bytes() == before


KILLED_ADDING = """
import os, signal, sqlite3, sys
from functools import partial
from pathlib import Path
from optuna.trial import create_trial
from autocompress.storage.record import open_record

class Killed(sqlite3.Connection):
    def executemany(self, statement, rows):
        if "trial_system_attributes" in statement:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().executemany(statement, rows)

sqlite3.connect = partial(sqlite3.connect, factory=Killed)
record = open_record(Path(sys.argv[1]))
record.add(create_trial(values=[0.9, 0.5], user_attrs={"large": "x" * 10_000_000}))
"""


KILLED_AFTER = """
import os, signal, sys
from pathlib import Path
from optuna.trial import create_trial
from autocompress.storage.record import open_record

record = open_record(Path(sys.argv[1]))
for number in range(20):
    record.append("fact", number)
    record.add(create_trial(values=[number, 0.5]))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_loses_nothing_that_was_written(tmp_path: Path):
    path = tmp_path / "study.db"
    done = subprocess.run([sys.executable, "-c", KILLED_AFTER, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert is_run(tmp_path), "it is known as a study of ours as it lies there"
    again = open_record(path)
    assert again.every("fact") == [trial.values[0] for trial in again.trials()] == list(range(20))
    again.close()
    assert [p.name for p in tmp_path.iterdir()] == ["study.db"]


def test_a_study_is_read_by_others_while_it_is_written(tmp_path: Path):
    record = open_record(tmp_path / "study.db")
    record.add(create_trial(values=[0.9, 0.5]))
    url = f"sqlite:///{tmp_path / 'study.db'}"
    assert len(optuna.load_study(study_name="autocompress", storage=url).trials) == 1
    record.add(create_trial(values=[0.8, 0.4]))
    assert len(optuna.load_study(study_name="autocompress", storage=url).trials) == 2
    record.close()


def test_kill_while_a_trial_is_added_leaves_the_study_as_it_was_before(tmp_path: Path):
    path = tmp_path / "study.db"
    record = open_record(path)
    record.set("k", "before")
    record.close()
    subprocess.run([sys.executable, "-c", KILLED_ADDING, str(path)], check=False)
    assert path.with_name("study.db-wal").stat().st_size > 1_000_000, "the write was cut in the middle"
    again = open_record(path)
    assert again.get("k") == "before"
    assert again.trials() == []
    again.close()


def test_write_that_fails_says_so_and_leaves_the_study_as_it_was_before(tmp_path: Path):
    path = tmp_path / "study.db"
    record = open_record(path)
    record.set("k", "before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(AutocompressError, match=r"cannot write .*study.db"):
            record.set("k", "x" * 2_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert record.get("k") == "before"
    record.append("event", "after")
    record.close()
    again = open_record(path)
    assert (again.get("k"), again.every("event")) == ("before", ["after"])
    again.close()


def test_full_disk_while_the_study_is_created_names_the_path_and_does_not_stand_in_the_way(tmp_path: Path):
    def full(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("pragma max_page_count = 5")

    event.listen(Engine, "connect", full)
    try:
        with pytest.raises(AutocompressError, match=r"cannot write .*study.db: No space left on device \(\d+ MiB free"):
            open_record(tmp_path / "study.db")
    finally:
        event.remove(Engine, "connect", full)
    open_record(tmp_path / "study.db").close()


def test_kill_while_the_study_is_created_does_not_stand_in_the_way(tmp_path: Path):
    (tmp_path / "study.db").touch()
    open_record(tmp_path / "study.db").close()
