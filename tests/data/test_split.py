"""A split gives batches, and a digest of a sample of its examples."""

from collections.abc import Sequence

import torch

from autocompress.data import Batch, Split
from autocompress.data.loading import open_split

X = torch.randn(130, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(130) % 4


def test_batches_stop_at_the_limit_and_the_last_may_be_smaller():
    split = open_split("train", (X, Y))
    assert [len(b.targets) for b in split.batches(50)] == [50, 50, 30]
    assert [len(b.targets) for b in split.batches(50, 60)] == [50, 10]


def test_sample_of_a_very_large_split_stays_inside_it():
    asked: list[int] = []

    def collect(indices: Sequence[int]) -> Batch:
        asked.extend(indices)
        return Batch(torch.zeros(len(indices), 64), torch.zeros(len(indices)))

    Split("train", 2**25, collect).sample_digest()
    assert asked
    assert max(asked) < 2**25
