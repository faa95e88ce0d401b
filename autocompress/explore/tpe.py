"""Optuna's TPE sampler, multivariate and grouped (Watanabe 2023), which keeps conditional parameters."""

import warnings

import optuna
from optuna.samplers import BaseSampler, TPESampler

STARTUP = 8  # trials before the sampler models anything


def tpe(seed: int) -> BaseSampler:
    """The sampler of a search."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # grouping is marked experimental
        return TPESampler(multivariate=True, group=True, n_startup_trials=STARTUP, seed=seed)
