"""The door to where a file runs: everything that times a file, and the pure statistics beside it."""

from autocompress.measure.conditions import advice, machine
from autocompress.measure.effort import FINAL, FULL, QUICK, Effort
from autocompress.measure.intervals import ratio_of
from autocompress.measure.machine_lock import MachineLock
from autocompress.measure.outputs import outputs_of, running
from autocompress.measure.sessions import LOOKS, Sessions
from autocompress.measure.statistics import is_quiet, no_faster, settled, summarise
from autocompress.measure.target import CompareRequest, LocalTarget, too_slow
from autocompress.measure.timing import Timer, measure, timer
from autocompress.measure.verdicts import ms_verdict, ratio_verdict

__all__ = [
    "FINAL",
    "FULL",
    "LOOKS",
    "QUICK",
    "CompareRequest",
    "Effort",
    "LocalTarget",
    "MachineLock",
    "Sessions",
    "Timer",
    "advice",
    "is_quiet",
    "machine",
    "measure",
    "ms_verdict",
    "no_faster",
    "outputs_of",
    "ratio_of",
    "ratio_verdict",
    "running",
    "settled",
    "summarise",
    "timer",
    "too_slow",
]
