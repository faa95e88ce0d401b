"""The search. ``Search.open`` and ``Search.run`` are the whole story: floor, first recipes, families and promotions
while time lasts, finish.

It is one coroutine for each worker of the executor: between two ``await`` nothing else of the driver runs.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from autocompress.budget import Budget
from autocompress.candidate.opening import Opening
from autocompress.candidate.preparation import Preparation
from autocompress.candidate.request import Gate, Request
from autocompress.compute.executor import Executor
from autocompress.compute.worker import OPEN_LIMIT_S, WorkerCrashed, WorkerDied
from autocompress.errors import AutocompressError, CandidateFailed, Interrupted
from autocompress.evaluation import Outcome, Rejected
from autocompress.explore import finish, identity, rungs
from autocompress.explore.admission import Admission, gate_limit_s
from autocompress.explore.clock import Clock
from autocompress.explore.concurrency import all_done
from autocompress.explore.durations import Durations
from autocompress.explore.early_stopping import EarlyStopping
from autocompress.explore.facts import Evaluated, Failed, Gated, fact_to_json
from autocompress.explore.family import Family
from autocompress.explore.first_recipes import default_recipes, first_recipes
from autocompress.explore.floor import Floor
from autocompress.explore.history import History
from autocompress.explore.identity import Settings
from autocompress.explore.proposer import Proposer
from autocompress.explore.sampler import Asked, Sampler
from autocompress.explore.space import Space
from autocompress.explore.standings import Standings
from autocompress.explore.structure_model import StructureModel
from autocompress.explore.time_budget import TimeBudget
from autocompress.recipe import Recipe
from autocompress.storage.folder import RunFolder
from autocompress.storage.record import Record

CALL_SLACK_S = 180.0  # export, quantization and measuring around a training
SCORED_TWICE = 2.0  # times what scoring should take
REFUSED = 30  # structures in a row that could add nothing to the front, after which nothing is left to explore
GIVE_UP_AFTER = 5  # failures with nothing that worked
FORETOLD = 0.5  # rank correlation between the first rung and the last, below which the first one gets longer
SURE = 6  # families trained on, before the correlation means anything
SURE_BY = 30  # families trained on, after which it will not change any more
TRIM_EVERY = 20  # families, between two looks at how much is stored


class View(Protocol):
    """What is shown while it runs."""

    def opened(self, opening: Opening, space: Space) -> None: ...
    def note(self, text: str) -> None: ...
    def status(self, standings: Standings, left_s: float) -> None: ...


class Search:
    """One search on one run folder. ``executor`` computes; this process decides and records."""

    def __init__(
        self,
        settings: Settings,
        executor: Executor,
        folder: RunFolder,
        record: Record,
        view: View,
        clock: Clock,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings = settings
        self.executor = executor
        self.folder = folder
        self.record = record
        self.view = view
        self.clock = clock
        self.interrupted = interrupted
        self.durations = Durations(clock)
        self._gating = asyncio.Semaphore(executor.concurrency)
        self._busy: dict[str, tuple[Recipe, int]] = {}  # by id, with the rung it trains to
        self._refused = 0  # structures in a row
        self._failure: BaseException | None = None

    async def run(self) -> Standings:
        """After ``open``: search until the time, the trials or the space are used up, or nothing is gained any more,
        then finish. Raises Interrupted with the state saved.
        """
        if await self.floor.is_above_budget(self):
            await finish.conclude(self, self.standings)
            return self.standings
        await self._begin()
        await self._every_lane()
        await finish.finish(self, self.standings)
        return self.standings

    async def _every_lane(self) -> None:
        """Explore on all concurrency until each is done; when one fails the others stop at their next safe point."""
        await all_done(self._work() for _ in range(self.executor.concurrency))

    async def _work(self) -> None:
        try:
            while not self._done() and self._failure is None:
                self.check_interrupted()
                family = self._promotable()
                if family is not None:
                    await self.advance(family, self.time.lengths[family.rung + 1])
                    self._lengthen()
                elif not await self._new_family():
                    return
                self.show()
        except BaseException as error:
            self._failure = error
            raise

    def _promotable(self) -> Family | None:
        """The family to train on now; the first recipes come first: they stand at the budget."""
        if self.proposer.waiting:
            return None
        name = rungs.promotable(self.standings.latest_points(), self.standings.opening.reference.score.val, self._busy)
        family = self.standings.families[name] if name is not None else None
        if family is None or not self.time.affords(self.time.lengths[family.rung + 1].seconds - family.train_s):
            return None
        return family

    async def _new_family(self) -> bool:
        """One new family: gate, then its first training. False when the space holds nothing new."""
        proposal = self.proposer.next()
        if proposal is None:
            return False
        asked = proposal.asked
        recipe = asked.recipe
        rung = proposal.rung if self.time.affords(self.time.lengths[proposal.rung].seconds) else 0
        length = self.time.lengths[rung]
        with self._under_way(recipe, rung):
            try:
                gate = await self.admission.gate(recipe)
                refusal = self.admission.refusal(recipe, gate, cheap=length.seconds < 0.2 * self.time.spare_s())
                if refusal is not None:
                    self._reject(asked, gate, refusal)
                    self._refused += 1
                    return self.standings.steering.bounded or self._refused < REFUSED
                self._refused = 0
                began = self.clock.elapsed()
                request = Request(
                    recipe,
                    rung=rung,
                    examples=length.examples,
                    limit_s=min(length.seconds, self.time.training_s()),
                    length_s=length.seconds,
                    plans=gate.plans,
                    skip=gate.slower,
                )
                outcome = await self.evaluate(request)
                self.durations.family(self.clock.elapsed() - began, outcome.train_s, first_rung=rung == 0)
            except CandidateFailed as error:
                if self._cut_off(error):
                    return False
                failed = Failed(recipe, error.strategy, error.reason)
                self.history.enter_trial(failed)
                self.sampler.failed(asked, fact_to_json(failed))
                self._give_up_if_hopeless()
                return True
            evaluated = Evaluated(recipe, outcome)
            self.history.enter_trial(evaluated)
            best = self.standings.standing(self.standings.families[recipe.id]).best
            point, over = self.standings.clipped(best), self.standings.excess(best)
            self.sampler.tell(asked, point, over, fact_to_json(evaluated))
        return True

    async def open(self) -> None:
        """Open the task and what an earlier process recorded; before the reference is evaluated, look whether the
        budget can be met at all. Raises UsageError when this is not the same search.
        """
        identity.refuse_another_version(self.record)
        stored, began, only = self.record.get("opening"), self.clock.elapsed(), self.settings.space.strategies
        known = Opening.from_json(stored) if stored else None
        with self.executor.sharing(1):  # other concurrency have nothing to do yet
            ground: Preparation = await self._opened_by("prepare", known and known.preparation, only)
            self._prepared_s = self.record.get("prepared_s") or self.clock.elapsed() - began
            self.space = Space.of(self.settings.space, ground.applicable, ground.refused)
            identity.refuse_another_search(self.record, self.settings, self.space)
            same = self.record.get("identity") == identity.identity_of(self.settings, self.space)
            self.floor = Floor(self.settings.budget, self.record.get("floor") if same else None)
            await self.floor.find(self)
            self.opening: Opening = await self._opened_by("open", known, only)
            space = Space.of(self.settings.space, self.opening.applicable, self.opening.refused)
            exporter, why = self.opening.preparation.exporter, ""
            if exporter != ground.exporter:
                why = f"the {exporter} exporter's file is faster"
            elif space != self.space:
                why = "other strategies apply"
            self.space = space
            if why:
                self._prepared_s = self.clock.elapsed() - began
                await self.floor.find_again(self, why)
        named = set(only or ())
        said = [f"{a.name}: {a.size_only}" for a in self.opening.applicable if a.name in named and a.size_only]
        if self.space.structural and not self.space.training:
            said.append("no strategy of this search space trains, so changed structures are measured untrained")
        self.opening = replace(self.opening, warnings=(*self.opening.warnings, *said))
        self._keep_opening()
        self.history = History(self.opening, self.record)
        self.standings = Standings(self.history, self.settings.budget)
        self.sampler = Sampler(self.space, self.record, self.settings.seed)
        structures = StructureModel(self.space)
        self.proposer = Proposer(self.sampler, self.standings, structures, lambda recipe: recipe.id in self._busy)
        self.admission = Admission(self.space, self.standings, structures, self._recorded_gate)
        for gated in self.history.every(Gated):
            self.admission.learn(gated.recipe, gated.ratio, gated.macs)
        for recipe, answer in self.floor.answers.items():
            self.admission.remember(recipe, answer)
        self._early_stopping = EarlyStopping()
        # Families of an earlier process are compared with those of this one, so their rungs are the same.
        stored_lengths = [rungs.Length(*length) for length in self.record.get("lengths") or ()]
        lengths = stored_lengths or rungs.lengths(self.clock.limit_s, self.opening.train_examples)
        batch, concurrency = self.settings.profile.batch, self.executor.concurrency
        self.time = TimeBudget(
            self.clock, self.durations, self.standings, lengths, batch=batch, concurrency=concurrency
        )
        self._keep_lengths()
        self.view.opened(self.opening, self.space)
        self.show()

    async def _opened_by(self, method: str, *args: Any) -> Any:
        """A call without which there is no search. Raises AutocompressError when it ends the worker."""
        try:
            return await self.executor.call(method, *args, limit_s=max(OPEN_LIMIT_S, self.clock.limit_s))
        except WorkerDied as error:
            at = f' at "{error.doing}"' if error.doing else ""
            raise AutocompressError(
                f"the task could not be opened{at}: {error.reason}; a large task needs more --minutes, and a strategy "
                "that is named there can be left out (--space)"
            ) from error

    def _keep_opening(self) -> None:
        """Record what was opened; nothing is, of a task that could not be."""
        self.record.set("identity", identity.identity_of(self.settings, self.space))
        self.record.set("prepared_s", self._prepared_s)
        self.record.set("floor", self.floor.to_json())
        self.record.set("opening", self.opening.to_json())

    def _keep_lengths(self) -> None:
        self.record.set("lengths", [[length.seconds, length.examples] for length in self.time.lengths])

    async def _begin(self) -> None:
        """Find what to try before the sampler is asked: what a kill interrupted, then default recipes."""
        if self.space.structural and not self.record.get("started"):
            gated: dict[Recipe, Gate] = {}

            async def gate(recipe: Recipe) -> Gate:
                gated[recipe] = await self.admission.gate(recipe)
                return gated[recipe]

            first, defaults = [], []
            if self.standings.steering.bounded:
                first = await first_recipes(self.space, self.standings.steering, gate)
                # What the bisection saw, the sampler knows too.
                for recipe in (r for r in gated if r not in first and self.admission.over(gated[r])):
                    self._reject(self.sampler.given(recipe), gated[recipe], "over the budget before training")
            else:
                defaults = await default_recipes(self.space, gate)
            self.record.set("first", [r.to_json() for r in first])
            self.record.set("defaults", [r.to_json() for r in defaults])
            self.record.set("started", True)
        waiting = {Recipe.from_json(recipe): rung for recipe, rung in self.record.get("pending") or []}
        for recipe in self._recorded("first"):
            waiting.setdefault(recipe, 0)
        self.proposer.waiting = [(recipe, rung) for recipe, rung in waiting.items() if not self.standings.ended(recipe)]
        self.proposer.defaults = self._recorded("defaults")

    def _recorded(self, key: str) -> list[Recipe]:
        return [Recipe.from_json(recipe) for recipe in self.record.get(key) or []]

    async def advance(self, family: Family, total: rungs.Length) -> None:
        """Train a family on, up to ``total`` in all, from its checkpoint, with warm-up and annealing anew."""
        last = family.latest
        limit_s = max(total.seconds - family.train_s, 1.0)
        request = Request(
            family.recipe,
            rung=family.rung + 1,
            start=family.examples,
            examples=max(total.examples - family.examples, 0),
            limit_s=limit_s,
            length_s=limit_s if total in self.time.lengths else None,  # a finalist trains as long as there is time
            checkpoint=last.checkpoint,
            plans=last.plans,
            learned=last.learned,
        )
        with self._under_way(family.recipe, family.rung + 1):
            try:
                self.history.enter(Evaluated(family.recipe, await self.evaluate(request)))
            except CandidateFailed as error:
                if self._cut_off(error):
                    return
                self.history.enter(Failed(family.recipe, error.strategy, error.reason))

    def _lengthen(self) -> None:
        """Make the first rung longer, once, when it says little of the last."""
        if self.record.get("lengthened") or len(self.standings.trained_on) > SURE_BY:
            return
        foretold = self.standings.rank_correlation(SURE)
        if foretold is not None and foretold < FORETOLD:
            self.time.lengths = tuple(length.times(rungs.ETA) for length in self.time.lengths)
            self._keep_lengths()
            self.record.set("lengthened", True)
            self.view.note(
                f"the first training says little of the last (rank correlation {foretold:.2f}): from now on it is "
                f"{rungs.ETA} times as long"
            )

    @contextmanager
    def _under_way(self, recipe: Recipe, rung: int) -> Iterator[None]:
        """While open, no other coroutine takes this recipe; after a kill it is what is tried first."""
        self._busy[recipe.id] = recipe, rung
        self._keep_pending()
        try:
            yield
        except CandidateFailed as error:
            if not self._cut_off(error):
                del self._busy[recipe.id]
            raise
        del self._busy[recipe.id]  # after any other error, and when the time was over, it stays pending
        self.save_progress()

    async def timed_gate(self, recipe: Recipe, budget: Budget) -> Gate:
        async with self._gating:  # what waits for a worker can still be interrupted, and its limit is that of its turn
            self.check_interrupted()
            limit_s = self.durations.within(gate_limit_s(self._prepared_s))
            gate: Gate = await self.executor.call("gate", Request(recipe), budget, limit_s=limit_s)
            return gate

    async def _recorded_gate(self, recipe: Recipe) -> Gate:
        gate = await self.timed_gate(recipe, self.standings.steering)
        self.history.enter(Gated(recipe, gate.latency.ratio, gate.macs))
        return gate

    def _reject(self, asked: Asked, gate: Gate, reason: str) -> None:
        recipe = asked.recipe
        took, disturbed = gate.latency.statistic, "" if gate.latency.reliable else ", disturbed"
        rejected = Rejected(recipe, f"{reason} ({took:.4g} ms{disturbed})", took, gate.latency.ratio)
        self.history.enter_trial(rejected)
        over = max(self.standings.steering.excess(gate.latency), 1e-6)
        self.sampler.rejected(asked, over, fact_to_json(rejected))

    async def evaluate(self, request: Request) -> Outcome:
        """Evaluate a family; when the worker crashes, once more from where the training was kept."""
        skip = (*request.skip, *self.standings.slower_variants(request.recipe))
        request = replace(request, skip=tuple(dict.fromkeys(skip)), worth_below=self.admission.worth_below())
        began = self.clock.elapsed()
        limit_s = (request.limit_s or 0.0) + CALL_SLACK_S + SCORED_TWICE * self.time.scored_s()
        try:
            outcome: Outcome = await self.executor.call("evaluate", request, limit_s=self.durations.within(limit_s))
        except WorkerCrashed as error:
            self.view.note(f"{error.reason}: {request.recipe.techniques()} goes on in a new one")
            if request.limit_s is not None:
                request = replace(request, limit_s=max(1.0, request.limit_s - (self.clock.elapsed() - began)))
            outcome = await self.executor.call("evaluate", request, limit_s=self.durations.within(limit_s))
        now = self.clock.elapsed()
        return replace(outcome, evaluations=tuple(e.at(now) for e in outcome.evaluations))

    def _cut_off(self, error: CandidateFailed) -> bool:
        """Whether a call was ended because the time of the search is over, which is no fault of the candidate's."""
        return isinstance(error, WorkerDied) and self.clock.left() <= 0

    def _done(self) -> bool:
        trials = self.settings.trials
        if trials is not None and len(self.standings.families.keys() | self._busy.keys()) >= trials:
            return True
        searched_s = self.clock.elapsed()
        self._early_stopping.seen(self.standings.worth(), searched_s)
        if self._early_stopping.stalled(len(self.standings.families), searched_s):
            return True
        return not self.time.affords_family()

    def save_progress(self) -> None:
        """Record how far the search has come, and keep the store within its bounds."""
        self._keep_pending()
        self.record.set("elapsed_s", self.clock.elapsed())
        if len(self.standings.families) % TRIM_EVERY == 0:
            self.folder.trim(self.standings.in_use())

    def _keep_pending(self) -> None:
        self.record.set("pending", [[recipe.to_json(), rung] for recipe, rung in self._busy.values()])

    def spent_s(self) -> dict[str, float]:
        """Seconds of all workers since this process began, by what they went into: the rest, when one had nothing to
        do or the driver made up its mind, is "driver".
        """
        spent = self.executor.spent()
        lanes_s = self.executor.concurrency * self.clock.since_start()
        return {**spent, "driver": max(0.0, lanes_s - sum(spent.values()))}

    def check_interrupted(self) -> None:
        if self.interrupted():
            raise Interrupted("stopped at a safe point")

    def _give_up_if_hopeless(self) -> None:
        causes = [f.reason for f in self.standings.failed]
        if not self.standings.families and len(causes) >= GIVE_UP_AFTER:
            counted = "; ".join(f"{causes.count(c)}x {c}" for c in dict.fromkeys(causes))
            raise AutocompressError(f"every candidate fails, so the search stops: {counted}")

    def show(self) -> None:
        self.view.status(self.standings, self.clock.left())
