"""A smaller student: its width and depth, where its weights come from, and the user's own."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context, Stage
from autocompress.task import Task
from autocompress.testing import tasks
from autocompress_plugins.distillation.student import Student
from autocompress_plugins.pruning.drop_blocks import DropBlocks

MakeContext = Callable[[Task], Context]


@pytest.fixture(scope="module", params=tasks.ALL, ids=lambda make: make.__name__)
def context(request: pytest.FixtureRequest, make_context: MakeContext) -> Context:
    """Each of the example tasks, opened once."""
    return make_context(request.param())


@pytest.fixture(scope="module")
def cnn(make_context: MakeContext) -> Context:
    return make_context(tasks.cnn())


@pytest.fixture(scope="module")
def with_own(make_context: MakeContext) -> Context:
    """The user gives a smaller model."""
    return make_context(replace(tasks.cnn(), student=own))


def built(context: Context, **chosen: Any) -> nn.Module:
    strategy = Student()
    params = {p.name: p.default for p in strategy.parameters(context)} | chosen
    plan = json.loads(json.dumps(strategy.plan(context.task.copy_of_model(), params, context)))
    return strategy.apply(context.task.copy_of_model(), plan, context).eval()


def same(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


WIDTHS_OF = {  # at half the width, units in multiples of eight or, in narrow layers, of a quarter
    "cnn": lambda m: (m.stem[0].out_channels, m.blocks[0].conv1.out_channels, m.down.out_channels) == (8, 8, 16),
    "lstm": lambda m: [layer.core.hidden_size for layer in m.rnn.layers] == [12, 12],
    "transformer": lambda m: (
        m.embedding.embedding_dim == 16
        and m.norm.normalized_shape == (16,)
        and [(b.attention.num_heads, b.mlp[0].out_features) for b in m.blocks] == [(2, 32)] * 2
        and m.head.weight.shape == (4, 16)
    ),
}


def test_everything_is_narrower_by_one_factor(context: Context):
    assert WIDTHS_OF[context.task.name](built(context, width=0.5))


def test_as_deep_as_the_reference_and_shallower_by_strength(context: Context):
    depth = next(p for p in Student().parameters(context) if p.name == "dropped")
    most = DropBlocks().parameters(context)[0].choices[-1]
    assert (depth.choices, depth.default, depth.by_strength) == (tuple(range(most + 1)), 0, True)


@pytest.mark.parametrize("weights", ["inherited", "fresh"])
def test_the_least_harmful_blocks_are_those_left_out(weights: str, cnn: Context):
    (gone,) = DropBlocks().plan(cnn.model, {"count": 1}, cnn)["drop"]
    model = built(cnn, width=0.5, dropped=1, weights=weights)
    kept = {"blocks.0": "blocks.1", "blocks.1": "blocks.0"}[gone]
    assert not list(model.get_submodule(gone).parameters())
    assert model.get_submodule(kept).conv1.weight.shape == (8, 8, 3, 3)
    assert model(cnn.example_inputs).shape == (2, 4)


def test_no_depth_where_no_block_can_go(make_context: MakeContext):
    x, y = torch.randn(16, 8), torch.arange(16) % 4
    plain = Task("plain", nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)), (x, y), (x, y))
    context = make_context(plain)
    assert [p.name for p in Student().parameters(context)] == ["width", "weights"]
    assert built(context, width=0.5)[0].out_features == 4


def test_inherited_weights_are_the_references(cnn: Context):
    plan = Student().plan(cnn.task.copy_of_model(), {"width": 0.5, "weights": "inherited"}, cnn)
    model = Student().apply(cnn.task.copy_of_model(), plan, cnn)
    kept = [unit for unit in range(16) if unit not in plan["remove"]["stem.0"]]
    assert torch.equal(model.stem[0].weight, cnn.model.stem[0].weight[kept])


def test_fresh_weights_are_others_and_seeded(context: Context):
    strategy = Student()
    plan = strategy.plan(context.task.copy_of_model(), {"width": 0.5, "weights": "fresh"}, context)
    assert plan["seed"] == context.seed
    state = torch.get_rng_state()
    inherited, fresh, again, other = (
        strategy.apply(context.task.copy_of_model(), {**plan, "seed": seed}, context) for seed in (None, 0, 0, 1)
    )
    assert torch.equal(state, torch.get_rng_state())
    assert same(fresh, again)
    assert not same(fresh, other)
    for (name, one), two in zip(inherited.named_parameters(), fresh.parameters(), strict=True):
        assert one.shape == two.shape
        if one.dim() > 1 and name != "position":  # a parameter of the user's own module stays
            assert not torch.isclose(one, two).any(dim=-1).all(), name


def test_fresh_weights_of_torchs_attention(make_context: MakeContext):
    """Also where it stays nn.MultiheadAttention, which resets itself by another name."""

    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attend = nn.MultiheadAttention(8, 2, batch_first=True, add_zero_attn=True)
            self.hidden, self.head = nn.Linear(8, 16), nn.Linear(16, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.attend(x, x.flip(1), x)[0]
            return self.head(self.hidden(y).relu().mean(1))

    x, y = torch.randn(16, 5, 8), torch.arange(16) % 2
    context = make_context(Task("cross", Cross(), (x, y), (x, y)))
    inherited, fresh = (built(context, weights=how) for how in ("inherited", "fresh"))
    assert not torch.isclose(inherited.attend.in_proj_weight, fresh.attend.in_proj_weight).any()


# -- the user's own ----------------------------------------------------------------------------------------------------


def own(width: float) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, round(20 * width)), nn.ReLU(), nn.Linear(round(20 * width), 4))


def test_the_users_student_is_built_at_the_width(with_own: Context):
    weights = next(p for p in Student().parameters(with_own) if p.name == "weights")
    assert (weights.choices, weights.default) == (("own", "inherited", "fresh"), "own")
    assert Student().refuses(with_own) is None
    model, again = built(with_own, width=0.25), built(with_own, width=0.25)
    assert model[1].out_features == 5
    assert same(model, again)
    assert not same(model, built(replace(with_own, seed=1), width=0.25))


def test_the_copy_can_be_had_beside_the_users_own(cnn: Context, with_own: Context):
    assert same(built(with_own, weights="inherited", dropped=1), built(cnn, dropped=1))


def test_of_some_widths_alone_the_nearest_is_built_also_when_there_are_more_by_then(with_own: Context):
    class Found:
        def __init__(self, *widths: float) -> None:
            self.widths = widths

        def __call__(self, width: float) -> nn.Module:
            return own(min(self.widths, key=lambda each: abs(each - width)))

    then, now = (replace(with_own, task=replace(with_own.task, student=Found(*w))) for w in ((0.25,), (0.25, 0.5)))
    plan = Student().plan(tasks.cnn().model, {"width": 0.5, "weights": "own"}, then)
    assert plan["width"] == 0.25
    assert same(*(Student().apply(tasks.cnn().model, plan, context) for context in (then, now)))


def test_the_depth_of_the_users_own_stays(with_own: Context):
    with pytest.raises(CandidateFailed, match="no blocks are dropped from it"):
        built(with_own, dropped=1)


def test_nothing_to_choose_without_ones_own_or_without_a_copy(cnn: Context, make_context: MakeContext):
    x, y = torch.randn(16, 8), torch.arange(16) % 4
    single = Task("single", nn.Linear(8, 4), (x, y), (x, y), student=lambda width: nn.Linear(8, 4))
    assert [p.name for p in Student().parameters(make_context(single))] == ["width"]
    assert isinstance(built(make_context(single)), nn.Linear)
    weights = next(p for p in Student().parameters(cnn) if p.name == "weights")
    assert weights.choices == ("inherited", "fresh")


def test_a_student_of_the_wrong_kind_fails(make_context: MakeContext):
    context = make_context(replace(tasks.cnn(), student=lambda width: width))  # type: ignore[arg-type,return-value]
    with pytest.raises(CandidateFailed, match=r"Task\.student\(0\.5\) returned float, expected a module"):
        built(context, width=0.5)


def test_refused_where_nothing_can_be_narrowed(make_context: MakeContext):
    x, y = torch.randn(16, 8), torch.arange(16) % 4
    single = Task("single", nn.Linear(8, 4), (x, y), (x, y))
    reason = Student().refuses(make_context(single))
    assert reason is not None
    assert "its units are the model's output" in reason
    assert reason.endswith("give Task.student to search your own smaller model")
    assert Student().refuses(make_context(replace(single, student=lambda width: nn.Linear(8, 4)))) is None


def test_it_comes_before_every_other_step():
    assert Student().stage == Stage.BUILD
