"""The door to where a file runs: everything that times a file, and the pure statistics beside it."""

from autocompress.measure.blocks import BlockLimits
from autocompress.measure.conditions import advice, check_threads, machine
from autocompress.measure.intervals import Spreads, counted, latency_of, standing_alone
from autocompress.measure.machine_lock import MachineLock
from autocompress.measure.outputs import outputs_of, running
from autocompress.measure.overhead import MOSTLY, call_overhead_ms
from autocompress.measure.quiet import requalified
from autocompress.measure.sessions import LOOKS, Sessions
from autocompress.measure.target import CompareRequest, LocalTarget

__all__ = [
    "LOOKS",
    "MOSTLY",
    "BlockLimits",
    "CompareRequest",
    "LocalTarget",
    "MachineLock",
    "Sessions",
    "Spreads",
    "advice",
    "call_overhead_ms",
    "check_threads",
    "counted",
    "latency_of",
    "machine",
    "outputs_of",
    "requalified",
    "running",
    "standing_alone",
]
