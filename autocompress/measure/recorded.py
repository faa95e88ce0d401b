"""What a device elsewhere is given and answers: inputs, and block times, taken for what they are only where they can
be.
"""

import io
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from autocompress.data import Array, Feed
from autocompress.errors import CandidateFailed, one_line
from autocompress.machine.blocks import Blocks
from autocompress.measure.agent import DeviceRefused

POSSIBLE_MS = 1e-6, 1e7  # of a call
SHOWN_OF_IT = 200  # characters of an answer in an error


def blocks_in(found: Any, who: str) -> Blocks:
    """Of ``{"reference": [ms, ...], "candidate": [[ms, ...], ...]}``. who: answered it. Raises CandidateFailed for what
    no session records.
    """
    try:
        candidate = tuple(np.array([float(ms) for ms in block]) for block in found["candidate"])
        reference = np.array([float(ms) for ms in found["reference"]])
        blocks = Blocks(candidate, reference)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CandidateFailed(f"{who} gave no block times: {one_line(found, SHOWN_OF_IT) or 'nothing'!r}") from error
    least, most = POSSIBLE_MS
    if not all(len(block) and all(least < ms < most for ms in block) for block in (*candidate, reference)):
        raise CandidateFailed(f"{who} gave block times that no call takes: not {least:g} to {most:g} ms")
    return blocks


def packed(feeds: Sequence[Feed]) -> bytes:
    """An .npz file of inputs by ``number/name``."""
    kept = io.BytesIO()
    arrays = {f"{n}/{name}": value for n, feed in enumerate(feeds) for name, value in feed.items()}
    np.savez(kept, **arrays)  # type: ignore[arg-type]
    return kept.getvalue()


def outputs_in(content: bytes, calls: int, who: str) -> list[Sequence[Array]]:
    """The outputs of each call, of an .npz file with them by ``number/name``, in order. who: answered it. Raises
    DeviceRefused for anything else.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            found: dict[int, list[Array]] = {}
            for key in stored.files:
                found.setdefault(int(key.partition("/")[0]), []).append(stored[key])
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise DeviceRefused(f"{who} gave outputs that are no arrays") from error
    if sorted(found) != list(range(calls)):
        raise DeviceRefused(f"{who} gave the outputs of {len(found)} calls, and {calls} were asked for")
    return [found[number] for number in range(calls)]
