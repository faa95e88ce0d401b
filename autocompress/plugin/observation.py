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
        self._told = [_Told(observer, note) for observer in observers]

    @property
    def listened_to(self) -> bool:
        """Whether anybody is told."""
        return any(told.is_alive() for told in self._told)

    def tell(self, event: SearchEvent) -> None:
        for told in self._told:
            if told.is_alive():
                told.queue.put(copy.deepcopy(event))

    def close(self) -> None:
        """Nothing more is told. Waits a minute at most until all have taken in what they were told."""
        for told in self._told:
            told.queue.put(None)
        for told in self._told:
            told.join(SOON_S)
        slow = [told for told in self._told if told.is_alive()]
        if slow:
            self._note(f"waiting for the observers that still write: {', '.join(told.name for told in slow)}")
        for told in slow:
            told.join(LONGEST_WAIT_S / len(slow))
            if told.is_alive():
                self._note(f"the observer {told.name} is not waited for any longer: what it writes may be incomplete")


class _Told(threading.Thread):
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
