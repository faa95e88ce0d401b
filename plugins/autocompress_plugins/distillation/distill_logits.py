"""Logit distillation: the reference's softened outputs are the training target, beside the labels.

Changes: the weights. Needs: outputs that are class logits, which is seen from the labels; other outputs (regression)
are matched to the teacher's by squared error. Follows: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural
Network", 2015: loss = alpha T^2 KL(teacher || student at temperature T) + (1 - alpha) task loss. Alpha may fall to 0
over the training (Jafari et al., "Annealing Knowledge Distillation", EACL 2021) or rise from 0.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F

from autocompress.classes import class_axis, class_count
from autocompress.plugin.contract import Context, LossTerm, Parameter, Params, Strategy, TrainHook, TrainStep
from autocompress.plugin.hooks import hookimpl
from autocompress_plugins.distillation.distillation import Distillation
from autocompress_plugins.model_runs import output

autocompress_api = 2

SCHEDULES: dict[str, Callable[[float], float]] = {  # share of alpha by progress
    "constant": lambda progress: 1.0,
    "falling": lambda progress: 1.0 - progress,
    "rising": lambda progress: progress,
}


class SoftLabels(TrainHook):
    needs_teacher = True

    def __init__(self, alpha: float, temperature: float | None, schedule: str = "constant") -> None:
        self.alpha = alpha
        self.temperature = temperature
        self.share = SCHEDULES[schedule]

    def loss(self, step: TrainStep) -> LossTerm | None:
        assert step.teacher is not None
        alpha = self.alpha * self.share(step.progress)
        if self.temperature is None:
            return LossTerm(F.mse_loss(step.outputs, step.teacher), alpha, 1 - alpha)
        axis = class_axis(step.outputs, step.targets)
        soft = F.log_softmax(step.outputs / self.temperature, axis)
        target = F.log_softmax(step.teacher / self.temperature, axis)
        divergence = F.kl_div(soft, target, reduction="sum", log_target=True) / (soft.numel() / soft.shape[axis])
        return LossTerm(self.temperature**2 * divergence, alpha, 1 - alpha)


class DistillLogits(Distillation):
    name = "distill_logits"
    summary = "train towards the reference's softened outputs"
    trains_alone = True

    def parameters(self, context: Context) -> Sequence[Parameter]:
        alpha = Parameter("alpha", (0.3, 0.5, 0.7, 0.9, 1.0), 0.9)
        temperature = (Parameter("temperature", (1.0, 2.0, 4.0, 8.0), 4.0),) if _has_logits(context) else ()
        return alpha, *temperature, Parameter("schedule", tuple(SCHEDULES), "constant")

    def hook(self, params: Params, context: Context) -> TrainHook:
        temperature = float(params["temperature"]) if "temperature" in params else None
        return SoftLabels(float(params["alpha"]), temperature, str(params.get("schedule", "constant")))


def _has_logits(context: Context) -> bool:
    batch = next(context.train_batches(2))
    return class_count(output(context.model, batch.inputs), batch.targets) is not None


@hookimpl
def autocompress_strategies() -> list[Strategy]:
    return [DistillLogits()]
