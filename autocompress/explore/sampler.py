"""Optuna, as this search uses it: an in-memory study that is asked and told, and the record each finished trial goes
into.

A rejection by the gate is a PRUNED trial with its constraint and no values. The sampler is TPE, multivariate and
grouped (Watanabe 2023), which keeps conditional parameters.
"""

import warnings
from typing import Any

import optuna
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from autocompress.explore.front import Point
from autocompress.explore.space import Space
from autocompress.recipe import Recipe
from autocompress.run.record import Record

STARTUP = 8  # trials before the sampler models anything
KEPT = 1000  # trials the sampler looks at, at most: its time grows with them
SLACK = 200  # more than that, before the oldest are forgotten
OVER_BUDGET = "over_budget"


def tpe(seed: int) -> BaseSampler:
    """The sampler of a search."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # grouping is marked experimental
        return TPESampler(multivariate=True, group=True, n_startup_trials=STARTUP, seed=seed)


class Sampler:
    """``ask`` gives a trial and its recipe; ``told``, ``rejected``, ``failed`` and ``repeated`` end it."""

    def __init__(self, space: Space, record: Record, seed: int) -> None:
        earlier = record.trials()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._record = record
        self._sampler = tpe(seed + len(earlier))
        self._start_with(earlier)

    def ask(self, recipe: Recipe | None = None) -> tuple[Trial, Recipe]:
        """The next trial; with ``recipe``, a trial for just that one."""
        if recipe is not None:
            self._study.enqueue_trial(self._space.params(recipe))
        trial = self._study.ask()
        return trial, self._space.sample(trial)

    def told(self, trial: Trial, point: Point, over: float | None, attributes: dict[str, Any]) -> None:
        """A family was evaluated: its point, and how far over the budget it is (a share; None without a budget)."""
        if over is not None:
            trial.set_constraint(OVER_BUDGET, over)
        trial.study.tell(trial, point)
        self._keep(trial, attributes)

    def rejected(self, trial: Trial, over: float, attributes: dict[str, Any]) -> None:
        trial.set_constraint(OVER_BUDGET, over)
        trial.study.tell(trial, state=TrialState.PRUNED)
        self._keep(trial, attributes)

    def failed(self, trial: Trial, attributes: dict[str, Any]) -> None:
        trial.study.tell(trial, state=TrialState.FAIL)
        self._keep(trial, attributes)

    def repeated(self, trial: Trial) -> None:
        """What was asked for is not tried: it is known, or another takes its place. It is not recorded."""
        trial.study.tell(trial, state=TrialState.FAIL)

    def _keep(self, trial: Trial, attributes: dict[str, Any]) -> None:
        frozen: FrozenTrial = trial.study.get_trials(deepcopy=False)[trial.number]
        self._record.add(
            create_trial(
                state=frozen.state,
                values=frozen.values,
                params=frozen.params,
                distributions=frozen.distributions,
                user_attrs=attributes,
                constraints=frozen.constraints or None,
            )
        )
        if trial.study is not self._study and frozen.state != TrialState.FAIL:
            self._study.add_trial(frozen)  # another lane's, asked for before the oldest were forgotten
        everything = self._study.get_trials(deepcopy=False)
        if len(everything) > KEPT + SLACK:
            self._start_with(everything)

    def _start_with(self, trials: list[FrozenTrial]) -> None:
        """An in-memory study of the latest trials; those that were trained go before those that were rejected."""
        trained = [t for t in trials if t.state == TrialState.COMPLETE][-KEPT:]
        rejected = [t for t in trials if t.state == TrialState.PRUNED]
        rejected = rejected[len(rejected) - min(len(rejected), KEPT - len(trained)) :]
        self._study = optuna.create_study(directions=["maximize", "minimize"], sampler=self._sampler)
        self._study.add_trials(sorted((*trained, *rejected), key=lambda t: t.number))
