"""The one training loop. All training hooks of a recipe run together in it.

AdamW (Loshchilov & Hutter 2019) with linear warm-up and cosine annealing to zero (Loshchilov & Hutter 2017), so that
every rung ends in a usable model. With a time limit the schedule follows whichever is further on, the steps or the
clock: a slow machine shortens the training and never cuts it off before its annealing.
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn, optim

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.candidate.snapshot import Snapshots, TrainingProgress
from autocompress.candidate.stream import TrainBatch, TrainStream
from autocompress.candidate.structure import blamed_on
from autocompress.data import OutputLayout, call, captured
from autocompress.errors import CandidateFailed, Interrupted
from autocompress.kept_parts import is_frozen, rest_frozen_norms
from autocompress.nested import as_float, map_tensors
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import LossTerm, TrainHook, TrainStep
from autocompress.supervisor import tell_nobody
from autocompress.task import Loss

WARM_UP_SHARE = 0.05  # of a training
FIRST_STEP = 0.01  # of a training: how far the warm-up is taken to be at the first step
WEIGHT_DECAY = 0.01
CLIP = 5.0
WITH_BATCH_STATISTICS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
LEAST_AFTER_SNAPSHOT = (
    0.25  # of its length, that a training which goes on from a snapshot has at least, to be annealed in
)


@dataclass(frozen=True)
class Schedule:
    """start, examples: the piece of the stream to train on. limit_s: wall-clock seconds from now, or None. length_s: of
    the whole training, with what was trained of it before it was cut off; None for as long as there is time.
    """

    lr: float
    batch_size: int
    start: int
    examples: int
    limit_s: float | None = None
    length_s: float | None = None

    def whole_s(self, before_s: float) -> float | None:
        """Seconds that the training takes in all, ``before_s`` of them already spent; None without a limit."""
        if self.limit_s is None:
            return None
        whole_s = before_s + self.limit_s
        if self.length_s is None:
            return whole_s
        return min(whole_s, max(self.length_s, before_s + LEAST_AFTER_SNAPSHOT * self.length_s))


@dataclass(frozen=True)
class Trained:
    model: nn.Module  # with what the hooks wrapped it in taken off again
    examples: int
    seconds: float
    learned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by strategy, beside the weights


def train(
    model: nn.Module,
    hooks: Sequence[tuple[str, TrainHook]],
    loss: Loss,
    stream: TrainStream,
    schedule: Schedule,
    arithmetic: Arithmetic,
    *,
    between: Callable[[float], None] = tell_nobody,
    snapshots: Snapshots | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Train ``model`` and return it in evaluation mode, in float32, on the CPU; the module given may be changed.

    hooks: (strategy, hook) pairs, all in this one loop. between: called before each step with the fraction that is
    done; it may raise Interrupted. snapshots: where the training goes on from if it was cut off. clock: seconds, which
    stands still while the training does. Raises CandidateFailed when the loss diverges.
    """
    for name, hook in hooks:
        with blamed_on(name):
            model = _module(hook.wrap(model), "wrap")
    arithmetic.place_model(model).train()
    rest_frozen_norms(model, WITH_BATCH_STATISTICS)
    beside: list[nn.Parameter] = []
    for name, hook in hooks:
        with blamed_on(name):
            beside += hook.parameters()
            stream.teacher.has(hook.teacher_layers)
            for layer in hook.layers:
                model.get_submodule(layer)
    for parameter in beside:
        parameter.data = arithmetic.place_tensor(parameter.data)
    optimizer = optim.AdamW([*_groups(model), {"params": beside, "weight_decay": 0.0}], lr=schedule.lr, fused=True)
    teaching = any(hook.needs_teacher for _, hook in hooks)
    layers = _named(hook.layers for _, hook in hooks)
    teacher_layers = _named(hook.teacher_layers for _, hook in hooks)
    frozen = False
    before = snapshots.restore(model, optimizer, beside) if snapshots else TrainingProgress(0, 0.0)
    done, began = before.examples, clock() - before.seconds
    limit_s = schedule.whole_s(before.seconds)
    for batch in stream.batches(
        schedule.start + done, schedule.examples - done, schedule.batch_size, teacher=teaching, layers=teacher_layers
    ):
        elapsed = clock() - began
        fraction = max(done / schedule.examples, elapsed / limit_s if limit_s else 0.0)
        if fraction >= 1:
            break
        try:
            between(fraction)
        except Interrupted:
            if snapshots and done > before.examples:
                snapshots.keep(model, optimizer, beside, TrainingProgress(done, elapsed))
            raise
        if snapshots and snapshots.due():
            snapshots.keep(model, optimizer, beside, TrainingProgress(done, elapsed))
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * annealed(fraction)
        if frozen != (len(batch) == 1):
            frozen = not frozen
            _freeze_statistics(model, frozen)
        total = _loss(hooks, loss, _run(model, batch, fraction, layers, arithmetic, stream.layout))
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
        done += len(batch)
    if snapshots:
        snapshots.ended(model, optimizer, beside, TrainingProgress(done, clock() - began))
    for name, hook in reversed(hooks):
        with blamed_on(name):
            model = _module(hook.unwrap(model), "unwrap")
    model = evaluating(model.to(torch.device("cpu")).to(memory_format=torch.contiguous_format))  # type: ignore[call-overload]
    learned = {}
    for name, hook in hooks:
        with blamed_on(name):
            learned[name] = json.loads(json.dumps(dict(hook.learned())))
    return Trained(model, done, clock() - began, learned)


def _run(
    model: nn.Module,
    batch: TrainBatch,
    fraction: float,
    layers: Sequence[str],
    arithmetic: Arithmetic,
    layout: OutputLayout,
) -> TrainStep:
    """What the model gives for a batch, beside what the teacher gave."""
    inputs = arithmetic.place(batch.inputs)
    with arithmetic.autocast(), captured(model, layers) as found:
        returned = map_tensors(as_float, call(model, inputs))
    heads, taught = layout.heads(returned), arithmetic.place(batch.teacher)
    return TrainStep(
        inputs,
        arithmetic.place(batch.targets),
        heads[layout.scored],
        None if taught is None else taught[layout.scored],
        fraction,
        {name: value.float() for name, value in found.items()},
        batch.features,
        heads,
        taught,
        returned,
    )


def _module(made: object, by: str) -> nn.Module:
    if not isinstance(made, nn.Module):
        raise CandidateFailed(f"{by} returned {type(made).__name__}, expected a module")
    return made


def _named(wanted: Iterable[Sequence[str]]) -> list[str]:
    """Each name once."""
    return list(dict.fromkeys(chain.from_iterable(wanted)))


def _freeze_statistics(model: nn.Module, frozen: bool) -> None:
    """Batch norm cannot take statistics of one example: for a batch of one it uses what it has."""
    for module in model.modules():
        if isinstance(module, WITH_BATCH_STATISTICS) and module.training == frozen and not is_frozen(module):
            module.train(not frozen)


def annealed(fraction: float) -> float:
    """Share of the peak learning rate at ``fraction`` of the training: linear warm-up, then a cosine to zero."""
    if fraction < WARM_UP_SHARE:
        return (fraction + FIRST_STEP) / (WARM_UP_SHARE + FIRST_STEP)
    return 0.5 * (1 + math.cos(math.pi * (fraction - WARM_UP_SHARE) / (1 - WARM_UP_SHARE)))


def _loss(hooks: Sequence[tuple[str, TrainHook]], loss: Loss, step: TrainStep) -> Tensor:
    total, scale = None, 1.0
    for name, hook in hooks:
        if step.progress < hook.starts_at:
            continue
        with blamed_on(name):
            term = hook.loss(step)
            if term is None:
                continue
            if not isinstance(term, LossTerm):
                raise CandidateFailed(f"loss returned {type(term).__name__}, expected a LossTerm or None")
            value = term.weight * term.value
            if not torch.isfinite(value.detach()) and torch.isfinite(step.outputs.detach()).all():
                raise CandidateFailed(f"its loss is {float(value.detach())} at {step.progress:.0%} of the training")
            scale *= term.task_scale
            total = value if total is None else total + value
    if scale or total is None:
        own = scale * loss(step.returned, step.targets)
        total = own if total is None else total + own
    return total


def _groups(model: nn.Module) -> list[dict[str, object]]:
    """Weight decay for matrices and kernels, none for biases and normalisation."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
