"""The search. ``Search.run`` is the whole story: first recipes, families and promotions while time lasts, finish.

It is one coroutine for each family that can be under way: between two ``await`` nothing else of the driver runs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from optuna.trial import FrozenTrial

from autocompress.candidate.request import TrainRequest
from autocompress.compute.operations import Operations
from autocompress.compute.waiting import waited_s
from autocompress.errors import AutocompressError, CandidateFailed
from autocompress.evaluation import Rejected
from autocompress.explore.clock.clock import Clock
from autocompress.explore.clock.durations import Durations
from autocompress.explore.concurrency import all_done
from autocompress.explore.earlier_run import EarlierRung
from autocompress.explore.finishing.ablations import Ablations
from autocompress.explore.finishing.finish import Finish
from autocompress.explore.history.facts import Evaluated, Failed, Gated, Timed, TrialFact
from autocompress.explore.history.family import Family
from autocompress.explore.history.history import History
from autocompress.explore.opening.first_recipes import default_recipes, first_of, first_recipes
from autocompress.explore.opening.identity import Settings
from autocompress.explore.opening.opener import Opened
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.progress import Progress
from autocompress.explore.proposing.proposer import Proposer
from autocompress.explore.proposing.sampler import Asked, Sampler
from autocompress.explore.schedule import rungs
from autocompress.explore.schedule.early_stopping import EarlyStopping, causes_of_nothing
from autocompress.explore.schedule.rung_lengths import kept_lengths, lengthen
from autocompress.explore.schedule.time_budget import TimeBudget
from autocompress.explore.space.ladders import ladder_to, ladders, single_defaults
from autocompress.explore.standings.standings import Standings
from autocompress.explore.training.admission import Admission
from autocompress.explore.training.training import Training
from autocompress.explore.view import View
from autocompress.recipe import Recipe
from autocompress.storage.folder import RunFolder
from autocompress.storage.record import Record

REFUSED = 30  # structures in a row that could add nothing to the front, after which nothing is left to explore
CHEAP_SHARE = 0.2  # of the time that can be spared: what trains for less is cheap to try
FIRST_SHARE = 0.3  # of the time that can be spared, for finding what to try first
EXPLAINING_SHARE = 0.25  # of the time, for trainings that tell what each step of the best recipe brings, if asked for
MORE_TRAINED = 2  # times as many of the best, where timing new ones has had its share of the time
TRAINED_S = 15.0  # training of the nearest model when nothing can meet the budget


class Search:
    """One search on one run folder, of a task that is open. ``operations`` compute; this process decides and records.

    check_interrupted: raises Interrupted when the search is to end.
    """

    def __init__(
        self,
        settings: Settings,
        opened: Opened,
        operations: Operations,
        folder: RunFolder,
        record: Record,
        view: View,
        clock: Clock,
        durations: Durations,
        check_interrupted: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._operations = operations
        self._progress = Progress(record)
        self._view = view
        self._clock = clock
        self._durations = durations
        self._check_interrupted = check_interrupted
        self._policy = opened.policy
        self._space = opened.space
        self.floor = opened.floor
        self._gating = opened.gating
        self._finds_first = self._policy.first_recipes and bool(self._space.structural) and not self._progress.is_begun
        self._finds_default = self._finds_first
        self._finding = asyncio.Lock()  # what comes first
        self._refused = 0  # structures in a row
        self._failure: BaseException | None = None
        self._early_stopping = EarlyStopping()
        self.history = History(opened.opening, record)
        self.standings = Standings(self.history, settings.budget)
        self._sampler = Sampler(self._space, record.trials(), settings.seed, self._policy)
        self._structures = self._policy.parts.structure_model(self._space)
        self._admission = Admission(self._space, self.standings, self._structures, self._recorded_gate, self._policy)
        for gated in self.history.every(Gated):
            self._admission.learn(gated.recipe, gated.ratio, gated.macs)
        self._timed = opened.pipeline.timed
        for graph, sessions in self.standings.measured.graphs.items():
            self._timed.add(graph, sessions)
        for recipe, answer in opened.floor.answers.items():
            self._admission.remember(recipe, answer)
            if isinstance(answer, Gate):
                self._record_sessions(answer)
        first_lengths = rungs.lengths(clock.limit_s, self._policy)
        self._time = TimeBudget(
            clock,
            durations,
            self.standings,
            kept_lengths(self._progress, first_lengths),
            batch=settings.profile.batch,
            concurrency=operations.concurrency,
            speed=opened.pipeline.speed,
            policy=self._policy,
            on_device=bool(settings.profile.agents),
            explaining_s=EXPLAINING_SHARE * max(0.0, clock.left()) if settings.explain else 0.0,
        )
        self._training = Training(
            opened.pipeline,
            self.standings,
            self.history,
            self._progress,
            folder,
            clock,
            durations,
            self._time,
            self._admission.worth_below,
        )
        self._finish = Finish(
            opened.pipeline,
            self.standings,
            self._training,
            self._time,
            self.history,
            clock,
            durations,
            view,
            check_interrupted,
            self._ablations() if settings.explain else None,
        )
        self._view.status(self.standings, self._clock.left())

    def _ablations(self) -> Ablations:
        return Ablations(
            self._space,
            self.standings,
            self._training,
            self._time,
            self.history,
            self._clock,
            self._durations,
            self._view,
            self._admission.gate,
            self._structures.aimed,
        )

    @property
    def full_epochs(self) -> float:
        """Of the training split, that a finalist is trained for at most: in full."""
        return round(self._time.full_examples / self.standings.opening.prepared.train_examples, 1)

    async def run(self) -> Standings:
        """Search until the time, the trials or the space are used up, or nothing is gained any more, then finish.
        Raises Interrupted with the state saved.
        """
        self._view.phase("search")
        if self._floor_is_over():
            await self._make_the_floor()
            self._view.status(self.standings, self._clock.left())
            self._view.phase("finish")
            await self._finish.conclude()
            return self.standings
        proposer = self._proposer()
        await all_done(self._work(proposer) for _ in range(self._operations.families))
        self._view.phase("finish")
        await self._finish.run()
        return self.standings

    async def make_again(self, rungs: Sequence[EarlierRung]) -> Standings:
        """In place of a search: make the files of what another one found for this target, measure them, and choose.
        Raises Interrupted with the state saved.
        """
        self._view.phase("search")
        left = [rung for rung in rungs if not self.standings.ended(rung.family.recipe)]
        while left and self._clock.left() > self._time.closing_s() + self._durations.overhead_s():
            self._check_interrupted()
            rung, began = left.pop(0), self._clock.elapsed()
            try:
                outcome = await self._training.evaluate(rung.request)
                outcome = replace(outcome, examples=rung.outcome.examples, train_s=rung.outcome.train_s)
                self.history.enter(Evaluated(rung.family.recipe, outcome))
                self._durations.family(self._clock.elapsed() - began, 0.0)
            except CandidateFailed as error:
                if self._training.is_cut_off(error):
                    left.insert(0, rung)
                    break
                self.history.enter(Failed(rung.family.recipe, error.strategy, error.reason))
            self._view.status(self.standings, self._clock.left())
        if left:
            self._view.note(f"{len(left)} models were left out: there was no time for them; more --minutes add them")
        self._view.phase("finish")
        await self._finish.conclude()
        return self.standings

    def conclude_as_it_stands(self) -> None:
        """On the way out of a search that was interrupted or failed: choose of what there is."""
        self._finish.conclude_as_it_stands()

    def _floor_is_over(self) -> bool:
        """Whether even the fastest model of the space is over the budget."""
        budget = self._settings.budget
        return self.floor.is_over and all(budget.excess(e.latency) > 0 for e in self.standings.candidates())

    async def _make_the_floor(self) -> None:
        """Train the fastest model of the space, which comes nearest to the budget, and keep it."""
        assert self.floor.found is not None
        recipe, latency = self.floor.found
        free = min(e.latency.ratio for e in self.standings.candidates())
        if latency.ratio >= free or not recipe.steps or self.standings.ended(recipe):
            return
        examples = self._time.lengths[rungs.TRAINED].examples
        arithmetic = self._training.arithmetic
        request = TrainRequest(recipe, arithmetic, rung=rungs.TRAINED, examples=examples, limit_s=TRAINED_S)
        try:
            self.history.enter(Evaluated(recipe, await self._training.evaluate(request)))
        except CandidateFailed as error:
            self.history.enter(Failed(recipe, error.strategy, error.reason))

    async def _work(self, proposer: Proposer) -> None:
        """Explore until there is nothing left to do, also once what the others do has ended; when another coroutine
        fails, stop at the next safe point.
        """
        try:
            while self._failure is None:
                self._check_interrupted()
                if not self._done() and await self._step(proposer):
                    self._view.status(self.standings, self._clock.left())
                elif self._training.running:
                    await self._training.one_ends()
                else:
                    return
        except BaseException as error:
            self._failure = error
            raise

    async def _step(self, proposer: Proposer) -> bool:
        """Train the best of the untrained families, find what comes first, or try a new family. False when there is
        nothing to do.
        """
        times = 1 if self._timed.left_s(self._clock.elapsed()) else MORE_TRAINED
        if not proposer.is_waiting and await self._trained(self._promotable(times)):  # else it stands at the budget
            return True
        if self._finds_default and not proposer.is_waiting:
            self._finds_default = False
            proposer.wait_for(await self._one_default())
            return True
        if self._finds_first and not proposer.is_waiting:
            await self._find_first(proposer)
            return True
        return await self._new_family(proposer)

    async def _trained(self, family: Family | None) -> bool:
        """Train a family on to its next rung. False for none."""
        if family is None:
            return False
        await self._training.advance(family, self._time.lengths[family.rung + 1])
        if note := lengthen(self._time, self.standings, self._progress, self._policy):
            self._view.note(note)
        return True

    def _promotable(self, times: int) -> Family | None:
        """The family to train on now. times: as many of the best as usual."""
        if not self._policy.promotes:
            return None
        reference, points = self.standings.opening.reference.score.val, self.standings.untrained_points()
        name = rungs.promotable(points, reference, self._training.busy, self._policy, times)
        family = self.standings.families[name] if name is not None else None
        if family is None:
            return None
        training_s = self._time.lengths[family.rung + 1].seconds - family.train_s
        return family if self._time.affords(training_s, self._training.running) else None

    async def _new_family(self, proposer: Proposer) -> bool:
        """One new family: gate, then as it was repaired, or its first training where nothing can be. False when the
        space holds nothing new.
        """
        asked = proposer.next()
        if asked is None:
            return await self._trained(self._promotable(self._policy.eta))  # all that there are, one after another
        recipe, first_s = asked.recipe, self._time.lengths[rungs.TRAINED].seconds
        with self._training.under_way(recipe):
            try:
                gate = await self._admission.gate(recipe)
                refusal = self._admission.refusal(recipe, gate, cheap=first_s < CHEAP_SHARE * self._time.spare_s())
                if refusal is not None:
                    self._reject(asked, gate, refusal)
                    self._refused += 1
                    return self.standings.steering.bounded or self._refused < REFUSED
                self._refused = 0
                began, waited = self._clock.elapsed(), waited_s()
                outcome = await self._training.begin(recipe, gate)
                took = self._clock.elapsed() - began - (waited_s() - waited)
                self._durations.family(took, outcome.train_s)
            except CandidateFailed as error:
                if self._training.is_cut_off(error):
                    return False
                self._end(asked, Failed(recipe, error.strategy, error.reason), asked.failed())
                if causes := causes_of_nothing(self.standings):
                    raise AutocompressError(f"every candidate fails, so the search stops: {causes}") from error
                return True
            standing = self.standings.standing(Family(recipe, (outcome,)))
            ended = asked.evaluated(standing.best_point, self.standings.excess(standing.best))
            self._end(asked, Evaluated(recipe, outcome), ended)
        return True

    def _end(self, asked: Asked, fact: TrialFact, trial: FrozenTrial) -> None:
        """How a trial ended is recorded, then known, then the sampler learns of it."""
        self.history.end_trial(fact, trial)
        self._sampler.learn(asked, trial)

    def _proposer(self) -> Proposer:
        """It begins with what a kill interrupted, and with what an earlier process found to come first."""
        waiting, ended = self._progress.pending, self.standings.ended
        waiting += [recipe for recipe in self._progress.first if recipe not in waiting]
        return Proposer(
            self._sampler,
            self.standings,
            self._structures,
            self._is_passed_over,
            self._policy,
            waiting=[recipe for recipe in waiting if not ended(recipe)],
            defaults=self._progress.defaults,
        )

    def _is_passed_over(self, recipe: Recipe) -> bool:
        """Whether a recipe is under way, or another one that it would say nothing beside."""
        return self._training.is_busy(recipe) or self._admission.awaits_training(recipe, self._training.under_way_now)

    async def _one_default(self) -> list[Recipe]:
        """What a search begins with, so that a first family is there soon; the other defaults are found meanwhile. Of
        the first strategy: as mild as the budget allows, its default without one.
        """
        if not self.standings.steering.bounded:
            return single_defaults(self._space)[:1]
        rising = [*self._ladders_to_the_floor(), *ladders(self._space)]
        return await first_of(rising[:1], self.standings.steering, self._timed_in_time({}), rounds=1)

    async def _find_first(self, proposer: Proposer) -> None:
        """Where to begin beside one default; who else has nothing to do meanwhile waits."""
        async with self._finding:
            if not self._finds_first or self._failure is not None:
                return
            gated: dict[Recipe, Gate] = {}
            gate, first, defaults = self._timed_in_time(gated), list[Recipe](), list[Recipe]()
            if self.standings.steering.bounded:
                also = self._ladders_to_the_floor()
                first = await first_recipes(self._space, self.standings.steering, gate, also)
                # What the bisection saw, the sampler knows too.
                for recipe in (r for r in gated if r not in first and self._admission.over(gated[r])):
                    self._reject(self._sampler.given(recipe), gated[recipe], "over the budget before training")
            else:
                defaults = await default_recipes(self._space, gate)
            proposer.begin([recipe for recipe in first if not self.standings.ended(recipe)], defaults)
            self._progress.keep_begun(first=first, defaults=defaults)
            self._finds_first = False

    def _ladders_to_the_floor(self) -> list[list[Recipe]]:
        """Where a set of strategies had to be looked for to meet the budget at all: that at every strength."""
        return [ladder_to(self._space, self.floor.found[0])] if self.floor.found and self.floor.subset else []

    def _timed_in_time(self, gated: dict[Recipe, Gate]) -> Callable[[Recipe], Awaitable[Gate]]:
        """A structure's latency, within the share of the time there is for finding what comes first. gated: what was
        timed is entered there.
        """
        until = self._clock.elapsed() + FIRST_SHARE * self._time.spare_s()
        turns = asyncio.Semaphore(self._operations.families)  # one is timed while the next is made

        async def gate(recipe: Recipe) -> Gate:
            async with turns:
                if self._clock.elapsed() > until or self._failure is not None:
                    raise CandidateFailed("there is no time to look for a milder one")
                gated[recipe] = await self._admission.gate(recipe)
                return gated[recipe]

        return gate

    async def _recorded_gate(self, recipe: Recipe) -> Gate:
        gate = await self._gating.time(recipe, self.standings.steering)
        self.history.enter(Gated(recipe, gate.latency.ratio, gate.macs))
        self._record_sessions(gate)
        return gate

    def _record_sessions(self, gate: Gate) -> None:
        """Also those of a structure that is never trained: another of its graph, and the speed of the reference, are
        judged by them, and a search that goes on need not time it again.
        """
        for graph, session in gate.sessions:
            self.history.enter(Timed(graph, session))

    def _reject(self, asked: Asked, gate: Gate, reason: str) -> None:
        recipe = asked.recipe
        took, busy = gate.latency.statistic, "" if gate.latency.quiet else ", on a busy machine"
        rejected = Rejected(recipe, f"{reason} ({took:.4g} ms{busy})", took, gate.latency.ratio)
        over = max(self.standings.steering.excess(gate.latency), 1e-6)
        self._end(asked, rejected, asked.rejected(over))

    def _done(self) -> bool:
        trials = self._settings.trials
        if trials is not None and len(self.standings.families.keys() | self._training.busy) >= trials:
            return True
        searched_s = self._clock.elapsed()
        self._early_stopping.seen(self.standings.worth(), searched_s)
        if self._early_stopping.stalled(len(self.standings.families), searched_s):
            return True
        return not self._time.affords_family(self._training.running)
