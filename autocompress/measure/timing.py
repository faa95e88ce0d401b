"""One call of a model, timed."""

import time
from collections.abc import Callable, Sequence
from itertools import cycle

from autocompress.data import Feed
from autocompress.machine.waiting import Waited, never_waited, without_wait
from autocompress.plugin.contract import Runtime, Session


def nothing() -> None:
    """What comes before a call as a rule."""


def timed_call(
    runtime: Runtime,
    session: Session,
    feeds: Sequence[Feed],
    before: Callable[[], None] = nothing,
    waited: Waited = never_waited,
) -> Callable[[], float]:
    """Runs the model on ``feeds`` in turn; milliseconds, by the runtime's own clock when it has one. before: each call,
    which does not count. waited: by this thread for a processor, no part of what a call takes.
    """
    turns = cycle([(feed, session.bound(feed)) for feed in feeds])

    def call() -> float:
        feed, run = next(turns)
        before()
        own = runtime.clock(session, feed)
        if own is not None:
            return own
        had_waited = waited()
        start = time.perf_counter()
        run()
        took = (time.perf_counter() - start) * 1e3
        return without_wait(took, had_waited, waited())

    return call
