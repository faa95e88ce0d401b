"""What a strategy adds to the one training loop."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from autocompress.task import Inputs


@dataclass(frozen=True)
class TrainStep:
    """One optimizer step, as a training hook sees it. ``progress`` runs from 0 to 1 over this training; for a candidate
    that is trained on later it starts again from 0.

    outputs: the one tensor of the model's outputs that is scored (N, ...), in float32. heads: every output by name, in
    float32, examples first. returned: what the model returned, whole. teacher, teacher_heads: the reference model's
    outputs for this very batch, the scored one and all by name; None when no hook asked for them.
    features, teacher_features: what the modules named in ``TrainHook.layers`` and ``TrainHook.teacher_layers`` gave for
    this batch, in float32; the teacher's carry no gradient.
    """

    inputs: Inputs
    targets: Any
    outputs: Tensor
    teacher: Tensor | None
    progress: float
    features: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_features: Mapping[str, Tensor] = field(default_factory=dict)
    heads: Mapping[str, Tensor] = field(default_factory=dict)
    teacher_heads: Mapping[str, Tensor] | None = None
    returned: Any = None


@dataclass(frozen=True)
class LossTerm:
    """``weight * value`` is added to the loss; the task's own loss is multiplied by ``task_scale``."""

    value: Tensor
    weight: float
    task_scale: float = 1.0


class TrainHook:
    """What one strategy adds to the training loop. Override what is needed. Each training has a hook of its own."""

    needs_teacher: bool = False
    starts_at: float = 0.0  # fraction of this training after which ``loss`` and ``after_step`` are called
    layers: Sequence[str] = ()  # modules of the trained model whose outputs ``loss`` wants; read after ``wrap``
    teacher_layers: Sequence[str] = ()  # and of the reference

    def resume(self, learned: Mapping[str, Any]) -> None:
        """Before ``wrap``, when training goes on from a checkpoint: what ``learned`` gave at its end."""

    def wrap(self, model: nn.Module) -> nn.Module:
        """Before training: insert modules (fake quantization), make what ``parameters`` gives.

        The model is on the CPU here and goes to the device it is trained on afterwards, as do ``parameters``: a tensor
        that a hook keeps for itself has to follow.
        """
        return model

    def parameters(self) -> Iterable[nn.Parameter]:
        """Parameters outside the model to be trained with it (adapters); they are not kept."""
        return ()

    def loss(self, step: TrainStep) -> LossTerm | None:
        """A term of the loss for this step."""
        return None

    def after_step(self, model: nn.Module, progress: float) -> None:
        """After the optimizer's step: apply masks, update schedules."""

    def unwrap(self, model: nn.Module) -> nn.Module:
        """After training: remove what ``wrap`` inserted."""
        return model

    def learned(self) -> Mapping[str, Any]:
        """After ``unwrap``: what was learned beside the weights, as JSON; the graph part finds it in its context."""
        return {}
