"""What was measured of a file after it was evaluated, and what it takes by all that was measured of its graph."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from autocompress.evaluation import Evaluation
from autocompress.explore.history.facts import Fact, FinalMeasured, MeasurableAgain, RepeatMeasured, ScoredOnTest
from autocompress.explore.history.family import Family
from autocompress.latency import Latency
from autocompress.measure import settled
from autocompress.recipe import Recipe


@dataclass(frozen=True)
class Measurements:
    """A value: each fact makes the next one. repeats: further ones of the graph that a recipe makes. again: the last
    of a file, by its id. kept: earlier ones, of files that could not be measured again. tests: scores on the test
    split, by the digest of the file.
    """

    repeats: Mapping[Recipe, tuple[Latency, ...]] = field(default_factory=dict)
    again: Mapping[str, Latency] = field(default_factory=dict)
    kept: Mapping[str, Latency] = field(default_factory=dict)
    tests: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def final(self) -> Mapping[str, Latency]:
        """The last one of a file, by its id, of those that count as measured at the end."""
        return {**self.again, **self.kept}

    def after(self, fact: Fact) -> "Measurements":
        match fact:
            case RepeatMeasured(recipe, latency):
                repeats = (*self.repeats.get(recipe, ()), latency)
                return replace(self, repeats={**self.repeats, recipe: repeats})
            case FinalMeasured(latencies, kept):
                earlier = {name: latency for name, latency in self.kept.items() if name not in latencies}
                return replace(self, again={**self.again, **latencies}, kept={**earlier, **kept})
            case MeasurableAgain():
                return replace(self, kept={})
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
