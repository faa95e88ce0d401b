"""The openings that are recorded, operation by operation, and what is kept of one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autocompress.budget import Budget
from autocompress.candidate.preparation import Preparation
from autocompress.candidate.request import FamilyFiles, MakeRequest, ModelFile, Sample
from autocompress.explore.opening.opener import Opened
from autocompress.latency import Latency
from autocompress.measure import CompareRequest

from . import kinds
from .declared import Fault, Faults
from .entries import Entry
from .scenarios import Process, Scenario, Stop

ONE, TWO = (Process(5),), (Process(5), Process(5))
OTHER_EXPORTER = Faults(faster_exporter=True, unmade=(Fault("squash"),))

OPENINGS = (
    Scenario("cnn", kinds.CNN, (Process(20), Process(20))),
    Scenario("named_strategies", kinds.CNN, ONE, strategies=("carve", "halve", "squeeze")),
    Scenario("rnn", kinds.RNN, ONE, Budget(latency_ms=0.4), faults=Faults(reference_disturbed=True)),
    Scenario("transformer", kinds.TRANSFORMER, TWO, Budget(speedup=3)),
    Scenario("untested", kinds.UNTESTED, TWO, Budget(speedup=3), faults=OTHER_EXPORTER),
    Scenario("untrained", kinds.UNTRAINED, ONE, Budget(speedup=2.5), faults=Faults(other_exporter="no such operator")),
    Scenario("infeasible", kinds.UNTRAINED, TWO, Budget(speedup=500), faults=Faults(unbuilt=(Fault("drop"),))),
    Scenario("one_structural", kinds.ONE, ONE, Budget(speedup=2), faults=Faults(unscored=(Fault("squeeze"),))),
    Scenario("few_choices", kinds.FEW, (Process(4, stop=Stop("open", 1, "crashed")), Process(4)), Budget(speedup=1.2)),
    Scenario("unscored", kinds.FEW, ONE, faults=Faults(unscored=(Fault("export"),))),
)


def operation(method: str, args: Sequence[Any], limit_s: float | None) -> Entry:
    """What was asked for, in plain values; ``call`` is the operation."""
    return {"call": method, **_ARGUMENTS[method](*args), "limit_s": limit_s}


def result(opened: Opened, elapsed_s: float) -> Mapping[str, Any]:
    """What is known once a task is open. A file: recipe, score, latency ratio, its interval, statistic in ms, quiet
    sessions."""
    opening, floor = opened.opening, opened.floor.found
    files = [(e.recipe, e.score.val, e.latency) for e in (opening.reference, *opening.reference_family.evaluations)]
    return {
        "exporter": opening.prepared.export_note,
        "applicable": [own.name for own in opening.applicable],
        "refused": [[own.strategy, own.reason] for own in opening.refused],
        "ratios": [[str(step), ratio] for step, ratio in opened.pipeline.ratios if ratio < float("inf")],
        "floor": floor and [str(floor[0]), *_timed(floor[1])],
        "files": [[str(recipe), score, *_timed(latency)] for recipe, score, latency in files],
        "warnings": list(opening.warnings),
        "wall_seconds": elapsed_s,
    }


def _timed(latency: Latency) -> list[Any]:
    return [latency.ratio, latency.ratio_low, latency.ratio_high, latency.statistic, latency.quiet_sessions]


def _make(request: MakeRequest) -> Entry:
    return {
        "recipe": str(request.recipe),
        "exporter": request.exporter,
        "variants": list(map(str, request.variants)),
        "trained": isinstance(request, FamilyFiles),
        "source": request.source and request.source.path,
        "rung": request.rung if isinstance(request, FamilyFiles) else None,
    }


def _compare(request: CompareRequest) -> Entry:
    return {
        "file": _short(request.candidate),
        "beside": _short(request.reference),
        "feeds": request.feeds,
        "seconds": request.seconds,
    }


def _score(files: Sequence[ModelFile], sample: Sample | None) -> Entry:
    return {"files": [_short(Path(file.path)) for file in files], "sampled": sample and sample.examples}


def _opened(prepared: Preparation, only: Sequence[str] | None) -> Entry:
    return {"exporter": prepared.exporter, "reference": prepared.reference.digest, "only": only and list(only)}


def _short(path: Path) -> str:
    return "/".join(path.parts[-2:])


_ARGUMENTS = {
    "prepare": lambda known, only: {"known": known is not None, "only": only},
    "other_reference": lambda exporter: {"exporter": exporter},
    "survey": lambda only: {"only": only},
    "time_training": dict,
    "opened": _opened,
    "make": _make,
    "compare": _compare,
    "score": _score,
    "operators": lambda file, feeds: {"file": "/".join(file.parts[-2:]), "feeds": feeds},
    "chance": lambda outputs: {"outputs": outputs},
    "sharing": lambda calls: {"most": calls},
    "shared": dict,
}
