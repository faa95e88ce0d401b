"""Removing channels: widths as asked, what depends on them too, the rest the model's own."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context
from autocompress_plugins.pruning.prune_channels import PruneChannels

GROUPS = {"stem.0": 16, "blocks.0.conv1": 16, "blocks.1.conv1": 16, "down": 32}
MakeContext = Callable[..., Context]


def planned(context: Context, **chosen: Any) -> dict[str, Any]:
    params = {p.name: p.default for p in PruneChannels().parameters(context)} | chosen
    return dict(PruneChannels().plan(context.task.copy_of_model(), params, context))


def pruned(context: Context, **chosen: Any) -> nn.Module:
    return PruneChannels().apply(context.task.copy_of_model(), planned(context, **chosen), context).eval()


def widths(model: nn.Module) -> list[int]:
    return [len(model.get_parameter(f"{root}.weight")) for root in GROUPS]


@pytest.mark.parametrize("ratio", [0.25, 0.75])
def test_the_widths_are_as_asked(ratio: float, cnn: Context):
    assert widths(pruned(cnn, ratio=ratio, round_to=1)) == [size * (1 - ratio) for size in GROUPS.values()]


@pytest.mark.parametrize("round_to", [8, 4])
def test_widths_are_multiples_of_round_to(round_to: int, cnn: Context):
    found = widths(pruned(cnn, ratio=0.6, round_to=round_to, allocation="global"))
    assert all(width % min(round_to, size // 4) == 0 for width, size in zip(found, GROUPS.values(), strict=True))
    assert found != list(GROUPS.values())


def test_bottom_up_removes_as_many(make_context: MakeContext):
    layers = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten()
    context = make_context(nn.Sequential(*layers, nn.Linear(16 * 4, 2)), torch.randn(16, 3, 6, 6))
    conv, batch_norm, _, other, *_ = pruned(context, importance="taylor", schedule="bottom_up")
    assert (conv.out_channels, other.out_channels) == (8, 8)
    assert len(batch_norm.running_mean) == batch_norm.num_features == 8


def test_the_kept_weights_are_the_models_own(cnn: Context):
    model, plan = cnn.task.copy_of_model(), planned(cnn)
    kept = [unit for unit in range(16) if unit not in plan["remove"]["stem.0"]]
    smaller = PruneChannels().apply(copy.deepcopy(model), plan, cnn)
    assert torch.equal(smaller.stem[0].weight, model.stem[0].weight[kept])
    assert torch.equal(smaller.blocks[1].bn2.running_var, model.blocks[1].bn2.running_var[kept])


def test_bn_scale_is_offered_with_a_batch_norm_only(cnn: Context, transformer: Context):
    offered = [
        next(p for p in PruneChannels().parameters(context) if p.name == "importance").choices
        for context in (cnn, transformer)
    ]
    assert offered == [("l1", "l2", "taylor", "surgeon", "lamp", "bn_scale"), ("l1", "l2", "taylor", "surgeon", "lamp")]


def test_the_width_between_the_blocks_of_a_transformer(transformer: Context):
    model = pruned(transformer, ratio=0.5)
    assert model.embedding.weight.shape == (16, 16)
    assert model.position.shape == (1, 12, 16)
    assert model.blocks[0].attention.num_heads == 4
    assert model.blocks[1].mlp[0].weight.shape == (64, 16)


def test_a_mistaken_ratio_of_a_narrow_model_fails(make_context: MakeContext):
    context = make_context(nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1)), torch.randn(8, 4))
    assert PruneChannels().refuses(context) is None
    with pytest.raises(CandidateFailed, match="nothing would be removed"):
        pruned(context, ratio=0.1)


def test_refused_with_the_layer_and_the_reason(make_context: MakeContext):
    model = nn.Sequential(nn.Linear(4, 8), nn.Softmax(-1), nn.Linear(8, 2))
    assert PruneChannels().refuses(make_context(model, torch.randn(8, 4))) == (
        "no layer has channels that can be removed (0: removing units gives another function than zeroing what reads "
        "them; 2: its units are the model's output)"
    )
