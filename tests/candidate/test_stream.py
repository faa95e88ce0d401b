"""The training stream: every candidate reads the same examples in the same order, and the teacher works once."""

import random
import time
from collections.abc import Callable, Iterator
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from autocompress.candidate.policy import TrainingPolicy
from autocompress.candidate.stream import TrainBatch, TrainStream
from autocompress.candidate.taught import TaughtBlocks
from autocompress.data import OutputLayout, Reading
from autocompress.data.loading import open_split
from autocompress.errors import AutocompressError
from autocompress.storage.store import Store
from autocompress.task import Task

SIZE = 50
X = torch.arange(float(SIZE))[:, None] * torch.tensor([1.0, 10.0])
Y = torch.arange(SIZE)


class Teacher:
    """A function that is not linear in its batch; counts the examples it was shown."""

    layout = OutputLayout(torch.zeros(2, 2), ("output",), {"output": 0}, "output")

    def __init__(self) -> None:
        self.shown = 0

    def outputs(self, inputs: Any) -> dict[str, Tensor]:
        x = inputs if isinstance(inputs, Tensor) else inputs["x"]
        self.shown += len(x)
        return {"output": torch.sin(x) + x.sum(1, keepdim=True)}


class SlowTeacher(Teacher):
    """Reading its outputs back is cheaper."""

    def outputs(self, inputs: Any) -> dict[str, Tensor]:
        time.sleep(0.1)
        return super().outputs(inputs)


def jitter(inputs: Any) -> Any:
    """Draws from all three generators that an augmentation may use."""
    if isinstance(inputs, dict):
        return {name: jitter(value) for name, value in inputs.items()}
    return inputs + torch.rand_like(inputs) * 0.1 + random.random() * 0.1 + float(np.random.rand()) * 0.1


class Lazy(Dataset[Any]):
    """Gives other inputs each time; the target is the index, and so is the first input's whole part."""

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Any:
        return X[index] + torch.rand(2) * 0.01, Y[index]


def make(
    augment: Callable[[Any], Any] | None = None,
    seed: int = 0,
    data: Any = (X, Y),
    teacher: Any = None,
    kept: Any = None,
    memory: int = 1 << 30,
    **policy: int,
) -> TrainStream:
    task = Task(name="t", model=nn.Identity(), train=data, val=data, augment=augment)
    split = open_split("train", data, reading=Reading(most_bytes=memory))
    return TrainStream(task, split, teacher or Teacher(), seed, kept, policy=TrainingPolicy(**policy))


def read(batches: Iterator[TrainBatch]) -> list[TrainBatch]:
    """All of them, of which there are some."""
    found = list(batches)
    assert found
    return found


def seen(batches: Iterator[TrainBatch]) -> list[int]:
    return [int(target) for batch in batches for target in batch.targets]


KINDS: dict[str, dict[str, Any]] = {
    "in memory": {},
    "augmented": {"augment": jitter},
    "lazy": {"data": Lazy()},
    "lazy and augmented": {"data": Lazy(), "augment": jitter},
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


@every_kind
def test_every_epoch_sees_every_example_once_in_another_order(kind: dict[str, Any]):
    order = seen(make(**kind).batches(0, 3 * SIZE, 8, teacher=False))
    epochs = [order[i : i + SIZE] for i in range(0, 3 * SIZE, SIZE)]
    assert all(sorted(epoch) == list(range(SIZE)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != list(range(SIZE))


@every_kind
def test_inputs_belong_to_their_targets(kind: dict[str, Any]):
    for batch in read(make(**kind).batches(0, 2 * SIZE, 8, teacher=False)):
        assert torch.equal(batch.inputs[:, 0].floor().long(), batch.targets)


def test_same_seed_gives_the_same_order_and_another_seed_another():
    orders = [seen(make(seed=seed).batches(0, SIZE, 8, teacher=False)) for seed in (3, 3, 4)]
    assert orders[0] == orders[1] != orders[2]


def test_order_does_not_depend_on_the_batch_size():
    assert seen(make().batches(0, SIZE, 8, teacher=False)) == seen(make().batches(0, SIZE, 16, teacher=False))


@pytest.mark.parametrize("cuts", [(0, 20, 130), (0, 48, 96, 130), (0, 50, 100, 130), (0, 37, 83, 130)])
def test_reading_on_from_a_position_equals_one_long_read(cuts: tuple[int, ...]):
    stream, pieces = make(augment=jitter), []
    for start, end in pairwise(cuts):
        pieces += [(b.inputs, b.targets) for b in stream.batches(start, end - start, 8, teacher=False)]
    whole = list(make(augment=jitter).batches(0, 130, 8, teacher=False))
    assert torch.equal(torch.cat([y for _, y in pieces]), torch.cat([b.targets for b in whole]))
    assert torch.equal(torch.cat([x for x, _ in pieces]), torch.cat([b.inputs for b in whole]))


def test_no_example_is_lost_when_a_piece_starts_at_the_last_of_an_epoch():
    pieces = [seen(make().batches(start, examples, 8, teacher=False)) for start, examples in ((0, 49), (49, 51))]
    assert [*pieces[0], *pieces[1]] == seen(make().batches(0, 100, 8, teacher=False))


# -- the teacher -------------------------------------------------------------------------------------------------------


@every_kind
def test_teacher_outputs_belong_to_the_very_batch_that_is_trained_on(kind: dict[str, Any]):
    for batch in read(make(**kind).batches(0, 6 * SIZE, 8, teacher=True)):
        assert torch.allclose(batch.teacher["output"], Teacher().outputs(batch.inputs)["output"], atol=1e-5)


def test_teacher_is_asked_once_for_each_example_of_an_augmented_epoch():
    teacher = Teacher()
    stream = make(augment=jitter, teacher=teacher)
    for batch_size in (8, 16, 50):  # three candidates, each over the same epochs
        list(stream.batches(0, 3 * SIZE, batch_size, teacher=True))
    assert teacher.shown == 3 * SIZE


def test_training_is_the_same_whether_the_teachers_outputs_are_kept_or_computed_again(tmp_path: Path):
    kept = TaughtBlocks(Store(tmp_path), "fingerprint")
    ways = {
        "in memory": {},
        "in the store": {"kept": kept},
        "from the store": {"kept": kept},
        "again": {"teacher_bytes": 0},
    }
    data = DataLoader(TensorDataset(X, Y), 10, shuffle=True)  # augmented ten at a time
    how_all = {"data": data, "teacher": SlowTeacher(), "taught_block": 20}
    read_so = {
        way: torch.cat(
            [b.teacher["output"] for b in make(jitter, **(how_all | how)).batches(0, 2 * SIZE, 8, teacher=True)]
        )
        for way, how in ways.items()
    }
    assert all(torch.equal(read_so["again"], outputs) for outputs in read_so.values())


def test_teacher_of_plain_data_is_asked_once_for_each_example():
    teacher = Teacher()
    stream = make(teacher=teacher, taught_block=16)
    list(stream.batches(0, 20, 8, teacher=True))
    assert teacher.shown <= 33  # only for the blocks that were read
    list(stream.batches(0, 3 * SIZE, 16, teacher=True))
    assert teacher.shown <= SIZE + 1


@pytest.mark.parametrize("augment", [None, jitter], ids=["plain", "augmented"])
def test_teacher_outputs_come_from_the_store_when_another_process_has_put_them_there(augment: Any, tmp_path: Path):
    kept = TaughtBlocks(Store(tmp_path), "fingerprint", 0)
    streams = [make(augment=augment, teacher=SlowTeacher(), kept=kept, taught_block=16) for _ in range(2)]
    first, second = ([b.teacher["output"] for b in stream.batches(0, 2 * SIZE, 8, teacher=True)] for stream in streams)
    assert torch.equal(torch.cat(first), torch.cat(second))
    assert streams[1].teacher.shown <= 2, "but for the shape of its outputs"
    other = make(
        augment=augment, teacher=Teacher(), kept=TaughtBlocks(Store(tmp_path), "another task", 0), taught_block=16
    )
    list(other.batches(0, SIZE, 8, teacher=True))
    assert other.teacher.shown >= SIZE


def test_altered_teacher_outputs_are_computed_again(tmp_path: Path):
    kept = TaughtBlocks(Store(tmp_path), "fingerprint", 0)
    list(make(kept=kept, taught_block=16).batches(0, SIZE, 8, teacher=True))
    stored = list(tmp_path.glob("teacher-*"))
    assert stored
    for path in stored:
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    for batch in read(make(kept=kept, taught_block=16).batches(0, SIZE, 8, teacher=True)):
        assert torch.allclose(batch.teacher["output"], Teacher().outputs(batch.inputs)["output"])


def test_a_full_disk_costs_the_stored_outputs_alone(monkeypatch: pytest.MonkeyPatch):
    def full(self: Store, key: str, tensors: Any) -> None:
        raise AutocompressError("cannot write: No space left on device")

    monkeypatch.setattr(Store, "save", full)
    for batch in read(make(kept=TaughtBlocks(Store(Path("nowhere")), "f")).batches(0, SIZE, 8, teacher=True)):
        assert torch.allclose(batch.teacher["output"], Teacher().outputs(batch.inputs)["output"])


def test_teacher_is_left_alone_when_nobody_needs_it():
    teacher = Teacher()
    assert all(b.teacher is None for b in read(make(teacher=teacher).batches(0, SIZE, 8, teacher=False)))
    assert teacher.shown == 0


def test_large_teacher_outputs_are_not_kept():
    for batch in read(make(teacher_bytes=8).batches(0, SIZE, 8, teacher=True)):
        assert torch.allclose(batch.teacher["output"], Teacher().outputs(batch.inputs)["output"])


@pytest.mark.parametrize("lazy", [True, False], ids=["lazy data", "outputs too large to keep"])
def test_teacher_outputs_may_be_the_target_of_a_loss(lazy: bool):
    from autocompress.candidate import teacher
    from autocompress.candidate.arithmetic import Arithmetic

    student = nn.Linear(2, 2)
    stream = make(
        data=Lazy() if lazy else (X, Y),
        teacher=teacher.Teacher(nn.Linear(2, 2), Arithmetic(), Teacher.layout),
        teacher_bytes=8,
    )
    for batch in read(stream.batches(0, 16, 8, teacher=True)):
        nn.functional.mse_loss(student(batch.inputs), batch.teacher["output"]).backward()


# -- augmentation ------------------------------------------------------------------------------------------------------


def epoch_inputs(stream: TrainStream, epoch: int) -> Tensor:
    """An epoch's inputs in the order of the examples."""
    batches = list(stream.batches(epoch * SIZE, SIZE, 8, teacher=False))
    order = torch.cat([b.targets for b in batches]).argsort()
    return torch.cat([b.inputs for b in batches])[order]


def test_augmentation_is_decided_by_the_seed():
    one, same, other = (make(augment=jitter, seed=seed) for seed in (1, 1, 2))
    epochs = []
    for number, stream in enumerate((one, same, other)):
        torch.manual_seed(number)  # what the caller drew before does not matter
        random.seed(number)
        np.random.seed(number)
        epochs.append(epoch_inputs(stream, 1))
    assert torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epochs[2])


def test_every_epoch_is_augmented_anew():
    stream = make(augment=lambda inputs: inputs + torch.rand(()))
    drawn = {round(float((epoch_inputs(stream, epoch) - X).mean()), 6) for epoch in range(6)}
    assert len(drawn) == 6


def test_augmentation_is_called_on_every_batch_of_the_loaders_size():
    sizes: list[int] = []

    def noting(inputs: Tensor) -> Tensor:
        sizes.append(len(inputs))
        return inputs

    stream = make(noting, data=DataLoader(TensorDataset(X, Y), 10, shuffle=True))
    list(stream.batches(0, 2 * SIZE, 10, teacher=False))
    assert sizes == [10] * 10


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["in memory", "lazy"])
def test_candidates_of_any_batch_size_train_on_the_same_augmented_examples(memory: int):
    one, other = (
        torch.cat(
            [b.inputs for b in make(jitter, memory=memory, data=TensorDataset(X, Y)).batches(0, 90, n, teacher=False)]
        )
        for n in (8, 30)
    )
    assert torch.equal(one, other)


@pytest.mark.parametrize("memory", [1 << 30, 0], ids=["in memory", "lazy"])
def test_random_state_of_the_caller_is_left_as_it_was(memory: int):
    stream = make(augment=jitter, data=TensorDataset(X, Y), memory=memory)
    assert (stream.split.memory is not None) == bool(memory)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()
    list(stream.batches(0, SIZE, 8, teacher=True))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), before[2], strict=True))


def test_users_data_is_not_changed_by_an_augmentation_in_place():
    def in_place(inputs: Tensor) -> Tensor:
        return inputs.mul_(0)

    kept = X.clone()
    list(make(augment=in_place).batches(0, SIZE, 8, teacher=False))
    assert torch.equal(X, kept)


def test_augmentation_sees_inputs_by_name():
    stream = make(augment=jitter, data=({"x": X, "mask": torch.ones(SIZE, 3)}, Y))
    for batch in read(stream.batches(0, SIZE, 8, teacher=True)):
        assert set(batch.inputs) == {"x", "mask"}
        assert torch.equal(batch.inputs["x"][:, 0].floor().long(), batch.targets)
        assert torch.allclose(batch.teacher["output"], Teacher().outputs(batch.inputs)["output"], atol=1e-5)


def test_augmentation_may_give_the_names_in_another_order():
    def reordered(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"mask": inputs["mask"], "x": inputs["x"]}

    batch = next(make(reordered, data=({"x": X, "mask": torch.ones(SIZE, 2)}, Y)).batches(0, 8, 8, teacher=False))
    assert torch.equal(batch.inputs["x"], X[batch.targets])


# -- batch sizes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("examples", "batch", "sizes"), [(49, 8, [8] * 5 + [9]), (50, 8, [8] * 6 + [2]), (17, 16, [17])]
)
def test_last_batch_of_one_is_not_alone(examples: int, batch: int, sizes: list[int]):
    assert [len(b.targets) for b in make().batches(0, examples, batch, teacher=False)] == sizes


def test_last_of_an_epoch_is_not_alone_either():
    sizes = [len(b.targets) for b in make().batches(0, 2 * SIZE, 7, teacher=False)]
    assert sizes == [*[7] * 6, 8, *[7] * 6, 8]


def test_data_smaller_than_a_batch_is_one_batch():
    assert [len(b.targets) for b in make().batches(0, 2 * SIZE, 256, teacher=False)] == [SIZE, SIZE]


def test_batches_of_one_are_read_when_asked_for():
    assert sorted(seen(make().batches(0, SIZE, 1, teacher=False))) == list(range(SIZE))


# -- what draws ------------------------------------------------------------------------------------------------------


def test_examples_are_drawn_by_the_weights_of_the_sampler():
    weights = [0.0] * 25 + [1.0] * 25
    loader = DataLoader(TensorDataset(X, Y), 8, sampler=WeightedRandomSampler(weights, 40))
    stream = make(data=loader)
    drawn = seen(stream.batches(0, 80, 8, teacher=False))
    assert min(drawn) >= 25
    assert drawn[:40] != drawn[40:]
    assert drawn == seen(make(data=loader).batches(0, 80, 8, teacher=False)), "the same for every candidate"
    assert drawn == [*seen(stream.batches(0, 37, 8, teacher=False)), *seen(stream.batches(37, 43, 8, teacher=False))]


class Descending:
    """A sampler of a user's own, which leaves out more the further the epochs go on."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(SIZE - 1 - 10 * self.epoch, -1, -1))


def test_a_sampler_of_the_users_is_told_the_epoch_and_iterated_once_for_each():
    drawn = seen(make(data=DataLoader(TensorDataset(X, Y), 8, sampler=Descending())).batches(0, 120, 8, teacher=False))
    assert drawn == [*range(49, -1, -1), *range(39, -1, -1), *range(29, -1, -1)]


def test_batches_are_those_of_a_batch_sampler_of_the_users():
    class Pairwise(BatchSampler):
        def __iter__(self) -> Iterator[list[int]]:
            return iter([[i, i + 25, i + 1] for i in range(24)])

    stream = make(data=DataLoader(TensorDataset(X, Y), batch_sampler=Pairwise(SequentialSampler(X), 3, False)))
    batches = [b.targets.tolist() for b in stream.batches(0, 90, 8, teacher=False)]
    assert batches[:2] == [[0, 25, 1], [1, 26, 2]]
    assert len(batches) == 30
    assert stream.split.batch_size == 3


def test_a_loader_that_drops_its_last_batch_trains_on_whole_ones():
    stream = make(data=DataLoader(TensorDataset(X, Y), 8, shuffle=True, drop_last=True))
    assert [len(b) for b in stream.batches(0, 96, 8, teacher=False)] == [8] * 12
    assert len(set(seen(stream.batches(0, 48, 8, teacher=False)))) == 48
    few = make(data=DataLoader(TensorDataset(X, Y), 64, drop_last=True))
    assert [len(b) for b in few.batches(0, SIZE, 64, teacher=False)] == [SIZE]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_same_training_as_its_tensors(workers: int):
    loader = DataLoader(TensorDataset(X, Y), 8, shuffle=True, num_workers=workers)
    for memory in (1 << 30, 0):
        read_so = list(make(data=loader, memory=memory).batches(0, 70, 8, teacher=True))
        for one, other in zip(read_so, make().batches(0, 70, 8, teacher=True), strict=True):
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.targets, other.targets)
            assert torch.equal(one.teacher["output"], other.teacher["output"])


# -- what has no end ---------------------------------------------------------------------------------------------------


class Counting(IterableDataset[Any]):
    """Without end: the target of an example is its position."""

    def __init__(self) -> None:
        self.most = 0

    def __iter__(self) -> Iterator[Any]:
        for number in count():
            self.most = max(self.most, number)
            yield torch.tensor([float(number), 0.0]), number


def endless(source: Any, augment: Any = None) -> TrainStream:
    task = Task(name="t", model=nn.Identity(), train=source, val=(X, Y), augment=augment)
    return TrainStream(task, open_split("train", source, reading=Reading(ends_s=0)), Teacher(), 0)


def test_a_stream_is_read_on_from_any_position():
    stream = endless(DataLoader(Counting(), 10))
    assert seen(stream.batches(0, 30, 8, teacher=False)) == list(range(30))
    assert seen(stream.batches(3000, 25, 8, teacher=False)) == list(range(3000, 3025))
    assert seen(stream.batches(2500, 20, 8, teacher=False)) == list(range(2500, 2520)), "again from the beginning"


def test_a_stream_is_read_no_further_than_training_needs():
    source = Counting()
    stream = endless(DataLoader(source, 10))
    before = source.most
    list(stream.batches(before, 100, 8, teacher=True))
    assert source.most < before + 120


def test_a_stream_that_ends_after_all_begins_again():
    class Long(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return islice(iter(Counting()), 3000)

    assert seen(endless(DataLoader(Long(), 10)).batches(2990, 20, 8, teacher=False)) == [*range(2990, 3000), *range(10)]


def test_a_generator_is_read_on_and_its_first_examples_come_again():
    stream = endless(iter(Counting()))
    assert seen(stream.batches(0, 3000, 50, teacher=False)) == list(range(3000))
    assert seen(stream.batches(0, 20, 8, teacher=False)) == list(range(20))
    assert seen(stream.batches(3000, 20, 8, teacher=False))
