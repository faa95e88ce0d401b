"""In which number format and memory layout a training computes: the way that was timed to be fastest here, of those
that the processor can compute.
"""

import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from autocompress.candidate.capabilities import Capabilities, capabilities
from autocompress.candidate.policy import TrainingPolicy
from autocompress.data import Batch, call
from autocompress.nested import Nested, as_float, map_tensors, tensors_of
from autocompress.task import Loss

TIMED_STEPS = 3  # timed in each way: the first one warms up
SMALL_BATCH = 8  # examples, on which a model is timed of which a whole batch would take long


@dataclass(frozen=True)
class Arithmetic:
    """How training computes: on a GPU where there is one; bfloat16 autocast and channels-last memory, each where it was
    timed to be faster.
    """

    bfloat16: bool = False
    channels_last: bool = False
    device: str = "cpu"

    @property
    def plainest(self) -> "Arithmetic":
        """Float32 and the default memory layout, on the same device: what everything else is checked against."""
        return replace(self, bfloat16=False, channels_last=False)

    def available(self, here: Capabilities | None = None) -> bool:
        """Whether its device is there and computes so. here: None for this machine and now."""
        here = here or capabilities()
        return (
            self.device in ("cpu", here.device)
            and (not self.bfloat16 or here.computes_bfloat16(self.device))
            and (not self.channels_last or here.trains_channels_last(self.device))
        )

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16)

    def place(self, value: Nested) -> Nested:
        return map_tensors(self.place_tensor, value)

    def place_tensor(self, tensor: Tensor) -> Tensor:
        tensor = tensor.to(self.device, non_blocking=True)
        images = self.channels_last and tensor.dim() == 4
        return tensor.contiguous(memory_format=torch.channels_last) if images else tensor

    def place_model(self, model: nn.Module) -> nn.Module:
        model = model.to(self.device)
        return model.to(memory_format=torch.channels_last) if self.channels_last else model  # type: ignore[call-overload]


def fastest_arithmetic(
    model: nn.Module,
    loss: Loss,
    batch: Batch,
    policy: TrainingPolicy = TrainingPolicy(),
    here: Capabilities | None = None,
) -> Arithmetic:
    """The way in which a training step is fastest, by timing each that the machine can compute. It may end the process:
    a kernel may crash. here: None for this machine.
    """
    here = here or capabilities()
    device, images = here.device, any(t.dim() == 4 for t in tensors_of(batch.inputs))
    formats = (False, True) if images else (False,)
    precisions = (False, True) if policy.bfloat16 else (False,)
    every = [Arithmetic(bfloat16, last, device) for last in formats for bfloat16 in precisions]
    ways = [way for way in every if way.available(here)]  # the plainest is the first
    few = batch.at(slice(SMALL_BATCH))
    if device != "cpu":
        _step_seconds(ways[0], model, loss, few, policy.long_s)  # a GPU is set up by its first step
    if _step_seconds(ways[0], model, loss, few, policy.long_s) > policy.long_s * SMALL_BATCH / len(batch):
        batch = few
    if len(ways) == 1:
        return ways[0]
    seconds = {way: _step_seconds(way, model, loss, batch, policy.long_s) for way in ways}
    return min(seconds, key=lambda way: seconds[way])


def _step_seconds(way: Arithmetic, model: nn.Module, loss: Loss, batch: Batch, long_s: float) -> float:
    times: list[float] = []
    while len(times) < TIMED_STEPS and sum(times) < long_s:
        start = time.monotonic()
        try:
            way.place_model(model).train()
            placed, targets = way.place(batch.inputs), way.place(batch.targets)
            with way.autocast():
                returned = map_tensors(as_float, call(model, placed))
            value = loss(returned, targets)
            model.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            float(value.detach())  # a GPU has finished by then
        except RuntimeError:
            if not way.bfloat16 and not way.channels_last:
                raise
            return math.inf
        times.append(time.monotonic() - start)
    return min(times)
