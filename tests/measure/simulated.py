"""Machines that are not there: calls take what the machine's state makes of them, and its clock goes on with them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from autocompress.comparison import TimingSession
from autocompress.machine.blocks import BlockLimits, record_blocks
from autocompress.machine.quiet import RecentBlocks, quiet
from autocompress.machine.waiting import Waits
from autocompress.measure.statistics import session_of
from autocompress.plugin.contract import Array, Feed, Session


@dataclass
class Machine:
    """A shared processor. quiet_ms, busy_ms: the range that a state lasts; a busy range of nothing: always quiet, a
    quiet one of nothing: never. speed: what all times are divided by, at a moment in ms. session_sd: spread between
    sessions of a file, of the logarithm (where its memory came to lie). turn_ms: how long this process computes before
    others run on its processor, and how long they do. between_ms: what it does between two calls. tells: whether the
    system says how long it waited for them.
    """

    quiet_ms: tuple[float, float] = (15, 100)
    busy_ms: tuple[float, float] = (15, 100)
    speed: Callable[[float], float] = lambda ms: 1.0
    call_sd: float = 0.01
    session_sd: float = 0.005
    turn_ms: tuple[float, float] = (math.inf, 0)
    between_ms: float = 0.0
    tells: bool = True
    seed: int = 0
    now_ms: float = 0.0
    recent: RecentBlocks = field(default_factory=RecentBlocks)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self._busy, self._changes_ms = False, 0.0
        self._waits, self._turn_left_ms = Waits(), self.turn_ms[0]

    def busy(self) -> bool:
        while self.now_ms >= self._changes_ms:
            if self.quiet_ms[1] <= 0 or self.busy_ms[1] <= 0:
                self._busy, self._changes_ms = self.busy_ms[1] > 0, math.inf
                break
            self._busy = not self._busy
            self._changes_ms += self.random.uniform(*(self.busy_ms if self._busy else self.quiet_ms))
        return self._busy

    def model(self, ms: float, slowed: float) -> Callable[[], float]:
        """A call of a file that takes so long on a quiet machine, and ``slowed`` times that beside a neighbour."""
        own = ms * math.exp(self.random.normal(0, self.session_sd))

        def call() -> float:
            self._compute(self.between_ms)
            began = self.now_ms
            took = own * (slowed if self.busy() else 1) / self.speed(self.now_ms)
            self._compute(took * math.exp(abs(self.random.normal(0, self.call_sd))))
            return self.now_ms - began

        return call

    def _compute(self, ms: float) -> None:
        while ms >= self._turn_left_ms:
            ms -= self._turn_left_ms
            self.now_ms += self._turn_left_ms + self.turn_ms[1]
            self._waits = Waits(self._waits.ms + self.turn_ms[1], self._waits.turns + 1)
            self._turn_left_ms = self.turn_ms[0]
        self.now_ms += ms
        self._turn_left_ms -= ms

    def _waited(self) -> Waits:
        return self._waits if self.tells else Waits()

    def session(
        self, candidate: tuple[float, float], reference: tuple[float, float] = (1.0, 1.3), percentile: float = 90
    ) -> TimingSession:
        """One session of two files, each given as its milliseconds and how a neighbour slows it."""
        blocks = record_blocks(
            self.model(*candidate),
            self.model(*reference),
            lambda medians: int(quiet(medians, self.recent.fastest(self.now_ms / 1e3, medians)).sum()),
            BlockLimits(),
            clock=lambda: self.now_ms / 1e3,
            waited=self._waited,
        )
        session = session_of(blocks, self.recent.fastest(self.now_ms / 1e3, blocks.reference), percentile)
        self.recent.add(self.now_ms / 1e3, blocks.reference)
        return session


class Called(Session):
    """Of a file that is not there, each call of which is one of a function."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    @property
    def input_names(self) -> Sequence[str]:
        return ("x",)

    def run(self, feed: Feed) -> Sequence[Array]:
        self._call()
        return []
