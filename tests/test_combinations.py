"""Strategies together, as recipes hold them: any two structural ones in either order, and all hooks in one training."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from autocompress.candidate.export import check, export
from autocompress.candidate.open_task import OpenTask
from autocompress.candidate.structure import build
from autocompress.data import feed_of
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Applicable, Stage
from autocompress.plugin.loader import PluginSet
from autocompress.recipe import TRAIN, Recipe, Step, Value
from autocompress.testing import tasks
from tests.layouts import layout_of

TASKS = {task.__name__: task for task in tasks.ALL}
# What may be left to say for the second of two: the first has taken what it works on.
NOTHING_LEFT = (
    "nothing is left that can shrink",
    "nothing would be removed",
    "no layer would become cheaper",
    "no layer is left with",
    "no two layers of one role are left",
    "no block is left that can be dropped",
)
# Three strategies each, milder than by default, so that each finds something to do after the others.
PRUNE: dict[str, Value] = {"ratio": 0.3, "allocation": "sensitivity", "schedule": "bottom_up"}
ATTENTION: dict[str, Value] = {"heads": 0.25, "mlp": 0.25, "allocation": "global"}
DROP: dict[str, Value] = {"count": 1}
THREE: list[tuple[str, dict[str, dict[str, Value]]]] = [
    ("cnn", {"prune_channels": PRUNE, "drop_blocks": DROP, "factorize": {}}),
    ("cnn", {"student": {"width": 0.8}, "prune_channels": PRUNE, "drop_blocks": DROP}),
    ("transformer", {"prune_attention": ATTENTION, "drop_blocks": DROP, "factorize": {}}),
    ("transformer", {"student": {"width": 0.8}, "prune_attention": ATTENTION, "drop_blocks": DROP}),
]


Opened = tuple[Any, Sequence[Applicable]]  # the task, opened here, and what applies to it


@pytest.fixture(scope="module")
def open_it(
    open_quickly: Callable[..., Any],
    shared_plugins: PluginSet,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Opened]:
    """``open_it("cnn")``: the task, opened once, and what of a family's steps applies to it."""

    @cache
    def open_it(name: str) -> Opened:
        here = open_quickly(
            TASKS[name](), shared_plugins, tmp_path_factory.mktemp(name), only=shared_plugins.strategies
        )
        return here, here.opening.applicable

    return open_it


def step_of(strategy: Applicable, **chosen: Value) -> Step:
    return Step.of(strategy.name, **({p.name: p.default for p in strategy.parameters} | chosen))


def built_of(opened: OpenTask, *steps: Step) -> tuple[nn.Module, tuple[dict[str, Any], ...]]:
    """As in a search: what begins with the same steps is planned once."""
    return build(Recipe(steps), opened.context, opened.plugins, known=opened.plans)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("task", TASKS)
def test_any_two_structural_strategies_go_together_in_either_order(
    task: str, open_it: Callable[[str], Opened], tmp_path: Path
) -> None:
    here, applicable = open_it(task)
    opened = here.task
    structural = [a for a in applicable if min(a.stages) in (Stage.BUILD, Stage.STRUCTURE)]
    inputs = opened.val.split.take(torch.arange(1)).inputs
    built = 0
    for first, second in permutations(structural, 2):
        if second.stages[0] < first.stages[0] or first.excludes & second.provides or second.excludes & first.provides:
            continue
        try:
            model, _ = built_of(opened, step_of(first), step_of(second))
        except CandidateFailed as error:
            if not error.reason.startswith(NOTHING_LEFT):
                pytest.fail(f"{first.name}, then {second.name}: {error.reason}")
            continue
        path = tmp_path / "both.onnx"
        export(model, layout_of(model, inputs), inputs, path, "torchscript")
        check(opened.open(path), [feed_of(inputs)], model, layout_of(model, inputs), [inputs])
        built += 1
    assert built >= len(structural)


@pytest.mark.parametrize(
    ("task", "three"), THREE, ids=lambda value: value if isinstance(value, str) else ", ".join(value)
)
def test_three_structural_strategies_go_together_and_replay(
    task: str,
    three: dict[str, dict[str, Value]],
    open_it: Callable[[str], Opened],
    tmp_path: Path,
) -> None:
    """In every order in which each finds something left to do; each makes the model smaller, and the plans suffice."""
    here, applicable = open_it(task)
    opened = here.task
    known = {a.name: a for a in applicable}
    inputs = opened.val.split.take(torch.arange(1)).inputs
    orders = [order for order in permutations(three) if "student" not in order[1:]]
    built: list[tuple[str, ...]] = []
    for order in orders:
        steps = tuple(step_of(known[name], **three[name]) for name in order)
        try:
            sizes = [parameters(built_of(opened, *steps[:n])[0]) for n in range(len(steps))]
            model, plans = built_of(opened, *steps)
        except CandidateFailed as error:
            if not error.reason.startswith(NOTHING_LEFT):
                pytest.fail(f"{', then '.join(order)}: {error.reason}")
            continue
        sizes.append(parameters(model))
        assert sizes == sorted(set(sizes), reverse=True), order
        again, _ = build(Recipe(steps), opened.context, opened.plugins, plans)
        weights = again.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
        path = tmp_path / "three.onnx"
        export(model, layout_of(model, inputs), inputs, path, "torchscript")
        check(opened.open(path), [feed_of(inputs)], model, layout_of(model, inputs), [inputs])
        built.append(order)
    assert len(built) >= len(orders) / 2, built


@pytest.mark.parametrize("task", TASKS)
def test_all_hooks_go_together_over_two_rungs(task: str, open_it: Callable[[str], Opened]) -> None:
    here, applicable = open_it(task)
    opened = here.task
    on: list[Applicable] = []
    for a in applicable:
        conflict = any(a.excludes & other.provides or other.excludes & a.provides for other in on)
        if Stage.TRAIN in a.stages and not conflict:
            on.append(a)
    assert {"distill_logits", "prune_weights", "share_weights"} <= {a.name for a in on}
    steps = sorted((a for a in on), key=lambda a: min(a.stages))
    recipe = Recipe((*(step_of(a) for a in steps), Step.of(TRAIN, lr=0.002, batch_size=32)))
    first = here.evaluate(recipe, examples=128)
    second = here.evaluate(
        recipe,
        examples=128,
        rung=1,
        start=128,
        checkpoint=first.checkpoint,
        plans=first.plans,
        learned=first.learned,
    )
    assert not first.failed
    assert not second.failed
    assert second.checkpoint is not None
    weights = opened.store.load(second.checkpoint)
    largest = max((w for w in weights.values() if w.dim() > 1), key=lambda w: w.numel())
    assert (largest == 0).float().mean() > 0.3, "zeros stay zeros beside the other hooks"
    assert largest.unique().numel() <= 256, "and a codebook stays one"
