"""An event loop whose time passes only while everybody waits, and then at once."""

import asyncio
import selectors
from typing import Any


class DeclaredLoop(asyncio.SelectorEventLoop):
    """``asyncio.sleep`` takes no time at all, and ``time`` says that it took what was asked."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Waiting(self))

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float) -> None:
        self._now += seconds


class _Waiting(selectors.SelectSelector):
    """Nothing is ever ready but by the clock."""

    def __init__(self, loop: DeclaredLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits, and for nothing")
        self._loop.pass_time(timeout)
        return []
