"""What calls by name go to, in a child process and in this one."""

from typing import Any

OPENS = "prepare"  # the method that opens the task


class Service:
    """Calls go to what is held; once one has opened it, to what it opened, but for those that open it again.

    The method that opens returns what it opened, and the answer to the call.
    """

    def __init__(self, held: Any) -> None:
        self._held = held
        self._serving = held

    def call(self, method: str, *args: Any) -> Any:
        if method != OPENS:
            return getattr(self._serving, method)(*args)
        self._serving, answer = getattr(self._held, OPENS)(*args)
        return answer
