"""Whether the score of a repaired structure says how it scores once it is trained.

``benchmarks/repair.py correlation`` says how it is run.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import results
from opened import module_score

from autocompress.arrays import Floats
from autocompress.candidate.make import make
from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.repair.repaired import repaired
from autocompress.candidate.request import TrainRequest, UntrainedFiles
from autocompress.candidate.rung import train_rung
from autocompress.compute.in_process import opened_in_process
from autocompress.compute.local import LocalComputation
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Applicable, Stage, StructureStrategy, TrainingStrategy
from autocompress.plugin.loader import load_plugins
from autocompress.profile import load_profile
from autocompress.recipe import TRAIN, Recipe, Step
from autocompress.storage.folder import RunFolder
from autocompress.task_source import load_task

LR, BATCH = 0.002, 64  # the default of a recipe
APART = 0.005  # trained scores that differ by more are told apart
THIRDS = 3
UNTRAINED = ("repaired", "unrepaired")
SAME = ("macs", *UNTRAINED)  # of two structures: they are one

Row = dict[str, Any]


def run(target: str, structures: int, seconds: float, steps: int, val: int, seed: int) -> Path:
    """Strategies whose structures are not repaired are drawn too, and left out, and so is a structure drawn twice."""
    plugins, task = load_plugins(), load_task(target)
    name = f"repair_ranks-{task.name}"
    wanted = [n for n, s in plugins.strategies.items() if isinstance(s, StructureStrategy | TrainingStrategy)]
    with tempfile.TemporaryDirectory() as folder:
        here = opened_in_process(task, load_profile("cpu"), plugins, RunFolder(Path(folder)), wanted, score_on=val)
        computation, applicable = here.computation, here.prepared.applicable
        changing = [a for a in applicable if {Stage.BUILD, Stage.STRUCTURE} & set(a.stages) and a.parameters]
        trainer = next(a for a in applicable if a.trains_alone)
        taught = (Step.of(trainer.name, **{p.name: p.default for p in trainer.parameters}),)
        opened, arithmetic = computation.opened, computation.time_training()
        request = TrainRequest(
            Recipe((*taught, Step.of(TRAIN, lr=LR, batch_size=BATCH))), arithmetic, examples=steps * BATCH
        )
        settings: Row = {"steps": steps, "batch_size": BATCH, "lr": LR, "trained_by": str(taught[0])}
        settings["val_examples"] = len(opened.val)
        rows = _earlier(name, settings)
        chance, end, drawn = random.Random(seed), time.monotonic() + seconds, set[str]()
        drawn |= {row["recipe"] for row in rows}
        while len(rows) < structures and time.monotonic() < end:
            recipe = _drawn(chance, changing)
            if str(recipe) in drawn:
                continue
            drawn.add(str(recipe))
            try:
                row = _measured(computation, recipe, request, here.prepared.exporter, rows)
            except CandidateFailed as error:
                print(f"{recipe}: {error.reason}", flush=True)
                continue
            if row is not None:
                rows.append(row)
                print(row, flush=True)
        reference = module_score(opened, opened.context.model)
    found = ranks(rows)
    print(f"\n{task.name}: {len(rows)} structures, {100 * reference:.2f} % as it is")
    print_table(found)
    document = {"task": task.name, **settings, "reference": reference, "ranks": found, "rows": rows}
    return results.write(name, document)


def _earlier(name: str, settings: Row) -> list[Row]:
    """What the same command measured before it was cut off."""
    if not (results.FOLDER / f"{name}.json").exists():
        return []
    document = results.read(name)
    return list(document["rows"]) if {key: document.get(key) for key in settings} == settings else []


def _drawn(chance: random.Random, strategies: Sequence[Applicable]) -> Recipe:
    strategy = chance.choice(strategies)
    return Recipe((Step.of(strategy.name, **{p.name: chance.choice(p.choices) for p in strategy.parameters}),))


def _measured(
    computation: LocalComputation, recipe: Recipe, request: TrainRequest, exporter: str, known: Sequence[Row]
) -> Row | None:
    """None where nothing is repaired, or other parameters made the same structure before. Raises CandidateFailed."""
    opened = computation.opened
    model, plans, weights_key = repaired(opened, recipe, None)
    if weights_key is None:
        return None
    row: Row = {"recipe": str(recipe), "strategy": recipe.techniques(), "repaired": module_score(opened, model)}
    unrepaired = repaired(replace(opened, policy=TrainingPolicy(repair=False)), recipe, plans)[0]
    row["unrepaired"] = module_score(opened, unrepaired)
    row["macs"] = make(opened, UntrainedFiles(recipe, exporter)).macs
    if any(all(row[key] == other[key] for key in SAME) for other in known):
        return None
    own = replace(request, recipe=recipe.plus(*request.recipe.steps), plans=plans)
    trained, weights = train_rung(opened, own, lambda: computation.stream(request.arithmetic))
    return {**row, "trained": module_score(opened, trained), "train_seconds": weights.seconds}


def ranks(rows: Sequence[Row]) -> dict[str, Row]:
    """By which score it is that ranks: Spearman's correlation with the trained score, over all and, as the mean, within
    each third by multiply-accumulates; pairs that training tells apart, and those of them in the same order before.
    """
    by_macs = sorted(rows, key=lambda row: row["macs"])
    thirds = [by_macs[len(rows) * at // THIRDS : len(rows) * (at + 1) // THIRDS] for at in range(THIRDS)]
    found = {}
    for name in UNTRAINED:
        alike = [value for third in thirds if (value := spearman(third, name)) is not None]
        kept, pairs = pairs_kept(rows, name)
        kept_alike, pairs_alike = np.sum([pairs_kept(third, name) for third in thirds], axis=0).tolist()
        found[name] = {
            "spearman": spearman(rows, name),
            "spearman_thirds": alike,
            "spearman_in_thirds": statistics.mean(alike) if len(alike) == THIRDS else None,
            "pairs": pairs,
            "kept": kept,
            "pairs_in_thirds": pairs_alike,
            "kept_in_thirds": kept_alike,
        }
    return found


def spearman(rows: Sequence[Row], name: str) -> float | None:
    """None where one of both is constant."""
    own, trained = (_ranked([row[key] for row in rows]) for key in (name, "trained"))
    if len(rows) < 3 or not own.std() or not trained.std():
        return None
    return float(np.corrcoef(own, trained)[0, 1])


def _ranked(values: Sequence[float]) -> Floats:
    """Equal values share the mean of their ranks."""
    array = np.asarray(values, dtype=np.float64)
    found: Floats = ((array[:, None] > array).sum(1) + (array[:, None] >= array).sum(1)) / 2
    return found


def pairs_kept(rows: Sequence[Row], name: str) -> tuple[int, int]:
    """Pairs in the same order as after the training, of those that it tells apart; equal scores are in none."""
    apart = [(a, b) for a, b in combinations(rows, 2) if abs(a["trained"] - b["trained"]) > APART]
    return sum((a[name] - b[name]) * (a["trained"] - b["trained"]) > 0 for a, b in apart), len(apart)


def print_table(found: dict[str, Row]) -> None:
    print("| untrained score | Spearman, all | in thirds by MACs | pairs kept | in thirds |\n|---|---|---|---|---|")
    for name, own in found.items():
        numbers = ["-" if v is None else f"{v:.2f}" for v in (own["spearman"], own["spearman_in_thirds"])]
        pairs = [f"{own[f'kept{at}']} of {own[f'pairs{at}']}" for at in ("", "_in_thirds")]
        print(f"| {name} | {' | '.join([*numbers, *pairs])} |")
