"""The search. ``Search.run`` is the whole story: open, floor, first recipes, trials and promotions while time lasts,
finish.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Protocol

from optuna.trial import Trial

from autocompress.budget import Budget
from autocompress.candidate.evaluate import Outcome, Rejected
from autocompress.candidate.opening import Opening
from autocompress.candidate.pipeline import Gate, Request
from autocompress.errors import AutocompressError, CandidateFailed, Interrupted, UsageError
from autocompress.explore import finish, rungs
from autocompress.explore.aim import aimed
from autocompress.explore.clock import Clock
from autocompress.explore.ledger import Failed, Family, Ledger, opening_from_json, opening_to_json, restore
from autocompress.explore.sampler import Sampler
from autocompress.explore.space import Space, SpaceFile
from autocompress.explore.start import find_floor, first_recipes
from autocompress.profile import HardwareProfile
from autocompress.recipe import Recipe
from autocompress.run.folder import RunFolder
from autocompress.run.record import Record
from autocompress.run.worker import Executor

GATE_LIMIT_S = 120.0
OVERRUN = 0.05  # of the whole time, by which a hanging plug-in may delay the end
CALL_SLACK_S = 180.0  # export, quantization, scoring and measuring around a training
EXPLORE_EVERY = 10  # one trained family in ten may be over the budget, so that the front does not end there
EXPLORE_UP_TO = 3.0  # times the budget
WITH_ROOM = 0.92  # of the budget, below which the best family so far is tried again with milder strengths
GIVE_UP_AFTER = 5  # failures with nothing that worked
REPEATS = 40  # known recipes in a row before the space counts as exhausted
FLOOR_SECONDS = 15.0  # training of the nearest model when nothing can meet the budget


@dataclass(frozen=True)
class Settings:
    """What was asked. minutes: in all, over resumes. trials: trained families at most, or None."""

    budget: Budget
    minutes: float
    trials: int | None
    seed: int
    profile: HardwareProfile
    space: SpaceFile
    out: Path


class View(Protocol):
    """What is shown while it runs."""

    def opened(self, opening: Opening, space: Space) -> None: ...
    def note(self, text: str) -> None: ...
    def status(self, ledger: Ledger, left_s: float) -> None: ...


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
        self._gates: dict[Recipe, Gate] = {}
        self._durations: list[float] = []
        self._overheads: list[float] = []
        self._beyond = 0

    def run(self) -> Ledger:
        """After ``open``: search until the time, the trials or the space are used up, then finish. Raises Interrupted
        with the state saved.
        """
        if self._below_floor():
            finish.conclude(self, self.ledger)
            return self.ledger
        waiting = self._start()
        while not self._done():
            self.check_interrupted()
            # The first recipes come first: they span the front, or stand at the budget.
            best = self.ledger.opening.reference.score.val
            promoted = None if waiting else rungs.promotable(self._standing(), best)
            if promoted is not None and self._affords(self.ledger.families[promoted]):
                self.advance(self.ledger.families[promoted], self.lengths[self.ledger.families[promoted].rung + 1])
            elif not self._trial(waiting):
                break
            self.show()
        finish.finish(self, self.ledger)
        return self.ledger

    def open(self) -> None:
        """Open the task and what an earlier process recorded. Raises UsageError when this is not the same search."""
        stored = self.record.get("opening")
        known = opening_from_json(stored) if stored else None
        self.opening: Opening = self.executor.call("open", known, self.settings.space.strategies)
        self.space = Space.of(self.settings.space, self.opening.applicable, self.opening.refused)
        named = set(self.settings.space.strategies or ())
        said = [f"{a.name}: {a.size_only}" for a in self.opening.applicable if a.name in named and a.size_only]
        if self.space.structural and not self.space.training:
            said.append("no strategy of this search space trains, so changed structures are measured untrained")
        self.opening = replace(self.opening, warnings=(*self.opening.warnings, *said))
        self._refuse_change()
        self.record.set("opening", opening_to_json(self.opening))
        self.ledger = Ledger(self.opening, self.settings.budget)
        restore(self.ledger, self.record)
        self.sampler = Sampler(self.space, self.record, self.settings.seed)
        lengths = rungs.lengths(self.clock.limit_s, self.opening.seconds_per_example, self.opening.train_examples)
        # Families of an earlier process are compared with those of this one, so their rungs are the same.
        self.lengths: list[int] = self.record.get("lengths") or list(lengths)
        self.record.set("lengths", self.lengths)
        self.view.opened(self.opening, self.space)
        self.show()

    def _refuse_change(self) -> None:
        """A resume must be of the same search: same task, profile and choices. Added strategies join."""
        now: dict[str, Any] = {
            "budget": [self.settings.budget.latency_ms, self.settings.budget.speedup],
            "profile": self.settings.profile.model_dump(mode="json"),
            "seed": self.settings.seed,
            "space": self.space.describe(),
        }
        before = self.record.get("identity")
        if before is None:
            self.record.set("identity", now)
            return
        way_out = f"give another --out, or the settings {self.folder.root} was made with"
        for key, what in (("budget", "budget"), ("profile", "hardware profile"), ("seed", "seed")):
            if before[key] != now[key]:
                raise UsageError(
                    f"{self.folder.root} holds a search of another {what} "
                    f"({before[key]} then, {now[key]} now): {way_out}"
                )
        changed = [name for name, choices in before["space"].items() if now["space"].get(name) != choices]
        if changed:
            raise UsageError(
                f"{self.folder.root} holds a search of another space ({', '.join(changed[:3])} changed): {way_out}"
            )
        self.record.set("identity", now)

    def _below_floor(self) -> bool:
        """Whether even the fastest model of the space is over the budget; the nearest is then made and kept."""
        budget = self.settings.budget
        if not budget.bounded or any(budget.excess(e.latency) <= 0 for e in self.ledger.candidates()):
            return False
        found = find_floor(self.space, self._gate)
        if found is not None and not self._over(found[1]):
            return False
        free = min(self.ledger.candidates(), key=lambda e: e.latency.ratio)
        floor = min([free.latency, *([found[1].latency] if found else [])], key=lambda latency: latency.ratio)
        self.view.note(
            f"the budget of {budget} cannot be met here: the fastest model "
            f"of this space takes {floor.statistic:.4g} ms "
            f"({1 / floor.ratio:.1f}x faster than the reference)"
        )
        if (
            found is not None
            and found[1].latency.ratio < free.latency.ratio
            and found[0].id not in self.ledger.families
        ):
            try:
                outcome = self._evaluate(
                    Request(found[0], examples=self.lengths[0], limit_s=FLOOR_SECONDS, plans=found[1].plans)
                )
                self._keep_event(found[0], outcome)
            except CandidateFailed as error:
                self.ledger.failed.append(Failed(found[0], error.strategy, error.reason))
        return True

    def _start(self) -> list[Recipe]:
        """Recipes to try before the sampler is asked: the one a kill interrupted, then the defaults."""
        if not self.space.structural:
            return []
        pending = self.record.get("pending")
        first = [Recipe.from_json(pending)] if pending else []
        if not self.record.get("started"):
            gated: dict[Recipe, Gate] = {}

            def gate(recipe: Recipe) -> Gate:
                gated[recipe] = self._gate(recipe)
                return gated[recipe]

            recipes = first_recipes(self.space, self.ledger.steering, gate)
            self.record.set("first", [r.to_json() for r in recipes])
            # What the bisection saw, the sampler knows too.
            for recipe in (r for r in gated if r not in recipes and self._over(gated[r])):
                self._reject(self.sampler.ask(recipe)[0], recipe, gated[recipe])
            self.record.set("started", True)
        first += [Recipe.from_json(r) for r in self.record.get("first", [])]
        return [r for r in dict.fromkeys(first) if r.id not in self.ledger.families and not self._ended(r)]

    def _ended(self, recipe: Recipe) -> bool:
        ended = [r.recipe for r in self.ledger.rejected] + [f.recipe for f in self.ledger.failed]
        return recipe in ended

    def _trial(self, waiting: list[Recipe]) -> bool:
        """One new family: gate, then the first rung. False when the space holds nothing new."""
        for _ in range(REPEATS):
            trial, recipe = self.sampler.ask(waiting.pop(0)) if waiting else self._proposal()
            if not self._known(recipe):
                break
            self.sampler.repeated(trial)
        else:
            return False
        stored: dict[str, Any] = {"recipe": recipe.to_json()}
        try:
            gate = self._gate(recipe)
            if self._stopped_by(gate):
                self._reject(trial, recipe, gate)
                return True
            self.record.set("pending", recipe.to_json())
            began = self.clock.elapsed()
            outcome = self._evaluate(
                Request(recipe, examples=self.lengths[0], limit_s=self._training_s(), plans=gate.plans)
            )
            self._durations.append(self.clock.elapsed() - began)
            self._overheads.append(self._durations[-1] - outcome.train_s)
        except CandidateFailed as error:
            self.ledger.failed.append(Failed(recipe, error.strategy, error.reason))
            self.sampler.failed(trial, stored | {"failed": {"strategy": error.strategy, "reason": error.reason}})
            self.spent()
            self._give_up_if_hopeless()
            return True
        family = self.ledger.add(recipe, outcome)
        best = self.ledger.best_of(family.evaluations)
        over_now = self.ledger.steering.excess(best.latency) if self.ledger.steering.bounded else None
        self.sampler.told(
            trial,
            self.ledger.clipped(best),
            over_now,
            stored | {"outcome": outcome.to_json()},
        )
        self.spent()
        return True

    def _known(self, recipe: Recipe) -> bool:
        return not recipe.changes or recipe.id in self.ledger.families or self._ended(recipe)

    def _proposal(self) -> tuple[Trial, Recipe]:
        """What the sampler asks for, under a budget as strong as it has to be; but first the best family so far, made
        milder when it is stronger than it has to be.
        """
        target = self.ledger.steering.ratio(self.opening.reference.latency.statistic)
        if target is None:
            return self.sampler.ask()
        timed = {recipe: gate.latency.ratio for recipe, gate in self._gates.items()}
        for family in finish.choose_finalists(self.ledger)[:1]:
            milder = aimed(family.recipe, self.space, timed, target)
            room = self.ledger.expected(self.ledger.best_of(family.evaluations)).ratio < WITH_ROOM * target
            if room and not self._known(milder):
                return self.sampler.ask(milder)
        trial, recipe = self.sampler.ask()
        better = aimed(recipe, self.space, timed, target)
        if better == recipe or self._known(better):
            return trial, recipe
        self.sampler.repeated(trial)
        return self.sampler.ask(better)

    def advance(self, family: Family, total: int, limit_s: float | None = None) -> None:
        """Train a family on, up to ``total`` examples in all, from its checkpoint at half the peak learning rate."""
        examples = max(total - family.examples, 0)
        last = family.outcomes[-1]
        request = Request(
            family.recipe,
            rung=family.rung + 1,
            start=family.examples,
            examples=examples,
            limit_s=limit_s if limit_s is not None else self._training_s(),
            peak=0.5,
            checkpoint=last.checkpoint,
            plans=last.plans,
            learned=last.learned,
        )
        try:
            self._keep_event(family.recipe, self._evaluate(request))
        except CandidateFailed as error:
            failed = Failed(family.recipe, error.strategy, error.reason)
            self.ledger.failed.append(failed)
            self.record.append(
                "event",
                {"recipe": family.recipe.to_json(), "failed": {"strategy": failed.strategy, "reason": failed.reason}},
            )
        self.spent()

    def _keep_event(self, recipe: Recipe, outcome: Outcome) -> None:
        self.ledger.add(recipe, outcome)
        self.record.append("event", {"recipe": recipe.to_json(), "outcome": outcome.to_json()})

    def _gate(self, recipe: Recipe) -> Gate:
        """The gate's answer for a recipe, remembered; how it is trained does not matter to it."""
        key = self.space.gated(recipe)
        if key not in self._gates:
            self.check_interrupted()
            self._gates[key] = self.executor.call(
                "gate", Request(recipe), self.ledger.steering, limit_s=self.within(GATE_LIMIT_S)
            )
        return self._gates[key]

    def _reject(self, trial: Trial, recipe: Recipe, gate: Gate) -> None:
        took = gate.latency.statistic
        rejected = Rejected(recipe, f"over the budget before training ({took:.4g} ms)", took, gate.latency.ratio)
        self.ledger.rejected.append(rejected)
        stored = {
            "recipe": recipe.to_json(),
            "rejected": {"reason": rejected.reason, "latency_ms": took, "ratio": rejected.ratio},
        }
        self.sampler.rejected(trial, max(self.ledger.steering.excess(gate.latency), 1e-6), stored)
        self.spent()

    def _over(self, gate: Gate) -> bool:
        """Whether a gate's sound answer excludes the budget."""
        budget = self.ledger.steering
        return budget.bounded and gate.latency.reliable and budget.excluded(gate.latency)

    def _stopped_by(self, gate: Gate) -> bool:
        """Whether a structure is not trained: it is over the budget, and it is not the turn to explore beyond."""
        if not self._over(gate):
            return False
        budget = self.ledger.steering
        turn = (self._beyond + 1) * EXPLORE_EVERY <= len(self.ledger.families) + 1
        cheap = self.lengths[0] * self.opening.seconds_per_example < 0.2 * self._spare()
        if turn and cheap and budget.excess(gate.latency) + 1 <= EXPLORE_UP_TO:
            self._beyond += 1
            return False
        return True

    def _evaluate(self, request: Request) -> Outcome:
        request = replace(request, skip=self.ledger.slower_variants(request.recipe))
        limit = self.within((request.limit_s or 0.0) + CALL_SLACK_S)
        outcome: Outcome = self.executor.call("evaluate", request, limit_s=limit)
        now = self.clock.elapsed()
        return replace(outcome, evaluations=tuple(e.at(now) for e in outcome.evaluations))

    def _done(self) -> bool:
        trials = self.settings.trials
        if trials is not None and len(self.ledger.families) >= trials:
            return True
        return self._spare() <= 1.2 * self.trial_s()

    def _training_s(self) -> float:
        """The most a training may take now."""
        return max(1.0, self._spare() - self.overhead_s())

    def overhead_s(self) -> float:
        """Seconds around a training: export, variants, measuring, scoring."""
        return max(2.0, median(self._overheads[-5:])) if self._overheads else 5.0

    def trial_s(self) -> float:
        """Seconds a family takes to its first rung, by the last few."""
        return median(self._durations[-5:]) if self._durations else 0.0

    def within(self, limit_s: float) -> float:
        """A limit for one call that also keeps the promise of the whole: a hang costs at most a twentieth more."""
        return max(1.0, min(limit_s, self.clock.left() + OVERRUN * self.clock.limit_s))

    def _spare(self) -> float:
        """Seconds left before finishing has to begin."""
        return self.clock.left() - finish.reserve_s(self, self.ledger)

    def _affords(self, family: Family) -> bool:
        more = self.lengths[family.rung + 1] - family.examples
        return family.trains and 1.2 * more * family.seconds_per_example + self.trial_s() / 2 < self._spare()

    def spent(self) -> None:
        self.record.set("pending", None)
        self.record.set("elapsed_s", self.clock.elapsed())

    def _standing(self) -> list[tuple[str, int, tuple[float, float]]]:
        """Each contending family with its rung and its point there."""
        contending = self.ledger.contending()
        return [
            (f.id, f.rung, self.ledger.clipped(self.ledger.best_of(f.outcomes[-1].evaluations))) for f in contending
        ]

    def check_interrupted(self) -> None:
        if self.interrupted():
            raise Interrupted("stopped at a safe point")

    def _give_up_if_hopeless(self) -> None:
        causes = [f.reason for f in self.ledger.failed]
        if not self.ledger.families and len(causes) >= GIVE_UP_AFTER:
            counted = "; ".join(f"{causes.count(c)}x {c}" for c in dict.fromkeys(causes))
            raise AutocompressError(f"every candidate fails, so the search stops: {counted}")

    def show(self) -> None:
        self.view.status(self.ledger, self.clock.left())


def settings_json(settings: Settings) -> dict[str, Any]:
    """What was asked, for telling a repeated command from a new one."""
    return {"budget": asdict(settings.budget), "minutes": settings.minutes, "trials": settings.trials}
