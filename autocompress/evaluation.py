"""What measuring one model gave: its score with an interval, its latency, its size."""

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from autocompress.latency import Latency
from autocompress.recipe import Plan, Recipe

NORMAL = 1.959964  # standard deviations of a normal distribution that hold 95 %


@dataclass(frozen=True)
class Score:
    """In the metric's own unit, turned round where lower values are better, so that higher is better here; ``shown`` is
    the metric's own. val_low, val_high: 95 % interval over the validation examples.

    sampled: the number of validation examples that it was told from, as the difference from the reference on the same
    ones; None where it is the metric of all of them.
    """

    val: float
    val_low: float
    val_high: float
    test: float | None = None
    sampled: int | None = None

    @property
    def error(self) -> float:
        """The standard error of ``val``, of which its interval has 1.96 on either side."""
        return (self.val_high - self.val_low) / 2 / NORMAL

    @property
    def whole(self) -> bool:
        """Whether it is of all validation examples: nothing else is on the front."""
        return self.sampled is None

    def shown(self, maximize: bool) -> "Score":
        """As the metric itself has it, for documents and people. maximize: whether higher values of it are better."""
        if maximize:
            return self
        return Score(-self.val, -self.val_high, -self.val_low, None if self.test is None else -self.test, self.sampled)


@dataclass(frozen=True)
class Chance:
    """What the metric gives where outputs have nothing to do with targets, and the standard deviation of that."""

    score: float
    error: float


@dataclass(frozen=True)
class OnDevice:
    """A file run on a device elsewhere, beside this machine, on the same validation examples.

    examples: how many, spread over the split. output_difference: of the largest output here, how far those there are
    from those here at most. score_difference: the metric there minus that here, higher is better, in the metric's unit,
    error: its standard error; None where the metric cannot be told from so few. Of a file that loses on them, score: on
    the whole split there; loss: the reference's minus it on the same examples, with the standard error; outputs: store
    key of its outputs there. failed: why it cannot be used there; empty where it can.
    """

    examples: int = 0
    output_difference: float = 0.0
    score_difference: float | None = None
    error: float | None = None
    score: Score | None = None
    loss: tuple[float, float] | None = None
    outputs: str = ""
    failed: str = ""

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "OnDevice":
        """Of what ``asdict`` gives."""
        score, loss = value["score"], value["loss"]
        return cls(
            **{
                **value,
                "score": None if score is None else Score(**score),
                "loss": None if loss is None else (loss[0], loss[1]),
            }
        )


def keeps_half_the_lead(score: float, reference: Score, chance: Chance | None) -> bool:
    """Whether a file keeps at least half of what the reference is ahead of chance; higher scores are better.

    Always so when chance is unknown, and when the reference's lead is within its error: the lower half of its 95 %
    interval and 1.96 standard deviations of chance, added as independent errors are.
    """
    if chance is None:
        return True
    lead = reference.val - chance.score
    error = math.hypot(reference.val - reference.val_low, NORMAL * chance.error)
    return not lead > error or score >= chance.score + lead / 2


@dataclass(frozen=True)
class Evaluation:
    """One ONNX file: the recipe that made it and what was measured on it."""

    id: str
    recipe: Recipe
    epochs: float
    rung: int
    score: Score
    latency: Latency
    size_bytes: int
    compressed_bytes: int  # of the file, deflated: what zeros and repeated weights save
    params: int
    macs: int
    artifact: str
    digest: str
    graph: str  # digest of its operators, shapes and types, on which latency depends
    outputs: str  # store key of its validation outputs, for paired comparison
    elapsed_s: float = 0.0
    memory_bytes: int | None = None  # that it takes on the target, where the profile limits it
    precision: str = ""  # the number format it computes in, as its graph has it; empty where nobody looked

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "recipe": self.recipe.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Evaluation":
        return cls(
            **{
                **value,
                "recipe": Recipe.from_json(value["recipe"]),
                "score": Score(**value["score"]),
                "latency": Latency.from_json(value["latency"]),
            }
        )

    def at(self, elapsed_s: float) -> "Evaluation":
        return replace(self, elapsed_s=elapsed_s)


@dataclass(frozen=True)
class Rejected:
    """What was timed and not scored: a structure over the budget, a graph variant no faster than its own source, a file
    too slow to add anything to the front.

    latency_ms: the profile's statistic. ratio: to the reference, timed beside it.
    """

    recipe: Recipe
    reason: str
    latency_ms: float
    ratio: float

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "recipe": self.recipe.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Rejected":
        return cls(**{**value, "recipe": Recipe.from_json(value["recipe"])})


@dataclass(frozen=True)
class Outcome:
    """All that evaluating one family gave: a file for each graph variant that was worth scoring. rung: of its training;
    finalists go on from the last one.
    """

    evaluations: tuple[Evaluation, ...] = ()
    rung: int = 0
    slower: tuple[Rejected, ...] = ()
    hopeless: tuple[Rejected, ...] = ()  # timed, and so slow that no score could bring them onto the front
    failed: tuple[tuple[Recipe, str, str], ...] = ()  # recipe, strategy, reason
    plans: tuple[Plan, ...] = ()
    checkpoint: str | None = None
    learned: dict[str, Any] = field(default_factory=dict)  # by strategy, beside the weights
    epochs: float = 0.0
    train_s: float = 0.0
    examples: int = 0  # of this rung
    calibration: dict[str, Any] = field(default_factory=dict)  # what the structure was repaired on

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "evaluations": [e.to_json() for e in self.evaluations],
            "slower": [s.to_json() for s in self.slower],
            "hopeless": [s.to_json() for s in self.hopeless],
            "failed": [[recipe.to_json(), strategy, reason] for recipe, strategy, reason in self.failed],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Outcome":
        return cls(
            **{
                **value,
                "evaluations": tuple(Evaluation.from_json(e) for e in value["evaluations"]),
                "slower": tuple(map(Rejected.from_json, value["slower"])),
                "hopeless": tuple(map(Rejected.from_json, value["hopeless"])),
                "failed": tuple(
                    (Recipe.from_json(recipe), strategy, reason) for recipe, strategy, reason in value["failed"]
                ),
                "plans": tuple(value["plans"]),
            }
        )
