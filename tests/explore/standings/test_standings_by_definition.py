"""Standings follow the facts as they come; here the same answers are worked out of all facts anew, by the plainest
definition, for histories drawn at random.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

from autocompress.budget import Budget
from autocompress.comparison import TimingSession
from autocompress.evaluation import Evaluation, Outcome, Rejected, Score
from autocompress.explore.history.facts import (
    Chosen,
    Evaluated,
    Fact,
    Failed,
    Gated,
    ScoredOnTest,
    Timed,
)
from autocompress.explore.history.family import Family
from autocompress.explore.history.history import History
from autocompress.explore.standings.assessment import Standing
from autocompress.explore.standings.front import Point, best_first, dominates, hypervolume
from autocompress.explore.standings.rank_correlation import rank_correlation
from autocompress.explore.standings.standings import Standings
from autocompress.latency import Latency, beside_itself
from autocompress.measure import Pools, RunTiming, latency_of
from autocompress.recipe import Recipe, Step

VARIANTS = (Step.of("squeeze"), Step.of("halve", bits=16))
SCORES = (0.85, 0.87, 0.88, 0.89, 0.895, 0.899, 0.9, 0.905)
RATIOS = (0.05, 0.1, 0.2, 0.3, 0.33, 0.4, 0.5, 0.7, 0.9, 1.1)
BUDGETS = (Budget(max_drop=1), Budget(speedup=3), Budget(latency_ms=0.35, max_drop=2), Budget(speedup=0.5))
FACTS = 30


@dataclass
class Draw:
    """Facts as they may come, with equal scores and ratios now and then. busy: share of sessions on a busy machine."""

    random: random.Random
    busy: float
    make_session: Callable[..., TimingSession]

    def __post_init__(self) -> None:
        taught = Step.of("train", lr=0.002)
        self.recipes = [
            Recipe((Step.of("carve", units=n), *([taught] if n % 4 else [])))
            for n in range(self.random.choice((4, 12)))
        ]

    def latency(self) -> Latency:
        return latency_of([self.session() for _ in range(self.random.choice((1, 2)))])

    def session(self) -> TimingSession:
        ratio, quiet = self.random.choice(RATIOS), self.random.random() >= self.busy
        return self.make_session(ratio, ratio * self.random.choice((1.0, 1.1)), quiet=quiet)

    def evaluation(self, recipe: Recipe, rung: int = 0, number: int = 0) -> Evaluation:
        name, score = f"{recipe.id}-{number}", self.random.choice(SCORES)
        own = Score(score, score, score, sampled=self.random.choice((None, None, 50)))
        graph = f"graph {self.random.choice((recipe, recipe, Recipe()))}"
        return Evaluation(name, recipe, 1.0, rung, own, self.latency(), 10, 8, 5, 7, "a", name, graph, f"val-{name}")

    def outcome(self, recipe: Recipe, rung: int, number: int) -> Outcome:
        files, slower, hopeless, failed = [self.evaluation(recipe, rung, number)], [], [], []
        for own in map(recipe.rewritten, VARIANTS):
            how = self.random.choice(("faster", "faster", "slower", "hopeless", "failed"))
            files += [self.evaluation(own, rung, number)] if how == "faster" else []
            slower += [Rejected(own, "slower", 1.0, 1.1)] if how == "slower" else []
            hopeless += [Rejected(own, "too slow", 1.0, 0.9)] if how == "hopeless" else []
            failed += [(own, "squeeze", "it broke")] if how == "failed" else []
        failed += [(recipe, "export", "it broke")] if self.random.random() < 0.05 else []
        weights = f"weights-{recipe.id}-{number}" if self.random.random() < 0.9 else None
        return Outcome(
            tuple(files),
            rung,
            tuple(slower),
            tuple(hopeless),
            tuple(failed),
            checkpoint=weights,
            examples=self.random.choice((0, 100)) if not rung else 100,
        )

    def fact(self, facts: Sequence[Fact], number: int) -> Fact:
        recipe = self.random.choice(self.recipes)
        files = [e for fact in facts if isinstance(fact, Evaluated) for e in fact.outcome.evaluations]
        kinds = ["evaluated"] * 12 + ["gated", "rejected", "failed", "timed", "timed", "chosen", "tested"]
        kind = self.random.choice(kinds) if files else "evaluated"
        chosen = self.random.sample(files, min(2, len(files)))
        rung = sum(isinstance(fact, Evaluated) and fact.recipe == recipe for fact in facts)
        draw: dict[str, Callable[[], Fact]] = {
            "evaluated": lambda: Evaluated(recipe, self.outcome(recipe, rung, number)),
            "gated": lambda: Gated(recipe, 0.5, 3),
            "rejected": lambda: Rejected(recipe, "over the budget", 1.0, 0.9),
            "failed": lambda: Failed(recipe, "carve", "it broke"),
            "timed": lambda: Timed(chosen[0].graph, self.session()),
            "chosen": lambda: Chosen((recipe.id,)),
            "tested": lambda: ScoredOnTest({e.digest: self.random.random() for e in chosen}),
        }
        return draw[kind]()


class Definition:
    """What ``Standings`` answers, by the facts alone. before: without the last of them."""

    def __init__(self, opening: Any, budget: Budget, facts: Sequence[Fact], before: "Definition | None" = None) -> None:
        self.opening, self.facts, self.before = opening, list(facts), before
        self.own = opening.reference_family.evaluations
        self.reference_score = opening.reference.score.val
        met = budget.bounded and budget.excess(opening.reference.latency) <= 0
        self.budget, self.steering = budget, Budget(max_drop=budget.max_drop) if met else budget.less(0.05)
        recipes = dict.fromkeys(fact.recipe for fact in self.of(Evaluated))
        outcomes = {r: tuple(fact.outcome for fact in self.of(Evaluated) if fact.recipe == r) for r in recipes}
        self.families = {r.id: Family(r, outcomes) for r, outcomes in outcomes.items()}
        self.all = [e for family in self.families.values() for e in family.evaluations]
        self.files = 1 + len(self.own) + len(self.all)
        self.tests = {digest: score for fact in self.of(ScoredOnTest) for digest, score in fact.scores.items()}
        self.standing, self.front = map(cache, (self._standing, self._front))

    def of(self, kind: Any) -> list[Any]:
        return [fact for fact in self.facts if isinstance(fact, kind)]

    @property
    def rejected(self) -> list[Rejected]:
        facts = self.of(Evaluated | Rejected)
        own = [(*f.outcome.slower, *f.outcome.hopeless) if isinstance(f, Evaluated) else (f,) for f in facts]
        return [rejected for each in own for rejected in each]

    @property
    def failed(self) -> list[Failed]:
        own = [fact if isinstance(fact, Failed) else fact.outcome.failed for fact in self.of(Evaluated | Failed)]
        return [failed for each in own for failed in ([each] if isinstance(each, Failed) else map(as_failed, each))]

    def ended(self, recipe: Recipe) -> bool:
        return any(fact.recipe == recipe for fact in self.of(Evaluated | Rejected | Failed))

    def sessions(self, graph: str, before: bool = False) -> list[TimingSession]:
        """Of a graph, each once. before: without the last fact."""
        known = [self.opening.reference, *self.own]
        for fact in self.facts[:-1] if before else self.facts:
            known += fact.outcome.evaluations if isinstance(fact, Evaluated) else [fact]
        found = [
            session
            for one in known
            if not isinstance(one, Gated | Rejected | Failed | Chosen | ScoredOnTest) and one.graph == graph
            for session in ([one.session] if isinstance(one, Timed) else one.latency.sessions)
        ]
        return list(dict.fromkeys(found))

    def since_chosen(self, graph: str) -> list[TimingSession]:
        """Of a graph, those that were not known when finalists were chosen last; none where none were."""
        chosen = [number for number, fact in enumerate(self.facts, 1) if isinstance(fact, Chosen)]
        if not chosen or any(isinstance(fact, Gated) for fact in self.facts[chosen[-1] :]):
            return []
        before = Definition(self.opening, self.budget, self.facts[: chosen[-1]]).sessions(graph)
        return [session for session in self.sessions(graph) if session not in before]

    def current(self, file: Evaluation) -> Evaluation:
        latency = latency_of(self.sessions(file.graph))
        if file.graph == self.opening.reference.graph:
            latency = beside_itself(latency)
        return replace(file, latency=latency, score=replace(file.score, test=self.tests.get(file.digest)))

    def reported(self, file: Evaluation) -> Evaluation:
        """By the sessions since finalists were chosen, where there are enough; the spread is that of all graphs."""
        last = self.since_chosen(file.graph)
        graphs = {e.graph: self.sessions(e.graph) for e in (self.opening.reference, *self.own, *self.all)}
        pools = [Pools(tuple(sessions)) for sessions in graphs.values()]
        latency = latency_of(last if len(last) >= 3 else graphs[file.graph], RunTiming.of(pools))
        if file.graph == self.opening.reference.graph:
            latency = beside_itself(latency)
        return replace(self.current(file), latency=latency)

    def candidates(self) -> list[Evaluation]:
        return [self.reported(e) for e in (self.opening.reference, *self.own, *self.all)]

    def _front(self) -> list[Evaluation]:
        """Of equal files the one that is there stays, until a graph is timed further that was timed before."""
        every = [self.current(e) for e in (self.opening.reference, *self.own, *self.all)]
        if self.before is None:
            return nondominated(every)
        last, before = self.facts[-1], [self.current(e) for e in self.before.front()]
        if not isinstance(last, Evaluated | Timed):
            return before
        new = last.outcome.evaluations if isinstance(last, Evaluated) else [last]
        earlier = [self.sessions(e.graph, before=True) for e in new]
        if any(known and known != self.sessions(e.graph) for e, known in zip(new, earlier, strict=True)):
            return nondominated(every)
        return nondominated([*before, *map(self.current, new)]) if isinstance(last, Evaluated) else before

    def feasible(self, file: Evaluation) -> bool:
        allowed = self.budget.max_drop
        if allowed is None:
            allowed = math.inf if self.budget.bounded else 1.0
        enough = file.score.val >= self.reference_score - allowed / 100 - 1e-9
        return enough and self.budget.excess(file.latency) <= 0

    def best_feasible(self) -> Evaluation | None:
        every = [self.current(e) for e in (self.opening.reference, *self.own, *self.all)]
        found = [e for e in self.front() if self.feasible(e)] or [e for e in every if self.feasible(e)]
        return max(found, key=lambda e: e.score.val, default=None)

    def volume(self, *points: Point) -> float:
        return hypervolume(points, self.reference_score)

    def worth(self) -> float:
        best = self.best_feasible()
        if self.steering.bounded:
            return best.score.val if best else float("-inf")
        return self.volume(*map(point, self.front()))

    def gain_at_most(self, ratio: float) -> float:
        points = [point(e) for e in self.front()]
        return self.volume(*points, (self.reference_score, ratio)) - self.volume(*points)

    def would_stand(self, score: float, ratio: float) -> bool:
        return not any(e.score.val >= score and e.latency.ratio <= ratio for e in self.front())

    def worth_below(self) -> float | None:
        every = map(self.current, (self.opening.reference, *self.own, *self.all))
        sound = [e for e in every if e.latency.quiet and e.score.sampled is None]
        return min((e.latency.ratio_high for e in sound if e.score.val >= self.reference_score - 0.001), default=None)

    def slower_variants(self, family: Recipe) -> tuple[Step, ...]:
        faster = {e.recipe.variant for e in (*self.own, *self.all)}
        slower = [(fact.recipe, r.recipe.variant) for fact in self.of(Evaluated) for r in fact.outcome.slower]
        of = {variant: {recipe for recipe, other in slower if other == variant} for _, variant in slower}
        return tuple(v for v, families in of.items() if family in families or (len(families) >= 3 and v not in faster))

    def best_of(self, files: Sequence[Evaluation]) -> Evaluation:
        current = [self.current(e) for e in files]
        if not self.steering.bounded:
            return max(current, key=lambda e: (self.volume(point(e)), e.score.val))
        within = [e for e in current if self.steering.excess(e.latency) <= 0]
        return max(within, key=lambda e: e.score.val) if within else min(current, key=lambda e: e.latency.ratio)

    def clipped(self, file: Evaluation) -> Point:
        target = self.steering.ratio(self.opening.reference.latency.statistic)
        within = target is not None and self.steering.excess(self.current(file).latency) <= 0
        return file.score.val, target if within and target is not None else self.current(file).latency.ratio

    def _standing(self, family: Family) -> Standing:
        latest, best = self.best_of(family.latest.evaluations), self.best_of(family.evaluations)
        excess = self.steering.excess(best.latency)
        feasible = [e for e in map(self.current, family.evaluations) if self.feasible(e)]
        most = max(feasible, key=lambda e: e.score.val, default=None)
        return Standing(latest, best, self.clipped(best), excess, most)

    def contending(self) -> list[Family]:
        return [f for f in self.contenders() if f.recipe.step("train")]

    def contenders(self) -> list[Family]:
        pool: list[Recipe] = []
        broken: set[Recipe] = set()
        for fact in self.of(Evaluated | Failed):
            broke = isinstance(fact, Failed) or any(recipe == fact.recipe for recipe, *_ in fact.outcome.failed)
            broken |= {fact.recipe} if broke else set()
            pool = [recipe for recipe in pool if recipe != fact.recipe]
            if fact.recipe not in broken and (fact.outcome.checkpoint or not fact.recipe.step("train")):
                pool.append(fact.recipe)
        families = [self.families[recipe.id] for recipe in pool]
        return [f for f in families if self.standing(f).excess <= 0] or families

    def best(self, count: int) -> list[Family]:
        families = self.contenders()
        points = [self.standing(f).best_point for f in families]
        return [families[i] for i in best_first(points, self.reference_score)][:count]

    def finalists(self, count: int) -> list[Family]:
        return [f for f in self.best(1000) if f.recipe.step("train")][:count]

    def untrained_points(self) -> list[tuple[str, int, Point]]:
        begun = [f for f in self.contending() if f.outcomes[0].examples == 0]
        return [(f.id, f.latest.rung, self.clipped(self.best_of(f.outcomes[0].evaluations))) for f in begun]

    def rank_correlation(self) -> float | None:
        trained = {f.id: [o for o in f.outcomes if o.examples] for f in self.families.values()}
        return self._foretold({name: own[0] for name, own in trained.items() if len(own) > 1})

    def untrained_rank_correlation(self) -> float | None:
        begun = [
            f for f in self.families.values() if not f.outcomes[0].examples and any(o.examples for o in f.outcomes)
        ]
        return self._foretold({f.id: f.outcomes[0] for f in begun})

    def _foretold(self, first: dict[str, Outcome]) -> float | None:
        before = {name: self.best_of(outcome.evaluations).score.val for name, outcome in first.items()}
        return rank_correlation(before, {name: self.standing(self.families[name]).latest.score.val for name in first})

    def in_use(self) -> set[str]:
        wanted = [self.opening.reference, *self.front()]
        names = {e.recipe.family.id for e in wanted} | {f.id for f in self.finalists(8)}
        outcomes = [o for name, family in self.families.items() if name in names for o in family.outcomes]
        return {o.checkpoint for o in outcomes if o.checkpoint} | {e.outputs for e in wanted}


def as_failed(failure: tuple[Recipe, str, str]) -> Failed:
    return Failed(*failure)


def point(file: Evaluation) -> Point:
    return file.score.val, file.latency.ratio


def nondominated(files: Sequence[Evaluation]) -> list[Evaluation]:
    """Of those scored on all examples, the fastest first; of equal files the first one."""
    first = {point(e): e for e in reversed(files) if e.score.sampled is None}
    kept = [e for p, e in first.items() if not any(dominates(other, p) for other in first)]
    return sorted(kept, key=lambda e: e.latency.ratio)


def rounded(file: Evaluation) -> Evaluation:
    """Sums over graphs come in another order. p50 and p90 go by the reference's milliseconds."""
    numbers = {name: round(value, 9) for name, value in vars(file.latency).items() if isinstance(value, float)}
    return replace(file, latency=replace(file.latency, **numbers | {"p50": 0.0, "p90": 0.0}))


def answers(by: Any, recipes: Sequence[Recipe]) -> dict[str, Any]:
    """Of ``Standings`` or of the definition."""
    asked = (
        "front",
        "best_feasible",
        "worth",
        "worth_below",
        "rank_correlation",
        "untrained_rank_correlation",
        "in_use",
    )
    return {
        **{name: getattr(by, name)() for name in (*asked, "untrained_points")},
        "families": [(f.recipe, f.outcomes) for f in by.families.values()],
        "tried": (by.files, list(by.rejected), list(by.failed), [by.ended(recipe) for recipe in recipes]),
        "candidates": list(map(rounded, by.candidates())),
        "steering": by.steering,
        "gain_at_most": [by.gain_at_most(ratio) for ratio in (0.1, 0.4)],
        "would_stand": [by.would_stand(score, ratio) for score in SCORES for ratio in RATIOS],
        "slower_variants": [by.slower_variants(recipe) for recipe in recipes],
        "standing": [by.standing(family) for family in by.families.values()],
        "contending": [f.recipe for f in by.contending()],
        "finalists": [f.recipe for f in by.finalists(8)],
        "best": [f.recipe for f in by.best(8)],
    }


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("busy", [0.0, 0.3, 0.9])
def test_every_answer_is_what_the_facts_alone_say(
    budget: Budget,
    busy: float,
    make_session: Callable[..., TimingSession],
    make_latency: Callable[..., Latency],
    make_history: Callable[..., History],
) -> None:
    for seed in range(2):
        draw = Draw(random.Random(f"{budget} {busy} {seed}"), busy, make_session)
        variant = replace(draw.evaluation(Recipe().rewritten(VARIANTS[0])), latency=make_latency(0.4))
        own = replace(draw.evaluation(Recipe()), score=Score(0.9, 0.89, 0.91), latency=make_latency(1.0))
        history = make_history(own, variant)
        followed, defined = Standings(history, budget), Definition(history.opening, budget, [])
        for number in range(FACTS):
            history.enter(draw.fact(history.facts, number))
            defined = Definition(history.opening, budget, history.facts, defined)
            if draw.random.random() < 0.3:
                assert answers(followed, draw.recipes) == answers(defined, draw.recipes), (seed, number)
        assert answers(Standings(history, budget), draw.recipes) == answers(defined, draw.recipes), "asked but once"
