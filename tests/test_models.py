"""The kinds of models people bring: each is opened whole, every strategy answers for it, and it is made smaller."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel

from autocompress.candidate.export import EXPORTERS
from autocompress.explore.space.ladders import default_recipe
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import Stage
from autocompress.plugin.loader import PluginSet
from autocompress.profile import HardwareProfile
from autocompress.recipe import Step
from autocompress.storage.folder import RunFolder
from autocompress.task import Inputs, Task

CLASSES, STEPS, WIDTH = 3, 6, 16
TRAIN, VAL = 48, 16


class Residual(nn.Module):
    """(N, 1, 8, 8) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.conv1 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.conv2 = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))
        return self.head(x.mean((2, 3)))


class Squeezed(nn.Module):
    """Depthwise convolution and squeeze-excite, (N, 1, 8, 8) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, WIDTH, 3, 2, 1), nn.BatchNorm2d(WIDTH), nn.Hardswish())
        self.depthwise = nn.Conv2d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.squeeze = nn.Conv2d(WIDTH, 4, 1)
        self.excite = nn.Conv2d(4, WIDTH, 1)
        self.pointwise = nn.Conv2d(WIDTH, 2 * WIDTH, 1)
        self.head = nn.Linear(2 * WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.stem(x))
        weight = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(torch.relu(self.pointwise(x * weight)).mean((2, 3)))


class Branched(nn.Module):
    """Parallel branches, as of RepVGG, (N, 1, 8, 8) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH)
        self.wide, self.narrow = (
            nn.Sequential(nn.Conv2d(WIDTH, WIDTH, size, padding=size // 2, bias=False), nn.BatchNorm2d(WIDTH))
            for size in (3, 1)
        )
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.head(torch.relu(self.wide(x) + self.narrow(x) + self.norm(x)).mean((2, 3)))


def flattening() -> nn.Module:
    """(N, 1, 8, 8) -> (N, 3)."""
    return nn.Sequential(
        nn.Conv2d(1, WIDTH, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * WIDTH, 32),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(32, CLASSES),
    )


class Recurrent(nn.Module):
    """(N, 6, 4) -> (N, 3), from the states of all steps."""

    def __init__(self, cell: type[nn.RNNBase], both_ways: bool) -> None:
        super().__init__()
        self.rnn = cell(4, WIDTH, 2, batch_first=True, bidirectional=both_ways)
        self.head = nn.Linear(WIDTH * (1 + both_ways), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0].mean(1))


class Encoder(nn.Module):
    """``nn.TransformerEncoder`` over token ids, (N, 6) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens)).mean(1))


class Attention(nn.Module):
    """Written by hand, with a projection each, (N, T, E) -> the same."""

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.split(layer(x)) for layer in (self.query, self.key, self.value))
        return self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Attending(nn.Module):
    """(N, 6, 4) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(4, WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head((x + self.attention(self.norm(x))).mean(1))


class Named(nn.Module):
    """Keyword arguments; the mask is ignored, as some models ignore theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, WIDTH)
        self.hidden = nn.Linear(WIDTH + 4, 32)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, tokens: Tensor, extra: Tensor, mask: Tensor) -> dict[str, Tensor]:
        x = torch.cat([self.embedding(tokens).mean(1), extra], 1)
        return {"hidden": x, "logits": self.head(torch.relu(self.hidden(x)))}


class Pair(nn.Module):
    """Two positional inputs, a tuple out whose first is scored."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, WIDTH), nn.Linear(2, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.left(left) + self.right(right))
        return self.head(x), x


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor


class WithLogits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, WIDTH), nn.ReLU())
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Output:
        x = self.body(x)
        return Output(self.head(x), x)


class Words(nn.Module):
    """Gradients of the embedding are sparse, (N, 6) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, WIDTH, sparse=True)
        self.hidden, self.head = nn.Linear(WIDTH, 32), nn.Linear(32, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.embedding(tokens).mean(1))))


class Frozen(Residual):
    """Its norms stay in evaluation mode, and its ``train`` gives nothing back."""

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)
        for norm in (self.bn1, self.bn2):
            norm.eval()


class Keeping(Residual):
    """It keeps what it computed last, with its gradient, and a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, Any] = {}
        self(images(2))

    def forward(self, x: Tensor) -> Tensor:
        self.last = super().forward(x)
        self.cache["all"] = [self.last, x]
        return self.last


def normed() -> nn.Module:
    model = Residual()
    weight_norm(model.conv1)
    spectral_norm(model.conv2)
    return model


def masked() -> nn.Module:
    model = Residual()
    prune.l1_unstructured(model.conv1, "weight", 0.5)
    return model


def compiled() -> nn.Module:
    model = Residual()
    model.conv2 = torch.compile(model.conv2, backend="eager")  # type: ignore[assignment]
    whole: nn.Module = torch.compile(model, backend="eager")  # type: ignore[assignment]
    return whole


def nearness(outputs: Tensor, targets: Tensor) -> float:
    return -float((outputs - targets).abs().mean())


def labels(size: int) -> Tensor:
    return torch.arange(size) % CLASSES


def images(size: int) -> Inputs:
    return torch.randn(size, 1, 8, 8)


def steps(size: int) -> Inputs:
    return torch.randn(size, STEPS, 4)


def tokens(size: int) -> Inputs:
    return torch.randint(10, (size, STEPS))


def rows(size: int) -> Inputs:
    return torch.randn(size, 4)


def named(size: int) -> Inputs:
    words = torch.randint(10, (size, STEPS))
    return {"tokens": words, "extra": torch.randn(size, 4), "mask": torch.ones(size, STEPS, dtype=torch.bool)}


def pairs(size: int) -> Inputs:
    return torch.randn(size, 4), torch.randn(size, 2)


@dataclass(frozen=True)
class Case:
    """applies: some strategies that have to. others: of the task. both: whether both exporters are tried: those whose
    inputs or outputs are more than a tensor. says: how a warning begins.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[[int], Inputs]
    applies: frozenset[str] = frozenset()
    targets: Callable[[int], Tensor] = labels
    others: Mapping[str, Any] = field(default_factory=dict)
    both: bool = False
    says: str | None = None


CHANNELS = frozenset({"prune_channels", "student", "quantize_static", "quantize_aware"})
CASES = {
    "residual": Case(Residual, images, CHANNELS),
    "squeeze_excite": Case(Squeezed, images, CHANNELS),
    "branches": Case(Branched, images, CHANNELS, says="parallel branches of one input are one convolution"),
    "flatten": Case(flattening, images, CHANNELS),
    "lstm": Case(lambda: Recurrent(nn.LSTM, False), steps, frozenset({"prune_recurrent", "quantize_dynamic"})),
    "lstm_both_ways": Case(lambda: Recurrent(nn.LSTM, True), steps, frozenset({"prune_recurrent", "quantize_dynamic"})),
    "gru": Case(lambda: Recurrent(nn.GRU, False), steps, frozenset({"prune_recurrent"})),
    "gru_both_ways": Case(lambda: Recurrent(nn.GRU, True), steps, frozenset({"prune_recurrent"})),
    "rnn": Case(lambda: Recurrent(nn.RNN, False), steps, frozenset({"prune_recurrent"})),
    "rnn_both_ways": Case(lambda: Recurrent(nn.RNN, True), steps, frozenset({"prune_recurrent"})),
    "transformer_encoder": Case(Encoder, tokens, frozenset({"prune_attention"})),
    "attention": Case(Attending, steps, frozenset({"prune_attention"})),
    "dict_inputs": Case(Named, named, frozenset({"prune_channels"}), both=True),
    "tuple_inputs_and_output": Case(
        Pair, pairs, frozenset({"prune_channels"}), others={"outputs": ["output_0"]}, both=True
    ),
    "dataclass_with_logits": Case(WithLogits, rows, frozenset({"prune_channels"}), both=True),
    "norms_of_weights": Case(normed, images, CHANNELS),
    "masked": Case(masked, images, CHANNELS),
    "compiled": Case(compiled, images, CHANNELS),
    "averaged": Case(lambda: AveragedModel(Residual()), images, CHANNELS),
    "parallel": Case(lambda: nn.DataParallel(Residual()), images, CHANNELS),
    "train_returns_nothing": Case(Frozen, images, CHANNELS),
    "keeps_what_it_computed": Case(Keeping, images, CHANNELS),
    "half_precision": Case(lambda: Residual().half(), images, CHANNELS),
    "double_precision": Case(lambda: Residual().double(), lambda size: images(size).double(), CHANNELS),
    "sparse_gradients": Case(Words, tokens, frozenset({"prune_channels", "student"})),
    "regression": Case(
        lambda: nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1)),
        rows,
        frozenset({"prune_channels"}),
        lambda size: torch.randn(size, 1),
        {"metric": nearness, "loss": "mse"},
    ),
}


def task_of(name: str, case: Case) -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = evaluating(case.make())
        train, val = ((case.inputs(size), case.targets(size)) for size in (TRAIN, VAL))
    return Task(name=name, model=model, train=train, val=val, **case.others)


@pytest.mark.parametrize("name", CASES)
def test_a_model_opens_every_strategy_answers_and_one_makes_it_smaller(
    name: str, open_here: Any, shared_plugins: PluginSet, fake_profile: HardwareProfile, tmp_path: Path
) -> None:
    task, plugins, both = task_of(name, CASES[name]), shared_plugins, CASES[name].both
    before = copy.deepcopy(task.model.state_dict())
    only = plugins.strategies
    here = open_here(task, fake_profile, plugins, RunFolder(tmp_path), only, compare_exporters=both)
    opening = here.opening

    assert opening.prepared.exporter in EXPORTERS
    assert here.task.folder.reference.exists()
    assert opening.reference.params > 0
    assert opening.reference.score.val_low <= opening.reference.score.val <= opening.reference.score.val_high
    assert not opening.reference_family.failed
    says = CASES[name].says
    assert says is None or [warning for warning in opening.prepared.warnings if warning.startswith(says)]
    applies = {a.name for a in opening.applicable}
    refused = {r.strategy: r.reason for r in opening.refused}
    assert applies | refused.keys() == plugins.strategies.keys()
    assert applies >= CASES[name].applies
    assert all(reason.strip() for reason in refused.values())
    assert not [reason for reason in refused.values() if reason.startswith("it failed")], refused
    assert all(a.size_only is None or a.size_only.strip() for a in opening.applicable)
    assert all(torch.equal(value, task.model.state_dict()[key]) for key, value in before.items())

    shrinks = next(a for a in opening.applicable if a.name in CASES[name].applies and Stage.STRUCTURE in a.stages)
    space = Space.of(SpaceFile(name="all"), opening.applicable, opening.refused)
    step = Step.of(shrinks.name, **{p.name: p.default for p in shrinks.parameters})
    outcome = here.evaluate(default_recipe(space, [step]), examples=TRAIN)
    assert outcome.evaluations[0].macs < opening.reference.macs
    assert not outcome.failed
