"""What all distillations of inner layers do: train models of every form, in any arithmetic, beside each other."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.data import call
from autocompress.nested import primary
from autocompress.plugin.contract import Context, LossTerm, TrainHook, TrainStep
from autocompress.task import Task
from autocompress_plugins.distillation.distill_features import DistillFeatures
from autocompress_plugins.distillation.distill_logits import DistillLogits
from autocompress_plugins.distillation.distill_relations import DistillRelations
from autocompress_plugins.distillation.distillation import InnerDistillation
from autocompress_plugins.distillation.finetune import Finetune

DEFAULTS = {
    "features": (DistillFeatures(), {"weight": 1.0, "order": "together"}),
    "similarity": (DistillRelations(), {"kind": "similarity", "weight": 1.0}),
    "attention": (DistillRelations(), {"kind": "attention", "weight": 1.0}),
}
FORMS = ("images", "sequences", "dict", "tuple", "regression")
each_distillation = pytest.mark.parametrize("name", DEFAULTS)


def hook(name: str, context: Context) -> TrainHook:
    strategy, params = DEFAULTS[name]
    return strategy.hook(params, context)


@pytest.mark.parametrize("strategy", [DistillFeatures(), DistillRelations()], ids=lambda s: s.name)
def test_refuses_a_model_with_nothing_inside(strategy: InnerDistillation, make_context: Any, examples: Any) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    context = make_context(Task(name="linear", model=linear, train=examples(64, 1), val=examples(64, 2)))
    assert "no layer inside the model" in strategy.refuses(context)


@pytest.mark.parametrize(
    ("form", "name"),
    [
        *((form, name) for form in FORMS for name in ("features", "similarity")),
        ("images", "attention"),
        ("sequences", "attention"),
    ],
    indirect=["form"],
)
def test_it_trains_models_of_every_form(
    form: tuple[Task, nn.Module], name: str, make_context: Any, trained: Any
) -> None:
    """With a last batch of one example."""
    task, student = form
    context = make_context(task)
    before = copy.deepcopy(student.state_dict())
    after = trained(context, student, [hook(name, context)], 33)
    with torch.no_grad():
        assert torch.isfinite(primary(call(after, context.example_inputs))).all()
    assert after.state_dict().keys() == before.keys()
    assert any(not torch.equal(value, before[key]) for key, value in after.state_dict().items())


@each_distillation
def test_it_trains_in_any_arithmetic(
    name: str, tiny_context: Context, tiny_class: type[nn.Module], trained: Any
) -> None:
    torch.manual_seed(0)
    student, x = tiny_class(4), tiny_context.task.val[0]
    plain, other = (
        trained(tiny_context, copy.deepcopy(student), [hook(name, tiny_context)], 64, arithmetic=how)
        for how in (Arithmetic(), Arithmetic(bfloat16=True, channels_last=True))
    )
    with torch.no_grad():
        assert torch.allclose(plain(x), other(x), atol=0.1)


@pytest.mark.parametrize("strategy", [DistillFeatures(), DistillRelations(), DistillLogits()], ids=lambda s: s.name)
def test_fine_tuning_is_never_in_one_recipe_with_a_teacher(strategy: Any) -> None:
    assert Finetune().excludes & strategy.provides


def test_all_distillations_run_in_one_loop(wrong_labels: Any, labels_alone: float) -> None:
    heard: dict[str, list[float]] = {}

    def listened_to(hook: TrainHook, name: str) -> TrainHook:
        own = hook.loss

        def listening(step: TrainStep) -> LossTerm | None:
            term = own(step)
            heard.setdefault(name, []).append(float(term.value.detach()))
            return term

        hook.loss = listening
        return hook

    steps = {
        DistillLogits(): {"alpha": 0.9, "temperature": 2.0, "schedule": "constant"},
        **{DEFAULTS[name][0]: DEFAULTS[name][1] for name in ("features", "similarity")},
    }
    together = wrong_labels(
        lambda context: [listened_to(s.hook(params, context), s.name) for s, params in steps.items()]
    )
    assert together > labels_alone + 0.05
    assert {name: len(values) for name, values in heard.items()} == {strategy.name: 96 for strategy in steps}
    assert all(sum(values[-8:]) < 0.9 * sum(values[:8]) for values in heard.values())
