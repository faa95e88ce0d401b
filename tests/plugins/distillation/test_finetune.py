"""Fine-tuning: the task's own loss wins back what a compressed model lost, and nothing else has a part in it."""

from typing import Any

import pytest
import torch
from torch import nn

from autocompress.classes import accuracy
from autocompress.plugin.contract import Context
from autocompress_plugins.distillation.finetune import Finetune


@pytest.fixture
def damaged(tiny_context: Context) -> nn.Module:
    """The reference with weights that are off, as after a compression, and without any training since."""
    model = tiny_context.task.copy_of_model()
    with torch.no_grad():
        model.conv2.weight += 0.5 * torch.randn(model.conv2.weight.shape, generator=torch.Generator().manual_seed(1))
    return model


def test_it_wins_back_what_the_model_lost_on_examples_it_has_not_seen(
    damaged: nn.Module, tiny_context: Context, trained: Any, examples: Any
) -> None:
    x, y = examples(1000, 9)

    def score(model: nn.Module) -> float:
        with torch.no_grad():
            return accuracy(model.eval()(x), y)

    before = score(damaged)
    assert before < score(tiny_context.model) - 0.1
    assert score(trained(tiny_context, damaged, [Finetune().hook({}, tiny_context)], 2048)) > before + 0.1


def test_it_is_the_tasks_own_loss_and_asks_for_no_teacher(
    damaged: nn.Module, tiny_context: Context, trained: Any
) -> None:
    hook = Finetune().hook({}, tiny_context)
    assert not hook.needs_teacher
    assert not list(hook.teacher_layers)
    with_it, without = (
        trained(tiny_context, tiny_context.task.copy_of_model(), hooks, 256).state_dict() for hooks in ([hook], [])
    )
    assert all(torch.equal(value, without[name]) for name, value in with_it.items())
