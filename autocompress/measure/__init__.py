"""The door to where a file runs: everything that times a file, and the pure statistics beside it."""

from autocompress.machine.blocks import USUAL
from autocompress.measure.agent import DeviceLost, DeviceRefused
from autocompress.measure.agent_device import DeviceSession, device_kind
from autocompress.measure.conditions import advice
from autocompress.measure.intervals import Pools, RunTiming, counted, latency_of
from autocompress.measure.machine_lock import MachineLock
from autocompress.measure.memory_taken import check_memory
from autocompress.measure.operators import operators_of
from autocompress.measure.outputs import outputs_of, running
from autocompress.measure.overhead import MOSTLY, call_overhead_ms
from autocompress.measure.place import check_place, place_limit_s
from autocompress.measure.quiet import ReferenceSpeed, requalified
from autocompress.measure.sessions import LOOKS, Sessions
from autocompress.measure.target import CompareRequest, Target, needs_the_machine

__all__ = [
    "LOOKS",
    "MOSTLY",
    "USUAL",
    "CompareRequest",
    "DeviceLost",
    "DeviceRefused",
    "DeviceSession",
    "MachineLock",
    "Pools",
    "ReferenceSpeed",
    "RunTiming",
    "Sessions",
    "Target",
    "advice",
    "call_overhead_ms",
    "check_memory",
    "check_place",
    "counted",
    "device_kind",
    "latency_of",
    "needs_the_machine",
    "operators_of",
    "outputs_of",
    "place_limit_s",
    "requalified",
    "running",
]
