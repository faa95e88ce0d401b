"""The outputs of a file over a split, which is not timed."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from autocompress.data import Split, feed_of, padded
from autocompress.errors import AutocompressError, CandidateFailed, one_line
from autocompress.plugin.contract import Session

EXAMPLES_AT_ONCE = 64


@contextmanager
def running() -> Iterator[None]:
    """The boundary to the runtime: whatever it raises for a file fails that file. Raises CandidateFailed."""
    try:
        yield
    except AutocompressError:
        raise
    except Exception as error:
        raise CandidateFailed(f"the file opens and does not run: {type(error).__name__}: {one_line(error)}") from error


def outputs_of(
    open_session: Callable[[], Session],
    split: Split,
    batch_size: int,
    give_way: Callable[[], None] = lambda: None,
    read: int = EXAMPLES_AT_ONCE,
) -> Tensor:
    """Run every example of ``split`` through the model at the profile's batch and return the outputs, in order.

    Nothing is timed here, so as many sessions as this process has threads share the examples. They are read many at
    once: one at a time that takes as long as a small model does. give_way: called between two pieces of the work, while
    nothing runs. read: examples at once, by each thread between two of those moments.
    """
    sessions = [open_session() for _ in range(torch.get_num_threads())]
    share = min(read, -(-len(split) // len(sessions)))
    piece = -(-share // batch_size) * batch_size
    starts = range(0, len(split), piece)
    reading = threading.Lock()

    def work(session: Session, start: int) -> Tensor:
        with reading:  # a Dataset need not stand two readers at once
            batch = split.take(torch.arange(start, min(start + piece, len(split))))
        size, found = len(batch.targets), []
        feed = feed_of(padded(batch, -(-size // batch_size) * batch_size), session.input_names)
        with running():
            for first in range(0, size, batch_size):
                call = {name: values[first : first + batch_size] for name, values in feed.items()}
                found.append(np.array(session.run(call)[0]))
        return torch.from_numpy(np.concatenate(found)[:size])

    done: list[Tensor] = []
    with ThreadPoolExecutor(len(sessions)) as pool:
        for number in range(0, len(starts), len(sessions)):
            done += pool.map(work, sessions, starts[number : number + len(sessions)])
            give_way()
    return torch.cat(done).float()
