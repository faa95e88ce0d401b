"""What happened in a search, in order, kept in the record as it happens. What follows from it is in standings.py."""

from collections.abc import Sequence
from copy import copy
from typing import Any, Protocol, TypeVar

from optuna.trial import FrozenTrial

from autocompress.errors import UsageError
from autocompress.explore.history.facts import Fact, TrialFact, fact_from_json, fact_to_json
from autocompress.explore.opening.opening import Opening

FACT = "fact"
NUMBER = "number"  # of a fact among all, those that ended trials and the others

F = TypeVar("F", bound=Fact)


class FactRecord(Protocol):
    """What a history needs of the record of a search."""

    def add(self, trial: FrozenTrial) -> None: ...
    def append(self, prefix: str, value: Any) -> None: ...
    def every(self, prefix: str) -> list[Any]: ...
    def trials(self) -> list[FrozenTrial]: ...


def recorded_facts(record: FactRecord) -> list[Fact]:
    """What a record holds, in the order in which it happened. Raises UsageError when that is something else."""
    try:
        stored = [*(trial.user_attrs for trial in record.trials()), *record.every(FACT)]
        numbered = [(fact_from_json(value), value[NUMBER]) for value in stored]
        return [fact for fact, _ in sorted(numbered, key=lambda pair: pair[1])]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"the study of this run is not a search's ({error}): give another --out") from error


class History:
    """The opening, and every fact since; none is ever changed or taken back."""

    def __init__(self, opening: Opening, record: FactRecord) -> None:
        """What earlier processes recorded is there again, in the order in which it happened. Raises UsageError when the
        record holds something else.
        """
        self.opening = opening
        self._record = record
        self._facts = recorded_facts(record)

    @property
    def facts(self) -> Sequence[Fact]:
        return self._facts

    @property
    def trials(self) -> Sequence[FrozenTrial]:
        """Every trial that ended, with its fact as an attribute."""
        return self._record.trials()

    def enter(self, fact: Fact) -> None:
        """Something happened; it is recorded before it is known."""
        self._record.append(FACT, self._stored(fact))
        self._facts.append(fact)

    def end_trial(self, fact: TrialFact, trial: FrozenTrial) -> None:
        """A trial ended; its fact is recorded as an attribute of it, together with its parameters, before it is
        known.
        """
        recorded = copy(trial)  # its other readers have no use for the fact
        recorded.user_attrs = self._stored(fact)
        self._record.add(recorded)
        self._facts.append(fact)

    def every(self, kind: type[F]) -> list[F]:
        """The facts of one kind, in order."""
        return [fact for fact in self._facts if isinstance(fact, kind)]

    def _stored(self, fact: Fact) -> dict[str, Any]:
        return {**fact_to_json(fact), NUMBER: len(self._facts)}
