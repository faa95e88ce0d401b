"""The user's data: every way of giving it reads as the same examples; what no search could use is refused by index."""

from collections.abc import Callable, Iterator
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

from autocompress.data import Split, call, check_split, input_names, open_split, overlap, primary, probe, tensors_of
from autocompress.errors import UsageError
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


def classifier(features: int = 3, classes: int = 4) -> Task:
    return Task(name="t", model=nn.Linear(features, classes), train=(X, Y), val=(X, Y))


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
    digests = {open_split("train", source()).sample_digest() for source in SOURCES.values()}
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
    assert input_names(split.take(torch.tensor([0])).inputs) == ["input_0", "input_1"]


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


def test_batches_stop_at_the_limit_and_the_last_may_be_smaller():
    split = open_split("train", (X, Y))
    assert [len(b.targets) for b in split.batches(50)] == [50, 50, 30]
    assert [len(b.targets) for b in split.batches(50, 60)] == [50, 10]


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
    split = open_split("train", Pairs(130, lambda i: (X[i], Y[i])), in_memory_bytes=1000)
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


def test_sample_of_a_very_large_dataset_stays_inside_it():
    size = 2**25
    asked: list[int] = []

    def item(index: int) -> tuple[Tensor, int]:
        asked.append(index)
        return torch.zeros(64), 0

    open_split("train", Pairs(size, item)).sample_digest()
    assert max(asked) < size


# -- refused while reading ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ((X[:0], Y[:0]), "the val split is empty"),
        (TensorDataset(X[:0], Y[:0]), "the val split is empty"),
        (DataLoader(TensorDataset(X[:0], Y[:0])), "the val split is empty"),
        ((X, Y[:100]), "the val split has 130 inputs and 100 targets"),
        (X, r"the val split must give \(inputs, targets\) pairs, not Tensor"),
        ([{"x": 1, "y": 2}] * 3, r"the val split must give \(inputs, targets\) pairs, not dict"),
        (TensorDataset(X), r"the val split must give \(inputs, targets\) pairs"),
        (Pairs(5, lambda i: (torch.zeros(i + 1), 0)), r"the val split cannot be read at 0\.\.4: .*equal size"),
        (None, "the val split is NoneType: give .* a Dataset or a DataLoader"),
        (((x, y) for x, y in zip(X, Y, strict=True)), "the val split is generator"),
    ],
    ids=[
        "no tensors", "no dataset", "no loader", "ragged", "no targets", "dict items", "single tensor",
        "items of several shapes", "nothing", "generator",
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

    with pytest.raises(UsageError, match=r"the train split cannot be read at 0\.\.\d+: OSError: the disk is gone"):
        open_split("train", Pairs(10, item))


def test_ragged_modalities_are_told_by_their_sizes():
    with pytest.raises(UsageError, match="100"):
        open_split("train", ((X, X[:100], X), Y))


@pytest.mark.parametrize(
    "source",
    [(np.array(["a", "b"]), [0, 1]), (X[:2], ["cat", "dog"]), [(X[0], Y[0]), (X[1], Y[1])]],
    ids=["inputs of text", "labels of text", "list of two examples"],
)
def test_what_is_no_tensor_is_refused(source: Any):
    with pytest.raises(UsageError, match="the train split"):
        open_split("train", source)


# -- refused by their values -------------------------------------------------------------------------------------------


def test_good_data_passes():
    check_split(open_split("train", (X, Y)), classifier())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_inputs_are_counted_and_the_first_is_named(value: float):
    bad = X.clone()
    bad[[17, 40, 99], 1] = value
    bad[17, 2] = value  # twice in one example
    with pytest.raises(UsageError, match="train split has NaN or infinite inputs: 3 of them, the first at index 17;"):
        check_split(open_split("train", (bad, Y)), classifier())


def test_nan_in_the_second_modality_is_found():
    class Both(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return torch.cat([a, b], 1)

    bad = X.clone()
    bad[5] = torch.nan
    task = Task(name="t", model=Both(), train=None, val=None)
    with pytest.raises(UsageError, match="1 of them, the first at index 5;"):
        check_split(open_split("train", ((X, bad), Y)), task)


def test_labels_out_of_range_are_counted_and_the_first_is_named():
    for wrong in (-1, 4):
        bad = Y.clone()
        bad[[11, 120]] = wrong
        cause = rf"the val split has labels out of range: 2 of them, the first at index 11 is {wrong}; expected 0\.\.3"
        with pytest.raises(UsageError, match=cause):
            check_split(open_split("val", (X, bad)), classifier())


def test_counts_are_of_the_whole_split():
    inputs, labels = torch.zeros(5000, 3), torch.arange(5000) % 4
    labels[[3, 4999]] = 7
    with pytest.raises(UsageError, match="2 of them, the first at index 3"):
        check_split(open_split("train", (inputs, labels)), classifier())


def test_fault_beyond_the_first_batch_has_its_own_index():
    inputs, labels = torch.zeros(5000, 3), torch.arange(5000) % 4
    inputs[4500] = torch.nan
    with pytest.raises(UsageError, match="the first at index 4500;"):
        check_split(open_split("train", (inputs, labels)), classifier())
    inputs[4500], labels[4600] = 0, 9
    with pytest.raises(UsageError, match="the first at index 4600 is 9"):
        check_split(open_split("train", (inputs, labels)), classifier())


def test_wrong_label_among_good_ones_is_the_one_named():
    pixels = Task(name="t", model=nn.Conv2d(1, 4, 1), train=None, val=None)
    labels = torch.arange(3 * 2 * 2).reshape(3, 2, 2) % 4
    labels[1, 1, 0] = 9
    with pytest.raises(UsageError, match="the first at index 1 is 9"):
        check_split(open_split("val", (torch.zeros(3, 1, 2, 2), labels)), pixels)


def test_labels_in_a_column_are_refused():
    with pytest.raises(UsageError, match=r"\(130, 1\)|shape"):
        check_split(open_split("val", (X, Y[:, None])), classifier())


def test_one_class_is_refused():
    with pytest.raises(UsageError, match=r"the val split has one class only \(2 in all 130 examples\)"):
        check_split(open_split("val", (X, torch.full((130,), 2))), classifier())


def test_float_labels_for_a_classification_are_refused():
    with pytest.raises(UsageError, match=r"the val split has torch\.float32 targets, .*need integer labels"):
        check_split(open_split("val", (X, Y.float())), classifier())


def test_labels_that_a_loss_of_the_users_ignores_are_no_fault():
    task = Task("t", nn.Linear(3, 4), None, None, loss=nn.CrossEntropyLoss(ignore_index=255), metric=lambda o, t: 0.0)
    labels = Y.clone()
    labels[::3] = 255
    check_split(open_split("val", (X, labels)), task)


def test_one_output_is_no_classification():
    task = Task(name="t", model=nn.Linear(3, 1), train=None, val=None)
    with pytest.raises(UsageError, match=r"outputs of shape \(2, 1\): .*two classes or more"):
        check_split(open_split("val", (X, Y % 2)), task)


def test_regression_has_no_classes_to_check():
    task = Task(name="t", model=nn.Linear(3, 1), train=None, val=None, metric=lambda o, t: 0.0, loss="mse")
    check_split(open_split("val", (X, torch.ones(130, 1))), task)


def test_nan_targets_are_refused():
    task = Task(name="t", model=nn.Linear(3, 1), train=None, val=None, metric=lambda o, t: 0.0, loss="mse")
    targets = torch.ones(130, 1)
    targets[9] = torch.nan
    with pytest.raises(UsageError, match="9"):
        check_split(open_split("train", (X, targets)), task)


def test_shapes_that_do_not_match_the_model_are_named():
    split = open_split("train", (X, Y))
    with pytest.raises(UsageError, match=r"the model does not take the data \(input \(2, 3\) torch\.float32\)"):
        probe(classifier(features=5), split.take(torch.arange(2)))
    pooled = Task(name="t", model=nn.Sequential(nn.Flatten(0), nn.Linear(6, 4)), train=None, val=None)
    with pytest.raises(UsageError, match=r"outputs of shape \(4,\) for 2 examples: expected one row an example"):
        probe(pooled, split.take(torch.arange(2)))


def test_one_number_an_example_is_no_classification():
    task = Task(name="t", model=nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), train=None, val=None)
    with pytest.raises(UsageError, match="shape"):
        check_split(open_split("val", (X, Y)), task)


# -- overlap -----------------------------------------------------------------------------------------------------------


def test_overlap_is_counted():
    train = open_split("train", (X[:100], Y[:100]))
    assert overlap(train, open_split("val", (X[90:], Y[90:]))) == 10
    assert overlap(train, open_split("val", (X[100:], Y[100:]))) == 0
    assert overlap(train, open_split("val", (X[:5] + 1e-6, Y[:5]))) == 0


def test_overlap_needs_all_modalities_to_agree():
    train = open_split("train", ((X[:100], torch.zeros(100, 2)), Y[:100]))
    same, other = (open_split("val", ((X[:10], torch.full((10, 2), v)), Y[:10])) for v in (0.0, 1.0))
    assert (overlap(train, same), overlap(train, other)) == (10, 0)


def test_repeated_examples_are_each_counted():
    repeated = X[:1].repeat(20, 1)
    assert overlap(open_split("train", (X, Y)), open_split("val", (repeated, Y[:20]))) == 20


# -- calling the model -------------------------------------------------------------------------------------------------


def test_model_is_called_by_position_or_by_name():
    def model(a: Tensor, b: Tensor) -> Tensor:
        return a - b

    one, two = torch.tensor(3.0), torch.tensor(1.0)
    assert call(model, (one, two)) == 2
    assert call(model, {"b": one, "a": two}) == -2


def test_scored_tensor_is_found_in_what_models_return():
    class Output:
        logits = X

    nested = {"hidden": Y, "logits": (X, Y)}
    assert all(primary(output) is X for output in (X, (X, Y), [X], Output(), {"scores": X}, nested))
    for output in (None, (), {}, "text"):
        with pytest.raises(UsageError, match="the model returns"):
            primary(output)
