"""The record of a search: one SQLite file in Optuna's schema, written by the driver alone.

A finished trial is one row with its outcome; what comes later (promotions, final measurements, test scores) are
attributes of the study. Each is one transaction, so a kill leaves it old or new. The sampler works on an in-memory
study rebuilt from here.

Optuna makes the file and reads it. What is written goes through a connection of our own: Optuna's asks the database for
the study and each parameter first. SQLite appends it to a log beside the file (``study.db-wal``) and does not wait for
the disk: a killed process has lost nothing, and after a power failure the last transactions may be missing, no others.
"""

import errno
import json
import math
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial
from sqlalchemy import URL, inspect
from sqlalchemy.pool import NullPool

from autocompress.errors import UsageError, one_line
from autocompress.storage.atomic import no_space
from autocompress.storage.ownership import STUDY

SET = (
    "insert into study_user_attributes (study_id, key, value_json) values (?, ?, ?) "
    "on conflict (study_id, key) do update set value_json = excluded.value_json"
)
INFINITE = {math.inf: "INF_POS", -math.inf: "INF_NEG"}  # as Optuna writes a value that SQL has no number for


class Record:
    """``get``/``set`` for the study's attributes, ``add`` and ``trials`` for its trials.

    Nobody else writes, so what was read or written once is remembered.
    """

    def __init__(self, storage: RDBStorage, study: optuna.Study, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._storage = storage
        self._study = study
        self._connection = connection
        self._id = _study_id(connection)
        self._logged = False
        self._known: dict[str, Any] = study.user_attrs
        self._trials = len(self.trials())
        self._counts = Counter(key.rpartition(":")[0] for key in self._known)

    def get(self, key: str, default: Any = None) -> Any:
        return self._known.get(key, default)

    def set(self, key: str, value: Any) -> None:
        text = json.dumps(value)
        value = json.loads(text)  # as it would be read again
        if key in self._known and self._known[key] == value:
            return
        with self._writing() as connection:
            connection.execute(SET, (self._id, key, text))
        self._known[key] = value

    def every(self, prefix: str) -> list[Any]:
        """The values that were appended, in order."""
        return [self._known[f"{prefix}:{n}"] for n in range(self._counts[prefix])]

    def append(self, prefix: str, value: Any) -> None:
        self.set(f"{prefix}:{self._counts[prefix]}", value)
        self._counts[prefix] += 1

    def add(self, trial: FrozenTrial) -> None:
        """Keep a finished trial."""
        with self._writing() as connection:
            _insert(connection, self._id, trial, self._trials)
        self._trials += 1

    def trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction. Which log the file has changes with the first one: what is only read stays as it is."""
        with _writing(self.path):
            if not self._logged:
                self._connection.execute("pragma journal_mode = wal")
                self._logged = True
            with self._connection:
                yield self._connection

    def close(self) -> None:
        _close(self._storage)
        self._connection.close()


def open_record(path: Path) -> Record:
    """Open or create ``study.db``. Raises UsageError, with the file untouched, when it is not a database this
    version reads.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if path.exists():
        _refuse_garbage(path)
    try:
        storage = RDBStorage(
            URL.create("sqlite", database=str(path)).render_as_string(),
            engine_kwargs={"connect_args": {"timeout": 30}, "poolclass": NullPool},  # nothing of it stays open
        )
        study = optuna.create_study(
            storage=storage, study_name=STUDY, directions=["maximize", "minimize"], load_if_exists=True
        )
        connection = _connect(path.resolve())
    except Exception as error:
        if _is_full(error):
            raise no_space(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise UsageError(
            f"{path} cannot be opened: {one_line(error, 200)}; move it away or choose another --out"
        ) from error
    return Record(storage, study, connection, path)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, check_same_thread=False)  # a notebook's search runs beside its loop
    connection.execute("pragma synchronous = normal")
    return connection


def _study_id(connection: sqlite3.Connection) -> int:
    (found,) = connection.execute("select study_id from studies where study_name = ?", (STUDY,)).fetchone()
    return int(found)


def _close(storage: RDBStorage) -> None:
    storage.remove_session()
    storage.engine.dispose()


def _is_full(error: BaseException) -> bool:
    found: BaseException | None = error
    while found is not None:
        if getattr(found, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        found = found.__cause__
    return False


def _insert(connection: sqlite3.Connection, study: int, trial: FrozenTrial, number: int) -> None:
    """A finished trial as Optuna's schema has it."""
    times = [at and at.isoformat(" ", "microseconds") for at in (trial.datetime_start, trial.datetime_complete)]
    own = connection.execute(
        "insert into trials (study_id, number, state, datetime_start, datetime_complete) values (?, ?, ?, ?, ?)",
        (study, number, trial.state.name, *times),
    ).lastrowid

    def insert(table: str, columns: str, rows: Iterable[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" for _ in columns.split(", "))
        statement = f"insert into {table} (trial_id, {columns}) values (?, {marks})"
        connection.executemany(statement, [(own, *row) for row in rows])

    values = [(n, None if v in INFINITE else v, INFINITE.get(v, "FINITE")) for n, v in enumerate(trial.values or ())]
    params = [
        (name, distribution.to_internal_repr(trial.params[name]), distribution_to_json(distribution))
        for name, distribution in trial.distributions.items()
    ]
    insert("trial_values", "objective, value, value_type", values)
    insert("trial_params", "param_name, param_value, distribution_json", params)
    for table, attributes in (
        ("trial_user_attributes", trial.user_attrs),
        ("trial_system_attributes", trial.system_attrs),
    ):
        insert(table, "key, value_json", [(key, json.dumps(value)) for key, value in attributes.items()])


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise no_space(path, OSError(one_line(error, 120))) from error


def _refuse_garbage(path: Path) -> None:
    """Refuse a file that is not Optuna's, before anything could be written into it.

    A study that a kill left half created is finished by opening it.
    """
    known = _schema()
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=rw", uri=True)
        try:
            names = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
            for name in names:
                columns = {row[1] for row in connection.execute("select * from pragma_table_info(?)", (name,))}
                if name not in known or columns != known[name]:
                    raise sqlite3.DatabaseError(f"its table {name} is another program's or another version's")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UsageError(
            f"{path} is not a study this version reads ({error}): move it away or choose another --out"
        ) from error


def _schema() -> dict[str, set[str]]:
    """The columns of each table of a study that this version of Optuna makes."""
    storage = RDBStorage("sqlite:///:memory:")
    tables = inspect(storage.engine)
    found = {name: {column["name"] for column in tables.get_columns(name)} for name in tables.get_table_names()}
    _close(storage)
    return found
