"""The score of pruned models that nothing was trained of, by what was pruned and how it was repaired.

``benchmarks/repair.py curves`` says how it is run.
"""

import copy
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import results
import torch
from opened import module_score
from repair_means import COLUMNS, Row, means
from torch import nn

from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.repair.calibration import calibration_sample
from autocompress.candidate.repair.norm_statistics import BATCH_NORM_LAYERS
from autocompress.candidate.repair.original import OriginalRun, run_original
from autocompress.candidate.repair.repair import repair
from autocompress.candidate.structure import build
from autocompress.compute.in_process import opened_in_process
from autocompress.data import Split
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Applicable, Context, Counterparts, Plan
from autocompress.plugin.loader import load_plugins
from autocompress.profile import load_profile
from autocompress.recipe import Recipe, Step, Value
from autocompress.storage.folder import RunFolder
from autocompress.task_source import load_task

RATIOS = tuple(number / 10 for number in range(1, 10))
IMPORTANCES = ("l2", "surgeon")


@dataclass(frozen=True)
class Amounts:
    """One strength of a strategy, the others at their mildest. fixed: its other parameters."""

    label: str
    strategy: str
    strength: str
    fixed: dict[str, Value]

    def recipe(self, ratio: float, importance: str) -> Recipe:
        values = {**self.fixed, self.strength: ratio, "importance": importance}
        return Recipe((Step.of(self.strategy, **values),))


def run(target: str, strategies: Sequence[str], seeds: int, val: int) -> Path:
    plugins, task = load_plugins(), load_task(target)
    with tempfile.TemporaryDirectory() as folder:
        here = opened_in_process(
            task, load_profile("cpu"), plugins, RunFolder(Path(folder)), list(strategies), score_on=val
        )
        opened, known = here.computation.opened, {a.name: a for a in here.prepared.applicable}
        reference = module_score(opened, opened.context.model)
        rows: list[Row] = []
        for seed in range(seeds):
            seeded = replace(opened, context=_with_half(opened.context, seed))
            for amounts in (each for name in strategies if name in known for each in _amounts(known[name])):
                rows += _measured(seeded, amounts, seed)
    print(f"\n{task.name}: {100 * reference:.2f} % as it is, {len(opened.val)} validation examples")
    print_table(rows)
    document = {"task": task.name, "seeds": seeds, "val_examples": len(opened.val), "reference": reference}
    return results.write(f"repair-{task.name}", {**document, "rows": rows})


def _with_half(context: Context, seed: int) -> Context:
    """The same with half of the training examples, and nothing kept that was found out of others."""
    whole = context.train
    chosen = torch.randperm(len(whole), generator=torch.Generator().manual_seed(seed))[: len(whole) // 2].sort().values
    half = Split(whole.name, len(chosen), lambda indices: whole.take(chosen[list(indices)]))
    return replace(context, train=half, memory={})


def _amounts(strategy: Applicable) -> Iterator[Amounts]:
    strengths = [p for p in strategy.parameters if p.by_strength]
    for strength in strengths:
        fixed = {p.name: p.choices[0] if p in strengths else p.default for p in strategy.parameters}
        if "round_to" in fixed:
            fixed["round_to"] = 1
        label = strategy.name if len(strengths) == 1 else f"{strategy.name}, {strength.name}"
        yield Amounts(label, strategy.name, strength.name, fixed)


def _measured(opened: OpenTask, amounts: Amounts, seed: int) -> Iterator[Row]:
    """A row for each structure; ratios that come to the same structure make one."""
    originals: list[OriginalRun] = []
    for importance in IMPORTANCES:
        before: tuple[Plan, ...] = ()
        for ratio in RATIOS:
            try:
                plans = build(amounts.recipe(ratio, importance), opened.context, opened.plugins)[1]
            except CandidateFailed as error:
                print(f"{amounts.label} {ratio:.0%} {importance}: {error.reason}", flush=True)
                continue
            if plans == before:
                continue
            before = plans
            own = _repaired(opened, amounts.recipe(ratio, importance), plans, originals)
            row = {"amounts": amounts.label, "ratio": ratio, "importance": importance, "seed": seed, **own}
            print(row, flush=True)
            yield row


def _repaired(opened: OpenTask, recipe: Recipe, plans: tuple[Plan, ...], originals: list[OriginalRun]) -> Row:
    """originals: what the reference gave, once it was asked; it is the same for all structures of a strategy."""
    sample = calibration_sample(opened.context)
    assert sample is not None
    found: Row = {}

    def repair_twice(step: Step, counterparts: Counterparts, model: nn.Module) -> None:
        if not originals:
            originals.append(run_original(counterparts.whole, sample.inputs, sample.examples))
        found["as_pruned"] = module_score(opened, model)
        recalibrated = copy.deepcopy(model)
        repair(recalibrated, counterparts, originals[0], sample.inputs, refits=False)
        normed = any(isinstance(module, BATCH_NORM_LAYERS) for module in model.modules())
        found["norms"] = module_score(opened, recalibrated) if normed else found["as_pruned"]
        began, spent = time.perf_counter(), time.process_time()
        done = repair(model, counterparts, originals[0], sample.inputs)
        found["seconds"], found["processor_seconds"] = time.perf_counter() - began, time.process_time() - spent
        found["refitted"] = len(done.fits)
        found["repaired"] = module_score(opened, model)

    build(recipe, opened.context, opened.plugins, plans, repair=repair_twice)
    return found


def print_table(rows: Sequence[Row]) -> None:
    """Means over the seeds; the seconds of a repair, of all seeds and both importances."""
    for label in dict.fromkeys(row["amounts"] for row in rows):
        own = [row for row in rows if row["amounts"] == label]
        print(f"\n| {label} | {' | '.join(COLUMNS)} |\n|{'---|' * (1 + len(COLUMNS))}")
        for ratio in sorted({row["ratio"] for row in own}):
            found = means(own, ratio)
            cells = [f"{100 * found[column]:.1f} %" if column in found else "-" for column in COLUMNS]
            print(f"| {ratio:.0%} | {' | '.join(cells)} |")
        for kind in ("seconds", "processor_seconds"):
            took = [row[kind] for row in own]
            print(f"{kind} of a repair: median {statistics.median(took):.2f}, most {max(took):.2f}")
