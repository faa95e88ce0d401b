"""Output distillation: the reference's softened outputs are the training target, beside the labels.

Changes: the weights. Needs: an output in floating point that is by example. Each is taught by what it is
(``output_kinds``), and the terms of several count alike:

- class logits: alpha T^2 KL(teacher || student at temperature T) + (1 - alpha) task loss, of every example, place or
  frame that counts (Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015);
- numbers: squared error, of a lone output in its own unit as the task's loss is, else in units of the teacher's own
  spread, so that outputs of different units weigh alike (Chen et al., "Learning Efficient Object Detection Models with
  Knowledge Distillation", NIPS 2017, for boxes);
- maps, as the raw detections of each level: squared error, each channel in units of its spread (Shu et al.,
  "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021, for why channels are made alike);
- embeddings: cosine distance (Duong et al., "ShrinkTeaNet", arXiv 1905.10620).

Alpha may fall to 0 over the training (Jafari et al., "Annealing Knowledge Distillation", EACL 2021) or rise from 0.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autocompress.data import call
from autocompress.nested import Nested
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import Context, LossTerm, Parameter, Params, Strategy, TrainHook, TrainStep
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.distillation.distillation import Distillation
from autocompress_plugins.distillation.output_distances import (
    channel_spread,
    cosine_distance,
    divergence,
    standardised_error,
)
from autocompress_plugins.distillation.output_kinds import FoundOutput, OutputKind, kinds_in, targets_by_name

autocompress_api = 2

TEMPERATURE = 4.0
SPREAD_EXAMPLES, SPREAD_BATCH = 64, 16
SCHEDULES: dict[str, Callable[[float], float]] = {  # share of alpha by progress
    "constant": lambda progress: 1.0,
    "falling": lambda progress: 1.0 - progress,
    "rising": lambda progress: progress,
}


class TaughtOutputs(TrainHook):
    needs_teacher = True

    def __init__(self, alpha: float, temperature: float, schedule: str, context: Context) -> None:
        self._alpha = alpha
        self._temperature = temperature
        self._share = SCHEDULES[schedule]
        self._context = context
        self._outputs = _taught(context)
        self._spreads: Mapping[str, Tensor] = {}

    def wrap(self, model: nn.Module) -> nn.Module:
        standardised = {name: found.axis for name, found in self._outputs.items() if self._is_standardised(found)}
        if standardised:
            self._spreads = self._context.once("distill_logits.spreads", lambda: _spreads(self._context, standardised))
        return model

    def loss(self, step: TrainStep) -> LossTerm | None:
        """Of the outputs that both models give while they train."""
        scored = self._context.layout.scored
        assert step.teacher is not None
        heads, taught = step.heads or {scored: step.outputs}, step.teacher_heads or {scored: step.teacher}
        terms = [
            self._term(name, heads[name], taught[name], step.targets)
            for name in self._outputs
            if name in heads and name in taught and heads[name].shape == taught[name].shape
        ]
        if not terms:
            return None
        alpha = self._alpha * self._share(step.progress)
        value = terms[0] if len(terms) == 1 else torch.stack(terms).mean()
        return LossTerm(value, alpha, 1 - alpha)

    def _term(self, name: str, student: Tensor, teacher: Tensor, targets: Nested) -> Tensor:
        found = self._outputs[name]
        if found.kind is OutputKind.CLASSES:
            labels = targets_by_name(targets).get(found.target or "")
            if labels is None or labels.shape == student.shape:  # no labels by place, or probabilities
                return divergence(student, teacher, found.axis, self._temperature, None)
            counted = torch.ne(labels, self._context.task.ignored)
            return divergence(student, teacher, found.axis, self._temperature, counted)
        if found.kind is OutputKind.EMBEDDING:
            return cosine_distance(student, teacher)
        if self._is_standardised(found):
            return standardised_error(student, teacher, self._spreads[name].to(student.device))
        return F.mse_loss(student, teacher)

    def _is_standardised(self, found: FoundOutput) -> bool:
        lone = len(self._outputs) == 1 and found.target is not None
        return found.kind is OutputKind.MAP or (found.kind is OutputKind.NUMBERS and not lone)


class DistillLogits(Distillation):
    name = "distill_logits"
    summary = "train towards the reference's softened outputs"
    trains_alone = True

    def parameters(self, context: Context) -> Sequence[Parameter]:
        alpha = Parameter("alpha", (0.3, 0.5, 0.7, 0.9, 1.0), 0.9)
        logits = any(found.kind is OutputKind.CLASSES for found in _taught(context).values())
        temperature = (Parameter("temperature", (1.0, 2.0, 4.0, 8.0), TEMPERATURE),) if logits else ()
        return alpha, *temperature, Parameter("schedule", tuple(SCHEDULES), "constant")

    def refuses(self, context: Context) -> str | None:
        if _taught(context):
            return None
        left = "; ".join(f"{name} is {reason}" for name, reason in self.left_alone(context).items())
        return f"no output can be taught: {left}"

    def left_alone(self, context: Context) -> Mapping[str, str]:
        return {name: found.kind.value for name, found in kinds_in(context).items() if not found.kind.is_taught}

    def hook(self, params: Params, context: Context) -> TrainHook:
        temperature = float(params.get("temperature", TEMPERATURE))
        return TaughtOutputs(float(params["alpha"]), temperature, str(params.get("schedule", "constant")), context)


def _taught(context: Context) -> dict[str, FoundOutput]:
    return {name: found for name, found in kinds_in(context).items() if found.kind.is_taught}


def _spreads(context: Context, axes: Mapping[str, int]) -> dict[str, Tensor]:
    """How far the reference's channels spread, by output, over some training examples."""
    outputs: list[dict[str, Tensor]] = []
    with torch.no_grad():
        for batch in context.train_batches(SPREAD_EXAMPLES, SPREAD_BATCH):
            outputs.append(context.layout.rows_of(call(evaluating(context.model), batch.inputs)))

    def of(name: str) -> Iterator[Tensor]:
        return (rows[name] for rows in outputs)

    return {name: channel_spread(of(name), axis) for name, axis in axes.items()}


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [DistillLogits()]
