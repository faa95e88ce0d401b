"""The teacher's outputs, computed once where that is cheaper: by example where examples are the same each time, by
block of an epoch where they are augmented. Whichever process comes first computes them, and the store keeps them.
"""

import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress

import torch
from torch import Tensor

from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.teacher import Teacher
from autocompress.data import Split, joined, take_rows
from autocompress.errors import AutocompressError
from autocompress.storage.store import Store
from autocompress.task import Inputs

TEACHER_BATCH = 128

Outputs = dict[str, Tensor]


class TaughtExamples:
    """The teacher's outputs by example, for examples that are the same each time: in blocks of the first epoch that
    asks for them, by whichever process comes first, and kept in the store.
    """

    def __init__(self, teacher: Teacher, split: Split, kept: "TaughtBlocks | None", policy: TrainingPolicy) -> None:
        self._teacher = teacher
        self._split = split
        self._kept = kept
        self._policy = policy
        self._outputs: Outputs | None = None
        self._known = torch.zeros(0, dtype=torch.bool)

    def fits(self) -> bool:
        """Whether they can be held; makes room for them."""
        if self._outputs is None:
            one = self._teacher.outputs(self._split.take(torch.zeros(1, dtype=torch.int64)).inputs)
            count = len(self._split)
            if sum(t.numel() * t.element_size() for t in one.values()) * count > self._policy.teacher_bytes:
                return False
            self._outputs = {name: torch.zeros(count, *t.shape[1:], dtype=t.dtype) for name, t in one.items()}
            self._known = torch.zeros(count, dtype=torch.bool)
        return True

    def of(self, epoch: int, order: Tensor, at: slice, inputs: Inputs) -> Outputs:
        """Of the examples at ``at`` in the order of an epoch, which have these inputs; once ``fits``. Where examples
        are not in memory these alone are taught: others are not read for it.
        """
        assert self._outputs is not None
        size = self._policy.taught_block
        if bool(self._known[order[at]].all()):
            pass
        elif self._split.memory is None:
            self._enter(order[at], self._teacher.outputs(inputs))
        else:
            for block in range(at.start // size, (at.stop - 1) // size + 1):
                self._teach(epoch, block, order[block * size : (block + 1) * size])
        taught: Outputs = take_rows(self._outputs, order[at])
        return taught

    def _teach(self, epoch: int, block: int, rows: Tensor) -> None:
        assert self._outputs is not None
        if bool(self._known[rows].all()):
            return
        at = self._policy.taught_block, epoch, block
        found = self._kept.get(*at) if self._kept else None
        wanted = {name: t[rows].shape for name, t in self._outputs.items()}
        if found is None or {name: t.shape for name, t in found.items()} != wanted:
            parts = [
                self._teacher.outputs(batch.inputs)
                for batch in self._split.read(list(torch.split(rows, TEACHER_BATCH)))
            ]
            found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
            if self._kept:
                self._kept.put(*at, found)
        self._enter(rows, found)

    def _enter(self, rows: Tensor, outputs: Outputs) -> None:
        assert self._outputs is not None
        for name, taught in outputs.items():
            self._outputs[name][rows] = taught
        self._known[rows] = True


class TaughtEpochs:
    """The teacher's outputs for what was augmented, which is other each epoch: block by block, kept in the store by
    so many blocks as ``TrainingPolicy.taught_block`` has, as long as reading them back is cheaper than computing them.
    They are the same either way.
    """

    def __init__(self, teacher: Teacher, kept: "TaughtBlocks | None", policy: TrainingPolicy) -> None:
        self._teacher = teacher
        self._kept = kept
        self._policy = policy
        self._held: OrderedDict[tuple[int, int], Outputs] = OrderedDict()  # by epoch and number of the group
        self._bytes = 0
        self._taught: dict[int, Outputs] = {}  # of the group that is taught now, by block
        self._group: tuple[int, int] = (-1, -1)
        self._computing_s = 0.0
        self.worth_keeping = True

    def of(self, epoch: int, number: int, inputs: Inputs, examples: int, size: int) -> Outputs:
        """Of block ``number`` of an epoch of so many examples. size: of a block."""
        each = max(1, self._policy.taught_block // size)  # blocks of a group
        group, within = (epoch, number // each), number % each
        held = self._known(group, size * each)
        if held is not None:
            start = within * size
            return {name: t[start : start + size] for name, t in held.items()}
        if group != self._group:
            self._group, self._taught, self._computing_s = group, {}, 0.0
        began = time.monotonic()
        outputs = self._teacher.outputs(inputs)
        self._computing_s += time.monotonic() - began
        if self.worth_keeping:
            self._taught[within] = outputs
            whole = min(each, -(-examples // size) - group[1] * each)
            if len(self._taught) == whole:
                self._keep(group, size * each)
        return outputs

    def _known(self, group: tuple[int, int], examples: int) -> Outputs | None:
        if group in self._held:
            return self._held[group]
        if self._kept is None or not self.worth_keeping or group == self._group:
            return None
        found = self._kept.get(examples, *group)
        if found is not None:
            self._hold(group, found)
        return found

    def _keep(self, group: tuple[int, int], examples: int) -> None:
        joint: Outputs = joined([self._taught[n] for n in sorted(self._taught)])
        self._taught = {}
        self._hold(group, joint)
        if self._kept is not None:
            began = time.monotonic()
            self._kept.put(examples, *group, joint)
            self.worth_keeping = time.monotonic() - began < self._computing_s

    def _hold(self, group: tuple[int, int], outputs: Outputs) -> None:
        self._held[group] = outputs
        self._bytes += _bytes(outputs)
        while self._bytes > self._policy.teacher_bytes:
            _, gone = self._held.popitem(last=False)
            self._bytes -= _bytes(gone)


def _bytes(outputs: Outputs) -> int:
    return sum(t.numel() * t.element_size() for t in outputs.values())


class TaughtBlocks:
    """The teacher's outputs for a block of an epoch, in the store: a help to others, which a full disk goes without."""

    def __init__(self, store: Store, *task: object) -> None:
        self._store = store
        self._task = task

    def get(self, size: int, epoch: int, block: int) -> Outputs | None:
        """The outputs by name. size: examples of a block."""
        return self._store.load(self._key(size, epoch, block))

    def put(self, size: int, epoch: int, block: int, outputs: Mapping[str, Tensor]) -> None:
        with suppress(AutocompressError):
            self._store.save(self._key(size, epoch, block), outputs)

    def _key(self, size: int, epoch: int, block: int) -> str:
        return self._store.key("teacher", *self._task, size, epoch, block)
