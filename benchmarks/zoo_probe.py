"""One task, probed: each step of ``zoo.py`` is tried and told, whatever it raises."""

import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from opened import OpenedHere, open_here

from autocompress.budget import Budget
from autocompress.candidate.count import count
from autocompress.candidate.request import TrainRequest
from autocompress.candidate.structure import build
from autocompress.errors import CandidateFailed
from autocompress.explore.space.ladders import default_recipe
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.plugin.contract import Applicable, Feed, Runtime, Session
from autocompress.plugin.loader import PluginSet, load_plugins
from autocompress.profile import HardwareProfile, load_profile
from autocompress.recipe import TRAIN, Recipe, Step
from autocompress.storage.folder import RunFolder
from autocompress.task_source import load_task

TRAINED_ON = 8  # examples: one step
REASON = 400  # characters


@dataclass
class ProbeStep:
    """failed: why; None when it worked. to: the share of the multiply-accumulates that is left. structure_s: seconds to
    plan and apply a structure, and to make it from its plan.
    """

    name: str
    seconds: float = 0.0
    failed: str | None = None
    to: float | None = None
    structure_s: float | None = None


class Counting(Runtime):
    """Another runtime, whose clock counts what a file multiplies."""

    def __init__(self, own: Runtime) -> None:
        self._own = own
        self._ms: dict[int, float] = {}
        self.name = own.name

    def faster_with(self, profile: HardwareProfile) -> frozenset[str]:
        return self._own.faster_with(profile)

    def can_fork(self, profile: HardwareProfile) -> bool:
        return self._own.can_fork(profile)

    def open(self, path: Path, profile: HardwareProfile) -> Session:
        session = self._own.open(path, profile)
        self._ms[id(session)] = 1e-6 * max(1, count(path)[1])
        return session

    def clock(self, session: Session, feed: Feed) -> float | None:
        return self._ms.get(id(session), 1.0)

    def version(self) -> str:
        return self._own.version()


def counting(plugins: PluginSet) -> PluginSet:
    return replace(plugins, runtimes={name: Counting(own) for name, own in plugins.runtimes.items()})


@dataclass
class Probe:
    """tell: is told each step as it ends."""

    target: str
    folder: Path
    tell: Callable[[ProbeStep], None]

    def run(self) -> None:
        if not self._opens():
            return
        for strategy in self._space.structural:
            self._shrink(strategy)
        for strategy in self._space.training:
            if strategy not in self._space.structural:
                self._train(strategy)

    @cached_property
    def _here(self) -> OpenedHere:
        plugins, task = counting(load_plugins()), load_task(self.target)
        used = tuple(plugins.strategies)
        began = time.monotonic()
        here = open_here(task, load_profile("cpu"), plugins, RunFolder(self.folder), used, compare_exporters=False)
        self._open_s = time.monotonic() - began  # without what the task's own code took
        return here

    @cached_property
    def _space(self) -> Space:
        opening = self._here.opening
        return Space.of(SpaceFile(name="all"), opening.applicable, opening.refused)

    def _opens(self) -> bool:
        with self._step("open") as step:
            opening = self._here.opening
            failed = [f"{r.strategy}: {r.reason}" for r in opening.refused if r.reason.startswith("it failed")]
            failed += [f"{by}: {reason}" for _, by, reason in opening.reference_family.failed]
            step.failed = "; ".join(failed) or None
        return "_here" in vars(self)

    def _shrink(self, strategy: Applicable) -> None:
        defaults = {p.name: p.default for p in strategy.parameters}
        rising = [p for p in strategy.parameters if p.by_strength]
        middle = {**defaults, **{p.name: p.choices[len(p.choices) // 2] for p in rising}}
        strongest = {**defaults, **{p.name: p.choices[-1] for p in rising}}
        with self._step(strategy.name) as step:
            recipe = default_recipe(self._space, [Step.of(strategy.name, **middle)])
            step.structure_s = round(self._structure_s(recipe), 1)
            self._evaluate(recipe, step)
        if rising and step.failed is None:
            with self._step(f"{strategy.name} at its strongest") as step:
                recipe = default_recipe(self._space, [Step.of(strategy.name, **strongest)])
                step.to = self._here.gate(recipe, Budget()).macs / self._here.opening.reference.macs

    def _train(self, strategy: Applicable) -> None:
        alone = next(a for a in (strategy, *self._space.training) if a.trains_alone)
        steps = [Step.of(a.name, **{p.name: p.default for p in a.parameters}) for a in dict.fromkeys((alone, strategy))]
        with self._step(strategy.name) as step:
            settings = Step.of(TRAIN, **{p.name: p.default for p in self._space.train})
            self._evaluate(Recipe((*steps, settings)), step)

    def _structure_s(self, recipe: Recipe) -> float:
        """Seconds to plan and apply a structure, and to make it from its plans again."""
        opened, began = self._here.task, time.monotonic()
        _, plans = build(recipe, opened.context, opened.plugins)
        build(recipe, opened.context, opened.plugins, plans)
        return time.monotonic() - began

    def _evaluate(self, recipe: Recipe, step: ProbeStep) -> None:
        outcome = self._here.evaluate(TrainRequest(recipe, examples=TRAINED_ON))
        step.failed = "; ".join(f"{by}: {reason}" for _, by, reason in outcome.failed) or None
        if outcome.evaluations:
            step.to = outcome.evaluations[0].macs / self._here.opening.reference.macs

    @contextmanager
    def _step(self, name: str) -> Iterator[ProbeStep]:
        step, began = ProbeStep(name), time.monotonic()
        try:
            yield step
        except CandidateFailed as error:
            step.failed = f"{error.strategy or name}: {error.reason}"
        except Exception as error:
            traceback.print_exc()
            step.failed = f"{type(error).__name__}: {error}"
        step.seconds = round(self._open_s if name == "open" and "_here" in vars(self) else time.monotonic() - began, 1)
        step.failed = step.failed and " ".join(step.failed.split())[:REASON]
        self.tell(step)


def main(arguments: Sequence[str]) -> None:
    (target,) = arguments
    with tempfile.TemporaryDirectory() as folder:
        Probe(target, Path(folder), lambda step: print(json.dumps(asdict(step)), flush=True)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
