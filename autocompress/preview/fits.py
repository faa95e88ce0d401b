"""What there is time for in a search, as far as the steps of one family tell."""

from dataclasses import dataclass

from autocompress.explore.driver import EXPLAINING_SHARE
from autocompress.explore.opening.identity import Settings
from autocompress.explore.opening.opener import Opened
from autocompress.explore.schedule.rungs import LAST, TRAINED, lengths
from autocompress.explore.schedule.time_budget import CONTENDERS, FINALISTS, FULL_EPOCHS
from autocompress.preview.reach import reach
from autocompress.preview.step_times import StepTimes


@dataclass(frozen=True)
class Fits:
    """What there is time for, as far as one family tells. families: tried untrained; trained: of these.
    first_training, finishing: seconds of the one and, at most, of training the finalists in full. *_epochs: over the
    training split.
    """

    families: int
    trained: int
    first_training: float
    first_epochs: float
    finishing: float
    full_epochs: float


def what_fits(opened: Opened, settings: Settings, times: StepTimes, spent_s: float = 0.0) -> Fits | None:
    """None where no family could be tried to the end. spent_s: of the time, by an earlier search in the run folder."""
    if times.family is None or times.structure is None or times.comparison is None:
        return None
    explaining_s = 60 * EXPLAINING_SHARE * settings.minutes if settings.explain else 0.0
    whole_s, policy, split = 60 * settings.minutes, opened.policy, opened.opening.prepared.train_examples
    left_s = max(0.0, whole_s - spent_s - times.opening - explaining_s)
    each_s = times.structure + times.comparison + times.family
    if times.training_step is None or times.batch is None:
        count = _at_most(settings.trials, left_s / each_s)
        return Fits(count, 0, 0.0, 0.0, 0.0, 0.0)
    rungs = lengths(whole_s, policy)
    example_s = times.training_step / times.batch
    first_s = min(rungs[TRAINED].seconds, rungs[TRAINED].examples * example_s)
    bounded = settings.budget.bounded and reach(opened, settings.budget)["met_by"] is None
    share, finalists = (policy.most_finishing, CONTENDERS) if bounded else (policy.most_for_front, FINALISTS)
    full_s = min(rungs[LAST].seconds * 2, FULL_EPOCHS * split * example_s)
    finishing_s = min(share * whole_s, finalists * (full_s + times.family), left_s)
    families = (left_s - finishing_s) / (each_s + (first_s + times.family) / policy.eta)
    count = _at_most(settings.trials, families)
    return Fits(
        families=count,
        trained=-(-count // policy.eta),
        first_training=first_s,
        first_epochs=first_s / example_s / split,
        finishing=finishing_s,
        full_epochs=min(FULL_EPOCHS, max(0.0, finishing_s / finalists - times.family) / example_s / split),
    )


def _at_most(trials: int | None, count: float) -> int:
    return int(count) if trials is None else min(trials, int(count))
