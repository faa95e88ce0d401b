"""One file of a search with all that was measured of it, as ``front.json`` holds it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from autocompress.evaluation import Score
from autocompress.recipe import Recipe
from autocompress.verdict import Verdict

V = TypeVar("V")


@dataclass(frozen=True)
class FileLatency:
    """Milliseconds of one call, and ratios to the reference's time, below 1 is faster.

    statistic: the profile's percentile; low, high: 95 % interval of it; next_low, next_high: where the next session
    will lie. ratio_low to ratio_next_high: the same of the ratio. ratio_of_all: what a machine as busy as this one
    makes of the file between its waits for a processor. sessions: in which it was timed; quiet_sessions: those on a
    quiet machine. None: an earlier version did not say.
    """

    p50: float
    p90: float
    statistic: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    next_low: float | None = None
    next_high: float | None = None
    ratio_next_low: float | None = None
    ratio_next_high: float | None = None
    ratio_of_all: float | None = None
    sessions: int | None = None
    quiet_sessions: int | None = None


@dataclass(frozen=True)
class ScoreLoss:
    """points: of score (hundredths of the metric's unit) below the reference; error: their standard error."""

    points: float
    error: float


@dataclass(frozen=True, repr=False)
class MeasuredFile:
    """One ONNX file of a search. Each field is the key of a candidate in ``front.json``, which holds more.

    score: in the metric's own direction. fidelity: epochs that it was trained for. train_seconds: of its family, by
    then. feasible: may be recommended. verdicts: by limit (``latency``, ``drop``, ``class_drop``, ``size``,
    ``memory``), None where there is no such limit. loss: None where it was not compared. macs: multiply-accumulates of
    one call. precision: the number format that it computes in, such as ``int8 static``. artifact: the file, relative to
    the run folder. elapsed_s: seconds into the search when it was measured.
    """

    id: str
    recipe: Recipe
    score: Score
    latency_ms: FileLatency
    size_bytes: int
    compressed_bytes: int
    params: int
    macs: int
    artifact: str
    precision: str | None = None
    memory_bytes: int | None = None
    fidelity: float = 0.0
    train_seconds: float | None = None
    elapsed_s: float = 0.0
    loss: ScoreLoss | None = None
    feasible: bool = False
    on_front: bool = False
    finalist: bool = False
    verdicts: Mapping[str, Verdict | None] = field(default_factory=dict, hash=False)

    def __repr__(self) -> str:
        score, ms = f"score {self.score.val:.4g}", f"{self.latency_ms.statistic:.4g} ms"
        return f"MeasuredFile({self.id!r}: {self.techniques}, {score}, {ms}, {self.speedup:.2f}x)"

    @property
    def speedup(self) -> float:
        """Times faster than the reference."""
        return 1 / self.latency_ms.ratio

    @property
    def techniques(self) -> str:
        """The strategies of its recipe, in order: ``prune_channels+distill_logits``."""
        return self.recipe.techniques()

    @classmethod
    def of(cls, candidate: Mapping[str, Any]) -> "MeasuredFile":
        """Of a candidate of ``front.json``, or of the reference there, which has no recipe."""
        known = {"id": "reference", "recipe": [], **candidate}
        loss, verdicts = known.get("loss"), known.get("verdicts") or {}
        made = {
            "recipe": Recipe.from_json(known["recipe"]),
            "score": _made_of(Score, known["score"]),
            "latency_ms": _made_of(FileLatency, known["latency_ms"]),
            "loss": loss and _made_of(ScoreLoss, loss),
            "verdicts": {limit: verdict and _made_of(Verdict, verdict) for limit, verdict in verdicts.items()},
        }
        return _made_of(cls, {**known, **made})


def _made_of(kind: type[V], values: Mapping[str, Any]) -> V:
    """A dataclass of those values that it has a field for."""
    return kind(**{f.name: values[f.name] for f in fields(kind) if f.name in values})  # type: ignore[arg-type]
