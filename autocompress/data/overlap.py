"""Examples of one split that are in another: by digests of the inputs, taken as they are read, 8 bytes an example."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from autocompress.data.batch import Batch, PerExample
from autocompress.data.split import Split, Watch
from autocompress.nested import tensors_of
from autocompress.supervisor import tell_nobody

NOT_READ = 0
LOOKED_AT_ONCE = 1000  # more examples than when it was last looked, and a tenth more


class Overlaps:
    """Of the splits of a task with its training split. say: told of one that is found while examples are read."""

    def __init__(self, splits: dict[str, Split], say: Callable[[str], None] = tell_nobody) -> None:
        self._digests = {name: np.full(len(split), NOT_READ, np.int64) for name, split in splits.items()}
        self._say = say
        self._said: set[str] = set()
        self._read, self._looked = 0, 0
        for name, split in splits.items():
            if split.memory is not None:
                self._digests[name][:] = digests(split.memory)

    def add(self, name: str, rows: Tensor, batch: Batch) -> None:
        """Examples of the split called ``name`` that were read for the first time."""
        self._digests[name][rows.numpy()] = digests(batch)
        self._read += len(rows)
        if self._read > 1.1 * self._looked + LOOKED_AT_ONCE:
            for warning in self.found():
                self._say(warning)

    def found(self) -> list[str]:
        """A warning for each split with examples that are in the training split too, which was not given before."""
        self._looked = self._read
        train = self._digests["train"]
        warnings = []
        for name in self._digests.keys() - {"train"} - self._said:
            own = self._digests[name]
            shared = int(np.isin(own[own != NOT_READ], train[train != NOT_READ]).sum())
            if shared:
                self._said.add(name)
                warnings.append(
                    f"{shared} examples of the {name} split are also in the training split: its scores flatter"
                )
        return sorted(warnings)


class WatchedBy:
    """One watch that is made of another and of looking for overlap."""

    def __init__(self, name: str, checks: Watch, overlaps: Overlaps) -> None:
        self._name, self._checks, self._overlaps = name, checks, overlaps

    def seen(self, rows: Tensor, batch: Batch) -> None:
        self._checks.seen(rows, batch)
        self._overlaps.add(self._name, rows, batch)


def digests(batch: Batch) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Of the inputs of each example; 0 stands for one that has none."""
    if isinstance(batch.inputs, PerExample) or not tensors_of(batch.inputs):
        return np.full(len(batch), NOT_READ, np.int64)
    columns = [t.reshape(len(t), -1).contiguous().view(torch.uint8) for t in tensors_of(batch.inputs)]
    return np.array([hash(row.tobytes()) for row in torch.cat(columns, 1).numpy()], np.int64)
