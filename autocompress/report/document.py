"""The document of ``front.json``: what a run leaves for others to read."""

from dataclasses import dataclass
from typing import Any

from autocompress.evaluation import Evaluation
from autocompress.explore.history.facts import Nearest, Recommended
from autocompress.explore.standings.standings import Standings
from autocompress.storage.front import SCHEMA


@dataclass(frozen=True)
class Circumstances:
    """What surrounds the numbers: the profile's name and statistic, the seed, versions, plug-ins, wall-clock seconds,
    and the seconds of all workers by what they went into.
    """

    profile: str
    statistic: str
    seed: int
    environment: dict[str, Any]
    wall_seconds: float
    spent_s: dict[str, float]


def front_document(standings: Standings, around: Circumstances) -> dict[str, Any]:
    """The document of ``front.json``, as the README describes it, before the model it names is delivered."""
    front = {e.id for e in standings.front()}
    candidates, chosen = standings.candidates(), standings.concluded
    recommended = chosen.id if isinstance(chosen, Recommended) else None
    nearest = chosen.id if isinstance(chosen, Nearest) else None
    return {
        "schema": SCHEMA,
        "task": standings.opening.name,
        "profile": around.profile,
        "metric": standings.opening.metric,
        "seed": around.seed,
        "environment": around.environment,
        "budget": {
            "latency_ms": standings.budget.latency_ms,
            "speedup": standings.budget.speedup,
            "statistic": around.statistic,
            "max_drop": standings.budget.max_drop,
        },
        "status": "feasible" if recommended else "infeasible",
        "reference": {**_point(standings.reference), "artifact": standings.reference.artifact},
        "candidates": [
            {
                **_point(e),
                "id": e.id,
                "recipe": e.recipe.to_json(),
                "fidelity": e.epochs,
                "feasible": standings.feasible(e),
                "on_front": e.id in front,
                "artifact": e.artifact,
                "elapsed_s": round(e.elapsed_s, 2),
            }
            for e in candidates
        ],
        "rejected": [
            {"recipe": r.recipe.to_json(), "reason": r.reason, "latency_ms": r.latency_ms, "ratio": r.ratio}
            for r in standings.rejected
        ],
        "failed": [
            {"recipe": f.recipe.to_json(), "strategy": f.strategy, "reason": f.reason} for f in standings.failed
        ],
        "refused": [{"strategy": r.strategy, "reason": r.reason} for r in standings.opening.refused],
        "warnings": list(standings.opening.warnings),
        "recommended": recommended,
        "nearest": nearest,
        "rank_correlation": standings.rank_correlation(),
        "tried": tried(standings),
        "wall_seconds": round(around.wall_seconds, 2),
        "spent_seconds": {name: round(seconds, 2) for name, seconds in sorted(around.spent_s.items())},
    }


def tried(standings: Standings) -> int:
    """Recipes looked at: files evaluated, structures rejected, failures."""
    return len(standings.candidates()) + len(standings.rejected) + len(standings.failed)


def _point(e: Evaluation) -> dict[str, Any]:
    return {
        "score": {"val": e.score.val, "val_low": e.score.val_low, "val_high": e.score.val_high, "test": e.score.test},
        "latency_ms": {
            "p50": e.latency.p50,
            "p90": e.latency.p90,
            "low": e.latency.low,
            "high": e.latency.high,
            "ratio": e.latency.ratio,
            "ratio_low": e.latency.ratio_low,
            "ratio_high": e.latency.ratio_high,
            "statistic": e.latency.statistic,
            "reliable": e.latency.reliable,
        },
        "size_bytes": e.size_bytes,
        "compressed_bytes": e.compressed_bytes,
        "params": e.params,
        "macs": e.macs,
    }
