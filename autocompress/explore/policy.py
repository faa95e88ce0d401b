"""What a search decides by and a benchmark or a test sets otherwise.

A line ends with where it was measured: the area of the front at the end, as it is -> otherwise, on Fashion-MNIST
without a budget, by benchmarks/mechanisms.py (docs/performance.md).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import optuna
from optuna.samplers import BaseSampler, TPESampler

from autocompress.compute.policy import WorkerPolicy
from autocompress.explore.pipeline.gating import Gating
from autocompress.explore.space.structure_model import StructureModel

STARTUP = 8  # trials before the sampler models anything


def tpe(seed: int) -> BaseSampler:
    """Optuna's TPE sampler, multivariate and grouped (Watanabe 2023), which keeps conditional parameters."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # grouping is marked experimental
        return TPESampler(multivariate=True, group=True, n_startup_trials=STARTUP, seed=seed)


@dataclass(frozen=True)
class SearchParts:
    """What does the work, and can be exchanged."""

    gating: type[Gating] = Gating  # times structures before they are trained: 0.746 -> 0.586 without
    structure_model: type[StructureModel] = StructureModel  # aims at a latency: 0.733 -> 0.602 without
    sampler: Callable[[int], BaseSampler] = tpe  # of a seed: 0.733 -> 0.639 when it draws at random


@dataclass(frozen=True)
class SearchPolicy:
    """Of one whole search: each of its parts reads what is its own."""

    # How long families train.
    first_share: float = 0.04  # of the whole time, for a first training: not measured since families begin repaired
    most_seen: int = 100_000  # examples, by a first training: rankings settle within some hundred steps: not measured
    eta: int = 3  # of how many families one is trained, and times as long as the training before: not measured
    promotes: bool = True  # untrained families are trained before the end: not measured since they begin repaired
    most_finishing: float = (
        0.55  # of the whole time, kept at most for training the finalists under a budget: not measured
    )
    most_for_front: float = 0.2  # and without one, which needs families too: 0.788 -> 0.755 at 0.35, on text_lstm

    # What is tried.
    compare_exporters: bool = (
        True  # the slower exporter too, where it takes 1 % of the time: not measured; tests do without
    )
    explores: bool = True  # else the models are given, and what exploring needs to know is not found out
    first_recipes: bool = True  # a search begins with them: 0.746 -> 0.461 without
    floor_share: float = 0.5  # of the time left, for a greedy search of the floor: what it finds is to be trained
    remembered: int = 400  # trials the sampler looks at, at most, for its time grows with them: not measured
    forgotten: int = 100  # more than that, before the oldest are forgotten: not measured
    strengthened: int = 5  # best families, of which one is tried at another strength: 0.746 -> 0.652 at 0
    neighbours: int = 5  # best families, of which one is tried with something changed: 0.746 -> 0.731 at 0
    least_gain: float | None = 0.01  # of hypervolume, if it lost nothing; else not trained or scored: 0.733 -> 0.536
    most_variants: int | None = None  # of a trained family, the fastest on the reference first: 0.733 -> 0.462 at 1

    parts: SearchParts = SearchParts()
    workers: WorkerPolicy = WorkerPolicy()  # of the processes that compute
