"""All that a search knows: families, what the gate rejected, what failed, what was measured. Kept in the record as
it happens.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from autocompress.budget import Budget
from autocompress.candidate.evaluate import Evaluation, Latency, Outcome, Rejected
from autocompress.candidate.opening import Opening
from autocompress.explore.front import Point, hypervolume, pareto
from autocompress.explore.rungs import rank_correlation
from autocompress.plugin.contract import Applicable, Refusal
from autocompress.recipe import Recipe, Step
from autocompress.run.record import Record

ALWAYS_SLOWER = 3  # families in which a graph variant was slower, after which it is not made any more


@dataclass(frozen=True)
class Failed:
    recipe: Recipe
    strategy: str | None
    reason: str


@dataclass
class Family:
    """One trained structure over its rungs. examples: seen in training so far. train_s: seconds that took."""

    recipe: Recipe
    outcomes: list[Outcome] = field(default_factory=list)
    examples: int = 0
    train_s: float = 0.0

    @property
    def id(self) -> str:
        return self.recipe.id

    @property
    def rung(self) -> int:
        return len(self.outcomes) - 1

    @property
    def trains(self) -> bool:
        return self.outcomes[-1].checkpoint is not None

    @property
    def evaluations(self) -> list[Evaluation]:
        return [e for outcome in self.outcomes for e in outcome.evaluations]

    @property
    def seconds_per_example(self) -> float:
        return self.train_s / max(self.examples, 1)


@dataclass
class Ledger:
    """What is known. ``final`` holds the last measurement of a file by its id, ``repeats`` further ones of the graph
    that a recipe makes, ``tests`` test scores by artifact digest.
    """

    opening: Opening
    budget: Budget
    families: dict[str, Family] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    final: dict[str, Latency] = field(default_factory=dict)
    repeats: dict[Recipe, list[Latency]] = field(default_factory=dict)
    tests: dict[str, float] = field(default_factory=dict)
    recommended: str | None = None
    nearest: str | None = None

    def add(self, recipe: Recipe, outcome: Outcome) -> Family:
        """Enter what evaluating a family gave, as its first rung or its next."""
        family = self.families.setdefault(recipe.id, Family(recipe))
        family.outcomes.append(outcome)
        family.examples += outcome.examples
        family.train_s += outcome.train_s
        self.rejected += outcome.slower
        self.failed += [Failed(*failure) for failure in outcome.failed]
        return family

    def slower_variants(self, family: Recipe) -> tuple[Step, ...]:
        """Graph variants that would be slower than the float file of this family too: they were at an earlier rung, or
        in every family that was trained so far, of three at least.
        """
        trained = [outcome for f in self.families.values() for outcome in f.outcomes]
        slower: dict[Step, set[str]] = {}
        for rejected in (r for outcome in trained for r in outcome.slower):
            if rejected.recipe.variant is not None:
                slower.setdefault(rejected.recipe.variant, set()).add(rejected.recipe.family.id)
        useful = {e.recipe.variant for outcome in trained for e in outcome.evaluations}
        return tuple(
            variant
            for variant, families in slower.items()
            if family.id in families or (len(families) >= ALWAYS_SLOWER and variant not in useful)
        )

    def repeat(self, recipe: Recipe, latency: Latency) -> None:
        """Enter a further measurement of a graph."""
        self.repeats.setdefault(recipe, []).append(latency)

    def expected(self, evaluation: Evaluation) -> Latency:
        """How long a candidate's graph takes, by all sound measurements of it over the rungs: the one with the middle
        ratio. It decides where time goes; what is reported of a file was measured on that file.
        """
        family = self.families.get(evaluation.recipe.family.id)
        same = [e.latency for e in family.evaluations if e.recipe == evaluation.recipe] if family else []
        found = [m for m in (*same, *self.repeats.get(evaluation.recipe, ())) if m.reliable]
        ordered = sorted(found, key=lambda latency: latency.ratio)
        return ordered[len(ordered) // 2] if ordered else evaluation.latency

    @property
    def reference(self) -> Evaluation:
        return self._current(self.opening.reference)

    def candidates(self) -> list[Evaluation]:
        """Every evaluated file at its latest measurement, the reference first."""
        mine = [*self.opening.reference_family.evaluations, *(e for f in self.families.values() for e in f.evaluations)]
        return [self.reference, *map(self._current, mine)]

    def _current(self, evaluation: Evaluation) -> Evaluation:
        score = replace(evaluation.score, test=self.tests.get(evaluation.digest))
        return replace(evaluation, latency=self.final.get(evaluation.id, evaluation.latency), score=score)

    def front(self) -> list[Evaluation]:
        """The candidates nothing dominates, the fastest first; unreliable measurements are left out."""
        sound = [e for e in self.candidates() if e.latency.reliable]
        return [sound[i] for i in pareto([point(e) for e in sound])]

    def feasible(self, evaluation: Evaluation) -> bool:
        """Whether a candidate meets the budget and keeps enough score."""
        return (
            evaluation.latency.reliable
            and self.budget.excess(evaluation.latency) <= 0
            and self.budget.allows_score(evaluation.score.val, self.opening.reference.score.val)
        )

    @property
    def steering(self) -> Budget:
        """The budget that decides where time is spent: none when the reference itself is within it, so that the
        front is explored.
        """
        slack = self.budget.bounded and self.budget.excess(self.opening.reference.latency) <= 0
        return Budget(max_drop=self.budget.max_drop) if slack else self.budget

    def best_of(self, evaluations: Sequence[Evaluation]) -> Evaluation:
        """Of a family's files the most accurate within the budget, else the fastest; without a budget the one that
        adds most hypervolume.
        """
        ids = {e.id for e in evaluations}
        evaluations = [self._current(e) for e in evaluations]
        within = [e for e in evaluations if self.steering.bounded and self.steering.excess(self.expected(e)) <= 0]
        if within:
            return max(within, key=lambda e: e.score.val)
        if self.steering.bounded:
            return min(evaluations, key=lambda e: self.expected(e).ratio)
        others = [point(e) for e in self.candidates() if e.id not in ids]
        reference = self.opening.reference.score.val
        return max(evaluations, key=lambda e: (hypervolume([*others, point(e)], reference), e.score.val))

    def contending(self) -> list[Family]:
        """The trained families worth more training: those within the budget, as long as there are any."""
        stuck = {f.recipe.id for f in self.failed}  # a promotion that failed fails again
        trained = [f for f in self.families.values() if f.trains and f.id not in stuck]
        within = [f for f in trained if self.steering.excess(self.expected(self.best_of(f.evaluations))) <= 0]
        return within or trained

    def rank_correlation(self) -> float | None:
        """Between the scores of families at their first and their last rung; low means the first rung is too short."""
        further = [f for f in self.families.values() if f.rung > 0]
        first = {f.id: self.best_of(f.outcomes[0].evaluations).score.val for f in further}
        last = {f.id: self.best_of(f.outcomes[-1].evaluations).score.val for f in further}
        return rank_correlation(first, last)

    def clipped(self, evaluation: Evaluation) -> Point:
        """A candidate's point for deciding where to spend time: within the budget, faster is not better."""
        target = self.steering.ratio(self.opening.reference.latency.statistic)
        latency = self.expected(evaluation)
        ratio = latency.ratio
        if target is not None and self.steering.excess(latency) <= 0:
            ratio = target
        return evaluation.score.val, ratio

    def best_feasible(self) -> Evaluation | None:
        return max((e for e in self.candidates() if self.feasible(e)), key=lambda e: e.score.val, default=None)


def point(evaluation: Evaluation) -> Point:
    return evaluation.score.val, evaluation.latency.ratio


def opening_to_json(opening: Opening) -> dict[str, Any]:
    """The opening without what the strategies say of themselves, which is asked anew."""
    return {
        **asdict(opening),
        "reference": opening.reference.to_json(),
        "reference_family": opening.reference_family.to_json(),
        "applicable": [],
        "refused": [asdict(r) for r in opening.refused],
    }


def opening_from_json(value: dict[str, Any]) -> Opening:
    applicable: tuple[Applicable, ...] = ()
    return Opening(
        **{
            **value,
            "reference": Evaluation.from_json(value["reference"]),
            "reference_family": Outcome.from_json(value["reference_family"]),
            "applicable": applicable,
            "refused": tuple(Refusal(**r) for r in value["refused"]),
            "warnings": tuple(value["warnings"]),
        }
    )


def restore(ledger: Ledger, record: Record) -> None:
    """Bring back what an earlier process recorded."""
    for trial in record.trials():
        _restore(ledger, trial.user_attrs)
    for event in record.every("event"):
        _restore(ledger, event)
    for stored in record.every("final"):
        ledger.final |= {key: Latency(**value) for key, value in stored.items()}
    for stored in record.every("repeat"):
        ledger.repeat(Recipe.from_json(stored["recipe"]), Latency(**stored["latency"]))
    ledger.tests = dict(record.get("tests", {}))
    ledger.recommended = record.get("recommended")
    ledger.nearest = record.get("nearest")


def _restore(ledger: Ledger, stored: dict[str, Any]) -> None:
    recipe = Recipe.from_json(stored["recipe"])
    if "outcome" in stored:
        ledger.add(recipe, Outcome.from_json(stored["outcome"]))
    elif "rejected" in stored:
        ledger.rejected.append(Rejected(recipe, **stored["rejected"]))
    elif "failed" in stored:
        ledger.failed.append(Failed(recipe, **stored["failed"]))
