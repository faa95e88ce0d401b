"""A recipe's structure, repaired step by step, and where its weights lie."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import nn

from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.repair.calibration import CalibrationSample, calibration_sample
from autocompress.candidate.repair.declared import check_declared, narrowed_layers
from autocompress.candidate.repair.original import OriginalRun, run_original
from autocompress.candidate.repair.refitting import LayerFit
from autocompress.candidate.repair.repair import repair
from autocompress.candidate.structure import build, structural
from autocompress.candidate.weights import load_weights
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Counterparts
from autocompress.recipe import Plan, Recipe, Step, digest
from autocompress.storage.store import digest_of_tensors

MOST_SECONDS = 60.0  # of the repair after one step; the layers that it did not come to stay as they are


def repaired(
    opened: OpenTask, recipe: Recipe, plans: Sequence[Plan] | None
) -> tuple[nn.Module, tuple[Plan, ...], str | None]:
    """A recipe's structure, the plans that made it, and the store key of its weights; None where nothing was repaired,
    because no step changes the structure or none of those that do says what stands for what. Under the same key the
    store has, as JSON, what a recipe records of what it was repaired on.

    Recipes with the same structure are repaired once. Raises CandidateFailed naming the strategy.
    """
    steps = structural(recipe, opened.plugins)
    sample = calibration_sample(opened.context) if steps and opened.policy.repair else None
    if sample is None:
        return *build(recipe, opened.context, opened.plugins, plans, opened.plans), None
    if plans is None:
        plans = build(recipe, opened.context, opened.plugins, None, opened.plans)[1]
    named = [[s.strategy, s.values, opened.plugins.origin.get(f"strategies:{s.strategy}")] for s in steps]
    key = opened.store.key("repaired", opened.fingerprint, opened.context.seed, named, plans, sample.digest)
    if opened.store.path(key).exists() and opened.store.load_json(key) is not None:
        model, decided = build(recipe, opened.context, opened.plugins, plans, opened.plans)
        with suppress(CandidateFailed):  # of an entry that is damaged or does not fit: it is made again
            load_weights(opened.store, model, key)
            return model, decided, key
    with opened.supervisor.during("repair", f"repair: {recipe.techniques()}"):
        repaired_model, carried_out, facts = built_and_repaired(opened, recipe, plans, sample)
        if facts is not None:
            opened.store.save(key, repaired_model.state_dict())
            opened.store.save_json(key, facts)
    return repaired_model, carried_out, None if facts is None else key


def built_and_repaired(
    opened: OpenTask,
    recipe: Recipe,
    plans: Sequence[Plan] | None,
    sample: CalibrationSample | None,
    *,
    narrowed_alone: bool = False,
) -> tuple[nn.Module, tuple[Plan, ...], Mapping[str, Any] | None]:
    """A recipe's structure, the plans that made it, and what a recipe records of what it was repaired on; None where
    nothing of it was, as without a sample. Neither looked up nor stored. narrowed_alone: whether of the layers those
    alone are refitted that lost channels, which is quicker. Raises CandidateFailed naming the strategy.
    """
    if sample is None:
        return *build(recipe, opened.context, opened.plugins, plans, opened.plans), None
    repairer = _Repairer(opened, sample, narrowed_alone)
    model, decided = build(recipe, opened.context, opened.plugins, plans, opened.plans, repairer)
    return model, decided, sample.facts(repairer.on_few_rows) if repairer.repaired else None


class _Repairer:
    """Called after each structural step that says which layers stand for which."""

    def __init__(self, opened: OpenTask, sample: CalibrationSample, narrowed_alone: bool) -> None:
        self._opened = opened
        self._sample = sample
        self._narrowed_alone = narrowed_alone
        self.repaired = False
        self.on_few_rows: list[LayerFit] = []

    def __call__(self, step: Step, counterparts: Counterparts, model: nn.Module) -> None:
        check_declared(counterparts, model)
        if self._narrowed_alone:
            counterparts = narrowed_layers(counterparts)
        opened = self._opened

        ends = time.monotonic() + MOST_SECONDS

        def goes_on() -> bool:
            opened.supervisor.check()
            opened.lock.give_way()
            return time.monotonic() < ends

        found = repair(model, counterparts, self._original(counterparts.whole), self._sample.inputs, goes_on)
        self.on_few_rows += found.on_few_rows
        self.repaired = True

    def _original(self, whole: nn.Module) -> OriginalRun:
        """What the model gave before the step. That of the first step of a recipe is kept: as a rule it is what the
        reference gave, and so the same for all.
        """
        known: dict[str, OriginalRun] = self._opened.context.once("repair.original", dict)
        kinds = [(name, str(type(module))) for name, module in whole.named_modules()]
        state = digest([kinds, digest_of_tensors(whole.state_dict())])
        if state in known:
            return known[state]
        run = run_original(whole, self._sample.inputs, self._sample.examples)
        if not self.repaired:
            known.clear()
            known[state] = run
        return run
