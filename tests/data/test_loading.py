"""Every way of giving data reads as the same examples; what cannot be read is refused, naming the split."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from autocompress.data import Reading, ScoredSet, Split, call, named_inputs, read_data
from autocompress.data.loading import open_split
from autocompress.errors import DataError, Interrupted, UsageError
from autocompress.nested import tensors_of
from autocompress.task import Task

X = torch.randn(130, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(130) % 4


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(X, Y, strict=True)


class Pairs(Dataset[Any]):
    """``item(i)`` is the example."""

    def __init__(self, size: int, item: Callable[[int], Any]) -> None:
        self.size, self.item, self.reads = size, item, 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return self.item(index)


def everything(split: Split) -> tuple[tuple[Tensor, ...], Tensor]:
    parts = list(split.batches(50))
    columns = zip(*(tensors_of(p.inputs) for p in parts), strict=True)
    return tuple(torch.cat(column) for column in columns), torch.cat([p.targets for p in parts])


# -- the same examples -------------------------------------------------------------------------------------------------

SOURCES: dict[str, Callable[[], Any]] = {
    "tensors": lambda: (X, Y),
    "list of tensors": lambda: [X, Y],
    "double tensors": lambda: (X.double(), Y),
    "numpy arrays": lambda: (X.numpy(), Y.numpy()),
    "tensors that need a gradient": lambda: (X.clone().requires_grad_(), Y),
    "Dataset": lambda: TensorDataset(X, Y),
    "Dataset of numbers": lambda: Pairs(130, lambda i: (X[i].numpy(), int(Y[i]))),
    "list of pairs": lambda: list(zip(X, Y, strict=True)),
    "DataLoader": lambda: DataLoader(TensorDataset(X, Y), batch_size=7),
    "DataLoader that shuffles and drops": lambda: DataLoader(TensorDataset(X, Y), 64, shuffle=True, drop_last=True),
    "DataLoader of an IterableDataset": lambda: DataLoader(Stream(), batch_size=7),
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_source_gives_the_same_examples(source: Callable[[], Any]):
    split = open_split("train", source())
    (inputs,), targets = everything(split)
    assert len(split) == 130
    assert torch.equal(inputs, X)
    assert inputs.dtype == torch.float32
    assert not inputs.requires_grad
    assert torch.equal(targets, Y)
    taken = split.take(torch.tensor([129, 0, 5]))
    assert torch.equal(taken.inputs, X[[129, 0, 5]])
    assert torch.equal(taken.targets, Y[[129, 0, 5]])


def test_every_source_has_the_same_digest():
    indexed = [source for name, source in SOURCES.items() if "IterableDataset" not in name]
    digests = {open_split("train", source()).sample_digest() for source in indexed}
    assert len(digests) == 1
    assert open_split("train", (X + 1e-3, Y)).sample_digest() not in digests
    assert open_split("train", (X[:-1], Y[:-1])).sample_digest() not in digests


@pytest.mark.parametrize("kind", ["tensors", "dataset", "loader"])
def test_several_modalities_by_position(kind: str):
    tokens = torch.randint(0, 9, (130, 5))
    pairs = Pairs(130, lambda i: ((X[i], tokens[i]), Y[i]))
    source = {"tensors": ((X, tokens), Y), "dataset": pairs, "loader": DataLoader(pairs, batch_size=9)}[kind]
    split = open_split("train", source)
    (one, two), targets = everything(split)
    assert torch.equal(one, X)
    assert torch.equal(two, tokens)
    assert two.dtype == torch.int64  # token ids stay integers
    assert torch.equal(targets, Y)
    assert list(named_inputs(split.take(torch.tensor([0])).inputs)) == ["input_0", "input_1"]


@pytest.mark.parametrize("kind", ["tensors", "dataset", "loader"])
def test_several_modalities_by_name(kind: str):
    tokens = torch.randint(0, 9, (130, 5), dtype=torch.int32)
    pairs = Pairs(130, lambda i: ({"image": X[i], "text": tokens[i]}, Y[i]))
    whole = ({"image": X, "text": tokens}, Y)
    split = open_split("train", {"tensors": whole, "dataset": pairs, "loader": DataLoader(pairs, batch_size=9)}[kind])
    inputs = split.take(torch.tensor([3, 1])).inputs
    assert isinstance(inputs, dict)
    assert list(inputs) == ["image", "text"]
    assert torch.equal(inputs["image"], X[[3, 1]])
    assert torch.equal(inputs["text"], tokens[[3, 1]])


def test_collate_function_of_a_loader_is_used():
    def collate(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        return torch.stack([x for x, _ in items]) * 2, torch.stack([y for _, y in items])

    (inputs,), _ = everything(open_split("train", DataLoader(TensorDataset(X, Y), collate_fn=collate)))
    assert torch.equal(inputs, X * 2)


def test_deterministic_dataset_is_read_into_memory_once():
    pairs = Pairs(130, lambda i: (X[i], Y[i]))
    split = open_split("train", pairs)
    reads = pairs.reads
    everything(split)
    assert split.memory is not None
    assert pairs.reads == reads


def test_nondeterministic_dataset_stays_lazy():
    drawn = torch.Generator().manual_seed(0)
    split = open_split("train", Pairs(130, lambda i: (X[i] + torch.randn(3, generator=drawn), Y[i])))
    assert split.memory is None
    first, again = (split.take(torch.arange(8)) for _ in range(2))
    assert not torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, Y[:8])


def test_large_dataset_stays_lazy():
    split = open_split("train", Pairs(130, lambda i: (X[i], Y[i])), reading=Reading(most_bytes=1000))
    assert split.memory is None
    assert torch.equal(everything(split)[0][0], X)


def test_loader_over_a_subset_gives_that_subset_alone():
    split = open_split(
        "val", DataLoader(TensorDataset(X, Y), batch_size=8, sampler=SubsetRandomSampler(range(100, 130)))
    )
    assert len(split) == 30
    assert {row.numpy().tobytes() for row in everything(split)[0][0]} == {row.numpy().tobytes() for row in X[100:]}


def test_loader_over_a_subset_that_drops_its_last_batch_gives_the_whole_subset():
    sampler = SubsetRandomSampler(range(100, 130))
    split = open_split("val", DataLoader(TensorDataset(X, Y), batch_size=8, sampler=sampler, drop_last=True))
    assert len(split) == 30


def test_loader_that_weighs_its_examples_gives_all_of_them():
    sampler = WeightedRandomSampler([1.0] * 130, num_samples=130)
    split = open_split("train", DataLoader(TensorDataset(X, Y), batch_size=8, sampler=sampler))
    assert torch.equal(everything(split)[0][0], X)


def test_loader_that_does_not_batch():
    batches = Pairs(13, lambda i: (X[10 * i : 10 * i + 10], Y[10 * i : 10 * i + 10]))
    assert len(open_split("train", DataLoader(batches, batch_size=None))) == 130


def test_bare_iterable_dataset():
    (inputs,), _ = everything(open_split("train", Stream()))
    assert torch.equal(inputs, X)


# -- refused while reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ((X[:0], Y[:0]), "the val split is empty"),
        (TensorDataset(X[:0], Y[:0]), "the val split is empty"),
        (DataLoader(TensorDataset(X[:0], Y[:0])), "the val split is empty"),
        ((X, Y[:100]), "the val split has 130 inputs and 100 targets"),
        (X, r"the val split must give \(inputs, targets\) pairs, or .* not Tensor"),
        ([{"x": 1, "y": 2}] * 3, r"the val split must give \(inputs, targets\) pairs, or .* not dict with x, y"),
        (TensorDataset(X), r"the val split must give \(inputs, targets\) pairs"),
        (Pairs(5, lambda i: (torch.zeros(i + 1), 0)), r"the val split cannot be read at 0\.\.4: .*equal size"),
        (None, "the val split is NoneType: give .* a Dataset or a DataLoader"),
    ],
    ids=[
        "no tensors", "no dataset", "no loader", "ragged", "no targets", "dict items", "single tensor",
        "items of several shapes", "nothing",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_naming_the_split(source: Any, cause: str):
    with pytest.raises(UsageError, match=cause):
        open_split("val", source)


def test_batches_of_several_shapes_ask_for_padding():
    class Ragged(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield from ((torch.zeros(1 + i), 0) for i in range(3))

    with pytest.raises(UsageError, match=r"the train split has examples of different shapes.*pad them"):
        open_split("train", DataLoader(Ragged(), batch_size=1))


def test_dataset_that_raises_names_split_range_and_cause():
    def item(index: int) -> Any:
        if index == 3:
            raise OSError("the disk is gone")
        return X[index], 0

    with pytest.raises(UsageError, match=r"the train split cannot be read at index 3: OSError: the disk is gone"):
        open_split("train", Pairs(10, item))


def test_ragged_modalities_are_told_by_their_sizes():
    with pytest.raises(UsageError, match="100"):
        open_split("train", ((X, X[:100], X), Y))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ((np.array(["a", "b"]), [0, 1]), "its inputs cannot become a tensor"),
        ((X[:2], ["cat", "dog"]), "its targets cannot become a tensor"),
        ([(X[0], Y[0]), (X[1], Y[1])], ""),
    ],
    ids=["inputs of text", "labels of text", "list of two examples"],
)
def test_what_is_no_tensor_is_refused(source: Any, said: str):
    with pytest.raises(UsageError, match=f"the train split.*{said}"):
        open_split("train", source)


def test_what_the_tasks_own_function_of_a_batch_raises_is_said():
    def as_pair(batch: Any) -> Any:
        raise KeyError("pixels")

    with pytest.raises(UsageError, match=r"Task\.batch on the train split raises KeyError: 'pixels'"):
        everything(open_split("train", DataLoader(TensorDataset(X, Y), 8), as_pair))


# -- what has no end ---------------------------------------------------------------------------------------------------


def endless() -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from zip(X, Y, strict=True)


class Endless(IterableDataset[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return endless()


SHORT = Reading(ends_s=0.0, scored_s=0.0)
ENDLESS: dict[str, Callable[[], Any]] = {
    "IterableDataset": Endless,
    "DataLoader": lambda: DataLoader(Endless(), 32),
    "generator": endless,
    "generator of batches": lambda: ((x.repeat(8, 1), y.repeat(8)) for x, y in endless()),
}
every_endless = pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS.keys())


@every_endless
def test_what_has_no_end_is_not_scored_and_it_is_said_how_much_to_give(source: Callable[[], Any]):
    with pytest.raises(
        DataError, match=r"the val split has not ended after \d+ examples .* cannot be scored: .*islice.*a Dataset"
    ):
        open_split("val", source(), reading=SHORT)


@every_endless
def test_what_has_no_end_trains_and_little_of_it_is_held(source: Callable[[], Any]):
    said: list[str] = []
    split = open_split("train", source(), reading=Reading(say=said.append, ends_s=0.0))
    assert split.stream is not None
    assert len(split) == 2048
    assert "has not ended after" in said[0]
    digests = {open_split("train", source(), reading=SHORT).sample_digest() for _ in range(2)}
    assert digests == {split.sample_digest()}


def test_a_generator_that_ends_is_a_set_of_examples():
    assert torch.equal(everything(open_split("val", zip(X, Y, strict=True)))[0][0], X)


def test_the_search_can_be_ended_while_a_stream_is_read():
    def stop() -> None:
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        open_split("train", Endless(), reading=Reading(check=stop))


def test_a_stream_that_raises_names_its_batch():
    class Failing(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield from zip(X[:64], Y[:64], strict=True)
            raise OSError("the disk is gone")

    with pytest.raises(
        DataError, match="the train split cannot be read on after 64 examples: OSError: the disk is gone"
    ):
        open_split("train", DataLoader(Failing(), 32))


# -- the same scores ---------------------------------------------------------------------------------------------------


def test_the_same_task_scores_the_same_however_it_is_handed_over():
    def as_dict(pairs: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        return {"x": torch.stack([x for x, _ in pairs]), "labels": torch.stack([y for _, y in pairs])}

    class Named(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    torch.manual_seed(0)
    model, pairs = Named(3, 4).requires_grad_(False), TensorDataset(X, Y)
    sources = {
        "tensors": (X, Y),
        "Dataset": pairs,
        "workers": DataLoader(pairs, 16, num_workers=2),
        "dict batches": DataLoader(pairs, 16, collate_fn=as_dict),
    }
    scores = {}
    for (name, source), most_bytes in product(sources.items(), (1 << 30, 0)):
        task = Task("t", model, source, source, metric=lambda o, t: float((o.softmax(1)[range(len(t)), t]).mean()))
        data = read_data(task, Reading(most_bytes=most_bytes))
        scored = ScoredSet(task, data.splits["val"], data.layout)
        kept = scored.kept(
            (data.layout.rows_of(call(model, batch.inputs)), batch.targets) for batch in data.splits["val"].batches(32)
        )
        scores[name, most_bytes] = scored.value(kept)
    assert len(set(scores.values())) == 1


# -- samplers and batch sizes ------------------------------------------------------------------------------------------


def test_training_keeps_to_the_batch_size_of_a_loader_that_says_one():
    data = TensorDataset(X, Y)
    assert open_split("train", DataLoader(data, 48)).batch_size == 48
    assert open_split("train", DataLoader(data)).batch_size is None
    assert open_split("train", data).batch_size is None


def test_a_sampler_that_raises_or_draws_what_is_not_there_is_refused():
    def raising() -> Iterator[int]:
        raise OSError("the index is gone")
        yield 0

    class Sampler:
        def __init__(self, draw: Callable[[], Iterator[int]]) -> None:
            self.draw = draw

        def __iter__(self) -> Iterator[int]:
            return self.draw()

    for draw, cause in (
        (raising, "raises OSError: the index is gone"),
        (lambda: iter(()), "draws nothing"),
        (lambda: iter([200]), "draws 200, and its Dataset has 130 examples"),
    ):
        with pytest.raises(DataError, match=f"the sampler of the train split {cause}"):
            open_split("train", DataLoader(TensorDataset(X, Y), 8, sampler=Sampler(draw)))
