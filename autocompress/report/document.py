"""The document of ``front.json``: what a run leaves for others to read."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any

from autocompress.comparison import together
from autocompress.evaluation import Evaluation, OnDevice
from autocompress.explore.history.facts import Nearest, Recommended
from autocompress.explore.opening.floor import Floor
from autocompress.explore.standings.judgement import Judgement
from autocompress.explore.standings.standings import Standings
from autocompress.group_losses import GroupLosses
from autocompress.latency import Latency
from autocompress.machine.conditions import machine
from autocompress.measure import advice
from autocompress.operator_kinds import scaled
from autocompress.profile import HardwareProfile
from autocompress.report.what_helps import what_would_help
from autocompress.score_scale import POINTS, ScoreScale
from autocompress.storage.front import SCHEMA
from autocompress.verdict import Verdict


@dataclass(frozen=True)
class Circumstances:
    """What surrounds the numbers: the profile, the seed, versions, plug-ins, wall-clock seconds, and the seconds of all
    workers by what they went into. minutes: that were given. full_epochs: of a training in full.
    """

    profile: HardwareProfile
    seed: int
    environment: dict[str, Any]
    wall_seconds: float
    spent_s: dict[str, float]
    minutes: float
    floor: Floor
    full_epochs: float


def front_document(standings: Standings, around: Circumstances) -> dict[str, Any]:
    """The document of ``front.json``, as docs/run-folder.md describes it, before the model it names is delivered."""
    judgements, chosen, scale = standings.judgements(), standings.concluded, standings.opening.scale
    recommended = chosen.id if isinstance(chosen, Recommended) else None
    nearest = chosen.id if isinstance(chosen, Nearest) else None
    document = {
        "schema": SCHEMA,
        "task": standings.opening.name,
        "profile": around.profile.name,
        "metric": standings.opening.metric,
        "maximize": scale.maximize,
        "seed": around.seed,
        "environment": around.environment,
        "budget": {
            "latency_ms": standings.budget.latency_ms,
            "speedup": standings.budget.speedup,
            "statistic": around.profile.statistic,
            "max_drop": standings.budget.allowed_drop,
            "max_class_drop": standings.budget.max_class_drop,
            "max_size_bytes": standings.budget.max_size_bytes,
            "max_memory_bytes": standings.budget.max_memory_bytes,
        },
        "status": "feasible" if recommended else "infeasible",
        "reference": {
            **_point(standings.reference, scale),
            "artifact": standings.reference.artifact,
            "slowed": standings.measured.run().slowed,
        },
        "candidates": candidate_documents(standings, judgements),
        "rejected": [
            {"recipe": r.recipe.to_json(), "reason": r.reason, "latency_ms": r.latency_ms, "ratio": r.ratio}
            for r in standings.rejected
        ],
        "failed": [
            {"recipe": f.recipe.to_json(), "strategy": f.strategy, "reason": f.reason} for f in standings.failed
        ],
        "refused": [{"strategy": r.strategy, "reason": r.reason} for r in standings.opening.refused],
        "warnings": list(standings.opening.warnings),
        "advice": _advice(standings, around.profile),
        "recommended": recommended,
        "nearest": nearest,
        "rank_correlation": standings.rank_correlation(),
        "untrained_rank_correlation": standings.untrained_rank_correlation(),
        "tried": tried(standings),
        "wall_seconds": round(around.wall_seconds, 2),
        "spent_seconds": {name: round(seconds, 2) for name, seconds in sorted(around.spent_s.items())},
        "minutes": around.minutes,
        "full_epochs": around.full_epochs,
        "operators": _operators(standings, chosen.id if chosen is not None else None),
        "compressing": sorted(standings.compressing),
        "by_class": _by_class(
            standings, next((j for j in judgements if chosen and j.evaluation.id == chosen.id), None)
        ),
        "changed": _changed(standings, recommended or nearest),
        "labels": list(standings.opening.prepared.labels),
        "scored_on": standings.opening.prepared.scored_on,
        "call_overhead_ms": standings.opening.prepared.overhead_ms,
        "floor": _floor(around.floor),
    }
    return {**document, "would_help": what_would_help(document)}


def candidate_documents(standings: Standings, judgements: Sequence[Judgement]) -> list[dict[str, Any]]:
    """Each file with all that is known of it now. judgements: of all files."""
    front, scale = {e.id for e in standings.reported_front()}, standings.opening.scale
    return [
        {
            **file_document(j.evaluation, scale),
            "train_seconds": round(_train_s(j.evaluation, standings), 2),
            "calibration": _calibration(j.evaluation, standings),
            "feasible": j.recommendable,
            "verdicts": {
                name: _verdict(verdict)
                for name, verdict in (
                    ("latency", j.latency),
                    ("drop", j.drop),
                    ("class_drop", j.classes),
                    ("size", j.size),
                    ("memory", j.memory),
                )
            },
            "loss": {"points": j.loss, "error": j.error},
            "beside": _beside(standings, j.evaluation),
            "on_device": _on_device(standings.measured.on_device.get(j.evaluation.id), scale),
            "keeps_lead": j.keeps_lead,
            "stands_alone": standings.measured.stands_alone(j.evaluation),
            "finalist": standings.is_final(j.evaluation),
            "on_front": j.evaluation.id in front,
        }
        for j in judgements
    ]


def file_document(e: Evaluation, scale: ScoreScale) -> dict[str, Any]:
    """A file as it is by itself."""
    return {
        **_point(e, scale),
        "id": e.id,
        "recipe": e.recipe.to_json(),
        "fidelity": e.epochs,
        "artifact": e.artifact,
        "elapsed_s": round(e.elapsed_s, 2),
    }


def _beside(standings: Standings, e: Evaluation) -> dict[str, dict[str, float]]:
    """What a file loses against others on the same examples, by their ids: those that it was compared with."""
    found = {one: pair for (one, other), pair in standings.measured.beside.items() if other == e.id}
    return {one: {"points": POINTS * loss, "error": POINTS * error} for one, (loss, error) in found.items()}


def tried(standings: Standings) -> int:
    """Recipes looked at: files evaluated, structures rejected, failures."""
    return len(standings.candidates()) + len(standings.rejected) + len(standings.failed)


def _train_s(evaluation: Evaluation, standings: Standings) -> float:
    """Seconds that a file's family had trained by then."""
    family = standings.families.get(evaluation.recipe.family.id)
    return sum(o.train_s for o in family.outcomes if o.epochs <= evaluation.epochs) if family else 0.0


def _calibration(evaluation: Evaluation, standings: Standings) -> dict[str, Any]:
    """What a file's structure was repaired on, as its recipe records it; nothing where it was not."""
    family = standings.families.get(evaluation.recipe.family.id)
    own = (o.calibration for o in family.outcomes if o.rung == evaluation.rung) if family else iter(())
    return next(own, {})


def _floor(floor: Floor) -> dict[str, Any] | None:
    """The fastest model that was found before the search; None without a budget. over: whether it is surely over it;
    within: whether it was not, on however busy a machine.
    """
    if floor.found is None:
        return None
    recipe, latency = floor.found
    return {
        "recipe": recipe.to_json(),
        "latency_ms": latency_document(latency),
        "over": floor.is_over,
        "within": floor.budget.excess(latency) <= 0,
    }


def _point(e: Evaluation, scale: ScoreScale) -> dict[str, Any]:
    return {
        "score": asdict(e.score.shown(scale.maximize)),
        "latency_ms": latency_document(e.latency),
        "size_bytes": e.size_bytes,
        "compressed_bytes": e.compressed_bytes,
        "memory_bytes": e.memory_bytes,
        "precision": e.precision or None,
        "params": e.params,
        "macs": e.macs,
    }


def latency_document(latency: Latency) -> dict[str, Any]:
    """Every number of a latency, with how its sessions went."""
    blocks = sum(session.blocks for session in latency.sessions)
    return {
        **{f.name: getattr(latency, f.name) for f in fields(latency) if f.name != "sessions"},
        "sessions": len(latency.sessions),
        "quiet_sessions": latency.quiet_sessions,
        "quiet_blocks": sum(session.quiet for session in latency.sessions) / max(1, blocks),
        "conditions": {
            "reference_slowed": max((session.slowed for session in latency.sessions), default=1.0),
            **asdict(together([session.conditions for session in latency.sessions], max)),
        },
    }


def _on_device(found: OnDevice | None, scale: ScoreScale) -> dict[str, Any] | None:
    """How a file did on the device elsewhere, beside this machine; None where it was not run there."""
    if found is None:
        return None
    sign = 1 if scale.maximize else -1
    return {
        "examples": found.examples,
        "output_difference": found.output_difference,
        "score_difference": None if found.score_difference is None else sign * found.score_difference,
        "error": found.error,
        "scored_there": found.score is not None,
        "failed": found.failed or None,
    }


def _changed(standings: Standings, chosen: str | None) -> dict[str, Any] | None:
    """The examples that the chosen file does worse on, and what it loses by their length; None where it was not
    looked.
    """
    found = standings.measured.by_example.get(chosen or "")
    if found is None:
        return None
    judged = next(j for j in standings.judgements() if j.evaluation.id == chosen)
    by_length = None if found.by_length is None else _groups(found.by_length, judged.loss, standings.opening.scale)
    shown = "number", "target", "reference", "own"  # pictures are in the record alone: they are the user's data
    most = [
        {**{name: getattr(example, name) for name in shown}, "loss": {"points": POINTS * example.loss}}
        for example in found.most
    ]
    counts = {name: getattr(found, name) for name in ("examples", "sampled_of", "worse", "better")}
    return {**counts, "most": most, "by_length": by_length}


def _by_class(standings: Standings, chosen: Judgement | None) -> dict[str, Any] | None:
    """What the chosen file loses in each class or group; None where it was not compared."""
    if chosen is None or chosen.by_class is None:
        return None
    return _groups(chosen.by_class, chosen.loss, standings.opening.scale)


def _groups(losses: GroupLosses, points: float, scale: ScoreScale) -> dict[str, Any]:
    """The group that lost most first; scores in the metric's own direction. points: that all examples lose. surely:
    whether a group surely loses a point more than these.
    """
    hidden = losses.hidden(points / POINTS)
    sign = 1 if scale.maximize else -1
    rows = [
        {
            "name": group.name,
            "examples": group.examples,
            "reference": sign * group.reference,
            "score": sign * group.own,
            "loss": {"points": group.points, "error": POINTS * group.error},
            "surely": group in hidden,
        }
        for group in losses.worst_first
    ]
    return {"by": losses.by, "rows": rows, "too_few": list(losses.too_few)}


def _operators(standings: Standings, chosen: str | None) -> dict[str, Any] | None:
    """Milliseconds of a call by kind of operator, of the reference and of what was chosen: their shares of a profile,
    in which each takes longer than without one, of the p50 beside them. None where the target does not tell.
    """
    files = {
        "reference": standings.reference,
        "chosen": next((e for e in standings.candidates() if e.id == chosen), None),
    }
    told: dict[str, dict[str, float]] = {}
    for name, file in files.items():
        kinds = standings.measured.operators.get(file.digest) if file is not None else None
        if file is None or not kinds:
            return None
        told[name] = scaled(kinds, file.latency.p50)
    return told


def _advice(standings: Standings, profile: HardwareProfile) -> list[str]:
    """What of this machine made the numbers worse, each with what would help; nothing of a device elsewhere."""
    if profile.elsewhere:
        return []
    sessions = [session for sessions in standings.measured.graphs.values() for session in sessions]
    quiet = sum(s.quiet for s in sessions) / max(1, sum(s.blocks for s in sessions))
    conditions = together([session.conditions for session in sessions], median)
    busy = 2 * sum(session.busy for session in sessions) > len(sessions)
    return advice(machine(), profile.threads, conditions, quiet, busy)


def _verdict(verdict: Verdict | None) -> dict[str, str] | None:
    return None if verdict is None else asdict(verdict)
