"""Low-rank factorization: thinner layers that compute nearly the same, and only where they are cheaper."""

import copy
import json
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autocompress.candidate.count import count
from autocompress.candidate.export import check
from autocompress.data import call, feed_of
from autocompress.errors import CandidateFailed
from autocompress.nested import primary
from autocompress.plugin.contract import Context
from autocompress_plugins.weights.factorize import SHARES_KEPT, Factorize
from autocompress_plugins.weights.thin_layers import factorizable
from tests.layouts import layout_of

MakeContext = Callable[..., Context]
IMAGES = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(5))
RULES = ("ratio", "energy")


class Wide(nn.Module):
    """Convolutions of every setting that has to be kept, and linear layers; two layers are too narrow."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3)
        self.conv = nn.Conv2d(32, 64, 3, stride=2, padding=2, dilation=2, padding_mode="circular")
        self.point = nn.Conv2d(64, 64, 1, bias=False)
        self.line = nn.Conv1d(64, 64, 3, padding="same")
        self.fc = nn.Linear(64, 128)
        self.head = nn.Linear(128, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.point(torch.relu(self.conv(torch.relu(self.stem(x))))))
        x = self.line(x.flatten(2)).mean(2)
        return self.head(torch.relu(self.fc(x)))


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(x).mean(1))


def seeded(kind: type[nn.Module], *args: Any) -> nn.Module:
    torch.manual_seed(0)
    return kind(*args).eval()


def outputs(model: nn.Module, inputs: Any) -> Tensor:
    with torch.no_grad():
        return primary(call(model.eval(), inputs))


def factorized(context: Context, **params: Any) -> tuple[nn.Module, dict[str, int]]:
    """As the pipeline does: the plan goes through JSON, and is applied to a copy."""
    plan = json.loads(json.dumps(Factorize().plan(context.model, params, context)))
    return Factorize().apply(copy.deepcopy(context.model), plan, context), plan["ranks"]


def test_a_layer_becomes_two_plain_ones_of_its_rank_with_its_settings(make_context: MakeContext):
    context = make_context(seeded(Wide), IMAGES)
    model, ranks = factorized(context, keep=0.5, rule="ratio")
    assert ranks.keys() == {"conv", "point", "line", "fc"}
    thin, point = model.conv
    assert type(thin) is type(point) is nn.Conv2d
    assert (thin.out_channels, point.in_channels, point.out_channels) == (ranks["conv"], ranks["conv"], 64)
    assert (thin.stride, thin.padding, thin.dilation, thin.padding_mode) == ((2, 2), (2, 2), (2, 2), "circular")
    assert thin.bias is None
    assert torch.equal(point.bias, context.model.conv.bias)
    assert (point.kernel_size, point.stride) == ((1, 1), (1, 1))
    assert [type(m) for m in model.line] == [nn.Conv1d, nn.Conv1d]
    assert [type(m) for m in model.fc] == [nn.Linear, nn.Linear]
    assert model.fc[0].weight.shape == (ranks["fc"], 64)
    assert model.point[1].bias is None


def test_weights_of_low_rank_are_reproduced(make_context: MakeContext):
    model = seeded(Wide)
    with torch.no_grad():
        for name in ("conv", "point", "line", "fc"):
            weight = getattr(model, name).weight
            u, s, v = torch.linalg.svd(weight.flatten(1), full_matrices=False)
            weight.copy_(((u[:, :8] * s[:8]) @ v[:8]).view_as(weight))
    context = make_context(model, IMAGES)
    smaller, ranks = factorized(context, keep=0.95, rule="energy")
    assert set(ranks.values()) <= set(range(1, 9))
    before, after = outputs(model, IMAGES), outputs(smaller, IMAGES)
    assert (before - after).abs().max() < 0.2 * before.abs().max(), "a twentieth of the energy may be left out"
    exact = Factorize().apply(copy.deepcopy(model), {"ranks": dict.fromkeys(ranks, 8)}, context)
    assert torch.allclose(outputs(exact, IMAGES), before, atol=1e-5)


def test_rank_follows_the_rule(make_context: MakeContext):
    context = make_context(seeded(Wide), IMAGES)
    weights = {name: context.model.get_submodule(name).weight.detach().flatten(1) for name in ("conv", "fc")}
    _, by_ratio = factorized(context, keep=0.5, rule="ratio")
    _, by_energy = factorized(context, keep=0.6, rule="energy")
    for name, weight in weights.items():
        cost = by_ratio[name] * sum(weight.shape) / weight.numel()
        assert cost == pytest.approx(0.5, abs=0.12), "ranks come in eights"
        energy = torch.linalg.svdvals(weight).square()
        kept = float(energy[: by_energy[name]].sum() / energy.sum())
        assert kept == pytest.approx(0.6, abs=0.1)


def with_singular_values(values: Tensor) -> nn.Module:
    """Of the layer "1", (64, 72): it pays up to a rank of 32."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 64), nn.Linear(64, 4)).eval()
    with torch.no_grad():
        left, right = (nn.init.orthogonal_(torch.empty(size, 64)) for size in (64, 72))
        model[1].weight.copy_(left @ values.diag() @ right.T)
    return model


@pytest.mark.parametrize("keep", [0.5, 0.8, 0.95])
def test_energy_is_the_share_of_the_squared_singular_values_that_is_kept(keep: float, make_context: MakeContext):
    values = 0.9 ** torch.arange(64.0)
    context = make_context(with_singular_values(values), torch.randn(2, 2, 36))
    energy = values.square().cumsum(0) / values.square().sum()
    expected = next(rank for rank, kept in enumerate(energy, 1) if kept >= keep)
    assert factorized(context, keep=keep, rule="energy")[1] == {"1": expected}


def test_a_choice_that_succeeds_is_cheaper_and_a_stronger_one_more_so(
    make_context: MakeContext, to_file: Callable[..., Path]
):
    """Also by the energy that is kept."""
    context = make_context(seeded(Wide), IMAGES)
    models = [context.model, *(factorized(context, keep=keep, rule="energy")[0] for keep in (0.5, 0.2))]
    costs = [count(to_file(model, IMAGES)) for model in models]
    for one, other in pairwise(costs):
        assert other[0] < one[0]
        assert other[1] < one[1]


@pytest.mark.parametrize("rule", RULES)
def test_the_choices_go_from_mild_to_strong(rule: str, make_context: MakeContext):
    context = make_context(with_singular_values(0.93 ** torch.arange(64.0)), torch.randn(2, 2, 36))
    ranks = [factorized(context, keep=keep, rule=rule)[1]["1"] for keep in SHARES_KEPT]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] >= 24
    assert ranks[-1] <= 3
    assert len(set(ranks)) >= 7


def test_transformer_encoder_layers_are_factorized_but_not_their_attention(
    make_context: MakeContext, to_file: Callable[..., Path], fake_runtime: Any
):
    x = torch.randn(2, 9, 32)
    context = make_context(seeded(Encoder), x)
    found = factorizable(context.model, x)
    assert found.names == tuple(f"encoder.layers.{i}.linear{j}" for i in (0, 1) for j in (1, 2))
    assert "NonDynamicallyQuantizableLinear" in found.kept["encoder.layers.0.self_attn.out_proj"]
    model, _ = factorized(context, keep=0.9, rule="ratio")
    with torch.no_grad():  # plainly called: torch's shortcut for inference would read the weights of linear layers
        torch.testing.assert_close(model.eval()(x), outputs(model, x), atol=1e-5, rtol=1e-4)
    check(fake_runtime.open(to_file(model, x), context.profile), [feed_of(x)], model, layout_of(model, x), [x])
    model.train()(x).sum().backward()
    assert model.encoder.layers[0].linear1[0].weight.grad is not None


class Tangled(nn.Module):
    """Every layer is used in a way that two layers in its place would not survive; ``free`` alone is simply called."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(32, 32)
        self.tied, self.twin = nn.Linear(32, 32), nn.Linear(32, 32)
        self.twin.weight = self.tied.weight
        self.asked = nn.Linear(32, 32)
        self.unused = nn.Linear(32, 32)
        self.grouped = nn.Conv1d(32, 64, 1, groups=2)
        self.rnn = nn.GRU(32, 32, batch_first=True)
        self.free = nn.Linear(64, 64)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.twin(self.tied(nn.functional.linear(x, self.read.weight)))
        x = torch.relu(self.asked(x)) if isinstance(self.asked, nn.Linear) else self.asked(x)
        y, _ = self.rnn((x * mask)[:, None])
        return self.free(self.grouped(y.transpose(1, 2))[..., 0])[:, :4]


def test_layers_that_are_not_simply_called_are_left_alone_with_the_reason(make_context: MakeContext):
    inputs = {"x": torch.randn(2, 32), "mask": torch.ones(2, 32)}
    context = make_context(seeded(Tangled), inputs)
    found = factorizable(context.model, inputs)
    assert found.names == ("free",)
    reasons = {"read": "weight", "tied": "another", "twin": "another", "asked": "change the output"}
    reasons |= {"unused": "never", "grouped": "grouped"}
    for name, word in reasons.items():
        assert word in found.kept[name]
    assert "recurrent" in found.kept["rnn"]
    model, ranks = factorized(context, keep=0.5, rule="ratio")
    assert list(ranks) == ["free"]
    assert outputs(model, inputs).shape == (2, 4)
    assert model.twin.weight is model.tied.weight


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 32, batch_first=True)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


def test_refusal_names_the_layers(make_context: MakeContext):
    context = make_context(seeded(Recurrent), torch.randn(2, 5, 8))
    reason = Factorize().refuses(context)
    assert "0% of the weights" in reason
    assert "rnn" in reason
    assert "head" in reason
    assert Factorize().refuses(make_context(seeded(Wide), IMAGES)) is None


def test_choice_at_which_nothing_gets_cheaper_fails(make_context: MakeContext):
    model = seeded(Wide)
    for name in ("conv", "point", "line", "fc"):
        nn.init.orthogonal_(getattr(model, name).weight)  # every direction matters alike
    with pytest.raises(CandidateFailed, match=r"no layer would become cheaper at keep=0\.95 by energy"):
        Factorize().plan(model, {"keep": 0.95, "rule": "energy"}, make_context(model, IMAGES))


def test_layers_that_stay_are_named_with_the_reason_though_others_can_be_factorized(make_context: MakeContext):
    context = make_context(seeded(Wide), IMAGES)
    assert Factorize().refuses(context) is None
    assert Factorize().left_alone(context) == dict.fromkeys(["stem", "head"], "a side of its matrix is under 32")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: nn.Linear(64, 64), r"hold 0% of the weights \(the model: it is the whole model\)"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Softmax(-1)), "there is no linear layer and no convolution"),
    ],
    ids=["one layer", "no layer"],
)
def test_refused_where_there_is_nothing_to_factorize(
    model: Callable[[], nn.Module], reason: str, make_context: MakeContext
):
    said = Factorize().refuses(make_context(model(), torch.randn(2, 64)))
    assert re.search(reason, said or "")
