"""What was measured of a file after it was evaluated, and what it takes by all that was measured of its graph."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from autocompress.evaluation import Evaluation
from autocompress.explore.history.facts import Fact, FinalMeasured, RepeatMeasured, ScoredOnTest
from autocompress.explore.history.family import Family
from autocompress.latency import Latency
from autocompress.measure import settled
from autocompress.recipe import Recipe


@dataclass(frozen=True)
class Measurements:
    """A value: each fact makes the next one. repeats: further ones of the graph that a recipe makes. final: the last
    one of a file, by its id. tests: test scores, by the digest of the file.
    """

    repeats: Mapping[Recipe, tuple[Latency, ...]] = field(default_factory=dict)
    final: Mapping[str, Latency] = field(default_factory=dict)
    tests: Mapping[str, float] = field(default_factory=dict)

    def after(self, fact: Fact) -> "Measurements":
        match fact:
            case RepeatMeasured(recipe, latency):
                repeats = (*self.repeats.get(recipe, ()), latency)
                return replace(self, repeats={**self.repeats, recipe: repeats})
            case FinalMeasured(latencies, kept):
                return replace(self, final={**self.final, **latencies, **kept})
            case ScoredOnTest(scores):
                return replace(self, tests={**self.tests, **scores})
        return self

    def expected(self, evaluation: Evaluation, family: Family | None) -> Latency:
        """How long a file's graph takes, by all measurements of it over the rungs of its family; None for a file of the
        reference. It decides where time goes; what is reported of a file was measured on that file as long as that was
        possible.
        """
        same = [e.latency for e in family.evaluations if e.recipe == evaluation.recipe] if family else []
        return settled([*same, *self.repeats.get(evaluation.recipe, ())]) or evaluation.latency

    def current(self, evaluation: Evaluation, family: Family | None) -> Evaluation:
        """A file at its latest measurement; where that was disturbed, at a sound one of the same graph with the weights
        of another rung, on which latency does not depend.
        """
        if evaluation.id in self.final:
            evaluation = replace(evaluation, latency=self.final[evaluation.id])
        if not evaluation.latency.reliable:
            evaluation = replace(evaluation, latency=self.expected(evaluation, family))
        if evaluation.digest in self.tests:
            evaluation = replace(evaluation, score=replace(evaluation.score, test=self.tests[evaluation.digest]))
        return evaluation
