"""Threads that compute a call together, each on a processor of its own while files are timed.

Left to itself the system may put two of them on one processor, and not those of the other file: the ratio of both is
then off by as much as threads are worth.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from autocompress.machine.processors import own_processors, staying_on
from autocompress.plugin.contract import Runtime
from autocompress.profile import PROCESSOR, HardwareProfile


@contextmanager
def each_on_its_own(runtime: Runtime, profile: HardwareProfile) -> Iterator[HardwareProfile]:
    """While open, this thread has a processor, and those of files that are opened with the profile handed out have the
    others. All are left to the system where there are fewer processors than threads, where the runtime cannot place its
    own, and where several call a file at once, which are more threads than a runtime knows of.
    """
    one_caller = profile.streams == 1 and profile.provider == PROCESSOR
    own = own_processors(profile.threads) if one_caller else ()
    options = runtime.affinity(profile, own[1:]) if own else {}
    with staying_on(own[:1] if options else ()):
        yield profile.model_copy(update={"options": {**profile.options, **options}}) if options else profile
