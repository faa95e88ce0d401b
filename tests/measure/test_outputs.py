"""Every example goes through a file once, in order, whatever the batch."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from autocompress.candidate.export import export_with
from autocompress.data import Batch, OutputLayout, Split
from autocompress.data.loading import open_split
from autocompress.measure import outputs_of
from autocompress.plugin.contract import Array, Feed, Runtime, Session
from autocompress.profile import HardwareProfile
from tests.layouts import layout_of


class Doubling(Session):
    """Twice the sum of its inputs; refuses any batch but its own, as a graph with a built-in batch does."""

    def __init__(self, batch: int, names: tuple[str, ...]) -> None:
        self.batch, self.names = batch, names

    @property
    def input_names(self) -> Sequence[str]:
        return self.names

    def run(self, feed: Feed) -> Sequence[Array]:
        assert set(feed) == set(self.names)
        assert {len(value) for value in feed.values()} == {self.batch}
        return [2 * sum(value.astype(np.float32) for value in feed.values())]


def outputs(
    session: Callable[[], Session],
    split: Split,
    batch: int,
    give_way: Callable[[], None] = lambda: None,
    read: int = 64,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The outputs and the targets, of all pieces one after the other."""
    layout = OutputLayout(torch.zeros(2, 2), ("output",), {"output": 0}, "output")
    pieces = list(outputs_of(session, split, batch, layout, give_way, read))
    return torch.cat([rows["output"] for _, rows in pieces]), torch.cat([piece.targets for piece, _ in pieces])


@pytest.mark.parametrize("batch", [1, 3, 4, 10, 64])
def test_all_examples_are_scored_in_order_when_the_batch_does_not_divide_them(batch: int):
    x = torch.arange(20.0).reshape(10, 2)
    split = open_split("val", (x, torch.arange(10)))
    found, targets = outputs(lambda: Doubling(batch, ("input",)), split, batch)
    assert torch.equal(found, 2 * x)
    assert torch.equal(targets, torch.arange(10))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 3, 4])
def test_threads_share_the_examples_and_their_order_stays(
    batch: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x, readers, opened, paused = torch.arange(46.0).reshape(23, 2), threading.Lock(), [], []

    def collect(indices: Sequence[int]) -> Batch:
        assert readers.acquire(blocking=False), "two read at once"
        time.sleep(0.001)
        readers.release()
        return Batch(x[indices], torch.tensor(indices))

    def session() -> Session:
        opened.append(1)
        return Doubling(batch, ("input",))

    found, _ = outputs(session, Split("val", 23, collect), batch, lambda: paused.append(1), read=4)
    assert torch.equal(found, 2 * x)
    assert len(opened) == threads
    assert len(paused) > 1


@pytest.mark.parametrize("batch", [1, 4])
def test_real_file_with_a_built_in_batch_scores_every_example(
    batch: int, tiny_model: nn.Module, fake_runtime: Runtime, tmp_path: Path, examples: Callable[[int, int], Any]
):
    x, y = examples(10, 5)
    path = tmp_path / "model.onnx"
    export_with("torchscript", tiny_model, layout_of(tiny_model, x), x[:batch], path)
    profile = HardwareProfile(name="fake", runtime="fake", batch=batch)
    found, _ = outputs(lambda: fake_runtime.open(path, profile), open_split("val", (x, y)), batch)
    with torch.no_grad():
        assert torch.allclose(found, tiny_model(x), atol=1e-4)


def test_several_inputs_are_padded_and_fed():
    inputs = {"b": torch.arange(5.0)[:, None], "a": torch.ones(5, 1, dtype=torch.int64)}
    split = open_split("val", (inputs, torch.arange(5)))
    found, _ = outputs(lambda: Doubling(4, ("a", "b")), split, 4)
    assert torch.equal(found[:, 0], 2 * (torch.arange(5.0) + 1))
