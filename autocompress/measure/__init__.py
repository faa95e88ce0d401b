"""The door to where a file runs: everything that times a file, and the pure statistics beside it."""

from autocompress.measure.blocks import USUAL
from autocompress.measure.command_device import device_limit_s
from autocompress.measure.conditions import UNKNOWN, advice, check_threads, machine
from autocompress.measure.intervals import Pools, Spreads, counted, latency_of
from autocompress.measure.machine_lock import MachineLock
from autocompress.measure.outputs import outputs_of, running
from autocompress.measure.overhead import MOSTLY, call_overhead_ms
from autocompress.measure.quiet import ReferenceSpeed, requalified
from autocompress.measure.sessions import LOOKS, Sessions
from autocompress.measure.target import CompareRequest, Target

__all__ = [
    "LOOKS",
    "MOSTLY",
    "UNKNOWN",
    "USUAL",
    "CompareRequest",
    "MachineLock",
    "Pools",
    "ReferenceSpeed",
    "Sessions",
    "Spreads",
    "Target",
    "advice",
    "call_overhead_ms",
    "check_threads",
    "counted",
    "device_limit_s",
    "latency_of",
    "machine",
    "outputs_of",
    "requalified",
    "running",
]
