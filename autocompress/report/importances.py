"""Which choices of a search made the difference: the share of the variation of score, and of speed, that each explains.

By Optuna's fANOVA (Hutter, Hoos and Leyton-Brown, "An Efficient Approach for Assessing Hyperparameter Importance", ICML
2014). What every trial decides is compared over all trials; the parameters of a strategy over those that have it.
Nothing is said from fewer than ten trials, nor of what had one value in all of them. It is what went together in this
search, which chose what to try next by what had worked, and no proof of a cause.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

from optuna.trial import FrozenTrial

from autocompress.errors import one_line
from autocompress.evaluation import Rejected
from autocompress.explore.history.facts import Evaluated, Fact
from autocompress.report.recorded import Importances

FEWEST_COMPARED = 10  # trials
MOST = 400  # trials, evenly chosen: of more it takes long and says the same
TREES, TREE_DEPTH = 32, 16
EVERY_RECIPE = "every recipe"  # where all trials count


Trial = tuple[FrozenTrial, float]  # with the value that it reached


def choice_importances(ended: Sequence[tuple[Fact, FrozenTrial]], compressing: Collection[str]) -> list[Importances]:
    """Of all groups, for the score of what was scored and for the latency of what was timed. compressing: the
    strategies that change what a file computes; those that only train it cannot change its latency.
    """
    found: list[Importances] = []
    for target, reached in (("score", _score), ("latency", _latency)):
        trials = [(trial, value) for fact, trial in ended if (value := reached(fact)) is not None]
        for group, names in _groups(trials):
            can = [name for name in names if target == "score" or name.partition(".")[0] in compressing]
            if can:
                found.append(_of_group(target, group, can, trials))
    return found


def _score(fact: Fact) -> float | None:
    """The best that a family's files reached."""
    files = fact.outcome.evaluations if isinstance(fact, Evaluated) else ()
    return max((file.score.val for file in files), default=None)


def _latency(fact: Fact) -> float | None:
    """Of the fastest file, or of the structure that was timed and rejected: log2 of the ratio to the reference."""
    if isinstance(fact, Rejected):
        return math.log2(fact.ratio)
    files = fact.outcome.evaluations if isinstance(fact, Evaluated) else ()
    return min((math.log2(file.latency.ratio) for file in files), default=None)


def _groups(trials: Sequence[Trial]) -> Iterator[tuple[str, list[str]]]:
    """What every trial decides, then the parameters of each strategy."""
    counted = Counter(name for trial, _ in trials for name in trial.params)
    shared = [name for name, count in counted.items() if count == len(trials)]
    yield EVERY_RECIPE, shared
    own: dict[str, list[str]] = {}
    for name in counted.keys() - set(shared):
        own.setdefault(name.partition(".")[0], []).append(name)
    yield from sorted((group, sorted(names)) for group, names in own.items())


def _of_group(target: str, group: str, names: Sequence[str], trials: Sequence[Trial]) -> Importances:
    own = [(trial, value) for trial, value in trials if all(name in trial.params for name in names)]
    varied = [name for name in names if len({repr(trial.params[name]) for trial, _ in own}) > 1]
    if len(own) < FEWEST_COMPARED:
        return Importances(target, group, len(own), why=f"{len(own)} trials, too few to say")
    if not varied:
        return Importances(target, group, len(own), why=f"nothing of it was varied in {len(own)} trials")
    if len({value for _, value in own}) == 1:
        return Importances(target, group, len(own), why=f"all {len(own)} trials reached the same")
    try:
        shares = _fanova(own, varied)
    except ValueError:  # a search that was resumed had other choices
        return Importances(target, group, len(own), why=f"its choices changed during {len(own)} trials")
    except (RuntimeError, ArithmeticError) as error:
        return Importances(target, group, len(own), why=one_line(error, 80))
    if not sum(shares.values()):
        return Importances(target, group, len(own), why=f"no single choice explains anything in {len(own)} trials")
    return Importances(target, group, len(own), tuple(sorted(shares.items(), key=lambda item: -item[1])))


def _fanova(trials: Sequence[Trial], names: list[str]) -> Mapping[str, float]:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator

    step = max(1, math.ceil(len(trials) / MOST))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study()
    study.add_trials(
        [
            optuna.create_trial(
                params={name: trial.params[name] for name in names},
                distributions={name: trial.distributions[name] for name in names},
                value=value,
            )
            for trial, value in trials[::step]
        ]
    )
    forest = FanovaImportanceEvaluator(seed=0, n_trees=TREES, max_depth=TREE_DEPTH)
    return {name: float(share) for name, share in forest.evaluate(study, params=names).items()}
