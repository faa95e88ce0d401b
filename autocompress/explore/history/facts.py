"""What can happen in a search, each a frozen fact, and how it is written down.

A recipe is asked for by the sampler, its structure ``Gated``, in sessions ``Timed``; then it is ``Rejected``,
``Failed`` or ``Evaluated``, the last again at each further rung. At the end finalists are ``Chosen``, graphs timed
further, files compared and tested, one file recommended.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from autocompress.changed_examples import ChangedExamples
from autocompress.comparison import TimingSession
from autocompress.evaluation import OnDevice, Outcome, Rejected
from autocompress.group_losses import GroupLosses
from autocompress.operator_kinds import OperatorKinds
from autocompress.recipe import Recipe


@dataclass(frozen=True)
class Gated:
    """A structure was timed. ratio: to the reference. macs: multiply-accumulates of one call, 0 where not counted."""

    recipe: Recipe
    ratio: float
    macs: int


@dataclass(frozen=True)
class Evaluated:
    """A family was trained, to its first rung or its next, and its files were measured."""

    recipe: Recipe
    outcome: Outcome


@dataclass(frozen=True)
class Failed:
    """A family could not be made, or not be trained on. strategy: whose fault it was, where that is known."""

    recipe: Recipe
    strategy: str | None
    reason: str


@dataclass(frozen=True)
class Timed:
    """A graph was timed in one more session."""

    graph: str
    session: TimingSession


@dataclass(frozen=True)
class Chosen:
    """From now on these families, by id, are trained in full: sessions begun after it say whether a file can be
    recommended, since nothing was chosen by them.
    """

    families: tuple[str, ...]


@dataclass(frozen=True)
class Compared:
    """Scores on the same examples. losses: by the id of a file the reference's validation score minus its own, and the
    standard error of that.
    """

    losses: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class ComparedByClass:
    """What files lose in each class or group of examples, by the id of a file."""

    losses: Mapping[str, GroupLosses]


@dataclass(frozen=True)
class ComparedByExample:
    """Which examples files do worse on than the reference, by the id of a file."""

    found: Mapping[str, ChangedExamples]


@dataclass(frozen=True)
class ComparedWith:
    """Scores on the same examples as one file, by its id. losses: by the id of another its validation score minus that
    one's, and the standard error of that.
    """

    file: str
    losses: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class ScoredOnTest:
    """Scores on the test split, by the digest of the file."""

    scores: Mapping[str, float]


@dataclass(frozen=True)
class RanOnDevice:
    """Files were run on the device that the profile names. found: by the id of the file."""

    found: Mapping[str, OnDevice]


@dataclass(frozen=True)
class Profiled:
    """Where the time of a call goes: by the digest of a file the milliseconds of each kind of operator."""

    found: Mapping[str, OperatorKinds]


@dataclass(frozen=True)
class Recommended:
    """This file was chosen, by id: it is feasible."""

    id: str


@dataclass(frozen=True)
class Nearest:
    """This file was chosen, by id: none is feasible, and it comes nearest to the budget."""

    id: str


TrialFact = Evaluated | Rejected | Failed  # what can end a trial
Conclusion = Recommended | Nearest
Fact = (
    TrialFact
    | Gated
    | Timed
    | Chosen
    | Compared
    | ComparedByClass
    | ComparedByExample
    | ComparedWith
    | ScoredOnTest
    | RanOnDevice
    | Profiled
    | Conclusion
)


def fact_to_json(fact: Fact) -> dict[str, Any]:
    """What ``fact_from_json`` makes an equal fact of."""
    match fact:
        case Evaluated(recipe, outcome):
            return {"recipe": recipe.to_json(), "outcome": outcome.to_json()}
        case Rejected(recipe, reason, latency_ms, ratio):
            rejected = {"reason": reason, "latency_ms": latency_ms, "ratio": ratio}
            return {"recipe": recipe.to_json(), "rejected": rejected}
        case Failed(recipe, strategy, reason):
            return {"recipe": recipe.to_json(), "failed": {"strategy": strategy, "reason": reason}}
        case Gated(recipe, ratio, macs):
            return {"recipe": recipe.to_json(), "gate": {"ratio": ratio, "macs": macs}}
        case Timed(graph, session):
            return {"timed": graph, "session": asdict(session)}
        case Chosen(families):
            return {"chosen": list(families)}
        case Compared(losses):
            return {"losses": {name: list(pair) for name, pair in losses.items()}}
        case ComparedWith(file, losses):
            return {"beside": file, "differences": {name: list(pair) for name, pair in losses.items()}}
        case ComparedByExample(of_examples):
            return {"by_example": {name: changed.to_json() for name, changed in of_examples.items()}}
        case ComparedByClass(of_classes):
            return {"by_class": {name: losses.to_json() for name, losses in of_classes.items()}}
        case ScoredOnTest(scores):
            return {"tests": dict(scores)}
        case RanOnDevice(found):
            return {"on_device": {name: asdict(one) for name, one in found.items()}}
        case Profiled(kinds):
            return {"operators": {digest: dict(of_one) for digest, of_one in kinds.items()}}
        case Recommended(chosen):
            return {"conclusion": {"recommended": chosen}}
        case Nearest(chosen):
            return {"conclusion": {"nearest": chosen}}


def fact_from_json(value: Mapping[str, Any]) -> Fact:
    """Raises ValueError for what is no fact."""
    match value:
        case {"recipe": recipe, "outcome": outcome}:
            return Evaluated(Recipe.from_json(recipe), Outcome.from_json(outcome))
        case {"recipe": recipe, "rejected": rejected}:
            return Rejected(Recipe.from_json(recipe), **rejected)
        case {"recipe": recipe, "failed": failed}:
            return Failed(Recipe.from_json(recipe), **failed)
        case {"recipe": recipe, "gate": gate}:
            return Gated(Recipe.from_json(recipe), **gate)
        case {"timed": str(graph), "session": session}:
            return Timed(graph, TimingSession.from_json(session))
        case {"chosen": families}:
            return Chosen(tuple(families))
        case {"losses": losses}:
            return Compared({name: (loss, error) for name, (loss, error) in losses.items()})
        case {"beside": str(file), "differences": losses}:
            return ComparedWith(file, {name: (loss, error) for name, (loss, error) in losses.items()})
        case {"by_example": found}:
            return ComparedByExample({name: ChangedExamples.from_json(changed) for name, changed in found.items()})
        case {"by_class": found}:
            return ComparedByClass({name: GroupLosses.from_json(losses) for name, losses in found.items()})
        case {"tests": scores}:
            return ScoredOnTest(scores)
        case {"on_device": found}:
            return RanOnDevice({name: OnDevice.from_json(one) for name, one in found.items()})
        case {"operators": kinds}:
            return Profiled(kinds)
        case {"conclusion": {"recommended": str(chosen)}}:
            return Recommended(chosen)
        case {"conclusion": {"nearest": str(chosen)}}:
            return Nearest(chosen)
    raise ValueError(f"no fact of a search: {', '.join(value) or 'nothing'}")
