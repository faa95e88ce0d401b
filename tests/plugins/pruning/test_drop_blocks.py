"""Dropping blocks: the least harmful go first, and the rest is as it was."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from autocompress.data import call
from autocompress.errors import CandidateFailed
from autocompress.plugin.contract import Context
from autocompress.task import Inputs
from autocompress_plugins.model_runs import output
from autocompress_plugins.pruning.drop_blocks import DropBlocks
from autocompress_plugins.shrinking.blocks import droppable

MakeContext = Callable[[nn.Module, Inputs], Context]
IMAGES = torch.randn(64, 4, 6, 6, generator=torch.Generator().manual_seed(5))
WORDS = torch.randint(0, 9, (64, 7), generator=torch.Generator().manual_seed(5))


class Residual(nn.Module):
    """x + scale * body(x): the scale says how much the block matters."""

    def __init__(self, inputs: int, outputs: int, scale: float = 1.0) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=1), nn.ReLU()),
            nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)),
        )
        self.scale, self.same = scale, inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.body(x) if self.same else self.body(x)


class ResNet(nn.Module):
    def __init__(self, *scales: float) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 4, 3, padding=1)
        self.body = nn.Sequential(*(Residual(4, 4, scale) for scale in scales), Residual(4, 6))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Encoder(nn.Module):
    """nn.TransformerEncoder, with a padding mask, called by name."""

    def __init__(self, nested: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, nn.LayerNorm(8), enable_nested_tensor=nested)
        self.head = nn.Linear(8, 4)

    def forward(self, words: Tensor, padding: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(words), src_key_padding_mask=padding).mean(1))


def dropped(context: Context, count: int) -> tuple[nn.Module, list[str]]:
    """As the pipeline does: the plan goes through JSON, and is applied to a copy."""
    plan = json.loads(json.dumps(DropBlocks().plan(context.model, {"count": count}, context)))
    return DropBlocks().apply(copy.deepcopy(context.model), plan, context), plan["drop"]


def test_blocks_that_keep_the_shape_can_go_and_no_part_of_them_alone():
    model = ResNet(1.0, 1.0).eval()
    assert droppable(model, IMAGES[:2]).names == ("body.0", "body.1", "body.2.body.0"), (
        "of the last block only what keeps it"
    )


def test_looking_for_blocks_leaves_a_model_in_training_as_it_is():
    model = ResNet(1.0).train()
    before = copy.deepcopy(model.state_dict())
    assert droppable(model, IMAGES[:2]).names
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_transformer_layers_of_a_model_called_by_name():
    """Of nn.TransformerEncoder the first layer's attributes are read."""
    found = droppable(Encoder().eval(), {"words": WORDS[:2], "padding": torch.arange(7).expand(2, 7) > 4})
    assert found.names == ("encoder.layers.1", "encoder.layers.2")
    assert "self_attn" in found.kept["encoder.layers.0"]


def test_least_harmful_go_first_and_the_others_stay_as_they_are(teaching_itself: MakeContext):
    context = teaching_itself(ResNet(2.0, 0.01, 1.0, 0.1).eval(), IMAGES)
    model, gone = dropped(context, 2)
    assert gone == ["body.1", "body.3"]
    before, after = context.model.state_dict(), model.state_dict()
    assert after.keys() == {name for name in before if not name.startswith(("body.1.", "body.3."))}
    assert all(torch.equal(after[name], before[name]) for name in after)
    by_hand = copy.deepcopy(context.model)
    by_hand.body[1].scale = by_hand.body[3].scale = 0.0
    assert torch.allclose(output(model, IMAGES), output(by_hand, IMAGES), atol=1e-6)


def test_each_block_goes_alone_the_largest_first(teaching_itself: MakeContext):
    model = ResNet(2.0, 0.01, 1.0).eval()
    model.body[1].body[0][0] = nn.Sequential(nn.Conv2d(4, 32, 1), nn.Conv2d(32, 4, 1))
    model.body[2].body[0][0] = nn.Conv2d(4, 4, 5, padding=2)
    groups = DropBlocks().shrinkable_groups(teaching_itself(model, IMAGES))
    assert [group.name for group in groups] == ["body.2", "body.1", "body.0", "body.3.body.0"]
    assert all((group.units, list(group.counts)) == (1, [1]) for group in groups)
    assert [group.plan_without(1) for group in groups] == [{"drop": [group.name]} for group in groups]


def test_a_block_without_which_the_loss_is_no_number_goes_last(teaching_itself: MakeContext):
    context = teaching_itself(ResNet(2.0, 0.01, 1.0).eval(), IMAGES)

    def unbounded(out: Tensor, targets: Tensor) -> Tensor:
        loss = nn.functional.mse_loss(out, targets)
        return torch.where(loss < 1e-3, loss, torch.inf)

    context = replace(context, task=replace(context.task, loss=unbounded))
    assert DropBlocks().plan(context.model, {"count": 1}, context)["drop"] == ["body.1"]


def test_count_grows_by_one_block_at_a_time_up_to_all_but_one(teaching_itself: MakeContext):
    context = teaching_itself(ResNet(2.0, 0.01, 1.0).eval(), IMAGES)
    (parameter,) = DropBlocks().parameters(context)
    assert parameter.choices == (1, 2, 3)
    assert parameter.by_strength
    plans = [dropped(context, count)[1] for count in parameter.choices]
    assert all(more[: len(less)] == less for less, more in pairwise(plans))


def test_transformer_layers_go_from_a_model_called_by_name(teaching_itself: MakeContext):
    inputs = {"words": WORDS, "padding": torch.zeros(64, 7, dtype=torch.bool)}
    inputs["padding"][:, 5:] = True
    context = teaching_itself(Encoder().eval(), inputs)
    model, gone = dropped(context, 1)
    by_hand = copy.deepcopy(context.model)
    del by_hand.encoder.layers[int(gone[0][-1])]
    assert torch.allclose(output(model, inputs), output(by_hand, inputs), atol=1e-6)
    model.train()
    call(model, inputs).sum().backward()


def test_inputs_as_a_tuple_packed_by_the_shortcut_for_inference(teaching_itself: MakeContext):
    inputs = (WORDS, torch.arange(7).expand(64, 7) > 4)
    context = teaching_itself(Encoder(nested=True).eval(), inputs)
    assert droppable(context.model, context.example_inputs).names == ("encoder.layers.1", "encoder.layers.2")
    assert DropBlocks().refuses(context) is None
    assert output(dropped(context, 1)[0], inputs).shape == (64, 4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 4)),
        lambda: nn.Sequential(nn.Sequential(nn.LayerNorm(6), nn.ReLU()), nn.Linear(6, 4)),
        lambda: nn.Sequential(nn.Sequential(nn.Linear(6, 8), nn.ReLU()), nn.Linear(8, 4)),
    ],
    ids=["single layers", "nothing with weights", "other shapes"],
)
def test_refused_where_there_is_no_block(make: Callable[[], nn.Module], teaching_itself: MakeContext):
    context = teaching_itself(make().eval(), torch.randn(64, 6))
    assert "no block" in DropBlocks().refuses(context)


def test_more_than_can_be_dropped_fails_with_the_names(teaching_itself: MakeContext):
    context = teaching_itself(ResNet(1.0).eval(), IMAGES)
    with pytest.raises(CandidateFailed, match=r"3 blocks are to be dropped and only 2 can be: body.0, body.1.body.0"):
        DropBlocks().plan(context.model, {"count": 3}, context)
    bare = nn.Sequential(nn.Linear(6, 4))
    with pytest.raises(CandidateFailed, match="no block is left that can be dropped"):
        DropBlocks().plan(bare, {"count": 1}, teaching_itself(bare, torch.randn(64, 6)))


def test_blocks_that_stay_are_named_with_the_reason_though_others_can_go(teaching_itself: MakeContext):
    context = teaching_itself(Encoder().eval(), {"words": WORDS, "padding": torch.zeros(64, 7, dtype=torch.bool)})
    assert DropBlocks().refuses(context) is None
    (name, reason), *others = DropBlocks().left_alone(context).items()
    assert name == "encoder.layers.0"
    assert "breaks without it" in reason
    assert not others
