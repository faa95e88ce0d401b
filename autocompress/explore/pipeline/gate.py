"""What a structure was timed at before any training."""

from dataclasses import dataclass

from autocompress.comparison import TimingSession
from autocompress.latency import Latency
from autocompress.recipe import Plan, Step


@dataclass(frozen=True)
class Gate:
    """The untrained structure, exported and timed as its fastest variant. slower: variants that were surely no faster
    than the float file they were made from. plans: None where nothing was built. macs: multiply-
    accumulates of one call. sessions: each that this took, with the digest of its graph.
    """

    latency: Latency
    plans: tuple[Plan, ...] | None
    slower: tuple[Step, ...] = ()
    macs: int = 0
    sessions: tuple[tuple[str, TimingSession], ...] = ()
