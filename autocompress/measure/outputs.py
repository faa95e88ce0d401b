"""The outputs of a file over a split, which is not timed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from autocompress.data import Array, Batch, OutputLayout, Split, feed_of, padded
from autocompress.errors import AutocompressError, CandidateFailed, one_line
from autocompress.plugin.contract import Session

EXAMPLES_AT_ONCE = 64
BYTES_AT_ONCE = 64 << 20  # of outputs, about, that a thread holds before they are handed on


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
    layout: OutputLayout,
    give_way: Callable[[], None] = lambda: None,
    read: int = EXAMPLES_AT_ONCE,
    sessions: int | None = None,
) -> Iterator[tuple[Batch, Mapping[str, Tensor]]]:
    """Run every example of ``split`` through the model at the profile's batch: pieces of the split, in order, with the
    outputs for them (``OutputLayout.rows``).

    Nothing is timed here, so as many sessions as this process has threads, or ``sessions``, share the examples. They
    are read many at once: one at a time that takes as long as a small model does. give_way: called between two pieces
    of the work, while nothing runs. read: examples at once, by each thread between two of those moments; fewer where
    their outputs are large.
    """
    opened = [open_session() for _ in range(sessions or torch.get_num_threads())]
    each = sum(t[:1].element_size() * t[:1].numel() for t in layout.rows_of(layout.like).values())
    share = min(read, -(-len(split) // len(opened)), max(1, BYTES_AT_ONCE // max(each, 1)))
    piece = -(-share // batch_size) * batch_size
    pieces = split.batches(piece)

    def work(session: Session, batch: Batch) -> tuple[Batch, Mapping[str, Tensor]]:
        whole = -(-len(batch) // batch_size) * batch_size
        feed = feed_of(padded(batch, whole), session.input_names)
        calls = [
            {name: values[first : first + batch_size] for name, values in feed.items()}
            for first in range(0, whole, batch_size)
        ]
        with running():
            found = [layout.rows(_delivered(arrays, layout)) for arrays in session.run_all(calls)]
        return batch, {name: torch.cat([rows[name] for rows in found])[: len(batch)] for name in found[0]}

    with ThreadPoolExecutor(len(opened)) as pool:
        while some := list(islice(pieces, len(opened))):
            yield from pool.map(work, opened, some)
            give_way()


def _delivered(arrays: Sequence[Array], layout: OutputLayout) -> dict[str, Tensor]:
    """What one call of a file gave, by the names of the outputs. Raises CandidateFailed when they are not as many."""
    if len(arrays) != len(layout.names):
        raise CandidateFailed(f"the file gives {len(arrays)} outputs, the model {len(layout.names)}")
    return {name: torch.from_numpy(np.array(array)) for name, array in zip(layout.names, arrays, strict=True)}
