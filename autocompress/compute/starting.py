"""Why a process or a thread could not be started, told to a user: limits of processes and of memory, by name."""

import errno
from pathlib import Path

from autocompress.errors import AutocompressError, CandidateFailed, one_line

SAID = 4096  # bytes at the end of what a child printed, in which its last words are
PROCESSES = (
    "the limit of processes and threads is reached: raise it (ulimit -u; of a container: pids.max, such as docker's "
    "--pids-limit), or use fewer --workers"
)
MEMORY = (
    "there is too little memory: raise the limit (ulimit -v; of a container: memory.max, such as docker's --memory), "
    "or use fewer --workers"
)
DESCRIPTORS = "the limit of open files is reached: raise it (ulimit -n), or use fewer --workers"
CAUSES = {errno.EAGAIN: PROCESSES, errno.ENOMEM: MEMORY, errno.EMFILE: DESCRIPTORS, errno.ENFILE: DESCRIPTORS}
WORDS = {  # of Python, of libraries that start threads, of the loader of libraries
    "can't start new thread": PROCESSES,
    "Thread creation failed": PROCESSES,
    "pthread_create": PROCESSES,
    "Resource temporarily unavailable": PROCESSES,
    "MemoryError": MEMORY,
    "bad_alloc": MEMORY,
    "Cannot allocate memory": MEMORY,
    "failed to map segment": MEMORY,
    "can't allocate memory": MEMORY,
    "SIGKILL": MEMORY,  # by the kernel, as a rule
}


class WorkerNotStarted(AutocompressError):
    """No worker process can be started here, so nothing can be computed."""


def not_started(error: Exception) -> WorkerNotStarted:
    """From what the system answers."""
    cause = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error, 200)
    fix = CAUSES.get(error.errno or 0) if isinstance(error, OSError) else fix_of(cause)
    return WorkerNotStarted(f"a worker process cannot be started: {cause}; {fix or 'see what the system allows'}")


def ended_at_once(ending: str, log: Path, since: int) -> WorkerNotStarted:
    """Of a child that ended before it was there. ending: how. since: bytes of the log that others wrote before."""
    said = f"({ending}){last_words(log, since)}"
    return WorkerNotStarted(f"a worker process ended as it was started {said}; {fix_of(said) or f'see {log}'}")


def last_words(log: Path, since: int) -> str:
    """The last line that a child printed, to follow how it ended; nothing when it was silent."""
    try:
        with log.open("rb") as said:
            said.seek(max(since, log.stat().st_size - SAID))
            lines = said.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return f": {one_line(lines[-1], 200)}" if lines else ""


def failed_by(error: Exception) -> CandidateFailed:
    """What a fault of the program or of a plug-in makes of a candidate."""
    reason = f"{type(error).__name__}: {one_line(error)}"
    fix = fix_of(reason)
    return CandidateFailed(f"{reason}; {fix}" if fix else reason)


def fix_of(text: str) -> str | None:
    """What would help against a limit that an error's text speaks of; None where it speaks of none."""
    return next((fix for words, fix in WORDS.items() if words in text), None)
