"""The record of a search: one SQLite file in Optuna's schema, written by the driver alone.

A finished trial is one row with its outcome; what comes later (promotions, final measurements, test scores) are
attributes of the study. Each is one transaction, so a kill leaves it old or new. The sampler works on an in-memory
study rebuilt from here.
"""

import errno
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.distributions import distribution_to_json
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import sessionmaker

from autocompress.errors import UsageError, one_line
from autocompress.storage.atomic import no_space
from autocompress.storage.ownership import STUDY

FINITE = models.TrialValueModel.TrialValueType.FINITE


class Record:
    """``get``/``set`` for the study's attributes, ``add`` and ``trials`` for its trials.

    Nobody else writes, so what was read or written once is remembered.
    """

    def __init__(self, study: optuna.Study, path: Path) -> None:
        self.study = study
        self.path = path
        self._known: dict[str, Any] = study.user_attrs
        self._trials = len(self.trials())
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
        """Keep a finished trial: all its rows at once, where Optuna's own way asks the database for each parameter."""
        with _writing(self.path), sessionmaker(_backend(self.study).engine).begin() as session:
            session.add(_row(trial, self.study._study_id, self._trials))
        self._trials += 1

    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def close(self) -> None:
        backend = _backend(self.study)
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
        if _is_full(error):
            raise no_space(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise UsageError(
            f"{path} cannot be opened: {one_line(error, 200)}; move it away or choose another --out"
        ) from error
    return Record(study, path)


def _is_full(error: BaseException) -> bool:
    found: BaseException | None = error
    while found is not None:
        if getattr(found, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
            return True
        found = found.__cause__
    return False


def _backend(study: optuna.Study) -> RDBStorage:
    storage = getattr(study._storage, "_backend", study._storage)  # below Optuna's cache
    assert isinstance(storage, RDBStorage)
    return storage


def _row(trial: FrozenTrial, study_id: int, number: int) -> models.TrialModel:
    """A trial as Optuna's schema has it."""
    values = enumerate(trial.values or ())
    distributions = [(name, trial.params[name], trial.distributions[name]) for name in trial.params]
    return models.TrialModel(
        study_id=study_id,
        number=number,
        state=trial.state,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_complete,
        values=[models.TrialValueModel(objective=n, value=v, value_type=FINITE) for n, v in values],
        params=[
            models.TrialParamModel(
                param_name=name,
                param_value=distribution.to_internal_repr(value),
                distribution_json=distribution_to_json(distribution),
            )
            for name, value, distribution in distributions
        ],
        user_attributes=[_attribute(models.TrialUserAttributeModel, pair) for pair in trial.user_attrs.items()],
        system_attributes=[_attribute(models.TrialSystemAttributeModel, pair) for pair in trial.system_attrs.items()],
    )


def _attribute(model: Any, pair: tuple[str, Any]) -> Any:
    return model(key=pair[0], value_json=json.dumps(pair[1]))


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
