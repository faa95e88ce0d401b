"""Whether an int8 file gives on the target what its numbers say, or sums of its products are cut off there."""

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from autocompress.errors import CandidateFailed
from autocompress.measure import running
from autocompress.plugin.contract import Array, Context, Feed, Session

CUT_OFF_FEEDS = 8  # feeds of training examples
# What kernels round differently changes the outputs of a deep transformer as much as int8 itself does (3 % of their
# deviation), and leaves their distance from the float file's as it is. Cut off sums took it from 0.9 to 21 % on a
# static CNN, from 0.2 to 7 % on a dynamic LSTM.
CLEARLY_FURTHER, ROUNDING = 2.0, 0.02


def refuse_cut_off(path: Path, source: Path, context: Context) -> None:
    """Raise CandidateFailed when the outputs of ``path``, over a few training examples, are clearly further from
    those of ``source``, the float file that it was made from, than they are when no sum is cut off. Nothing is compared
    where the target sums exactly.
    """
    runtime, profile = context.runtime, context.profile
    exact = runtime.exact(path, profile) if runtime.saturates(profile) else None
    if exact is None:
        return
    feeds = list(islice(context.feeds(CUT_OFF_FEEDS), CUT_OFF_FEEDS))
    with running():
        trained = _outputs(runtime.open(source, profile), feeds)
        found = _off(_outputs(runtime.open(path, profile), feeds), trained)
        without = _off(_outputs(exact, feeds), trained)
    if math.isfinite(without) and not found <= max(CLEARLY_FURTHER * without, ROUNDING):  # nor is NaN
        raise CandidateFailed(
            f"sums of int8 products are cut off on this target: outputs are {found:.0%} of their deviation off the "
            f"float file's, and {without:.1%} without that"
        )


def _outputs(session: Session, feeds: Sequence[Feed]) -> list[Array]:
    """Of each output of the file all numbers."""
    calls = zip(*(session.run(feed) for feed in feeds), strict=True)
    return [
        np.concatenate([np.asarray(output, np.float64).ravel() for output in calls_of_one]) for calls_of_one in calls
    ]


def _off(outputs: Sequence[Array], trained: Sequence[Array]) -> float:
    """Mean absolute difference, as a share of the standard deviation of what is expected, of the worst output."""
    return max(float(np.abs(o - t).mean() / (t.std() or 1.0)) for o, t in zip(outputs, trained, strict=True))
