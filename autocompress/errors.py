"""What can go wrong, told to a user in one line: the cause, then the fix. Only the CLI turns these into exit codes."""

from collections.abc import Iterable
from difflib import get_close_matches


class AutocompressError(Exception):
    """Base of every error meant for a user; ``str(error)`` is one line."""

    exit_code = 1


class UsageError(AutocompressError):
    """Bad usage or bad input: nothing was trained and nothing was lost."""

    exit_code = 2


class DataError(UsageError):
    """The user's data cannot be read or used. It may be found in the middle of a search, and no candidate is to blame:
    the search ends with all that is finished kept.
    """


class CandidateFailed(AutocompressError):
    """One candidate failed. The cause is recorded and the search goes on."""

    def __init__(self, reason: str, strategy: str | None = None) -> None:
        super().__init__(one_line(reason))
        self.reason = one_line(reason)
        self.strategy = strategy

    def __reduce__(self) -> tuple[type["CandidateFailed"], tuple[str | None, ...]]:
        return CandidateFailed, (self.reason, self.strategy)


class Interrupted(AutocompressError):
    """Ctrl-C or SIGTERM was received and the state is saved."""

    def __init__(self, message: str, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def one_line(text: object, limit: int = 400) -> str:
    """The first meaningful line of an error's text, without control characters, at most ``limit`` characters."""
    words = "".join(c if c.isprintable() else " " for c in str(text)).split()
    line = " ".join(words)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def unknown(kind: str, word: str, known: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest known one."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return UsageError(f"unknown {kind} {one_line(word, 80)!r}: {hint}")
