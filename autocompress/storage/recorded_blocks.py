"""What sessions recorded, kept in the store at one to two bytes a call: every number shown of them can be worked out
again.

The medians of the reference are kept as they are: they decide which blocks were quiet. A call of the candidate is kept
as the number of steps of 0.05 % that it is slower than the fastest call, the low bytes of all calls before the high
ones, and packed by DEFLATE (RFC 1951).
"""

import hashlib
import zlib

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autocompress.machine.blocks import Blocks
from autocompress.storage.store import Store

_STEP = 5e-4  # of a call's logarithm; what comes back is at most half of it off
_KIND = "blocks"


def save_blocks(store: Store, blocks: Blocks) -> str:
    """Keep what a session recorded; the key of the entry, which follows from its content.

    Raises ValueError for blocks without calls and for calls that took no finite time above 0, AutocompressError when
    the disk is full.
    """
    calls = np.concatenate(blocks.candidate)
    if not all(map(len, blocks.candidate)) or not (np.isfinite(calls) & (calls > 0)).all():
        raise ValueError("a session is kept when each of its blocks has calls and each call took some time")
    steps = np.round(np.log(calls / calls.min()) / _STEP).astype("<u2")
    parts = {
        "fastest": np.array([calls.min()], np.float64),
        "counts": np.array([len(block) for block in blocks.candidate], np.int32),
        "reference": np.asarray(blocks.reference, np.float64),
    }
    content = hashlib.sha256(b"".join(part.tobytes() for part in (*parts.values(), steps)))
    key = store.key(_KIND, content.hexdigest())
    packed = np.frombuffer(zlib.compress(_planes(steps).tobytes(), 9), np.uint8)
    store.save(key, {"calls": torch.tensor(packed)} | {name: torch.tensor(part) for name, part in parts.items()})
    return key


def load_blocks(store: Store, key: str) -> Blocks | None:
    """What was kept under a key: calls of the candidate within 0.03 %, medians of the reference as they were. None when
    there is no entry that is whole, or it holds something else.
    """
    tensors = store.load(key)
    try:
        return None if tensors is None else _unpacked(tensors)
    except (KeyError, ValueError, zlib.error):
        return None


def _unpacked(tensors: dict[str, Tensor]) -> Blocks:
    low, high = np.frombuffer(zlib.decompress(tensors["calls"].numpy().tobytes()), np.uint8).reshape(2, -1)
    steps = low + 256.0 * high
    ends = np.cumsum(tensors["counts"].numpy())
    if ends[-1] != len(steps):
        raise ValueError("other calls than were counted")
    calls = tensors["fastest"].numpy()[0] * np.exp(_STEP * steps)
    return Blocks(tuple(np.split(calls, ends[:-1])), tensors["reference"].numpy())


def _planes(steps: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """The low bytes, then the high ones, which are nearly all alike."""
    return np.ascontiguousarray(steps.view(np.uint8).reshape(-1, 2).T)
