"""How everything stands in a search: pure functions of its history and of what the user allows."""

from collections.abc import Mapping, Sequence

from autocompress.budget import Budget
from autocompress.evaluation import Evaluation, Outcome, Rejected, keeps_half_the_lead
from autocompress.explore.history.facts import Conclusion, Failed
from autocompress.explore.history.family import Family
from autocompress.explore.history.history import History
from autocompress.explore.standings.assessment import Standing
from autocompress.explore.standings.front import Point, hypervolume, pareto
from autocompress.explore.standings.judgement import Judgement, judge
from autocompress.explore.standings.known import Known
from autocompress.explore.standings.measurements import Measurements
from autocompress.explore.standings.objective import point
from autocompress.explore.standings.rank_correlation import rank_correlation
from autocompress.plugin.contract import Stage
from autocompress.recipe import Recipe, Step

FINALISTS_KEPT = 8  # families whose weights stay in the store whatever its size


class Standings:
    """Every question is answered from all the facts that the history has by then."""

    def __init__(self, history: History, budget: Budget) -> None:
        self.opening = history.opening
        self.budget = budget
        self._history = history
        self._read = 0, Known.at_first(history.opening, budget)  # so many facts, and what is known after them

    @property
    def _known(self) -> Known:
        count, known = self._read
        facts = self._history.facts[count:]
        for fact in facts:
            known = known.after(fact)
        self._read = count + len(facts), known
        return known

    @property
    def families(self) -> Mapping[str, Family]:
        """Those evaluated, by id."""
        return self._known.tried.families

    @property
    def trained_on(self) -> tuple[Family, ...]:
        """The families that were trained more than once."""
        return self._known.tried.trained_on

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """Structures and files that were timed and not scored."""
        return self._known.tried.rejected

    @property
    def failed(self) -> tuple[Failed, ...]:
        """Families and graph variants that could not be made."""
        return self._known.tried.failed

    @property
    def files(self) -> int:
        """How many were evaluated."""
        return self._known.tried.files

    def ended(self, recipe: Recipe) -> bool:
        """Whether a recipe was evaluated, rejected or failed."""
        return recipe in self._known.tried.ended

    @property
    def measured(self) -> Measurements:
        """The sessions of graphs and of finalists, and what was compared."""
        return self._known.assessment.measured

    @property
    def tests(self) -> Mapping[str, float]:
        """Test scores, by the digest of the file."""
        return self._known.assessment.measured.tests

    @property
    def concluded(self) -> Conclusion | None:
        """What was chosen last; None when nothing was yet."""
        return next((fact for fact in reversed(self._history.facts) if isinstance(fact, Conclusion)), None)

    @property
    def compressing(self) -> frozenset[str]:
        """The strategies that make a file smaller or faster, and do not only train."""
        return frozenset(a.name for a in self.opening.applicable if a.stages != (Stage.TRAIN,))

    @property
    def reference(self) -> Evaluation:
        """As it is reported."""
        return self._known.candidates.judged[0]

    def candidates(self) -> list[Evaluation]:
        """Every evaluated file at its latest measurement, as it is reported, the reference first."""
        return list(self._known.candidates.judged)

    def front(self) -> list[Evaluation]:
        """The candidates nothing dominates, the fastest first."""
        return list(self._known.front)

    def reported_front(self) -> list[Evaluation]:
        """The candidates nothing dominates, by what is reported of them, the fastest first; none that lost its score,
        which is fast for nothing.
        """
        candidates = [
            e for e in self.candidates() if e.score.whole and self._worth_having(e.score.val) and self.runs(e)
        ]
        return [candidates[i] for i in pareto([point(e) for e in candidates])]

    def judgements(self) -> list[Judgement]:
        """Of every candidate, in their order."""
        measured, reference, examples = self.measured, self.reference, self.opening.prepared.val_examples
        return [
            judge(
                e,
                reference,
                self.budget,
                measured.losses.get(e.id),
                self.opening.chance,
                examples,
                self.opening.scale,
                by_class=measured.by_class.get(e.id),
                runs=self.runs(e),
            )
            for e in self.candidates()
        ]

    def runs(self, evaluation: Evaluation) -> bool:
        """Whether a file runs on the target, as far as is known."""
        there = self.measured.on_device.get(evaluation.id)
        return there is None or not there.failed

    def is_final(self, evaluation: Evaluation) -> bool:
        """Whether a file's graph was timed often enough since the finalists were chosen; the reference needs no
        ratio.
        """
        return bool(self.measured.final_sessions(evaluation)) or evaluation.id == self.opening.reference.id

    def best_feasible(self) -> Evaluation | None:
        """The most accurate feasible candidate of the front; when none of the front is feasible, of all."""
        return self._known.best_feasible

    @property
    def steering(self) -> Budget:
        """The budget that decides where time is spent: none when the reference itself is within it, so that the
        front is explored.
        """
        return self._known.objective.steering

    @property
    def target(self) -> float | None:
        """The budget that steers, as a latency ratio."""
        return self._known.objective.target

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

    def worth_below(self) -> float | None:
        """The latency ratio at and above which no file adds anything to the front: one as fast, that loses nothing, is
        known. None when none is.
        """
        return self._known.best.lossless

    def would_stand(self, score: float, ratio: float) -> bool:
        """Whether a file of this score and latency ratio would be on the front, and be worth having."""
        dominated = any(e.score.val >= score and e.latency.ratio <= ratio for e in self.front())
        return not dominated and self._worth_having(score)

    def gain_at_most(self, ratio: float) -> float:
        """The hypervolume that a model of this latency ratio would add to the front if it lost nothing."""
        points, reference = [point(e) for e in self.front()], self.opening.reference.score.val
        return hypervolume([*points, (reference, ratio)], reference) - hypervolume(points, reference)

    def slower_variants(self, family: Recipe) -> tuple[Step, ...]:
        """Graph variants that would be no faster than the float file of this family."""
        return self._known.variants.of_family(family)

    def standing(self, family: Family) -> Standing:
        """How a family stands among the others."""
        return self._known.assessment.standing(family)

    def contending(self) -> list[Family]:
        """The families worth more training: those within the budget, as long as there are any."""
        return [family for family in self._known.contenders.all if family.trains]

    def untrained_points(self) -> list[tuple[str, int, Point]]:
        """Each contending family that was evaluated untrained, with its rung and its point before any training."""
        assessment = self._known.assessment
        begun = [f for f in self.contending() if not f.outcomes[0].examples]
        return [(f.id, f.rung, assessment.untrained_point(f)) for f in begun]

    def finalists(self, count: int) -> list[Family]:
        """The families to train in full: by Pareto rank and hypervolume gain, under a budget by score, of those within
        it, as long as there are any.
        """
        return [family for family in self._known.contenders.best_first if family.trains][:count]

    def best(self, count: int) -> list[Family]:
        """The best families, whether or not they train: by the same order."""
        return self._known.contenders.best_first[:count]

    def rank_correlation(self, fewest: int = 0) -> float | None:
        """Between the scores of families at their first and their last training; low means the first one is too short.
        None when fewer than ``fewest`` were trained on, or too few for a correlation.
        """
        return self._foretold([(f, f.trained[0]) for f in self.trained_on], fewest)

    def untrained_rank_correlation(self) -> float | None:
        """Between the scores of families before any training and after their last; None for too few."""
        families = [f for f in self.families.values() if f.trained and not f.outcomes[0].examples]
        return self._foretold([(f, f.outcomes[0]) for f in families], fewest=0)

    def _foretold(self, families: Sequence[tuple[Family, Outcome]], fewest: int) -> float | None:
        if len(families) < fewest:
            return None
        assessment = self._known.assessment
        before = {f.id: assessment.best_of(outcome.evaluations).score.val for f, outcome in families}
        return rank_correlation(before, {f.id: assessment.standing(f).latest.score.val for f, _ in families})

    def _worth_having(self, score: float) -> bool:
        """Whether a file of this score keeps half of the reference's lead, or any loss was allowed."""
        asked = self.budget.max_drop is not None
        return asked or keeps_half_the_lead(score, self.opening.reference.score, self.opening.chance)

    def in_use(self) -> set[str]:
        """Store keys that a search still needs: the weights of what is on the front or may be trained on,
        the outputs that the front is compared by, and what timing sessions recorded.
        """
        wanted = [self.opening.reference, *self.front()]
        best = [family for e in wanted if (family := self._known.candidates.family_of(e)) is not None]
        families = {f.id: f for f in (*best, *self.finalists(FINALISTS_KEPT))}
        weights = {outcome.checkpoint for f in families.values() for outcome in f.outcomes if outcome.checkpoint}
        recorded = {session.raw for sessions in self.measured.graphs.values() for session in sessions if session.raw}
        return weights | {e.outputs for e in wanted} | recorded
