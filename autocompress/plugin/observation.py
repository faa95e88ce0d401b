"""Observers at work: each is told on a thread of its own, and what goes wrong there stays there."""

import copy
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from autocompress.errors import one_line
from autocompress.plugin.observer import Observer, SearchEvent

SOON_S, LONGEST_WAIT_S = 2.0, 60.0  # that the end of a search waits for its observers: before it says so, and at most


class Observation:
    """The observers of one search. Telling them an event puts a copy of it into the queue of each and returns at once.

    note: told in a line of an observer that raised, which is told nothing more, and of one that is waited for.
    """

    def __init__(self, observers: Sequence[Observer], note: Callable[[str], None]) -> None:
        self._note = note
        self._threads = [_ObserverThread(observer, note) for observer in observers]

    @property
    def listened_to(self) -> bool:
        """Whether anybody is told."""
        return any(thread.is_alive() for thread in self._threads)

    def tell(self, event: SearchEvent) -> None:
        for thread in self._threads:
            if thread.is_alive():
                thread.queue.put(copy.deepcopy(event))

    def close(self) -> None:
        """Nothing more is told. Waits a minute at most until all have taken in what they were told."""
        for thread in self._threads:
            thread.queue.put(None)
        for thread in self._threads:
            thread.join(SOON_S)
        slow = [thread for thread in self._threads if thread.is_alive()]
        if slow:
            self._note(f"waiting for the observers that still write: {', '.join(thread.name for thread in slow)}")
        for thread in slow:
            thread.join(LONGEST_WAIT_S / len(slow))
            if thread.is_alive():
                self._note(f"the observer {thread.name} is not waited for any longer: what it writes may be incomplete")


class _ObserverThread(threading.Thread):
    def __init__(self, observer: Observer, note: Callable[[str], None]) -> None:
        name = getattr(observer, "name", type(observer).__name__)
        super().__init__(name=name, daemon=True)  # one that hangs keeps no process from ending
        self.queue: SimpleQueue[SearchEvent | None] = SimpleQueue()
        self._observer = observer
        self._note = note
        self.start()

    def run(self) -> None:
        while (event := self.queue.get()) is not None:
            try:
                self._observer.observe(event)
            except BaseException as error:  # the boundary to other people's code; on this thread nobody else gets it
                why = f"{type(error).__name__}: {one_line(error)}"
                self._note(f"the observer {self.name} failed and is told nothing more ({why}); the search goes on")
                return
