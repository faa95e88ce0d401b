"""In which arithmetic a training computes: the faster one here; and a large model does not wait for the answer."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from autocompress.candidate import arithmetic
from autocompress.candidate.arithmetic import Arithmetic, fastest_arithmetic
from autocompress.candidate.capabilities import Capabilities
from autocompress.candidate.policy import TrainingPolicy
from autocompress.data import Batch

CAPABLE = Capabilities(frozenset({"avx2", "avx512_bw", "avx512_bf16"}))
AVX2 = Capabilities(frozenset({"avx2"}))
IMAGES, TARGETS = torch.randn(64, 3, 4, 4), torch.arange(64) % 4


class Timed(nn.Module):
    """Takes so many seconds an example in each format, by a clock of its own; notes the sizes of its batches."""

    def __init__(self, seconds: float, in_bfloat16: float) -> None:
        super().__init__()
        self.head = nn.Linear(48, 4)
        self.seconds = {False: seconds, True: in_bfloat16}
        self.sizes: list[int] = []
        self.formats: set[tuple[torch.dtype, bool]] = set()  # of what it computed, and whether channels came last
        self.now = 0.0

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        y: Tensor = self.head(x.flatten(1))
        last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        self.formats.add((y.dtype, last))
        self.now += len(x) * self.seconds[y.dtype == torch.bfloat16]
        return y


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    """Bfloat16 takes a tenth of the time."""
    model = Timed(0.001, 0.0001)
    monkeypatch.setattr(arithmetic, "time", SimpleNamespace(monotonic=lambda: model.now))
    return model


@pytest.mark.parametrize(("in_bfloat16", "chosen"), [(0.0001, True), (0.004, False)])
def test_the_faster_format_is_chosen(in_bfloat16: float, chosen: bool, timed: Timed):
    timed.seconds[True] = in_bfloat16
    assert fastest_arithmetic(timed, functional.cross_entropy, Batch(IMAGES, TARGETS), here=CAPABLE).bfloat16 == chosen


@pytest.mark.parametrize(("long_s", "largest"), [(10.0, 64), (0.02, 8)])
def test_a_few_examples_are_enough_for_a_model_that_takes_long(long_s: float, largest: int, timed: Timed):
    policy = TrainingPolicy(long_s=long_s)
    assert fastest_arithmetic(timed, functional.cross_entropy, Batch(IMAGES, TARGETS), policy, CAPABLE).bfloat16
    assert max(timed.sizes) == largest


def test_what_cannot_pay_is_not_tried(timed: Timed):
    found = fastest_arithmetic(timed, functional.cross_entropy, Batch(IMAGES, TARGETS), here=AVX2)
    assert found == Arithmetic()
    assert timed.formats == {(torch.float32, False)}


def test_a_step_that_fails_is_told_where_there_is_no_choice(timed: Timed):
    with pytest.raises(RuntimeError):
        fastest_arithmetic(timed, functional.cross_entropy, Batch(IMAGES.flatten(1), TARGETS.float()), here=AVX2)
