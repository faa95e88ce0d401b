"""What a whole group of operations takes, in the order and by the rules of the pipeline: which files of a family are
timed, and which of those are scored. So it is known how far a process had come that ends half way through a group.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from autocompress.budget import Budget
from autocompress.candidate.request import TrainRequest
from autocompress.errors import CandidateFailed
from autocompress.latency import Latency
from autocompress.plugin.contract import Stage
from autocompress.recipe import Recipe, Step

from . import declared as cost
from .declared import Declared, Timing

FASTER = 0.97  # of its source's latency, below which a variant counts as faster
DISTURBED = 1.25  # the same where the machine was disturbed
FAR = 1.5  # times the budget
WORTH_GATING = 1.5  # times the fastest variant on the reference


@dataclass
class Pipeline:
    """Each method is a group of operations; ``spent_s`` grows by what each operation takes, also of one that fails."""

    declared: Declared
    spent_s: float = 0.0
    _variants: tuple[tuple[Step, float], ...] = ()  # each with its ratio on the reference, the fastest first

    def knows(self, variants: tuple[tuple[Step, float], ...]) -> None:
        self._variants = variants

    def open(self) -> None:
        """The exporters compared, the strategies asked, a training step timed, the reference evaluated."""
        self.spent_s += cost.OPEN_S
        self._files(Recipe(), 0, (), None)

    def gate(self, recipe: Recipe, budget: Budget) -> None:
        """The variants that were fast on the reference in turn until one is within the budget, the float file last."""
        self.spent_s += cost.STRUCTURE_S
        self.declared.plans(recipe)
        self.spent_s += cost.EXPORT_S
        timed: dict[Step | None, Latency] = {}
        for variant in (*self._worth_gating(recipe), None):
            if variant is None and self._far_over(timed, budget):
                break
            made = recipe if variant is None else recipe.rewritten(variant)
            try:
                self._make(made)
            except CandidateFailed:
                continue
            self.spent_s += cost.GATE_TIMED_S
            timed[variant] = latency_of(self.declared.gate_timing(made))
            if budget.bounded and not budget.excluded(timed[variant]):
                break

    def evaluate(self, request: TrainRequest, skip: Sequence[Step], worth_below: float | None) -> None:
        recipe, declared = request.recipe, self.declared
        self.spent_s += cost.STRUCTURE_S
        declared.plans(recipe)
        if declared.trains(recipe) and request.examples:
            of = {"rung": request.rung, "start": request.start, "examples": request.examples}
            trained = declared.train(recipe, **of, limit_s=request.limit_s)
            self.spent_s += trained.seconds * (cost.HANG if trained.hangs else 1)
        self.spent_s += cost.EXPORT_S
        self._files(recipe, request.rung, skip, worth_below)

    def _files(self, recipe: Recipe, rung: int, skip: Sequence[Step], worth_below: float | None) -> None:
        """Every file timed, then those scored that are worth it: the fastest in any case."""
        timed: dict[Recipe, Latency] = {}
        for file in (recipe, *(recipe.rewritten(v) for v in self._variants_for(recipe) if v not in skip)):
            try:
                self._make(file)
            except CandidateFailed:
                continue
            self.spent_s += cost.TIMED_S
            latency = latency_of(self.declared.timing(file, rung))
            if not file.variant or self._for_size(file.variant) or not no_faster(latency, timed[recipe]):
                timed[file] = latency
        fastest = min(timed, key=lambda file: timed[file].ratio)
        for file, latency in timed.items():
            needed = file == fastest or (file.variant is not None and self._for_size(file.variant))
            if needed or worth_below is None or not latency.reliable or latency.ratio_low < worth_below:
                self.spent_s += cost.SCORED_S

    def _make(self, file: Recipe) -> None:
        if file.variant is not None:
            self.spent_s += cost.REWRITE_S
            self.declared.make(file)

    def _variants_for(self, recipe: Recipe) -> list[Step]:
        """Those that no tag forbids, and of a strategy that also trains only where the recipe has its step."""
        by_name = {a.name: a for a in self.declared.kind.applicable}
        on = [by_name[s.strategy] for s in recipe.steps if s.strategy in by_name]

        def goes(own: Any) -> bool:
            clash = any(own.excludes & o.provides or o.excludes & own.provides for o in on if o is not own)
            return not clash and (own in on or own.stages == (Stage.GRAPH,))

        return [step for step, _ in self._variants if goes(by_name[step.strategy])]

    def _worth_gating(self, recipe: Recipe) -> list[Step]:
        allowed = self._variants_for(recipe)
        own = [step for step in allowed if recipe.step(step.strategy) is not None]
        timed = {step: ratio for step, ratio in self._variants if math.isfinite(ratio)}
        most = min(WORTH_GATING * min((timed[step] for step in allowed if step in timed), default=1.0), 1.0)
        return own + [step for step in allowed if timed.get(step, math.inf) <= most]

    def _far_over(self, timed: dict[Step | None, Latency], budget: Budget) -> bool:
        known = dict(self._variants)
        return any(
            variant is not None
            and known[variant] * FAR <= 1
            and budget.ruled_out(latency)
            and budget.excess(latency) >= FAR - 1
            for variant, latency in timed.items()
        )

    def _for_size(self, variant: Step) -> bool:
        return any(a.name == variant.strategy and a.size_only for a in self.declared.kind.applicable)


def no_faster(latency: Latency, source: Latency) -> bool:
    sound = latency.reliable and source.reliable
    return latency.ratio_low > (FASTER if sound else DISTURBED) * source.ratio


def latency_of(timing: Timing) -> Latency:
    return Latency(**asdict(timing))
