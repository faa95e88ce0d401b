"""Examples as a Dataset gave them, kept on disk, so that what is slow to decode is decoded once by all processes of a
run, workers of a loader included.

Two files: records, one after the other as they come, and where each example's record is, mapped into memory. A record
says itself what it holds, so that examples may differ in shape. Whoever decodes an example first appends its record
under a lock and enters it last: a reader sees it whole or not at all. The files are of this run of the machine alone,
and are gone with it.
"""

import fcntl
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FREE_SHARE = 0.5  # of the free disk, that examples may take
ALIGNED = 8  # bytes, between the parts of a record
ENDINGS = ".records", ".index"
START, LENGTH = 0, 1  # columns: where a record begins, plus one; its bytes


class NotKept(Exception):
    """An example holds what has no plain form: an image object, a sparse tensor."""


class ExampleCache:
    """Examples by number. path: of both files but for their endings; their folder is made."""

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        path.parent.mkdir(exist_ok=True)
        free, kept = shutil.disk_usage(path.parent).free, sum(map(_bytes_of, path.parent.glob(f"*{ENDINGS[0]}")))
        self.most_bytes = int(FREE_SHARE * (free + kept))  # of all caches in the folder, whoever opens one when
        self._least_free = free + kept - self.most_bytes
        self.full = False  # nothing more is kept
        self._records, where = (
            os.open(path.with_name(path.name + ending), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            for ending in ENDINGS
        )
        os.ftruncate(where, 16 * size)
        self._index = np.memmap(os.fdopen(where, "r+b"), np.uint64, "r+", shape=(size, 2))

    def __reduce__(self) -> tuple[Any, ...]:
        return ExampleCache, (self._path, self._size)

    @property
    def is_full(self) -> bool:
        """Whether what was kept last, by any process, may have been the last that there was room for."""
        kept, used = int(np.count_nonzero(self._index[:, START])), os.fstat(self._records).st_size
        return self.full or (kept > 0 and used + used / kept > self.most_bytes)

    def has(self, number: int) -> bool:
        return bool(self._index[number, START])

    def get(self, number: int) -> Any:
        """The example, which is there."""
        start, length = (int(value) for value in self._index[number])
        record = bytearray(length)
        os.preadv(self._records, [record], start - 1)
        return decoded(record)

    def put(self, number: int, example: Any) -> None:
        """Keep an example while there is room. Raises NotKept where it has no plain form."""
        if self.full or self.has(number):
            return
        record = encoded(example)
        try:
            start = self._appended(record)
        except OSError:  # the disk is full, or the run folder was removed
            start = None
        if start is None:
            self.full = True
            return
        self._index[number, LENGTH] = len(record)
        self._index[number, START] = start + 1

    def _appended(self, record: bytes) -> int | None:
        """Where a record was written; None where it would be too much."""
        fcntl.lockf(self._records, fcntl.LOCK_EX)
        try:
            start = os.fstat(self._records).st_size
            room = shutil.disk_usage(self._path.parent).free - self._least_free
            if start + len(record) > self.most_bytes or len(record) > room:
                return None
            os.ftruncate(self._records, start + len(record))
        finally:
            fcntl.lockf(self._records, fcntl.LOCK_UN)
        os.pwrite(self._records, record, start)
        return start

    def discard(self) -> None:
        """Remove what was kept."""
        with suppress(OSError):
            os.close(self._records)
        for ending in ENDINGS:
            self._path.with_name(self._path.name + ending).unlink(missing_ok=True)


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it was removed meanwhile
        return 0


def encoded(example: Any) -> bytes:
    """A record: the length of its description, the description (JSON), the bytes of its tensors and arrays. Raises
    NotKept.
    """
    parts: list[bytes] = []
    description = json.dumps(_described(example, parts)).encode()
    start = len(description).to_bytes(8, "little") + description
    return b"".join(_aligned(part) for part in (start, *parts))


def decoded(record: bytearray) -> Any:
    """The example of a record; its tensors share the record's memory."""
    end = 8 + int.from_bytes(record[:8], "little")
    return _read(json.loads(record[8:end]), record, [_rounded(end)])


def _described(value: Any, parts: list[bytes]) -> Any:
    """What JSON holds of a value; ``parts`` gets the bytes of its tensors."""
    if isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized:
        held = value.detach().cpu().contiguous()
        parts.append(held.reshape(-1).view(torch.uint8).numpy().tobytes() if held.numel() else b"")
        return ["tensor", str(value.dtype).removeprefix("torch."), list(value.shape)]
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biufc":
        parts.append(np.ascontiguousarray(value).tobytes())
        return ["array" if isinstance(value, np.ndarray) else "number", value.dtype.str, list(value.shape)]
    if value is None or type(value) in (bool, int, float, str):
        return ["value", value]
    if type(value) in (tuple, list):
        return [type(value).__name__, [_described(inner, parts) for inner in value]]
    if type(value) is dict and all(type(key) is str for key in value):
        return ["dict", {key: _described(inner, parts) for key, inner in value.items()}]
    raise NotKept(type(value).__name__)


def _read(told: Any, record: bytearray, at: list[int]) -> Any:
    """The value that was described; ``at``: where the bytes of the next tensor begin."""
    kind, *rest = told
    if kind == "value":
        return rest[0]
    if kind == "dict":
        return {key: _read(inner, record, at) for key, inner in rest[0].items()}
    if kind in ("tuple", "list"):
        return (tuple if kind == "tuple" else list)(_read(inner, record, at) for inner in rest[0])
    name, shape = rest
    count, start = int(np.prod(shape)), at[0]
    if kind == "tensor":
        dtype: torch.dtype = getattr(torch, name)
        at[0] = _rounded(start + count * dtype.itemsize)
        if not count:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(record, dtype=dtype, count=count, offset=start).reshape(shape)
    array = np.frombuffer(record, np.dtype(name), count, start).reshape(shape)
    at[0] = _rounded(start + array.nbytes)
    return array if kind == "array" else array[()]


def _rounded(length: int) -> int:
    return -(-length // ALIGNED) * ALIGNED


def _aligned(part: bytes) -> bytes:
    return part + bytes(_rounded(len(part)) - len(part))
