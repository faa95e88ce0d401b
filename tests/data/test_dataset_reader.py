"""A loader's workers read, each example is decoded once, and what goes wrong names the example."""

import gc
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from autocompress.data import Reading, Split, dataset_reader, loading
from autocompress.data.example_cache import ExampleCache
from autocompress.data.loading import READ_TWICE, open_split
from autocompress.errors import DataError
from autocompress.storage.atomic import UNFINISHED

SIZE = 200


class Decoded(Dataset[Any]):
    """Writes down who decoded which example; the target is its index."""

    def __init__(self, log: Path, item: Callable[[int], Any] = lambda i: torch.full((3,), float(i))) -> None:
        self.log, self.item, self.opened = log, item, -1

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Any:
        with self.log.open("a") as log:
            log.write(f"{index} {os.getpid()} {self.opened}\n")
        return self.item(index), index

    def decodings(self) -> list[list[int]]:
        """Index, process, and what a worker_init_fn set, for each."""
        return [[int(word) for word in line.split()] for line in self.log.read_text().splitlines()]


def slowly(index: int) -> Tensor:
    """It takes longer than to read what was kept."""
    time.sleep(0.003)
    return torch.full((3,), float(index))


def set_opened(worker: int) -> None:
    info = get_worker_info()
    assert info is not None
    info.dataset.opened = worker


def lazily(source: Any, folder: Path | None = None) -> Split:
    return open_split("val", source, reading=Reading(folder, most_bytes=0))


def targets(split: Split) -> list[int]:
    return torch.cat([batch.targets for batch in split.batches(16)]).tolist()


def loader(dataset: Any, **given: Any) -> "DataLoader[Any]":
    return DataLoader(dataset, 16, num_workers=2, multiprocessing_context="fork", **given)


@pytest.mark.parametrize("persistent", [False, True])
def test_the_loaders_workers_read_as_they_were_set_up(tmp_path: Path, persistent: bool):
    data = Decoded(tmp_path / "log")
    split = lazily(loader(data, worker_init_fn=set_opened, persistent_workers=persistent))
    for _ in range(2):
        assert targets(split) == list(range(SIZE))
    assert {opened for _, _, opened in data.decodings()} == {0, 1}
    assert os.getpid() not in {process for _, process, _ in data.decodings()}


@pytest.mark.parametrize("workers", [0, 2])
def test_each_example_is_decoded_once_however_often_it_is_read(tmp_path: Path, workers: int):
    data = Decoded(tmp_path / "log", slowly)
    source = loader(data) if workers else data
    splits = [lazily(source, tmp_path / "store") for _ in range(2)]  # of two processes
    for split in splits:
        assert targets(split) == list(range(SIZE))
        assert targets(split.sampled(50)) == split.sampled(50).take(torch.arange(50)).targets.tolist()
    twice = 2 * READ_TWICE  # by each of the two, to see whether it gives the same each time
    assert len(data.decodings()) <= SIZE + twice


def test_what_is_read_faster_than_it_is_kept_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loading, "_is_dearer", lambda cache, rows, seconds: True)
    data = Decoded(tmp_path / "log", slowly)
    other = ExampleCache(tmp_path / "store" / f"{UNFINISHED}examples-val", SIZE)
    other.put(100, (torch.zeros(3), 100))
    split = lazily(data, tmp_path / "store")
    assert other.has(100), "of another process, which may find it worth it"
    before = len(data.decodings())
    split.take(torch.arange(5))
    assert len(data.decodings()) == before + 5


def test_the_timeout_of_a_loader_is_for_a_batch_of_its_own(tmp_path: Path):
    data = Decoded(tmp_path / "log", slowly)
    split = lazily(DataLoader(data, 4, num_workers=1, multiprocessing_context="fork", timeout=0.25))
    assert split.take(torch.arange(4)).targets.tolist() == [0, 1, 2, 3]
    assert torch.cat([b.targets for b in split.batches(100)]).tolist() == list(range(SIZE)), "300 ms a batch"


@pytest.mark.parametrize("steady", [True, False])
def test_workers_are_kept_where_examples_are_the_same_each_time(tmp_path: Path, steady: bool):
    """What random ones draw is of the seed that a worker was started with."""
    given = slowly if steady else lambda i: torch.randn(3)
    split = lazily(loader(Decoded(tmp_path / "log", given), persistent_workers=True))
    for _ in range(2):
        list(split.read(iter([torch.arange(8), torch.arange(8, 16)]), 5))
    readers = {process for _, process, _ in split_log(tmp_path)} - {os.getpid()}
    assert len(readers) == (2 if steady else 4)


def split_log(folder: Path) -> list[list[int]]:
    return [[int(word) for word in line.split()] for line in (folder / "log").read_text().splitlines()]


class Picture:
    def __init__(self, number: int) -> None:
        self.number = number


def of_pictures(pairs: list[tuple[Picture, int]]) -> tuple[Tensor, Tensor]:
    return torch.tensor([[float(x.number)] for x, _ in pairs]), torch.tensor([y for _, y in pairs])


def test_it_is_said_once_that_not_all_can_be_kept(tmp_path: Path):
    said: list[str] = []
    reading = Reading(tmp_path / "store", said.append, most_bytes=0)
    pictures = open_split(
        "val", DataLoader(Decoded(tmp_path / "log", Picture), 16, collate_fn=of_pictures), None, reading
    )
    for _ in range(2):
        assert targets(pictures) == list(range(SIZE))
    (told,) = said
    assert "not all examples of the val split are kept" in told
    assert "they hold Picture objects" in told


def test_what_gives_others_each_time_is_read_each_time(tmp_path: Path):
    split = lazily(Decoded(tmp_path / "log", lambda i: torch.rand(3)), tmp_path / "store")
    assert not split.steady
    one, other = (split.take(torch.arange(5)).inputs for _ in range(2))
    assert not torch.equal(one, other)
    assert not list((tmp_path / "store").iterdir())


def failing_at(number: int, how: Callable[[], Any]) -> Callable[[int], Any]:
    return lambda i: how() if i == number else torch.zeros(3)


def gone() -> Any:
    raise OSError("the disk is gone")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("how", "cause"),
    [(gone, r"at index 137: OSError: the disk is gone"), (lambda: torch.zeros(4), r"at index 137: .*equal size")],
    ids=["raises", "another shape"],
)
def test_what_cannot_be_read_names_the_example(tmp_path: Path, workers: int, how: Callable[[], Any], cause: str):
    data = Decoded(tmp_path / "log", failing_at(137, how))
    split = lazily(loader(data) if workers else data)
    with pytest.raises(DataError, match=cause):
        targets(split)


def test_a_worker_that_ends_or_blocks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match=r"cannot be read by its loader's workers, after \d batches: .*(ended|exited)"):
        targets(lazily(loader(Decoded(tmp_path / "one", failing_at(137, lambda: os._exit(3))))))
    monkeypatch.setattr(dataset_reader, "BLOCKED_S", 0.5)
    monkeypatch.setattr(dataset_reader, "MOST_BLOCKED_S", 0.5)
    with pytest.raises(DataError, match=r"cannot be read by its loader's workers, after \d batches: .*timed out"):
        targets(lazily(loader(Decoded(tmp_path / "two", failing_at(137, lambda: time.sleep(2))))))


def test_no_worker_is_left_of_reading_that_was_given_up(tmp_path: Path):
    batches = lazily(loader(Decoded(tmp_path / "log"))).batches(16)
    next(batches)
    assert multiprocessing.active_children()
    del batches
    gc.collect()
    assert not multiprocessing.active_children()


def test_a_collate_function_that_pads_to_each_batch_is_kept_to(tmp_path: Path):
    def padded(pairs: list[tuple[Tensor, int]]) -> tuple[Tensor, Tensor]:
        return torch.nn.utils.rnn.pad_sequence([x for x, _ in pairs], True), torch.tensor([y for _, y in pairs])

    data = Decoded(tmp_path / "log", lambda i: torch.ones(1 + i))
    split = open_split("val", DataLoader(data, 16, collate_fn=padded))
    assert split.memory is None
    assert [batch.inputs.shape[1] for batch in split.batches(50)] == [50, 100, 150, 200]


def test_many_at_once_are_asked_of_a_dataset_that_can(tmp_path: Path):
    class Batched(Decoded):
        def __getitems__(self, indices: list[int]) -> list[Any]:
            self.asked = [*getattr(self, "asked", []), len(indices)]
            return [self[i] for i in indices]

    data = Batched(tmp_path / "log")
    assert targets(lazily(data)) == list(range(SIZE))
    assert max(data.asked) == 16
