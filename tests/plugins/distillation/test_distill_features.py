"""Feature distillation: the loss by hand, which layers take their turn, and what it does in the real training loop."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, TrainHook
from autocompress.task import Task
from autocompress_plugins.distillation.distill_features import DistillFeatures
from autocompress_plugins.model_runs import inner_outputs

LAYERS = ("bn", "conv2")  # of the tiny model
DEFAULTS = {"weight": 1.0, "order": "together"}


def features_of(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    return inner_outputs(model, x, LAYERS)


def hints(context: Context, student: nn.Module, **params: Any) -> TrainHook:
    hook = DistillFeatures().hook({**DEFAULTS, **params}, context)
    hook.wrap(student)
    return hook


def known(context: Context) -> Tensor:
    """The examples that the reference's channels are standardised by."""
    return next(context.train_batches(64)).inputs


# -- the loss ----------------------------------------------------------------------------------------------------------


def test_loss_is_the_error_of_the_standardised_channels(
    tiny_context: Context, tiny_class: type[nn.Module], step_of: Any
) -> None:
    student = tiny_class(4)
    hook = hints(tiny_context, student, weight=0.3)
    weights = iter(hook.parameters())
    adapters = [(next(weights).detach().numpy(), next(weights).detach().numpy()) for _ in LAYERS]
    x = torch.randn(5, 1, 8, 8)
    ours, theirs, sample = (
        features_of(model, data)
        for model, data in ((student, x), (tiny_context.model, x), (tiny_context.model, known(tiny_context)))
    )
    term = hook.loss(step_of(0.0, ours, theirs))

    expected = []
    for name, (matrix, bias) in zip(LAYERS, adapters, strict=True):
        mean, spread = (f(sample[name].numpy(), axis=(0, 2, 3)) for f in (np.mean, np.std))
        spread = np.maximum(spread, 0.1 * spread.mean())
        errors = []
        for n, row, column in np.ndindex(5, *ours[name].shape[2:]):
            given = matrix @ ours[name][n, :, row, column].numpy() + bias
            errors.append((given - (theirs[name][n, :, row, column].numpy() - mean) / spread) ** 2)
        expected.append(np.mean(errors))
    assert float(term.value.detach()) == pytest.approx(np.mean(expected), rel=1e-4)
    assert (term.weight, term.task_scale) == (0.3, 1.0)


def test_a_loss_of_one_says_that_nothing_is_known(
    tiny_context: Context, tiny_class: type[nn.Module], step_of: Any
) -> None:
    hook = hints(tiny_context, tiny_class(4))
    with torch.no_grad():
        for parameter in hook.parameters():
            parameter.zero_()
    x = known(tiny_context)
    term = hook.loss(step_of(0.0, features_of(tiny_class(4), x), features_of(tiny_context.model, x)))
    assert float(term.value.detach()) == pytest.approx(1.0, abs=0.05)


def test_a_silent_channel_does_not_drown_the_others(
    trained_tiny: nn.Module, examples: Any, make_context: Any, step_of: Any
) -> None:
    student = copy.deepcopy(trained_tiny)
    with torch.no_grad():
        student.bn.weight[0] = student.bn.bias[0] = 0
    context = make_context(Task("silent", copy.deepcopy(student), examples(64, 1), examples(64, 2)))
    x = torch.randn(4, 1, 8, 8)
    theirs = features_of(context.model, x)
    theirs["bn"][:, 0] = 0.01 * torch.randn(4, 8, 8)
    term = hints(context, student).loss(step_of(0.0, features_of(student, x), theirs))
    assert float(term.value.detach()) < 5


def test_bottom_up_takes_one_layer_after_the_other(
    tiny_context: Context, tiny_class: type[nn.Module], step_of: Any
) -> None:
    student, x = tiny_class(4), torch.randn(4, 1, 8, 8)
    hook = hints(tiny_context, student, order="bottom_up")
    ours, theirs = features_of(student, x), features_of(tiny_context.model, x)

    def drawn(progress: float) -> set[str]:
        """The layers whose features have a part in the loss."""
        features = {name: value.clone().requires_grad_() for name, value in ours.items()}
        term = hook.loss(step_of(progress, features, theirs))
        if term is None:
            return set()
        term.value.backward()
        return {name for name, value in features.items() if value.grad is not None}

    assert [drawn(p) for p in (0.0, 0.24, 0.26, 0.49, 0.5, 1.0)] == [{"bn"}] * 2 + [{"conv2"}] * 2 + [set()] * 2


def test_bottom_up_is_over_when_training_goes_on(tiny_context: Context, tiny_class: type[nn.Module]) -> None:
    first = hints(tiny_context, tiny_class(4), order="bottom_up")
    again = DistillFeatures().hook({**DEFAULTS, "order": "bottom_up"}, tiny_context)
    again.resume(first.learned())
    again.wrap(tiny_class(4))
    assert list(again.layers) == list(again.teacher_layers) == list(again.parameters()) == []
    together = DistillFeatures().hook(DEFAULTS, tiny_context)
    together.resume({})
    together.wrap(tiny_class(4))
    assert tuple(together.layers) == LAYERS


# -- where it applies --------------------------------------------------------------------------------------------------


def test_a_student_with_nothing_in_common_fails_and_is_left_alone(tiny_context: Context) -> None:
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    before = copy.deepcopy(student.state_dict())
    with pytest.raises(CandidateFailed, match="conv"):
        hints(tiny_context, student)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert DistillFeatures().refuses(tiny_context) is None


# -- what it does ------------------------------------------------------------------------------------------------------


def unexplained(context: Context, student: nn.Module) -> float:
    """The share of the reference's variation on new examples that no linear map of the student's channels gives; the
    maps are fitted on the training examples.
    """
    shares = []
    x, new = (torch.as_tensor(split[0]) for split in (context.task.train, context.task.val))
    for name in LAYERS:
        rows = [
            features_of(model, data)[name].movedim(1, -1).flatten(0, -2).double()
            for data in (x, new)
            for model in (student, context.model)
        ]
        known_ours, known_theirs, ours, theirs = rows
        ones = [torch.ones(len(row), 1, dtype=row.dtype) for row in (known_ours, ours)]
        fitted = torch.linalg.lstsq(torch.cat([known_ours, ones[0]], 1), known_theirs, driver="gelsd").solution
        errors = torch.cat([ours, ones[1]], 1) @ fitted - theirs
        shares.append(float((errors.square().mean(0) / theirs.var(0).clamp(min=1e-6)).mean()))
    return sum(shares) / len(shares)


@pytest.fixture
def context(knowing: nn.Module, examples: Any, make_context: Any) -> Context:
    """A reference that knows more than its 128 training examples tell."""
    return make_context(Task(name="knowing", model=knowing, train=examples(128, 100), val=examples(128, 2)))


def test_inner_layers_come_closer_to_the_references_on_new_examples(
    context: Context, tiny_class: type[nn.Module], trained: Any
) -> None:
    def after(*hooks: TrainHook) -> float:
        torch.manual_seed(1)
        return unexplained(context, trained(context, tiny_class(8), hooks, 1024, batch_size=16))

    together, bottom_up = (
        DistillFeatures().hook({"weight": 3.0, "order": order}, context) for order in ("together", "bottom_up")
    )
    alone = after()
    assert after(together) < 0.85 * alone
    assert after(bottom_up) < 0.95 * alone


def test_training_goes_on_from_a_checkpoint_with_new_adapters(
    tiny_context: Context, tiny_class: type[nn.Module], trained: Any
) -> None:
    torch.manual_seed(0)
    first = trained(tiny_context, tiny_class(4), [DistillFeatures().hook(DEFAULTS, tiny_context)], 512)
    resumed = tiny_class(4)
    resumed.load_state_dict(first.state_dict())  # the adapters are not in it
    again = DistillFeatures().hook(DEFAULTS, tiny_context)
    again.resume({})
    second = trained(tiny_context, resumed, [again], 512, start=512)
    assert unexplained(tiny_context, second) < unexplained(tiny_context, first)
