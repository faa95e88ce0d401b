"""Optuna, as this search uses it: an in-memory study that is asked and told, and the record each finished trial goes
into.

A rejection by the gate is a PRUNED trial with its constraint and no values. The sampler is TPE, multivariate and
grouped (Watanabe 2023), which keeps conditional parameters.
"""

import warnings
from typing import Any

import optuna
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from autocompress.explore.front import Point
from autocompress.explore.space import Space
from autocompress.recipe import Recipe
from autocompress.run.record import Record

STARTUP = 8  # trials before the sampler models anything
REJECTIONS_KEPT = 1000
OVER_BUDGET = "over_budget"


class Sampler:
    """``ask`` gives a trial and its recipe; ``told`` and ``rejected`` end it."""

    def __init__(self, space: Space, record: Record, seed: int) -> None:
        earlier = record.trials()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # grouping is marked experimental
            sampler = TPESampler(multivariate=True, group=True, n_startup_trials=STARTUP, seed=seed + len(earlier))
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        self._space = space
        self._record = record
        rejections = [t.number for t in earlier if t.state == TrialState.PRUNED][-REJECTIONS_KEPT:]
        self._study.add_trials([t for t in earlier if t.state == TrialState.COMPLETE or t.number in set(rejections)])

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
        self._study.tell(trial, point)
        self._keep(trial, attributes)

    def rejected(self, trial: Trial, over: float, attributes: dict[str, Any]) -> None:
        trial.set_constraint(OVER_BUDGET, over)
        self._study.tell(trial, state=TrialState.PRUNED)
        self._keep(trial, attributes)

    def failed(self, trial: Trial, attributes: dict[str, Any]) -> None:
        self._study.tell(trial, state=TrialState.FAIL)
        self._keep(trial, attributes)

    def repeated(self, trial: Trial) -> None:
        """What was asked for is not tried: it is known, or another takes its place. It is not recorded."""
        self._study.tell(trial, state=TrialState.FAIL)

    def _keep(self, trial: Trial, attributes: dict[str, Any]) -> None:
        frozen: FrozenTrial = self._study.get_trials(deepcopy=False)[trial.number]
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
