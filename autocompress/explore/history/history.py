"""What happened in a search, in order, kept in the record as it happens. What follows from it is in standings.py."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from optuna.trial import FrozenTrial

from autocompress.errors import UsageError
from autocompress.explore.history.facts import Fact, TrialFact, fact_from_json, fact_to_json
from autocompress.explore.opening.opening import Opening

FACT = "fact"

F = TypeVar("F", bound=Fact)


class FactRecord(Protocol):
    """What a history needs of the record of a search."""

    def append(self, prefix: str, value: Any) -> None: ...
    def every(self, prefix: str) -> list[Any]: ...
    def trials(self) -> list[FrozenTrial]: ...


class History:
    """The opening, and every fact since; none is ever changed or taken back."""

    def __init__(self, opening: Opening, record: FactRecord) -> None:
        """What earlier processes recorded is there again: what ended the trials, then the other facts, in their order.
        Raises UsageError when the record holds something else.
        """
        self.opening = opening
        self._record = record
        try:
            self._facts = [fact_from_json(trial.user_attrs) for trial in record.trials()]
            self._facts += map(fact_from_json, record.every(FACT))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"the study of this run is not a search's ({error}): give another --out") from error

    @property
    def facts(self) -> Sequence[Fact]:
        return self._facts

    def enter(self, fact: Fact) -> None:
        """Something happened; it is recorded before it is known."""
        self._record.append(FACT, fact_to_json(fact))
        self._facts.append(fact)

    def enter_trial(self, fact: TrialFact) -> None:
        """A trial ended; the sampler records it, as its attributes, together with its parameters."""
        self._facts.append(fact)

    def every(self, kind: type[F]) -> list[F]:
        """The facts of one kind, in order."""
        return [fact for fact in self._facts if isinstance(fact, kind)]
