"""What a whole group of operations is declared to give and to take, in the order and by the rules of the pipeline:
which files of a family are timed, and which of those are scored. The reference's files are made by it, and what a
process had done that ends half way through a group.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from autocompress.budget import Budget
from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.preparation import KnownTask, Preparation
from autocompress.candidate.request import ModelFile, TrainRequest
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Evaluation, Outcome, Rejected, Score
from autocompress.explore.opening.opening import EarlierOpening, Opening
from autocompress.latency import Latency
from autocompress.plugin.contract import Refusal, Stage
from autocompress.recipe import Recipe, Step

from . import declared as cost
from .declared import Declared, Timing

EXPORTERS = ("torchscript", "dynamo")
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

    def prepare(self, known: KnownTask | None, only: Sequence[str] | None) -> Preparation:
        self.spent_s += cost.PREPARE_S
        later = () if known else self.declared.kind.later
        return self._ground(known.exporter if known else EXPORTERS[0], only, later)

    def open(self, known: EarlierOpening | None, only: Sequence[str] | None) -> Opening:
        self.spent_s += cost.OPEN_S
        kind, ground = self.declared.kind, self._ground(known.prepared.exporter if known else EXPORTERS[0], only)
        if known is None and self.declared.faults.faster_exporter:
            ground = replace(ground, exporter=EXPORTERS[1], export_note=f"by {EXPORTERS[1]}")
        own, family = (known.reference, known.reference_family) if known else self._reference()
        return Opening(ground, Arithmetic(), own, family, kind.warnings)

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

    def evaluate(self, request: TrainRequest, skip: Sequence[Step], worth_below: float | None) -> Outcome:
        recipe, declared = request.recipe, self.declared
        self.spent_s += cost.STRUCTURE_S
        made = Outcome(plans=declared.plans(recipe), rung=request.rung, checkpoint=request.checkpoint)
        seen = request.start if request.checkpoint else 0
        if declared.trains(recipe) and request.examples:
            of = {"rung": request.rung, "start": request.start, "examples": request.examples}
            trained = declared.train(recipe, **of, limit_s=request.limit_s)
            self.spent_s += trained.seconds * (cost.HANG if trained.hangs else 1)
            seen = request.start + trained.examples
            made = replace(
                made,
                checkpoint=trained.checkpoint,
                learned=dict(trained.learned),
                train_s=trained.seconds,
                examples=trained.examples,
            )
        made = replace(made, epochs=round(seen / declared.kind.train_examples, 4))
        self.spent_s += cost.EXPORT_S
        outcome = self._files(recipe, made, seen, skip, worth_below)
        if not outcome.evaluations and outcome.failed:
            raise CandidateFailed(outcome.failed[0][2], outcome.failed[0][1])
        return outcome

    def _ground(self, exporter: str, only: Sequence[str] | None, later: Sequence[str] = ()) -> Preparation:
        """The strategies that apply, but those that do ``later``; their variants are not timed yet."""
        kind = self.declared.kind
        asked = [a for a in kind.applicable if a.name not in later and (only is None or a.name in only)]
        in_use = [a for a in asked if only is not None or a.size_only is None]
        self._variants = tuple((Step.of(a.name, **params), 1.0) for a in in_use for params in a.variants)
        refused = (*kind.refused, *(Refusal(name, "these examples do not tell") for name in later))
        return Preparation(
            name=kind.name,
            fingerprint=kind.name,
            metric="accuracy",
            own_metric=False,
            chance=None,
            train_examples=kind.train_examples,
            val_examples=kind.val_examples,
            test_examples=kind.test_examples,
            applicable=tuple(asked),
            refused=refused,
            exporter=exporter,
            export_note=f"by {exporter}",
            exported=False,
            reference=ModelFile(Recipe(), "reference/model.onnx", "reference"),
            feeds="feeds",
            warnings=kind.warnings,
            versions={},
        )

    def _reference(self) -> tuple[Evaluation, Outcome]:
        family = self._files(Recipe(), Outcome(), 0, (), None)
        own = replace(family.evaluations[0], id="reference", latency=latency_of(self.declared.reference_timing()))
        return own, replace(family, evaluations=family.evaluations[1:])

    def _files(
        self, recipe: Recipe, made: Outcome, examples: int, skip: Sequence[Step], worth_below: float | None
    ) -> Outcome:
        """Every file timed, then those scored that are worth it: the fastest in any case."""
        timed: list[tuple[Recipe, Latency]] = []
        for file in (recipe, *(recipe.rewritten(v) for v in self._variants_for(recipe) if v not in skip)):
            try:
                self._make(file)
            except CandidateFailed as error:
                made = replace(made, failed=(*made.failed, (file, error.strategy or "", error.reason)))
                continue
            self.spent_s += cost.TIMED_S
            latency = latency_of(self.declared.timing(file, made.rung))
            if file.variant and not self._for_size(file.variant) and no_faster(latency, timed[0][1]):
                share = latency.ratio / timed[0][1].ratio
                reason = f"no faster than the float file it was made from ({share:.2f} of its latency)"
                made = replace(made, slower=(*made.slower, Rejected(file, reason, latency.statistic, latency.ratio)))
                continue
            timed.append((file, latency))
        fastest = min(timed, key=lambda pair: pair[1].ratio)[0]
        for file, latency in timed:
            needed = file == fastest or (file.variant is not None and self._for_size(file.variant))
            if not needed and worth_below is not None and latency.reliable and latency.ratio_low >= worth_below:
                reason = f"no faster than a model that loses nothing ({latency.ratio:.3g} of the reference's latency)"
                left = Rejected(file, reason, latency.statistic, latency.ratio)
                made = replace(made, hopeless=(*made.hopeless, left))
                continue
            self.spent_s += cost.SCORED_S
            try:
                evaluation = self._scored(file, made, examples, latency)
            except CandidateFailed as error:
                by = file.variant.strategy if file.variant else "export"
                made = replace(made, failed=(*made.failed, (file, by, error.reason)))
                continue
            made = replace(made, evaluations=(*made.evaluations, evaluation))
        return made

    def _scored(self, file: Recipe, made: Outcome, examples: int, latency: Latency) -> Evaluation:
        declared, name = self.declared, f"{file.id}-{made.rung}"
        score, size = declared.score(file, made.rung, examples), declared.bytes_of(file)
        counted = size, round(0.9 * size), declared.params(file), declared.macs(file)
        own = Score(score, round(score - 0.01, 6), round(score + 0.01, 6))
        kept = f"candidates/{name}/model.onnx", f"digest-{name}", f"val-{name}"
        return Evaluation(name, file, made.epochs, made.rung, own, latency, *counted, *kept)

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
