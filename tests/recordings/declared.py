"""What is declared instead of computed: what each operation of a search gives and how long it takes, as a function of
what is asked and of a seed. It knows recipes and nothing of who asks, so any interface can be put in front of it.

Seconds are whole numbers of 1/1024, so that a sum of them is exact however it is grouped.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autocompress.comparison import TimingSession
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Applicable, Stage
from autocompress.recipe import TRAIN, Recipe, Step

from .kinds import Graph, Kind

PREPARE_S = 4.0
OTHER_EXPORTER_S = 2.0
EXPORTERS_TIMED_S = 1.0
SURVEY_S = 1.0
TRAINING_TIMED_S = 2.0
OPEN_S = OTHER_EXPORTER_S + EXPORTERS_TIMED_S + SURVEY_S + TRAINING_TIMED_S  # but for the reference's files
STRUCTURE_S = 0.25  # plan and apply
EXPORT_S = 0.5
REWRITE_S = 0.25  # one graph variant
TIMED_S = 0.375  # one session of one file
SCORED_S = 0.375  # one file on one split
DIFFERENCE_S = 0.0625  # of two files' scores
HANG = 64  # times as long as it should take
TAIL = 1.0625  # p90 over p50
CHANCE = 0.1  # what the metric gives by chance
RARE_LOSES = 8.0  # times what all lose, in the rare class
ENOUGH = 60_000  # examples after which a training has reached two thirds of what it can


@dataclass(frozen=True)
class Fault:
    """What goes wrong with recipes that have a strategy. share: of those recipes. rung: the first at which it does."""

    strategy: str
    reason: str = "RuntimeError: no such luck"
    share: float = 1.0
    rung: int = 0


@dataclass(frozen=True)
class Faults:
    """unbuilt: the structure cannot be made. untrained: the training fails. hanging: it takes far too long. unmade: the
    graph variant cannot be made. unscored: a file's outputs are not finite. clashing: after the first of the two the
    second finds nothing left to do. hindering: with both of the two a structure takes so many times as long.
    disturbed: share of the sessions. unmeasured: share of those after a
    file's first that fail. reference_disturbed: the reference's own. other_exporter: why it writes no file.
    faster_exporter: its file is faster. untested: the test split cannot be scored. undefined: share of test scores that
    are not a number. outputs_gone: no two files can be compared. fallen_elsewhere:
    the graph variant whose files score a tenth less on a device elsewhere, failing_elsewhere: do not run there.
    """

    unbuilt: tuple[Fault, ...] = ()
    untrained: tuple[Fault, ...] = ()
    hanging: tuple[Fault, ...] = ()
    unmade: tuple[Fault, ...] = ()
    unscored: tuple[Fault, ...] = ()
    clashing: tuple[tuple[str, str], ...] = ()
    hindering: tuple[tuple[str, str, float], ...] = ()
    disturbed: float = 0.0
    unmeasured: float = 0.0
    reference_disturbed: bool = False
    other_exporter: str = ""
    faster_exporter: bool = False
    untested: bool = False
    undefined: float = 0.0
    outputs_gone: bool = False
    fallen_elsewhere: str = ""
    failing_elsewhere: str = ""


@dataclass(frozen=True)
class Training:
    """examples, seconds: of this training. checkpoint: the key of its weights. hangs: it never ends by itself."""

    examples: int
    seconds: float
    checkpoint: str
    learned: Mapping[str, Any]
    hangs: bool = False


@dataclass
class Declared:
    """Answers for one task and one seed. measured: how often each graph was, as no two
    sessions are alike. sessions: how many there were."""

    kind: Kind
    seed: int = 0
    faults: Faults = Faults()
    measured: Counter[str] = field(default_factory=Counter)
    sessions: int = 0

    def plans(self, recipe: Recipe) -> tuple[dict[str, Any], ...]:
        """One for each structural step. Raises CandidateFailed naming the strategy."""
        on: list[str] = []
        for step in self._structural(recipe):
            self._fail(self.faults.unbuilt, recipe, step.strategy)
            if any((earlier, step.strategy) in self.faults.clashing for earlier in on):
                raise CandidateFailed("nothing is left to take away", step.strategy)
            on.append(step.strategy)
        steps = self._structural(recipe)
        return tuple({"units": self._number(*map(str, steps[: n + 1]))} for n in range(len(steps)))

    def macs(self, recipe: Recipe) -> int:
        """Multiply-accumulates of one call."""
        return round(self.kind.macs * self._left(recipe, "macs"))

    def params(self, recipe: Recipe) -> int:
        return round(self.kind.params * self._left(recipe, "macs"))

    def bytes_of(self, recipe: Recipe) -> int:
        graph = self._graph(recipe)
        return round(4 * self.params(recipe) * (graph.size if graph else 1.0))

    def repaired(self, recipe: Recipe) -> str | None:
        """The key of a structure's weights before any training; None where nothing of it is repaired."""
        structural = self._structural(recipe)
        if not any(self.kind.structures[step.strategy].repaired for step in structural):
            return None
        return f"repaired-{Recipe(structural).id}"

    def trains(self, recipe: Recipe) -> bool:
        """Whether a recipe has a step that trains."""
        return any(Stage.TRAIN in own.stages for own in self._own(recipe))

    def train(self, recipe: Recipe, *, rung: int, start: int, examples: int, limit_s: float | None) -> Training:
        """Train on, until the examples or the seconds are used up. Raises CandidateFailed naming the strategy."""
        for step in recipe.steps:
            self._fail(self.faults.untrained, recipe, step.strategy, rung)
        speed = self.kind.examples_s / (0.3 + 0.7 * self._left(recipe, "macs"))
        if limit_s is not None:
            examples = min(examples, int(limit_s * speed))
        hangs = any(self._has(f, recipe, step.strategy, rung) for f in self.faults.hanging for step in recipe.steps)
        learned = {
            s.strategy: {"scale": self._number(s.strategy, recipe.id)} for s in recipe.steps if s.strategy == "aware"
        }
        return Training(examples, exact(examples / speed), f"weights-{recipe.id}-{rung}-{start}", learned, hangs)

    def make(self, recipe: Recipe) -> None:
        """Write the file of a graph variant. Raises CandidateFailed naming the strategy."""
        if recipe.variant is not None:
            self._fail(self.faults.unmade, recipe, recipe.variant.strategy)

    def timing(self, recipe: Recipe, trained: bool) -> TimingSession:
        """One session of a file. trained: not of an untrained structure. Raises CandidateFailed."""
        key = f"{self.graph(recipe)} {trained}"
        number = self.measured[key] = self.measured[key] + 1
        if trained and number > 1 and self._share("unmeasured", key, number) < self.faults.unmeasured:
            raise CandidateFailed("the file opens and does not run")
        return self._timing(recipe, key, number)

    def exporters_timing(self) -> TimingSession:
        """Of the other exporter's file of the reference: just clearly faster, or just not."""
        return self._session(0.9 if self.faults.faster_exporter else 0.96, self.kind.ms, quiet=True)

    def graph(self, recipe: Recipe) -> str:
        """What the latency of a recipe's file depends on."""
        return f"{self._structure(recipe)} {recipe.variant}"

    def score(self, recipe: Recipe, rung: int, examples: int, sampled: int | None = None) -> float:
        """On the validation split or a sample of it, after so many examples in all. Raises CandidateFailed when it is
        not finite.
        """
        by = recipe.variant.strategy if recipe.variant else "export"
        if any(self._has(fault, recipe, by) for fault in self.faults.unscored):
            raise CandidateFailed("the model gives NaN or infinite outputs on the validation split")
        return self._rounded(self._score(recipe, rung, examples), sampled or self.kind.val_examples)

    def test_score(self, recipe: Recipe, rung: int, val: float) -> float:
        """On the test split, of a file with that validation score; NaN when the metric is undefined there."""
        if self._share("untold", recipe.id, rung) < self.faults.undefined:  # the words decide the number: they stay
            return math.nan
        return self._rounded(val - 0.002 + 0.003 * self._luck("test", recipe.id, rung), self.kind.test_examples)

    def difference(self, one: float, other: float) -> tuple[float, float]:
        """Of two validation scores on the same examples, with its standard error."""
        return round(one - other, 6), round(1.4 / math.sqrt(self.kind.val_examples) / 20, 6)

    def _score(self, recipe: Recipe, rung: int, examples: int) -> float:
        steps, structural = recipe.steps, self._structural(recipe)
        lost = sum(
            self.kind.structures[s.strategy].lost * self._strength(s) ** 2 * (1 + 0.3 * self._luck("choice", str(s)))
            for s in structural
        )
        graph = self._graph(recipe)
        off = graph.lost * (1 + 0.5 * self._luck("graph", recipe.id)) if graph else 0.0
        if not examples:
            damage = sum(0.05 + 0.4 * self._strength(s) for s in structural)
            damage *= 0.1 if self.repaired(recipe) else 1.0
            return self.kind.score - 2 * lost - damage * self._strength_of(structural) - off
        left = math.exp(-examples / ENOUGH)
        settings = recipe.step(TRAIN)
        lr = abs(math.log2(float(settings.values["lr"]) / 0.002)) if settings else 0.0
        taught = sum(self.kind.trained.get(s.strategy, 0.0) * (1 + 0.3 * self._luck("taught", str(s))) for s in steps)
        behind = (0.5 * lost + 0.01 + 0.003 * lr) * left
        behind += self.kind.late_luck * (1 - left) * self._share("late", recipe.id)
        return self.kind.score - lost - behind - off + taught * (1 - left) + 0.001 * self._luck("rung", recipe.id, rung)

    def _strength_of(self, structural: tuple[Step, ...]) -> float:
        return max((self._strength(s) for s in structural), default=0.0)

    def _timing(self, recipe: Recipe, key: str, number: int) -> TimingSession:
        ratio = self._left(recipe, "latency") * (1 + 0.02 * self._luck("graph time", self._structure(recipe)))
        graph = self._graph(recipe)
        ratio *= graph.latency * (1 + 0.03 * self._luck("variant", self.graph(recipe))) if graph else 1.0
        reference = self.kind.ms * (1 + 0.01 * self._luck("ms", key, number))
        if not recipe.changes:
            return self._session(1.0, self.kind.ms, quiet=not self.faults.reference_disturbed)
        ratio *= 1 + 0.01 * self._luck("ratio", key, number)
        quiet = self._share("disturbed", key, number) >= self.faults.disturbed
        if not quiet:
            ratio *= 1.08 + 0.08 * self._luck("neighbour", key, number)
        return self._session(ratio, reference, quiet=quiet)

    def _session(self, ratio: float, reference_ms: float, *, quiet: bool) -> TimingSession:
        self.sessions += 1
        ratio, p50 = round(ratio, 5), round(ratio * reference_ms, 5)
        log_ratio, slow = math.log(ratio), round(p50 * TAIL, 5)
        blocks = 20 if quiet else 2
        session = TimingSession(log_ratio, log_ratio, slow, slow, p50, slow, reference_ms, blocks, 40)
        return replace(session, at_s=float(self.sessions), seconds=TIMED_S)

    def _left(self, recipe: Recipe, what: str) -> float:
        """The share of the latency or of the multiply-accumulates that a recipe's structure has left."""
        left = 1.0
        for step in self._structural(recipe):
            own, strength = self.kind.structures[step.strategy], self._strength(step)
            if what == "latency" and own.grain:
                strength = round(strength / own.grain) * own.grain
            left *= 1 - getattr(own, what) * strength
        for one, other, times in self.faults.hindering:
            if what == "latency" and recipe.step(one) and recipe.step(other):
                left *= times
        return left

    def _strength(self, step: Step) -> float:
        """0..1, over a step's parameters that have one."""
        parameters = [p for p in self._applicable(step.strategy).parameters if p.by_strength]
        places = [(p.choices.index(step.values[p.name]) + 1) / len(p.choices) for p in parameters]
        return sum(places) / len(places) if places else 1.0

    def _graph(self, recipe: Recipe) -> Graph | None:
        return self.kind.graphs[recipe.variant] if recipe.variant is not None else None

    def _structural(self, recipe: Recipe) -> tuple[Step, ...]:
        return tuple(s for s in recipe.steps if s.strategy in self.kind.structures)

    def _structure(self, recipe: Recipe) -> str:
        return str(Recipe(self._structural(recipe)))

    def _applicable(self, strategy: str) -> Applicable:
        return next(a for a in self.kind.applicable if a.name == strategy)

    def _own(self, recipe: Recipe) -> list[Applicable]:
        return [a for a in self.kind.applicable if any(s.strategy == a.name for s in recipe.steps)]

    def _fail(self, faults: tuple[Fault, ...], recipe: Recipe, strategy: str, rung: int = 0) -> None:
        for fault in faults:
            if self._has(fault, recipe, strategy, rung):
                raise CandidateFailed(fault.reason, strategy)

    def _has(self, fault: Fault, recipe: Recipe, strategy: str, rung: int = 0) -> bool:
        chosen = self._share(fault.strategy, fault.reason, recipe.id) < fault.share
        return fault.strategy == strategy and rung >= fault.rung and chosen

    def _rounded(self, score: float, examples: int) -> float:
        """As so many examples can give it."""
        return round(max(0.1, min(1.0, score)) * examples) / max(examples, 1)

    def _luck(self, *of: object) -> float:
        """-1..1."""
        return 2 * self._share(*of) - 1

    def _share(self, *of: object) -> float:
        """0..1, the same for the same things and seed."""
        return self._number(*of) / 2**16

    def _number(self, *of: object) -> int:
        return int(hashlib.sha256(repr((self.kind.name, self.seed, *of)).encode()).hexdigest()[:4], 16)


def exact(seconds: float) -> float:
    """Seconds as a whole number of 1/1024."""
    return math.ceil(seconds * 1024) / 1024
