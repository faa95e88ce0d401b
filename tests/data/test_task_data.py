"""Opening a task's data: what is seen of it once and holds for every batch, and what is refused."""

import math
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Sampler, TensorDataset

from autocompress.data import PerExample, Reading, ScoredSet, read_data
from autocompress.data.loading import open_split
from autocompress.errors import UsageError
from autocompress.task import Task

WORDS, TAGS = 7, 5
LENGTHS = (4, 5, 6, 5, 3, 6)


class Tagger(nn.Module):
    """(N, T) words -> (N, T, 5): the tag of a word is the word's number, up to 4."""

    def forward(self, words: Tensor) -> Tensor:
        return nn.functional.one_hot(words.clamp(max=TAGS - 1), TAGS).float() * 9


def padding(items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    words, tags = zip(*items, strict=True)
    pad = nn.utils.rnn.pad_sequence
    return pad(list(words), True), pad(list(tags), True, -100)


def sentences() -> Any:
    torch.manual_seed(0)
    words = [torch.randint(WORDS, (length,)) for length in LENGTHS]
    return DataLoader([(w, w.clamp(max=TAGS - 1)) for w in words], 2, collate_fn=padding)  # type: ignore[arg-type]


class InOrder(IterableDataset[Any]):
    def __init__(self, examples: Sequence[Any]) -> None:
        self.examples = examples

    def __iter__(self) -> Iterator[Any]:
        return iter(self.examples)


def listing(pairs: list[Any]) -> tuple[Tensor, list[Any]]:
    """A batch whose targets are a list."""
    return torch.stack([x for x, _ in pairs]), [y for _, y in pairs]


def test_the_classes_lie_on_one_axis_whatever_the_length_of_a_batch():
    task = Task("tagger", Tagger(), sentences(), sentences())
    data = read_data(task)
    assert task.classes_last
    val = ScoredSet(task, data.splits["val"], data.layout)
    batches = list(data.splits["val"].batches(2))
    assert any(batch.inputs.shape[1] == TAGS for batch in batches), "as many places as classes"
    pieces = [(data.layout.rows_of(task.model(b.inputs)), b.targets) for b in batches]
    assert val.value(val.kept(pieces)) == 1.0
    assert all(float(task.loss_fn(task.model(b.inputs), b.targets)) < 0.01 for b in batches)


def test_boxes_are_one_value_an_example_however_many_each_has():
    boxes = [torch.ones(count, 4) for count in (1, 2, 3, 3, 2, 2, 1, 4)]

    images = [(torch.full((3,), float(n)), own) for n, own in enumerate(boxes)]
    split = open_split("val", DataLoader(images, 2, collate_fn=listing))  # type: ignore[arg-type]
    for rows in ([0], [1, 2], [2, 3], [4, 5], [1]):
        targets = split.take(torch.tensor(rows)).targets
        assert isinstance(targets, PerExample)
        assert [len(own) for own in targets] == [len(boxes[row]) for row in rows]


def test_the_targets_of_two_heads_stay_two_in_a_batch_of_two():
    items = [(torch.zeros(3), (torch.tensor(n), torch.full((4,), float(n)))) for n in range(8)]
    split = open_split("train", DataLoader(items, 2))  # type: ignore[arg-type]
    labels, places = split.take(torch.tensor([2, 5])).at(torch.tensor([1])).targets
    assert (labels.tolist(), places.tolist()) == ([5], [[5.0] * 4])


def test_a_dict_of_tensors_with_labels_is_a_pair():
    split = open_split("val", {"x": torch.zeros(6, 3), "labels": torch.arange(6)})
    assert split.take(torch.tensor([4])).targets.tolist() == [4]
    listed = open_split("val", (torch.zeros(3, 2), [torch.tensor(1), torch.tensor(0), torch.tensor(2)]))
    assert listed.take(torch.tensor([2])).targets.tolist() == [2]


@pytest.mark.parametrize(
    ("given", "cause"),
    [((torch.zeros(3, 2), None), "no tensor among its targets"), (({}, torch.zeros(3)), "no tensor among its inputs")],
)
def test_what_holds_no_tensor_is_refused(given: Any, cause: str):
    with pytest.raises(UsageError, match=cause):
        open_split("val", given)


def test_labels_that_are_all_left_out_are_refused():
    pair = torch.randn(6, 3), torch.full((6,), -100)
    with pytest.raises(UsageError, match="no label that counts: all are -100"):
        read_data(Task("none", nn.Linear(3, 4), pair, pair))


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: nn.functional.mse_loss(o.squeeze(1), t).sqrt(),
        lambda o, t: 1 - torch.corrcoef(torch.stack([o.squeeze(1), t]))[0, 1],
    ],
    ids=["root of the mean", "correlation"],
)
def test_a_loss_that_is_no_mean_over_examples_is_taken(loss: Any):
    pair = torch.randn(40, 3), torch.randn(40)
    read_data(Task("own", nn.Linear(3, 1), pair, pair, metric=lambda o, t: 0.0, loss=loss))


def test_a_loss_of_every_pair_is_refused():
    pair = torch.randn(40, 3), torch.randn(40)
    every = lambda o, t: (o - t).square().mean()  # noqa: E731
    with pytest.raises(UsageError, match="takes every output with every target"):
        read_data(Task("own", nn.Linear(3, 1), pair, pair, metric=lambda o, t: 0.0, loss=every))


def test_random_views_are_the_same_for_the_same_seed_and_leave_the_callers_randomness_alone():
    class Noisy:
        def __len__(self) -> int:
            return 40

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.randn(3), index % 2

    split = open_split("train", Noisy())
    chunks = [torch.arange(8), torch.arange(8, 16)]
    torch.manual_seed(5)
    wanted = torch.randn(2)
    torch.manual_seed(5)
    one, same, other = ([b.inputs for b in split.read(chunks, seed)] for seed in (1, 1, 2))
    assert torch.equal(torch.randn(2), wanted)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0], other[0])
    assert not torch.equal(one[0], one[1])


class Boxes(IterableDataset[Any]):
    """An image and its boxes, of which there are so many."""

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = counts

    def __iter__(self) -> Iterator[Any]:
        return iter([(torch.full((3,), float(n)), torch.ones(n, 4)) for n in self.counts])


@pytest.mark.parametrize("counts", [(2, 2, 1, 3), (1, 3, 2, 2), (2, 2, 2, 2, 2, 1)])
def test_boxes_of_a_stream_are_one_value_an_example_too(counts: tuple[int, ...]):
    split = open_split("train", DataLoader(Boxes(counts), 2, collate_fn=listing))
    assert [len(own) for own in split.take(torch.arange(len(counts))).targets] == list(counts)


def test_boxes_that_are_read_later_are_what_those_were_that_were_looked_at():
    source = DataLoader(Boxes((1, 3, 2, 2, 2, 2)), 2, collate_fn=listing)
    stream = open_split("train", source, reading=Reading(stream_head=2)).stream
    assert stream is not None
    (later,) = stream.from_position(2, [2])
    assert isinstance(later.targets, PerExample)


@pytest.mark.parametrize("kind", [np.zeros, lambda shape: [0.0] * shape[0]], ids=["arrays", "lists"])
@pytest.mark.parametrize("iterated", [False, True])
def test_targets_of_the_user_that_differ_in_length_are_one_value_an_example(kind: Callable[..., Any], iterated: bool):
    """Though those that are looked at first are of one length, and so is a batch of one."""
    lengths = [2] * 60 + [3, 1, 2, 4]
    data = [(torch.zeros(3), kind((length,))) for length in lengths]

    split = open_split("train", DataLoader(InOrder(data) if iterated else data, 4, collate_fn=listing))
    whole = split.take(torch.arange(64)).targets
    assert [len(own) for own in whole] == lengths
    assert [len(own) for own in split.take(torch.tensor([5])).targets] in ([2], lengths)
    assert split.memory is not None


@pytest.mark.parametrize("kind", [np.zeros, lambda shape: [0.0] * shape[0]], ids=["arrays", "lists"])
@pytest.mark.parametrize(("iterated", "size"), [(False, 16), (False, 3), (True, 4), (True, 3)])
def test_rows_of_one_length_are_a_tensor_in_every_batch(kind: Callable[..., Any], iterated: bool, size: int):
    """Also where they are as long as there are examples in a batch, or among those that are looked at first."""
    data = [(torch.zeros(3), kind((size,))) for _ in range(37)]

    split = open_split("train", DataLoader(InOrder(data) if iterated else data, 4, collate_fn=listing))
    assert {batch.targets.shape[1:] for batch in split.batches(4)} == {(size,)}
    targets = torch.zeros(37, size)
    task = Task("rows", nn.Linear(3, size), DataLoader(data, 4, collate_fn=listing), (torch.zeros(37, 3), targets))
    read_data(replace(task, loss="mse", metric=lambda o, t: 0.0))


def test_what_only_a_loss_of_the_users_own_can_take_is_refused_under_a_loss_by_name():
    boxes = [torch.ones(n, 4) for n in (1, 2, 3)]
    task = Task("boxes", nn.Linear(3, 4), (torch.zeros(3, 3), boxes), (torch.zeros(3, 3), boxes), loss="mse")
    with pytest.raises(UsageError, match="no tensor but PerExample, which losses by name and accuracy need"):
        read_data(replace(task, metric=lambda o, t: 0.0))


def test_a_model_that_goes_on_computing_with_the_users_own_weights_is_refused():
    model = nn.Linear(3, 2)
    model.forward = torch.compile(model.forward, backend="eager")  # type: ignore[method-assign]
    pair = torch.randn(8, 3), torch.arange(8) % 2
    with pytest.raises(UsageError, match=r"a copy of Task\.model computes the same whatever its parameters are"):
        read_data(Task("bound", model, pair, pair))


@pytest.mark.parametrize("tracked", [False, True])
def test_answers_that_depend_on_the_batch_are_said_to(tracked: bool):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, track_running_stats=tracked), nn.Linear(8, 3)).eval()
    x, y = torch.randn(12, 4), torch.arange(12) % 3
    said = [text for text in read_data(Task("batches", model, (x, y), (x.clone(), y))).warnings if "batch" in text]
    assert bool(said) is not tracked


def test_rows_of_numbers_are_a_tensor():
    split = open_split("val", (torch.zeros(3, 2), [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]))
    assert split.take(torch.tensor([2])).targets.tolist() == [[0.5, 0.5]]


class Counting(IterableDataset[Any]):
    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Iterator[Any]:
        return ((torch.full((3,), float(n)), n) for n in range(self.size))


def test_whether_a_training_stream_ends_is_found_by_one_process_and_told_to_others():
    """However quick or slow this one is, it holds as many of them; the digest is the same either way."""
    slow = open_split("train", Counting(3000), reading=Reading(stream_head=0, ends_s=0.0, slower=math.inf))
    quick = open_split("train", Counting(3000), reading=Reading(stream_head=256))
    assert (slow.stream, len(slow)) == (None, 3000)
    assert quick.stream is not None
    assert len(quick) == 256
    assert next(quick.stream.from_position(200, [100])).targets.tolist() == list(range(200, 300))
    assert quick.sample_digest() == slow.sample_digest()


def test_what_no_longer_ends_is_not_read_for_ever_because_it_once_did():
    split = open_split("train", Counting(10**9), reading=Reading(stream_head=0, ends_s=0.01))
    assert split.stream is not None


def test_of_what_is_scored_the_size_counts_for_the_digest():
    one, other = (open_split("val", Counting(size)).sample_digest() for size in (100, 5000))
    assert one != other


def test_what_a_generator_gave_first_is_given_again_once():
    split = open_split("train", iter(Counting(5000)), reading=Reading(stream_head=2048))
    stream = split.stream
    assert stream is not None
    firsts = []
    for _ in range(4):
        firsts.append(next(stream.from_position(0, [100])).targets.tolist())
    assert all(first == list(range(100)) for first in firsts)
    seen = [row for batch in stream.from_position(0, [500] * 8) for row in batch.targets.tolist()]
    assert len(seen) == 4000
    assert max(seen.count(row) for row in set(seen)) <= 2, "the head again, and then what was not given yet"


class OwnGenerator(Sampler[int]):
    """No seed reaches what it draws with, and it holds what cannot be copied."""

    def __init__(self) -> None:
        self.generator = None
        self.draws, self.lock = random.Random(7), threading.Lock()

    def __iter__(self) -> Iterator[int]:
        return iter(self.draws.sample(range(40), 40))

    def __len__(self) -> int:
        return 40


def test_a_sampler_with_a_generator_of_its_own_gives_each_epoch_an_order_which_is_the_same_when_it_is_asked_again():
    def drawing() -> Any:
        data = TensorDataset(torch.zeros(40, 3), torch.arange(40) % 2)
        return open_split("train", DataLoader(data, 8, sampler=OwnGenerator())).drawing

    one, elsewhere = drawing(), drawing()
    orders = [one.epoch(number, 3).rows.tolist() for number in (0, 1, 2, 1, 0)]
    assert orders[0] != orders[1] != orders[2]
    assert (orders[3], orders[4]) == (orders[1], orders[0])
    assert elsewhere.epoch(2, 3).rows.tolist() == orders[2], "a process that resumes draws the same"
