"""The record of a search: one SQLite file in Optuna's schema, written by the driver alone.

A finished trial is one row with its outcome; what comes later (promotions, final measurements, test scores) are
attributes of the study. Each is one transaction, so a kill leaves it old or new. The sampler works on an in-memory
study rebuilt from here.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from autocompress.errors import UsageError, one_line
from autocompress.run.store import no_space

STUDY = "autocompress"


class Record:
    """``get``/``set`` for the study's attributes, ``add`` and ``trials`` for its trials.

    Nobody else writes, so what was read or written once is remembered.
    """

    def __init__(self, study: optuna.Study, path: Path) -> None:
        self.study = study
        self.path = path
        self._known: dict[str, Any] = study.user_attrs
        self._counts = Counter(key.rpartition(":")[0] for key in self._known)

    def get(self, key: str, default: Any = None) -> Any:
        return self._known.get(key, default)

    def set(self, key: str, value: Any) -> None:
        value = json.loads(json.dumps(value))  # as it would be read again
        if key in self._known and self._known[key] == value:
            return
        with _writing(self.path):
            self.study.set_user_attr(key, value)
        self._known[key] = value

    def every(self, prefix: str) -> list[Any]:
        """The values that were appended, in order."""
        return [self._known[f"{prefix}:{n}"] for n in range(self._counts[prefix])]

    def append(self, prefix: str, value: Any) -> None:
        self.set(f"{prefix}:{self._counts[prefix]}", value)
        self._counts[prefix] += 1

    def add(self, trial: FrozenTrial) -> None:
        with _writing(self.path):
            self.study.add_trial(trial)

    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def close(self) -> None:
        storage = self.study._storage
        backend = getattr(storage, "_backend", storage)
        if isinstance(backend, RDBStorage):
            backend.remove_session()
            backend.engine.dispose()


def open_record(path: Path) -> Record:
    """Open or create ``study.db``. Raises UsageError, with the file untouched, when it is not a database this
    version reads.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if path.exists():
        _refuse_garbage(path)
    try:
        storage = RDBStorage(
            URL.create("sqlite", database=str(path)).render_as_string(), engine_kwargs={"connect_args": {"timeout": 30}}
        )
        study = optuna.create_study(
            storage=storage, study_name=STUDY, directions=["maximize", "minimize"], load_if_exists=True
        )
    except Exception as error:
        raise UsageError(
            f"{path} cannot be opened: {one_line(error, 200)}; move it away or choose another --out"
        ) from error
    return Record(study, path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise no_space(path, OSError(one_line(error.__cause__ or error, 120))) from error


def _refuse_garbage(path: Path) -> None:
    """Refuse a file that is not Optuna's, before anything could be written into it.

    A study that a kill left half created is finished by opening it.
    """
    known = {name: set(table.columns.keys()) for name, table in models.BaseModel.metadata.tables.items()}
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=rw", uri=True)
        try:
            names = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
            for name in (n for n in names if n != "alembic_version"):
                columns = {row[1] for row in connection.execute("select * from pragma_table_info(?)", (name,))}
                if name not in known or columns != known[name]:
                    raise sqlite3.DatabaseError(f"its table {name} is another program's or another version's")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise UsageError(
            f"{path} is not a study this version reads ({error}): move it away or choose another --out"
        ) from error
