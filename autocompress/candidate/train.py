"""The one training loop. All training hooks of a recipe run together in it.

AdamW (Loshchilov & Hutter 2019) with linear warm-up and cosine annealing to zero (Loshchilov & Hutter 2017), so that
every rung ends in a usable model. With a time limit the schedule follows whichever is further on, the steps or the
clock: a slow machine shortens the training and never cuts it off before its annealing.
"""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autocompress.candidate.stream import TrainStream
from autocompress.candidate.structure import blamed_on
from autocompress.data import call, map_inputs, primary
from autocompress.errors import CandidateFailed, Interrupted
from autocompress.plugin.contract import Step, TrainHook
from autocompress.task import Inputs, Loss

WARM_UP = 0.05
WEIGHT_DECAY = 0.01
CLIP = 5.0


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


@dataclass(frozen=True)
class Schedule:
    """start, examples: the piece of the stream to train on. limit_s: wall-clock seconds, or None."""

    lr: float
    batch_size: int
    start: int
    examples: int
    limit_s: float | None = None


@dataclass(frozen=True)
class Trained:
    model: nn.Module  # with what the hooks wrapped it in taken off again
    examples: int
    seconds: float


def train(
    model: nn.Module,
    hooks: Sequence[tuple[str, TrainHook]],
    loss: Loss,
    stream: TrainStream,
    schedule: Schedule,
    arithmetic: Arithmetic,
    *,
    progress: Callable[[float], None] = lambda fraction: None,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train ``model`` and return it in evaluation mode, in float32; the module given may be changed.

    hooks: (strategy, hook) pairs. Raises CandidateFailed when the loss diverges, Interrupted when ``stop`` answers
    True.
    """
    for name, hook in hooks:
        with blamed_on(name):
            model = hook.wrap(model)
    arithmetic.place_model(model).train()
    optimizer = torch.optim.AdamW(_groups(model), lr=schedule.lr)
    teaching = any(hook.needs_teacher for _, hook in hooks)
    done, began = 0, time.monotonic()
    for batch in stream.batches(schedule.start, schedule.examples, schedule.batch_size, teacher=teaching):
        elapsed = time.monotonic() - began
        fraction = max(done / schedule.examples, elapsed / schedule.limit_s if schedule.limit_s else 0.0)
        if fraction >= 1:
            break
        if stop():
            raise Interrupted("stopped at a safe point")
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * annealed(fraction)
        inputs = arithmetic.place(batch.inputs)
        _freeze_statistics(model, len(batch.targets) == 1)
        with arithmetic.autocast():
            outputs = primary(call(model, inputs)).float()
        total = _loss(hooks, loss, Step(inputs, batch.targets, outputs, batch.teacher, fraction))
        value = float(total.detach())
        if not math.isfinite(value):
            raise CandidateFailed(
                f"training diverged: the loss is {value} after {done} examples at learning rate {schedule.lr:g}"
            )
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        for name, hook in hooks:
            if fraction >= hook.starts_at:
                with blamed_on(name):
                    hook.after_step(model, fraction)
        done += len(batch.targets)
        progress(fraction)
    for name, hook in reversed(hooks):
        with blamed_on(name):
            model = hook.unwrap(model)
    model.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return Trained(model, done, time.monotonic() - began)


def _freeze_statistics(model: nn.Module, frozen: bool) -> None:
    """Batch norm cannot take statistics of one example: for a batch of one it uses what it has."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training == frozen:
            module.train(not frozen)


def annealed(fraction: float) -> float:
    """Share of the peak learning rate at ``fraction`` of the training: linear warm-up, then a cosine to zero."""
    if fraction < WARM_UP:
        return (fraction + 0.01) / (WARM_UP + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (fraction - WARM_UP) / (1 - WARM_UP)))


def _loss(hooks: Sequence[tuple[str, TrainHook]], loss: Loss, step: Step) -> Tensor:
    total, scale = None, 1.0
    for name, hook in hooks:
        if step.progress < hook.starts_at:
            continue
        with blamed_on(name):
            term = hook.loss(step)
        if term is not None:
            scale *= term.task_scale
            total = term.weight * term.value if total is None else total + term.weight * term.value
    if scale or total is None:
        own = scale * loss(step.outputs, step.targets)
        total = own if total is None else total + own
    return total


def _groups(model: nn.Module) -> list[dict[str, object]]:
    """Weight decay for matrices and kernels, none for biases and normalisation."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]


def fastest_arithmetic(model: nn.Module, loss: Loss, inputs: Inputs, targets: Tensor) -> tuple[Arithmetic, float]:
    """Time a training step each way; the fastest way, and its seconds an example."""
    images = any(
        t.dim() == 4
        for t in (inputs.values() if isinstance(inputs, dict) else inputs if isinstance(inputs, tuple) else (inputs,))
    )
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
