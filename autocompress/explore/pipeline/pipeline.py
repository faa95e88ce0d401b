"""One candidate, from recipe to measured files: what is asked to be computed of it, in order.

``gate``: make the untrained structure -> compare its fastest variant.
``evaluate``: train -> make the float file and every graph variant -> compare each -> score those worth it.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from autocompress.budget import Budget
from autocompress.candidate.make import discard
from autocompress.candidate.preparation import Preparation
from autocompress.candidate.request import (
    FamilyFiles,
    Made,
    ModelFile,
    NotScored,
    Sample,
    Scored,
    TrainedWeights,
    TrainRequest,
    UntrainedFiles,
)
from autocompress.comparison import TimingSession
from autocompress.compute.operations import Operations
from autocompress.compute.waiting import waited_s
from autocompress.errors import CandidateFailed
from autocompress.evaluation import Evaluation, Outcome, Rejected
from autocompress.explore.concurrency import all_done
from autocompress.explore.pipeline.evaluated import evaluation_of, recipe_file
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.pipeline.left import Left
from autocompress.explore.pipeline.scoring import ScoreFiles, Stands, TimedFile, anything_stands, score_each
from autocompress.explore.pipeline.scoring_speed import ScoringSpeed
from autocompress.explore.pipeline.timed_graphs import SESSION_S, TimedGraphs
from autocompress.explore.pipeline.variants import Ratios, is_for_size, variants_for, worth_gating
from autocompress.explore.pipeline.worth import is_far_over, no_faster, too_slow
from autocompress.latency import Latency
from autocompress.measure import CompareRequest, DeviceLost, latency_of, place_limit_s
from autocompress.operator_kinds import OperatorKinds, scaled, slower_in
from autocompress.profile import HardwareProfile
from autocompress.recipe import TRAIN, Recipe, Step
from autocompress.storage.atomic import write_text
from autocompress.storage.folder import RunFolder
from autocompress.storage.front import RECIPE

CLEARLY_SLOWER = 1.05  # times the float file, whose operators are worth looking at
EXPLAINED_FROM_S = 0.25  # of a session: searches of two minutes and less do not look
PROFILE_LIMIT_S = 60.0  # for where the time of one file goes


@dataclass(frozen=True)
class Pipeline:
    """ratios: of the graph variants on the reference. timed: what was timed so far. speed: of scoring. session_s:
    seconds of one timing session, at most. now: seconds of the search. most_variants: of a trained family; None: all.
    sample: what files are scored on first; None: on all examples at once. explained: strategies of which
    the operators of a slower variant were looked at. memories: bytes that files take, by graph.
    """

    operations: Operations
    folder: RunFolder
    profile: HardwareProfile
    seed: int
    prepared: Preparation
    ratios: Ratios
    timed: TimedGraphs = field(default_factory=TimedGraphs)
    speed: ScoringSpeed = field(default_factory=ScoringSpeed)
    session_s: float = SESSION_S[1]
    now: Callable[[], float] = time.monotonic
    most_variants: int | None = None
    sample: Sample | None = None
    explained: set[str] = field(default_factory=set)
    memories: dict[str, int] = field(default_factory=dict)

    def on(self, prepared: Preparation) -> "Pipeline":
        """The same on a task that is known better; what was timed beside another reference counts no more."""
        same = prepared.reference == self.prepared.reference
        return replace(self, prepared=prepared, timed=self.timed if same else TimedGraphs())

    async def gate(self, recipe: Recipe, budget: Budget, limit_s: float) -> Gate:
        """Time a structure before any training: latency does not depend on the values of the weights.

        The variants that were fast on the reference are tried in turn until one is within the budget; the float file
        last, and not when a variant that was much faster than it on the reference is far over the budget.
        """
        left = self._left(limit_s)
        timed: dict[Step | None, Latency] = {}
        sessions: list[tuple[str, TimingSession]] = []
        made: Made | None = None
        temporary: list[ModelFile] = []
        try:
            for variant in (*worth_gating(recipe, self.ratios, self.prepared.applicable), None):
                if variant is None and is_far_over(timed, self.ratios, budget):
                    break
                if made is None or variant is not None:
                    found = await self.operations.make(
                        UntrainedFiles(
                            recipe,
                            self.prepared.exporter,
                            variants=() if variant is None else (variant,),
                            source=None if made is None else made.source,
                        ),
                        limit_s=left(),
                    )
                    temporary += (found.source, *found.files)
                    made = made or found
                    files = found.files if variant is not None else (found.source,)
                else:
                    files = (made.source,)
                if not files:
                    continue  # it fails again, with its reason kept, if the family is evaluated
                graph = files[0].graph
                try:
                    sessions += [(graph, session) for session in await self._first_session(files[0], left)]
                    timed[variant] = latency_of(self.timed.of(graph))
                except CandidateFailed:
                    if variant is None:
                        raise
                    continue
                if budget.bounded and not budget.excluded(timed[variant]):
                    break
        finally:
            for file in temporary:
                discard(self.folder.root / file.path)
        assert made is not None
        fastest = min(timed.values(), key=lambda latency: latency.ratio)
        source = timed.get(None)
        slower = tuple(v for v, latency in timed.items() if v is not None and source and no_faster(latency, source))
        return Gate(fastest, made.plans, slower, made.macs, tuple(sessions))

    async def evaluate(
        self,
        request: TrainRequest,
        *,
        skip: Sequence[Step] = (),
        worth_below: float | None = None,
        stands: Stands = anything_stands,
        limit_s: float,
        first_look: bool = False,
    ) -> Outcome:
        """Train a family and measure every file that comes of it. Raises CandidateFailed when that is nothing but
        failures.

        Every file is timed before any is scored: what is no faster than the file it was made from, or too slow to add
        anything to the front, is not scored; the fastest one is in any case. skip: graph variants not to make.
        worth_below: the latency ratio at and above which a file adds nothing, whatever it scores. stands: whether
        a file of this score and latency ratio would be on the front, which is what is scored on all examples.
        first_look: it is asked before the training of a recipe that trains, to tell whether that is worth it: of the
        variants that a gate times the fastest file is scored alone, and where nothing was repaired none is made.
        """
        left = self._left(limit_s)
        weights = await self.operations.train(request, limit_s=left())
        trained = request.start + request.examples > 0 or request.recipe.step(TRAIN) is None
        first_look = first_look and not trained
        if first_look and weights.checkpoint is None:
            return Outcome(plans=weights.plans, rung=request.rung)
        variants = variants_for(request.recipe, self.ratios, self.prepared.applicable, trained=trained)
        if first_look:
            gated = worth_gating(request.recipe, self.ratios, self.prepared.applicable)
            variants = [variant for variant in variants if variant in gated]
        made = await self.operations.make(
            FamilyFiles(
                weights,
                request.rung,
                self.prepared.exporter,
                variants=tuple(v for v in variants[: self.most_variants] if v not in skip),
            ),
            limit_s=left(),
        )
        begun, score = _begun(weights, request.rung), self._score(stands, left)
        if first_look:
            return await self._first_scored(made, begun, score, left)
        return await self._measured(made, begun, worth_below, score, left)

    async def evaluate_reference(self, limit_s: float) -> Outcome:
        """Measure the file that the unchanged model was exported to while its graph variants are made, and those while
        it is scored: nothing else can be computed yet.
        """
        left = self._left(limit_s)
        weights, variants = (
            TrainedWeights(Recipe(), ()),
            tuple(variants_for(Recipe(), self.ratios, self.prepared.applicable)),
        )
        request = FamilyFiles(weights, 0, self.prepared.exporter, variants, source=self.prepared.reference)
        making = asyncio.ensure_future(self.operations.make(request, limit_s=left()))
        measuring = asyncio.ensure_future(self._latency(self.prepared.reference, left))
        await all_done([making, measuring])
        made = making.result()
        own, score = (made.source, measuring.result()), self._score(anything_stands, left)
        scoring = asyncio.ensure_future(score([own]))
        timing = asyncio.ensure_future(self._timed_variants(made, own[1], _begun(weights, 0), left))
        await all_done([scoring, timing])
        timed, outcome = timing.result()
        answers = [*scoring.result(), *await score(timed)]
        return _or_why_not(await self._entered(made, [own, *timed], answers, outcome, left))

    async def session(self, evaluation: Evaluation, seconds: float, limit_s: float) -> TimingSession:
        """A finished file timed in one more session, which may take so many seconds."""
        file = ModelFile(evaluation.recipe, evaluation.artifact, evaluation.digest, evaluation.graph)
        return await self._session(file, seconds, self._left(limit_s))

    async def _latency(self, file: ModelFile, left: Left) -> Latency:
        """What all sessions of a file's graph say, with a first one where there is none."""
        await self._first_session(file, left)
        return latency_of(self.timed.of(file.graph))

    async def _first_session(self, file: ModelFile, left: Left) -> Sequence[TimingSession]:
        """The one that a graph is known by from then on; none where it is known."""
        if self.timed.known(file.graph):
            return ()
        return (await self._session(file, self.timed.affordable_s(self.session_s, self.now()), left),)

    async def _session(self, file: ModelFile, seconds: float, left: Left) -> TimingSession:
        path, reference = self.folder.root / file.path, self.folder.reference
        request = CompareRequest(path, reference, self.prepared.feeds, seconds)
        limit_s, began, waited = self._on_target(left(), seconds), self.now(), waited_s()
        try:
            session = replace(await self.operations.compare(request, limit_s=limit_s), file=file.digest)
        finally:
            if self.profile.elsewhere:  # what takes long there is not the file
                left.add(self.now() - began - (waited_s() - waited))
        self.timed.add(file.graph, [session])
        return session

    async def _measured(
        self, made: Made, begun: Outcome, worth_below: float | None, score: ScoreFiles, left: Left
    ) -> Outcome:
        """The files of a family timed, and those worth it scored; a failure costs its own file alone."""
        base = await self._latency(made.source, left)
        variants, outcome = await self._timed_variants(made, base, begun, left)
        timed = [(made.source, base), *variants]
        fastest, _ = min(timed, key=lambda pair: pair[1].ratio)
        kept: list[TimedFile] = []
        for file, latency in timed:
            if file is not fastest and not self._for_size(file) and too_slow(latency, worth_below):
                reason = f"no faster than a model that loses nothing ({latency.ratio:.3g} of the reference's latency)"
                outcome = replace(outcome, hopeless=(*outcome.hopeless, self._rejected(file, latency, reason)))
            else:
                kept.append((file, latency))
        return _or_why_not(await self._scored(made, kept, outcome, score, left))

    async def _timed_variants(
        self, made: Made, base: Latency, outcome: Outcome, left: Left
    ) -> tuple[list[TimedFile], Outcome]:
        """The graph variants that are faster than the float file they were made from, whose latency is ``base``, or
        that are for size, and the outcome with the others.
        """
        timed: list[TimedFile] = []
        outcome = replace(outcome, failed=(*outcome.failed, *made.failed))
        for file in made.files:
            try:
                latency = await self._latency(file, left)
            except CandidateFailed as error:
                outcome = self._without(outcome, file, error.strategy, error.reason)
                continue
            if not self._for_size(file) and no_faster(latency, base):
                slower = latency.ratio / base.ratio
                beside = (file, latency), (made.source, base)
                why = await self._why_slower(*beside, left) if slower > CLEARLY_SLOWER else ""
                reason = f"no faster than the float file it was made from ({slower:.2f} of its latency){why}"
                outcome = replace(outcome, slower=(*outcome.slower, self._rejected(file, latency, reason)))
                continue
            timed.append((file, latency))
        return timed, outcome

    def _score(self, stands: Stands, left: Left) -> ScoreFiles:
        return partial(score_each, self._timed_score, self.sample, stands, self._for_size, left)

    async def _memory(self, file: ModelFile, left: Left) -> int | None:
        """Bytes that a file of this graph takes on the target; None where the profile does not limit them."""
        if self.profile.max_memory_bytes is None:
            return None
        if file.graph not in self.memories:
            path = self.folder.root / file.path
            try:
                limit_s = self._on_target(left())
                self.memories[file.graph] = await self.operations.memory(path, self.prepared.feeds, limit_s=limit_s)
            except CandidateFailed:
                return None
        return self.memories[file.graph]

    async def _why_slower(self, timed: TimedFile, base: TimedFile, left: Left) -> str:
        """The operators in which a variant spends more than the float file it was made from, of the first of its
        strategy that does; it is left open where the target does not tell, and in a search that is too short to look.
        """
        (file, latency), (source, source_latency) = timed, base
        strategy = file.recipe.variant.strategy if file.recipe.variant else ""
        if strategy in self.explained or self.session_s < EXPLAINED_FROM_S:
            return ""
        self.explained.add(strategy)
        try:
            kinds = [await self.operators(one.path, min(left(), PROFILE_LIMIT_S)) for one in (source, file)]
        except (CandidateFailed, DeviceLost):
            return ""
        before, after = (scaled(of_one, ms.p50) for of_one, ms in zip(kinds, (source_latency, latency), strict=True))
        more = slower_in(before, after)
        return f": {more}" if more else ""

    async def operators(self, file: str, limit_s: float) -> OperatorKinds:
        """Where the time of a file of the run folder goes."""
        path, limit_s = self.folder.root / file, self._on_target(limit_s)
        return await self.operations.operators(path, self.prepared.feeds, limit_s=limit_s)

    def _on_target(self, limit_s: float, seconds: float = 0.0) -> float:
        """The limit of something measured that takes so many seconds: more on a device elsewhere."""
        return max(limit_s, place_limit_s(self.profile, seconds))

    async def _first_scored(self, made: Made, begun: Outcome, score: ScoreFiles, left: Left) -> Outcome:
        """The first of the files that can be timed and scored, the fastest at the gate first; the others go."""
        outcome, files = replace(begun, failed=made.failed), sorted((*made.files, made.source), key=self._known_ratio)
        for number, file in enumerate(files, 1):
            try:
                timed = file, await self._latency(file, left)
            except CandidateFailed as error:
                outcome = self._without(outcome, file, error.strategy, error.reason)
                continue
            outcome = await self._scored(made, [timed], outcome, score, left)
            if outcome.evaluations:
                for other in files[number:]:
                    self._discard(other)
                break
        return _or_why_not(outcome)

    def _known_ratio(self, file: ModelFile) -> float:
        """Of a file's latency to the reference's; infinite where its graph was never timed."""
        return latency_of(self.timed.of(file.graph)).ratio if self.timed.known(file.graph) else math.inf

    async def _scored(
        self, made: Made, timed: Sequence[TimedFile], outcome: Outcome, score: ScoreFiles, left: Left
    ) -> Outcome:
        return await self._entered(made, timed, await score(timed), outcome, left)

    async def _entered(
        self,
        made: Made,
        timed: Sequence[TimedFile],
        answers: Sequence[Scored | NotScored],
        outcome: Outcome,
        left: Left,
    ) -> Outcome:
        """The outcome with files that were scored, and without those that could not be."""
        for (file, latency), answer in zip(timed, answers, strict=True):
            if isinstance(answer, NotScored):
                outcome = self._without(outcome, file, answer.strategy, answer.reason)
                continue
            memory_bytes = await self._memory(file, left)
            evaluation = replace(evaluation_of(file, answer, latency, outcome), memory_bytes=memory_bytes)
            recipe = recipe_file(evaluation, outcome, self.prepared, made.exporter, self.profile, self.seed)
            write_text((self.folder.root / evaluation.artifact).with_name(RECIPE), recipe.to_toml())
            outcome = replace(outcome, evaluations=(*outcome.evaluations, evaluation))
        return outcome

    def _without(self, outcome: Outcome, file: ModelFile, strategy: str | None, reason: str) -> Outcome:
        """The outcome with a file that failed, which goes."""
        self._discard(file)
        by = file.recipe.variant.strategy if file.recipe.variant else "export"
        return replace(outcome, failed=(*outcome.failed, (file.recipe, strategy or by, reason)))

    def _rejected(self, file: ModelFile, latency: Latency, reason: str) -> Rejected:
        self._discard(file)
        return Rejected(file.recipe, reason, latency.statistic, latency.ratio)

    def _discard(self, file: ModelFile) -> None:
        if file != self.prepared.reference:
            discard(self.folder.root / file.path)

    def _for_size(self, file: ModelFile) -> bool:
        return is_for_size(file.recipe.variant, self.prepared.applicable)

    async def _timed_score(
        self, files: Sequence[TimedFile], sample: Sample | None, limit_s: float
    ) -> tuple[Scored | NotScored, ...]:
        began, waited = self.now(), waited_s()
        answers = await self.operations.score([file for file, _ in files], sample, limit_s=limit_s)
        examples = self.prepared.val_examples if sample is None else sample.examples
        call_ms = sum(latency.p50 for _, latency in files)
        self.speed.took(self.now() - began - (waited_s() - waited), examples / self.profile.batch * call_ms / 1e3)
        return answers

    def _left(self, limit_s: float) -> Left:
        return Left(limit_s, self.now)


def _begun(weights: TrainedWeights, rung: int) -> Outcome:
    """What evaluating a family gives before any file of it is timed."""
    return Outcome(
        plans=weights.plans,
        rung=rung,
        checkpoint=weights.checkpoint,
        learned=dict(weights.learned),
        epochs=weights.epochs,
        train_s=weights.seconds,
        examples=weights.examples,
        calibration=dict(weights.calibration),
    )


def _or_why_not(outcome: Outcome) -> Outcome:
    """Raises CandidateFailed where an outcome is nothing but failures."""
    if not outcome.evaluations and outcome.failed:
        raise CandidateFailed(outcome.failed[0][2], outcome.failed[0][1])
    return outcome
