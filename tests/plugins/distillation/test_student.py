"""A smaller student: its width and depth, where its weights come from, and the user's own."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.reading import read_task
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Stage
from autocompress.profile import HardwareProfile
from autocompress.task import Task
from autocompress.testing import tasks
from autocompress_plugins.distillation.student import Student
from autocompress_plugins.pruning.drop_blocks import DropBlocks
from autocompress_plugins.runtimes.onnxruntime import OnnxRuntime


@pytest.fixture
def open_task(tmp_path: Path, fake_profile: HardwareProfile) -> Callable[[Task], Context]:
    return lambda task: read_task(task, fake_profile, OnnxRuntime(), tmp_path / "reference.onnx", 0).context


def built(context: Context, **chosen: Any) -> nn.Module:
    strategy = Student()
    params = {p.name: p.default for p in strategy.parameters(context)} | chosen
    plan = json.loads(json.dumps(strategy.plan(context.task.copy_of_model(), params, context)))
    return strategy.apply(context.task.copy_of_model(), plan, context).eval()


def same(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_everything_is_narrower_by_one_factor(open_task: Callable[[Task], Context]):
    model = built(open_task(tasks.transformer()), width=0.5)
    assert model.embedding.embedding_dim == 16
    assert model.norm.normalized_shape == (16,)
    assert [block.attention.num_heads for block in model.blocks] == [2, 2]
    assert [block.mlp[0].out_features for block in model.blocks] == [32, 32]
    assert model.head.weight.shape == (4, 16)
    model = built(open_task(tasks.lstm()), width=0.4)
    assert [layer.core.hidden_size for layer in model.rnn.layers] == [8, 8]  # in narrow layers, multiples of 4


@pytest.mark.parametrize("task", tasks.ALL, ids=lambda task: task.__name__)
def test_as_deep_as_the_reference_and_shallower_by_strength(
    task: Callable[[], Task], open_task: Callable[[Task], Context]
):
    context = open_task(task())
    depth = next(p for p in Student().parameters(context) if p.name == "dropped")
    most = DropBlocks().parameters(context)[0].choices[-1]
    assert (depth.choices, depth.default, depth.by_strength) == (tuple(range(most + 1)), 0, True)
    sizes = [sum(p.numel() for p in built(context, dropped=count).parameters()) for count in depth.choices]
    assert sizes == sorted(set(sizes), reverse=True)


@pytest.mark.parametrize("weights", ["inherited", "fresh"])
def test_the_least_harmful_blocks_are_those_left_out(weights: str, open_task: Callable[[Task], Context]):
    context = open_task(tasks.cnn())
    (gone,) = DropBlocks().plan(context.model, {"count": 1}, context)["drop"]
    model = built(context, width=0.5, dropped=1, weights=weights)
    kept = {"blocks.0": "blocks.1", "blocks.1": "blocks.0"}[gone]
    assert not list(model.get_submodule(gone).parameters())
    assert model.get_submodule(kept).conv1.weight.shape == (8, 8, 3, 3)
    assert model(context.example_inputs).shape == (2, 4)


def test_recurrent_layers_are_left_out_too(open_task: Callable[[Task], Context]):
    model = built(open_task(tasks.lstm()), width=0.5, dropped=1)
    assert [layer.core.hidden_size for layer in model.rnn.layers] == [12]


def test_no_depth_where_no_block_can_go(open_task: Callable[[Task], Context]):
    x, y = torch.randn(16, 8), torch.arange(16) % 4
    plain = Task("plain", nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)), (x, y), (x, y))
    context = open_task(plain)
    assert [p.name for p in Student().parameters(context)] == ["width", "weights"]
    assert built(context, width=0.5)[0].out_features == 4


@pytest.mark.parametrize("task", tasks.ALL, ids=lambda task: task.__name__)
def test_narrower_is_smaller(task: Callable[[], Task], open_task: Callable[[Task], Context]):
    context = open_task(task())
    sizes = [sum(p.numel() for p in built(context, width=width).parameters()) for width in (0.7, 0.5, 0.3)]
    assert sum(p.numel() for p in context.model.parameters()) > sizes[0] > sizes[1] > sizes[2]


def test_inherited_weights_are_the_references(open_task: Callable[[Task], Context]):
    context = open_task(tasks.cnn())
    strategy = Student()
    plan = strategy.plan(context.task.copy_of_model(), {"width": 0.5, "weights": "inherited"}, context)
    model = strategy.apply(context.task.copy_of_model(), plan, context)
    kept = [unit for unit in range(16) if unit not in plan["remove"]["stem.0"]]
    assert torch.equal(model.stem[0].weight, context.model.stem[0].weight[kept])


@pytest.mark.parametrize("task", tasks.ALL, ids=lambda task: task.__name__)
def test_fresh_weights_are_others_and_seeded(task: Callable[[], Task], open_task: Callable[[Task], Context]):
    context = open_task(task())
    inherited, fresh, again = (built(context, weights=how) for how in ("inherited", "fresh", "fresh"))
    other = built(replace(context, seed=1), weights="fresh")
    assert same(fresh, again)
    assert not same(fresh, other)
    for (name, one), two in zip(inherited.named_parameters(), fresh.parameters(), strict=True):
        assert one.shape == two.shape
        if one.dim() > 1 and name != "position":  # a parameter of the user's own module stays
            assert not torch.isclose(one, two).any(dim=-1).all(), name


def test_fresh_weights_of_torchs_attention(open_task: Callable[[Task], Context]):
    """Also where it stays nn.MultiheadAttention, which resets itself by another name."""

    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
            self.hidden, self.head = nn.Linear(8, 16), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.attend(x, x.flip(1), x)[0]
            return self.head(self.hidden(y).relu().mean(1))

    x, y = torch.randn(16, 5, 8), torch.arange(16) % 2
    context = open_task(Task("cross", Cross(), (x, y), (x, y)))
    inherited, fresh = (built(context, weights=how) for how in ("inherited", "fresh"))
    assert not torch.isclose(inherited.attend.in_proj_weight, fresh.attend.in_proj_weight).any()


def test_the_global_random_state_is_left_alone(open_task: Callable[[Task], Context]):
    context = open_task(tasks.cnn())
    strategy = Student()
    plan = strategy.plan(context.task.copy_of_model(), {"width": 0.5, "weights": "fresh"}, context)
    before = torch.get_rng_state()
    strategy.apply(context.task.copy_of_model(), plan, context)
    assert torch.equal(before, torch.get_rng_state())


# -- the user's own ----------------------------------------------------------------------------------------------------


def own(width: float) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, round(20 * width)), nn.ReLU(), nn.Linear(round(20 * width), 4))


def test_the_users_student_is_built_at_the_width(open_task: Callable[[Task], Context]):
    context = open_task(replace(tasks.cnn(), student=own))
    weights = next(p for p in Student().parameters(context) if p.name == "weights")
    assert (weights.choices, weights.default) == (("own", "inherited", "fresh"), "own")
    assert Student().refuses(context) is None
    model, again = built(context, width=0.25), built(context, width=0.25)
    assert model[1].out_features == 5
    assert same(model, again)
    assert not same(model, built(replace(context, seed=1), width=0.25))


def test_the_copy_can_be_had_beside_the_users_own(open_task: Callable[[Task], Context]):
    plain, context = open_task(tasks.cnn()), open_task(replace(tasks.cnn(), student=own))
    assert same(built(context, weights="inherited", dropped=1), built(plain, dropped=1))


def test_the_depth_of_the_users_own_stays(open_task: Callable[[Task], Context]):
    context = open_task(replace(tasks.cnn(), student=own))
    with pytest.raises(CandidateFailed, match="no blocks are dropped from it"):
        built(context, dropped=1)


def test_nothing_to_choose_without_ones_own_or_without_a_copy(open_task: Callable[[Task], Context]):
    x, y = torch.randn(16, 8), torch.arange(16) % 4
    single = Task("single", nn.Linear(8, 4), (x, y), (x, y), student=lambda width: nn.Linear(8, 4))
    assert [p.name for p in Student().parameters(open_task(single))] == ["width"]
    assert isinstance(built(open_task(single)), nn.Linear)
    weights = next(p for p in Student().parameters(open_task(tasks.cnn())) if p.name == "weights")
    assert weights.choices == ("inherited", "fresh")


def test_a_student_of_the_wrong_kind_fails(open_task: Callable[[Task], Context]):
    context = open_task(replace(tasks.cnn(), student=lambda width: width))  # type: ignore[arg-type,return-value]
    with pytest.raises(CandidateFailed, match=r"Task\.student\(0\.5\) returned float, expected a module"):
        built(context, width=0.5)


def test_refused_where_nothing_can_be_narrowed(open_task: Callable[[Task], Context]):
    x, y = torch.randn(16, 8), torch.arange(16) % 4
    single = Task("single", nn.Linear(8, 4), (x, y), (x, y))
    reason = Student().refuses(open_task(single))
    assert reason is not None
    assert "its units are the model's output" in reason
    assert reason.endswith("give Task.student to search your own smaller model")
    assert Student().refuses(open_task(replace(single, student=lambda width: nn.Linear(8, 4)))) is None


def test_it_comes_before_every_other_step():
    assert Student().stage == Stage.BUILD
