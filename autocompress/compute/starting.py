"""Why a worker process cannot be started, for a user: limits of processes and of memory are told by name."""

import errno
from pathlib import Path

from autocompress.errors import AutocompressError, one_line

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
    "thread creation failed": PROCESSES,
    "pthread_create": PROCESSES,
    "Resource temporarily unavailable": PROCESSES,
    "MemoryError": MEMORY,
    "bad_alloc": MEMORY,
    "Cannot allocate memory": MEMORY,
    "failed to map segment": MEMORY,
    "SIGKILL": MEMORY,  # by the kernel, as a rule
}


class WorkerNotStarted(AutocompressError):
    """No worker process can be started here, so nothing can be computed."""


def not_started(error: Exception) -> WorkerNotStarted:
    """From what the system answers."""
    cause = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error, 200)
    fix = CAUSES.get(error.errno or 0) if isinstance(error, OSError) else _fix(cause)
    return WorkerNotStarted(f"a worker process cannot be started: {cause}; {fix or 'see what the system allows'}")


def ended_at_once(ending: str, log: Path, since: int) -> WorkerNotStarted:
    """Of a child that ended before it was there. ending: how. since: bytes of the log that others wrote before."""
    words = _last_words(log, since)
    fix = _fix(f"{ending} {words}") or f"see {log}"
    said = f": {one_line(words.splitlines()[-1], 200)}" if words else ""
    return WorkerNotStarted(f"a worker process ended as it was started ({ending}){said}; {fix}")


def _fix(text: str) -> str | None:
    return next((fix for words, fix in WORDS.items() if words in text), None)


def _last_words(log: Path, since: int) -> str:
    try:
        with log.open("rb") as said:
            said.seek(max(since, log.stat().st_size - SAID))
            return said.read().decode("utf-8", "replace").strip()
    except OSError:
        return ""
