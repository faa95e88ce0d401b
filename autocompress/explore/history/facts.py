"""What can happen in a search, each a frozen fact, and how it is written down.

A recipe is asked for by the sampler, its structure ``Gated``; then it is ``Rejected``, ``Failed`` or ``Evaluated``, the
last again at each further rung. At the end graphs and files are measured anew, files tested, one chosen.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from autocompress.evaluation import Outcome, Rejected
from autocompress.latency import Latency
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
class RepeatMeasured:
    """The graph that a recipe makes was timed once more."""

    recipe: Recipe
    latency: Latency


@dataclass(frozen=True)
class FinalMeasured:
    """The last measurements of files, by their ids. kept: earlier ones, of files that could not be measured again."""

    latencies: Mapping[str, Latency]
    kept: Mapping[str, Latency] = field(default_factory=dict)


@dataclass(frozen=True)
class MeasurableAgain:
    """Another process goes on: what was ``kept`` of files until now counts no more, they are measured again."""


@dataclass(frozen=True)
class ScoredOnTest:
    """Scores on the test split, by the digest of the file."""

    scores: Mapping[str, float]


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
Fact = TrialFact | Gated | RepeatMeasured | FinalMeasured | MeasurableAgain | ScoredOnTest | Conclusion


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
        case RepeatMeasured(recipe, latency):
            return {"recipe": recipe.to_json(), "repeat": asdict(latency)}
        case FinalMeasured(latencies, kept):
            return {"final": _latencies_to_json(latencies), "kept": _latencies_to_json(kept)}
        case MeasurableAgain():
            return {"measurable_again": True}
        case ScoredOnTest(scores):
            return {"tests": dict(scores)}
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
        case {"recipe": recipe, "repeat": latency}:
            return RepeatMeasured(Recipe.from_json(recipe), Latency(**latency))
        case {"final": latencies, "kept": kept}:
            return FinalMeasured(_latencies_from_json(latencies), _latencies_from_json(kept))
        case {"measurable_again": True}:
            return MeasurableAgain()
        case {"tests": scores}:
            return ScoredOnTest(scores)
        case {"conclusion": {"recommended": str(chosen)}}:
            return Recommended(chosen)
        case {"conclusion": {"nearest": str(chosen)}}:
            return Nearest(chosen)
    raise ValueError(f"no fact of a search: {', '.join(value) or 'nothing'}")


def _latencies_to_json(latencies: Mapping[str, Latency]) -> dict[str, Any]:
    return {name: asdict(latency) for name, latency in latencies.items()}


def _latencies_from_json(value: Mapping[str, Any]) -> dict[str, Latency]:
    return {name: Latency(**latency) for name, latency in value.items()}
