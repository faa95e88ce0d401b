"""All that a search knows: families, what the gate rejected, what failed, what was measured. Kept in the record as
it happens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any

from autocompress.budget import Budget
from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.preparation import Preparation
from autocompress.candidate.request import ModelFile
from autocompress.evaluation import Evaluation, Outcome, Rejected
from autocompress.explore.front import WITHIN, Point, best_first, hypervolume, pareto
from autocompress.explore.opening import Opening
from autocompress.explore.rungs import rank_correlation
from autocompress.latency import Latency
from autocompress.measure import settled
from autocompress.plugin.contract import Refusal
from autocompress.recipe import Recipe, Step
from autocompress.storage.record import Record

ALWAYS_SLOWER = 3  # families in which a graph variant was slower, after which it is not made any more
FINALISTS_KEPT = 8  # families whose weights stay in the store whatever its size
POOLED = 300  # families that may be trained on, at most; the worst of more than that are out of it
SLACK = 100  # more than that, before the worst are told apart


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
        return self.outcomes[-1].rung

    @property
    def trains(self) -> bool:
        return self.outcomes[-1].checkpoint is not None

    @property
    def evaluations(self) -> list[Evaluation]:
        return [e for outcome in self.outcomes for e in outcome.evaluations]


@dataclass(frozen=True)
class Standing:
    """How a family stands among the others. latest, best: of the files of its last rung and of all its rungs the one
    that counts, with their points for deciding where to spend time. excess: how far ``best`` is expected to be over the
    budget that steers, as a share of it.
    """

    latest: Evaluation
    best: Evaluation
    latest_point: Point
    best_point: Point
    excess: float

    @property
    def within(self) -> bool:
        return self.excess <= 0


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

    def __post_init__(self) -> None:
        # What is derived of the above, so that a search of thousands of families does not count them anew each time.
        self._standings: dict[str, Standing] = {}
        self._ended: set[Recipe] = set()
        self._stuck: set[str] = set()
        self._slower: dict[Step, set[str]] = {}
        self._useful = {e.recipe.variant for e in self.opening.reference_family.evaluations if e.recipe.variant}
        self._front: list[Evaluation] | None = None
        self._claimed: list[Evaluation] | None = None  # the front with disturbed measurements taken at their word
        self._pool: dict[str, Family] = {}  # of the families that may be trained on
        self._ordered: list[Family] | None = None  # the contenders, the best first
        self.files = 1 + len(self.opening.reference_family.evaluations)  # evaluated
        self.trained_on: list[Family] = []  # those that were trained more than once
        self._lossless: float | None = None
        own = [self.opening.reference, *self.opening.reference_family.evaluations]
        self._lossless = min((e.latency.ratio_high for e in own if self._loses_nothing(e)), default=None)

    def add(self, recipe: Recipe, outcome: Outcome) -> Family:
        """Enter what evaluating a family gave, as its first rung or its next."""
        family = self.families.setdefault(recipe.id, Family(recipe))
        family.outcomes.append(outcome)
        family.examples += outcome.examples
        family.train_s += outcome.train_s
        self.files += len(outcome.evaluations)
        if len(family.outcomes) == 2:
            self.trained_on.append(family)
        self.rejected += (*outcome.slower, *outcome.hopeless)
        self.failed += [Failed(*failure) for failure in outcome.failed]
        self._ended.add(recipe)
        self._stuck |= {failure[0].id for failure in outcome.failed if failure[0] == recipe}
        for rejected in outcome.slower:
            if rejected.recipe.variant is not None:
                self._slower.setdefault(rejected.recipe.variant, set()).add(recipe.id)
        self._useful |= {e.recipe.variant for e in outcome.evaluations if e.recipe.variant}
        lossless = [e.latency.ratio_high for e in outcome.evaluations if self._loses_nothing(e)]
        self._lossless = min((r for r in (self._lossless, *lossless) if r is not None), default=None)
        if any(not e.latency.reliable for e in family.evaluations):  # what is known of them may have changed
            self._front = self._claimed = None
        if self._front is not None:
            self._front = _front([*self._front, *map(self._current, outcome.evaluations)])
        if self._claimed is not None:
            self._claimed = _nondominated([*self._claimed, *map(self._current, outcome.evaluations)])
        self._standings.pop(recipe.id, None)
        self._ordered = None
        self._pool.pop(family.id, None)
        if family.trains and family.id not in self._stuck:
            self._pool[family.id] = family
            if len(self._pool) > POOLED + SLACK:
                self._pool = {f.id: f for f in self._best_first(list(self._pool.values()))[:POOLED]}
        return family

    def fail(self, failed: Failed) -> None:
        """Enter a family that could not be made, or not be trained on."""
        self.failed.append(failed)
        self._ended.add(failed.recipe)
        self._stuck.add(failed.recipe.id)  # a promotion that failed fails again
        self._pool.pop(failed.recipe.id, None)
        self._ordered = None

    def reject(self, rejected: Rejected) -> None:
        """Enter a structure that was timed and not trained."""
        self.rejected.append(rejected)
        self._ended.add(rejected.recipe)

    def repeat(self, recipe: Recipe, latency: Latency) -> None:
        """Enter a further measurement of a graph."""
        self.repeats.setdefault(recipe, []).append(latency)
        self._standings.pop(recipe.family.id, None)
        self._front = self._claimed = self._ordered = None

    def finished(self, measured: Mapping[str, Latency]) -> None:
        """Enter the last measurements of files, by their ids."""
        self.final |= measured
        self._front = self._claimed = self._ordered = None
        self._standings.clear()

    def ended(self, recipe: Recipe) -> bool:
        """Whether a recipe was evaluated, rejected or failed."""
        return recipe in self._ended

    def slower_variants(self, family: Recipe) -> tuple[Step, ...]:
        """Graph variants that would be no faster than the float file of this family either: they were not at an
        earlier rung, or in no family that was trained so far, of three at least, nor of the reference.
        """
        return tuple(
            variant
            for variant, families in self._slower.items()
            if family.id in families or (len(families) >= ALWAYS_SLOWER and variant not in self._useful)
        )

    def _loses_nothing(self, evaluation: Evaluation) -> bool:
        return evaluation.latency.reliable and evaluation.score.val >= self.opening.reference.score.val - WITHIN

    def worth_below(self) -> float | None:
        """The latency ratio at and above which no file adds anything to the front: one as fast, that loses nothing, is
        known. None when none is.
        """
        return self._lossless

    def gain_at_most(self, ratio: float) -> float:
        """The hypervolume that a model of this latency ratio would add to the front if it lost nothing."""
        points, reference = [point(e) for e in self.front()], self.opening.reference.score.val
        return hypervolume([*points, (reference, ratio)], reference) - hypervolume(points, reference)

    def expected(self, evaluation: Evaluation) -> Latency:
        """How long a candidate's graph takes, by all measurements of it over the rungs. It decides where time goes;
        what is reported of a file was measured on that file as long as that was possible.
        """
        family = self.families.get(evaluation.recipe.family.id)
        same = [e.latency for e in family.evaluations if e.recipe == evaluation.recipe] if family else []
        return settled([*same, *self.repeats.get(evaluation.recipe, ())]) or evaluation.latency

    @property
    def reference(self) -> Evaluation:
        """It counts however disturbed its measurement was: its ratio is one by definition."""
        current = self._current(self.opening.reference)
        return replace(current, latency=replace(current.latency, reliable=True))

    def candidates(self) -> list[Evaluation]:
        """Every evaluated file at its latest measurement, the reference first."""
        mine = [*self.opening.reference_family.evaluations, *(e for f in self.families.values() for e in f.evaluations)]
        return [self.reference, *map(self._current, mine)]

    def _current(self, evaluation: Evaluation) -> Evaluation:
        """A file at its latest measurement; where that was disturbed, at a sound one of the same graph with the weights
        of another rung, on which latency does not depend.
        """
        if evaluation.id in self.final:
            evaluation = replace(evaluation, latency=self.final[evaluation.id])
        if not evaluation.latency.reliable:
            evaluation = replace(evaluation, latency=self.expected(evaluation))
        if evaluation.digest in self.tests:
            evaluation = replace(evaluation, score=replace(evaluation.score, test=self.tests[evaluation.digest]))
        return evaluation

    def front(self) -> list[Evaluation]:
        """The candidates nothing dominates, the fastest first; unreliable measurements are left out."""
        if self._front is None:
            self._front = _front(self.candidates())
        return [self._current(e) for e in self._front]

    def disturbed(self) -> list[Evaluation]:
        """The files that would be on the front if their disturbed measurements were right."""
        if self._claimed is None:
            self._claimed = _nondominated(self.candidates())
        return [e for e in map(self._current, self._claimed) if not e.latency.reliable]

    def feasible(self, evaluation: Evaluation) -> bool:
        """Whether a candidate meets the budget and keeps enough score."""
        return (
            evaluation.latency.reliable
            and self.budget.excess(evaluation.latency) <= 0
            and self.budget.allows_score(evaluation.score.val, self.opening.reference.score.val)
        )

    def best_feasible(self) -> Evaluation | None:
        """The most accurate feasible candidate of the front; when none of the front is feasible, of all."""
        found = [e for e in self.front() if self.feasible(e)] or [e for e in self.candidates() if self.feasible(e)]
        return max(found, key=lambda e: e.score.val, default=None)

    @property
    def steering(self) -> Budget:
        """The budget that decides where time is spent: none when the reference itself is within it, so that the
        front is explored.
        """
        slack = self.budget.bounded and self.budget.excess(self.opening.reference.latency) <= 0
        return Budget(max_drop=self.budget.max_drop) if slack else self.budget

    @property
    def target(self) -> float | None:
        """The budget that steers, as a latency ratio."""
        return self.steering.ratio(self.opening.reference.latency.statistic)

    def excess(self, evaluation: Evaluation) -> float | None:
        """How far a candidate is over the budget that steers, as a share of it; None when there is none."""
        return self.steering.excess(evaluation.latency) if self.steering.bounded else None

    def worth(self) -> float:
        """How good the best found so far is, higher is better: under a budget the score of the best that meets it (of
        nothing, minus infinity), else the hypervolume of the front.
        """
        if self.steering.bounded:
            best = self.best_feasible()
            return best.score.val if best else float("-inf")
        return hypervolume([point(e) for e in self.front()], self.opening.reference.score.val)

    def standing(self, family: Family) -> Standing:
        """How a family stands; remembered until something new is known of it."""
        found = self._standings.get(family.id)
        if found is None:
            best, latest = self.best_of(family.evaluations), self.best_of(family.outcomes[-1].evaluations)
            excess = self.steering.excess(self.expected(best))
            found = Standing(latest, best, self.clipped(latest), self.clipped(best), excess)
            self._standings[family.id] = found
        return found

    def best_of(self, evaluations: Sequence[Evaluation]) -> Evaluation:
        """Of a family's files the most accurate within the budget, else the fastest; without a budget the one that
        alone has most hypervolume.
        """
        evaluations = [self._current(e) for e in evaluations]
        if self.steering.bounded:
            within = [e for e in evaluations if self.steering.excess(self.expected(e)) <= 0]
            if within:
                return max(within, key=lambda e: e.score.val)
            return min(evaluations, key=lambda e: self.expected(e).ratio)
        reference = self.opening.reference.score.val
        return max(evaluations, key=lambda e: (hypervolume([point(e)], reference), e.score.val))

    def contending(self) -> list[Family]:
        """The trained families worth more training: those within the budget, as long as there are any."""
        return [f for f in self._pool.values() if self.standing(f).within] or list(self._pool.values())

    def standings(self) -> list[tuple[str, int, Point]]:
        """Each contending family with its rung and its point there."""
        return [(f.id, f.rung, self.standing(f).latest_point) for f in self.contending()]

    def finalists(self, count: int, margin: float = 0.0) -> list[Family]:
        """The families to train in full: by Pareto rank and hypervolume gain, under a budget by score, of those that
        are expected to stay within it by ``margin``, a share of it, as long as there are any.
        """
        if self._ordered is None:
            self._ordered = self._best_first(self.contending())
        safe = (f for f in self._ordered if self.standing(f).excess <= -margin)
        return list(islice(safe, count)) or self._ordered[:count]

    def _best_first(self, families: list[Family]) -> list[Family]:
        points = [self.standing(f).best_point for f in families]
        return [families[i] for i in best_first(points, self.opening.reference.score.val)]

    def rank_correlation(self, fewest: int = 0) -> float | None:
        """Between the scores of families at their first and their last training; low means the first one is too short.
        None when fewer than ``fewest`` were trained on, or too few for a correlation.
        """
        if len(self.trained_on) < fewest:
            return None
        first = {f.id: self.best_of(f.outcomes[0].evaluations).score.val for f in self.trained_on}
        last = {f.id: self.standing(f).latest.score.val for f in self.trained_on}
        return rank_correlation(first, last)

    def clipped(self, evaluation: Evaluation) -> Point:
        """A candidate's point for deciding where to spend time: within the budget, faster is not better."""
        latency = self.expected(evaluation)
        within = self.target is not None and self.steering.excess(latency) <= 0
        return evaluation.score.val, self.target if within and self.target is not None else latency.ratio

    def in_use(self) -> set[str]:
        """Store keys that a search still needs: the weights of what is, or would be, on the front or may be trained on,
        and the outputs that the front is compared by.
        """
        wanted = [*self.front(), *self.disturbed()]
        best = [self.families[e.recipe.family.id] for e in wanted if e.recipe.family.id in self.families]
        families = {f.id: f for f in (*best, *self.finalists(FINALISTS_KEPT))}
        weights = {outcome.checkpoint for f in families.values() for outcome in f.outcomes if outcome.checkpoint}
        return weights | {e.outputs for e in wanted}


def _front(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    return _nondominated([e for e in evaluations if e.latency.reliable])


def _nondominated(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    return [evaluations[i] for i in pareto([point(e) for e in evaluations])]


def point(evaluation: Evaluation) -> Point:
    return evaluation.score.val, evaluation.latency.ratio


def opening_to_json(opening: Opening) -> dict[str, Any]:
    """The opening without what the strategies say of themselves, which is asked anew."""
    prepared = {**asdict(opening.prepared), "applicable": []}
    return {
        **asdict(opening),
        "reference": opening.reference.to_json(),
        "reference_family": opening.reference_family.to_json(),
        "prepared": prepared | {"reference": opening.prepared.reference.digest},
    }


def opening_from_json(value: dict[str, Any], reference: str) -> Opening:
    """reference: the path of the reference's file, from the run folder."""
    prepared = value["prepared"]
    return Opening(
        prepared=Preparation(
            **{
                **prepared,
                "applicable": (),
                "refused": tuple(Refusal(**r) for r in prepared["refused"]),
                "warnings": tuple(prepared["warnings"]),
                "reference": ModelFile(Recipe(), reference, prepared["reference"]),
            }
        ),
        arithmetic=Arithmetic(**value["arithmetic"]),
        reference=Evaluation.from_json(value["reference"]),
        reference_family=Outcome.from_json(value["reference_family"]),
        warnings=tuple(value["warnings"]),
    )


def restore(ledger: Ledger, record: Record) -> None:
    """Bring back what an earlier process recorded."""
    for trial in record.trials():
        _restore(ledger, trial.user_attrs)
    for event in record.every("event"):
        _restore(ledger, event)
    for stored in record.every("final"):
        ledger.finished({key: Latency(**value) for key, value in stored.items()})
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
        ledger.reject(Rejected(recipe, **stored["rejected"]))
    elif "failed" in stored:
        ledger.fail(Failed(recipe, **stored["failed"]))
