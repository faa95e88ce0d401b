"""In which number format and memory layout a training computes: the way that was timed to be fastest here."""

import math
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autocompress.data import call, map_inputs, primary, tensors_of
from autocompress.task import Inputs, Loss


@dataclass(frozen=True)
class Arithmetic:
    """How training computes: bfloat16 autocast and channels-last memory, each where it was timed to be faster."""

    bfloat16: bool = False
    channels_last: bool = False

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)

    def place(self, inputs: Inputs) -> Inputs:
        if not self.channels_last:
            return inputs
        return map_inputs(lambda t: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t, inputs)

    def place_model(self, model: nn.Module) -> nn.Module:
        return model.to(memory_format=torch.channels_last) if self.channels_last else model  # type: ignore[call-overload]


def fastest_arithmetic(model: nn.Module, loss: Loss, inputs: Inputs, targets: Tensor) -> tuple[Arithmetic, float]:
    """Time a training step each way; the fastest way, and its seconds an example."""
    images = any(t.dim() == 4 for t in tensors_of(inputs))
    ways = [Arithmetic(), Arithmetic(bfloat16=True)]
    if images:
        ways += [Arithmetic(channels_last=True), Arithmetic(bfloat16=True, channels_last=True)]
    seconds = {way: _step_seconds(way, model, loss, inputs, targets) for way in ways}
    best = min(seconds, key=lambda way: seconds[way])
    return best, seconds[best] / len(targets)


def _step_seconds(way: Arithmetic, model: nn.Module, loss: Loss, inputs: Inputs, targets: Tensor) -> float:
    way.place_model(model).train()
    placed, times = way.place(inputs), []
    for _ in range(3):
        start = time.monotonic()
        try:
            with way.autocast():
                outputs = primary(call(model, placed)).float()
            value = loss(outputs, targets)
            model.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
        except RuntimeError:
            if way == Arithmetic():
                raise
            return math.inf
        times.append(time.monotonic() - start)
    return min(times)
