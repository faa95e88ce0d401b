"""Removing heads and narrowing MLPs: as many as asked, the least important ones, the width between layers as it was."""

import copy
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context
from autocompress.task import Inputs, Task
from autocompress.testing import tasks
from autocompress_plugins.pruning.channel_graph import ChannelGraph
from autocompress_plugins.pruning.prune_attention import PruneAttention
from autocompress_plugins.pruning.removal import remove
from autocompress_plugins.pruning.unit_measurements import importances

MakeContext = Callable[..., Context]


def planned(context: Context, **chosen: Any) -> dict[str, Any]:
    params = {p.name: p.default for p in PruneAttention().parameters(context)} | chosen
    plan = PruneAttention().plan(context.task.copy_of_model(), params, context)
    assert json.loads(json.dumps(plan)) == plan
    return dict(plan)


def pruned(context: Context, **chosen: Any) -> nn.Module:
    return PruneAttention().apply(context.task.copy_of_model(), planned(context, **chosen), context).eval()


def shape(model: nn.Module) -> list[tuple[int, int]]:
    """Heads and hidden width of each block."""
    heads = [getattr(block.attention, "num_heads", 4) for block in model.blocks]
    return [(own, block.mlp[0].out_features) for own, block in zip(heads, model.blocks, strict=True)]


def loss(model: nn.Module, context: Context) -> float:
    (batch,) = context.train_batches(256, 256)
    with torch.no_grad():
        return float(context.task.loss_fn(model.eval()(batch.inputs), batch.targets))


@pytest.mark.parametrize(
    ("heads", "mlp", "expected"),
    [(0.25, 0.5, (3, 32)), (0.75, 0.0, (1, 64)), (0.0, 0.875, (4, 8)), (0.5, 0.25, (2, 48))],
)
def test_heads_and_widths_are_as_asked(heads: float, mlp: float, expected: tuple[int, int], transformer: Context):
    model = pruned(transformer, heads=heads, mlp=mlp)
    assert shape(model) == [expected] * 2
    for block in model.blocks:
        assert block.attention.qkv.weight.shape == (3 * expected[0] * 8, 32)
        assert block.attention.out.weight.shape == (32, expected[0] * 8)
        assert block.mlp[2].weight.shape == (32, expected[1])


@pytest.mark.parametrize("allocation", ["uniform", "global", "sensitivity"])
@pytest.mark.parametrize("criterion", ["l1", "l2", "taylor"])
def test_every_criterion_and_allocation(criterion: str, allocation: str, transformer: Context):
    model = pruned(transformer, importance=criterion, allocation=allocation, heads=0.5)
    assert all(1 <= heads <= 4 and width % 8 == 0 for heads, width in shape(model))
    assert sum(width for _, width in shape(model)) < 128


def test_a_plan_leaves_the_model_and_replays_bit_for_bit(transformer: Context):
    model = transformer.task.copy_of_model()
    before = copy.deepcopy(model)
    params = {p.name: p.default for p in PruneAttention().parameters(transformer)}
    plan = PruneAttention().plan(model, params, transformer)
    assert type(model.blocks[0].attention) is type(before.blocks[0].attention)
    for name, value in before.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
    one, other = (PruneAttention().apply(copy.deepcopy(before), plan, transformer) for _ in range(2))
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_it_is_the_users_model_with_the_heads_unread(transformer: Context):
    plan, original = planned(transformer, heads=0.5), transformer.task.copy_of_model()
    smaller = PruneAttention().apply(transformer.task.copy_of_model(), plan, transformer).eval()
    with torch.no_grad():
        for number, block in enumerate(original.blocks):
            for head in plan["remove"][f"blocks.{number}.attention"]:
                block.attention.out.weight[:, 8 * head : 8 * head + 8] = 0
            block.mlp[2].weight[:, plan["remove"][f"blocks.{number}.mlp.0"]] = 0
        x = transformer.train.take(torch.arange(8)).inputs
        torch.testing.assert_close(smaller(x), original(x), atol=1e-4, rtol=1e-3)


def test_the_file_agrees_with_the_module(transformer: Context, from_file: Callable[[nn.Module, Inputs], Tensor]):
    model = pruned(transformer)
    with torch.no_grad():
        expected = model(transformer.example_inputs)
    torch.testing.assert_close(from_file(model, transformer.example_inputs), expected, atol=1e-4, rtol=1e-3)


class Encoder(nn.Module):
    """With a padding mask made of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)
        self.head = nn.Linear(16, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(tokens), src_key_padding_mask=tokens == 0)[:, 0])


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_the_file_of_a_torch_encoder_with_padding(
    make_context: MakeContext, from_file: Callable[[nn.Module, Inputs], Tensor]
):
    tokens = torch.randint(1, 9, (16, 7))
    tokens[::2, 5:] = 0
    context = make_context(Encoder(), tokens)
    model = pruned(context, heads=0.5)
    assert [layer.self_attn.num_heads for layer in model.encoder.layers] == [2, 2]
    assert [layer.linear1.out_features for layer in model.encoder.layers] == [16, 16]
    with torch.no_grad():
        expected = model(context.example_inputs)
    torch.testing.assert_close(from_file(model, context.example_inputs), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("criterion", ["l2", "taylor"])
def test_the_least_important_heads_and_units_do_least_harm(
    criterion: str, decayed: Callable[[Task], Task], open_task: Callable[[Task], Context]
):
    context = open_task(decayed(tasks.transformer()))
    model, survey = ChannelGraph().find_groups(
        context.task.copy_of_model(), context.example_inputs, PruneAttention.kinds
    )
    values = importances(model, survey.groups, criterion, context)
    worst = {}
    for group in survey.groups:
        order = values[group.root].argsort(descending=True)
        worst[group.root] = order[: group.size // 4].tolist()
    harmful = remove(model, context.example_inputs, worst)
    harmless = pruned(context, heads=0.25, mlp=0.25, importance=criterion)
    assert shape(harmless) == shape(harmful)
    assert loss(harmless, context) < 0.7 * loss(harmful, context)


def test_sensitivity_is_sorted(transformer: Context):
    found = PruneAttention().sensitivity(transformer)
    assert {s.group for s in found} == {f"blocks.{i}.{part}" for i in range(2) for part in ("attention", "mlp.0")}
    assert all(one.loss >= other.loss for one, other in pairwise(found))


def test_nothing_asked_is_nothing_done(transformer: Context):
    with pytest.raises(CandidateFailed, match="nothing would be removed"):
        planned(transformer, heads=0.0, mlp=0.0)


# -- refusals ----------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """Attention without a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x).relu(), self.k(x).relu(), self.v(x)
        return self.o(q @ (k.transpose(-2, -1) @ v)) / x.shape[1]


class Cross(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.Parameter(torch.randn(1, 4, 8))
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        memory = self.memory.expand(len(x), -1, -1)
        return self.attend(x, memory, memory)[0]


@pytest.mark.parametrize(
    ("make", "layer", "reason"),
    [(Linear, "0", "do not read as multi-head self-attention"), (Cross, "0.attend", "attention to another sequence")],
)
def test_refused_with_the_layer_and_the_reason(make: Any, layer: str, reason: str, make_context: MakeContext):
    model = nn.Sequential(make(), nn.Flatten(), nn.Linear(40, 3))
    before, own = copy.deepcopy(model.state_dict()), model[0]
    context = make_context(model, torch.randn(8, 5, 8))
    text = PruneAttention().refuses(context)
    assert text is not None
    assert text.startswith(f"no attention was found whose heads can be removed ({layer}: ")
    assert reason in text
    assert model[0] is own
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_without_attention_is_refused(cnn: Context):
    assert PruneAttention().refuses(cnn) == "no attention was found whose heads can be removed"


def test_layers_that_only_look_like_attention_are_no_reason(make_context: MakeContext):
    """A plain network of four equal layers is given no sequence."""
    mlp = nn.Sequential(*(layer for _ in range(4) for layer in (nn.Linear(8, 8), nn.ReLU())))
    context = make_context(nn.Sequential(mlp, nn.Linear(8, 3)), torch.randn(8, 8))
    assert PruneAttention().refuses(context) == "no attention was found whose heads can be removed"
    assert PruneAttention().left_alone(context) == {}


def test_attention_that_stays_is_named_with_the_reason_though_another_can_shrink(make_context: MakeContext):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    context = make_context(nn.Sequential(layer, Linear(), nn.Flatten(), nn.Linear(40, 3)), torch.randn(8, 5, 8))
    assert PruneAttention().refuses(context) is None
    left = PruneAttention().left_alone(context)
    assert left["1"] == "its linear layers do not read as multi-head self-attention of one input"
    assert not any(name.startswith("0") for name in left)
