"""The user's data as the search reads it: one split, indexable, checked once.

A split held in memory is a pair of tensors. A Dataset is read into memory once when it is deterministic and fits;
otherwise it stays a Dataset and batches are collated from it.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
    default_collate,
)

from autocompress.errors import UsageError, one_line
from autocompress.task import Inputs, Task, class_count

IN_MEMORY_BYTES = 4 << 30  # a Dataset larger than this is read batch by batch
WHOLE = (SequentialSampler, RandomSampler, WeightedRandomSampler)  # samplers that draw from the whole data set
SAMPLE = 64  # examples of a split that the fingerprint covers, and that are read twice


@dataclass(frozen=True)
class Batch:
    """inputs: as the model takes them, examples first. targets: one tensor, examples first."""

    inputs: Inputs
    targets: Tensor


class Split:
    """Examples by index. Either ``batch`` (in memory) or ``collect`` (a function of indices) holds them."""

    def __init__(
        self, name: str, size: int, collect: Callable[[Sequence[int]], Batch], batch: Batch | None = None
    ) -> None:
        self.name = name
        self.size = size
        self.memory = batch
        self._collect = collect

    def __len__(self) -> int:
        return self.size

    def take(self, indices: Tensor) -> Batch:
        """The examples at ``indices`` (1-D int64)."""
        if self.memory is not None:
            return Batch(map_inputs(lambda t: t[indices], self.memory.inputs), self.memory.targets[indices])
        return self._collect(indices.tolist())

    def batches(self, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
        """Consecutive batches in order, the last one possibly smaller; at most ``limit`` examples."""
        end = min(self.size, limit or self.size)
        for start in range(0, end, batch_size):
            yield self.take(torch.arange(start, min(start + batch_size, end)))

    def sample_digest(self) -> str:
        """Digest of the size and of a sample of examples."""
        indices = spread(self.size, SAMPLE)
        batch = self.take(indices)
        state = hashlib.sha256(str(self.size).encode())
        for tensor in (*tensors_of(batch.inputs), batch.targets):
            state.update(
                f"{tensor.dtype}{tuple(tensor.shape)}".encode() + tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
            )
        return state.hexdigest()


def spread(size: int, count: int) -> Tensor:
    """At most ``count`` indices over 0..size-1, evenly, the first and the last included."""
    count = min(count, size)
    return torch.arange(count) * (size - 1) // max(count - 1, 1)


def tensors_of(inputs: Inputs) -> tuple[Tensor, ...]:
    """The tensors of the inputs, in order."""
    if isinstance(inputs, Tensor):
        return (inputs,)
    return tuple(inputs.values()) if isinstance(inputs, Mapping) else tuple(inputs)


def map_inputs(fn: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """The inputs with ``fn`` applied to each tensor."""
    if isinstance(inputs, Tensor):
        return fn(inputs)
    if isinstance(inputs, Mapping):
        return {name: fn(tensor) for name, tensor in inputs.items()}
    return tuple(fn(tensor) for tensor in inputs)


def input_names(inputs: Inputs) -> list[str]:
    """Names of the graph's inputs: a dict's keys, else ``input`` or ``input_0``, ``input_1``, ..."""
    if isinstance(inputs, Tensor):
        return ["input"]
    return list(inputs) if isinstance(inputs, Mapping) else [f"input_{i}" for i in range(len(inputs))]


def call(model: Callable[..., Any], inputs: Inputs) -> Any:
    """Call a model with one tensor, a tuple as positional or a dict as keyword arguments."""
    with every_module_called():
        if isinstance(inputs, Tensor):
            return model(inputs)
        return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While open, random, numpy and torch draw from this seed; afterwards they go on from where they were."""
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


@contextmanager
def every_module_called() -> Iterator[None]:
    """While open, attention of torch.nn does not take its fast path of evaluation mode. That computes the same past the
    modules inside: hooks see nothing, the exporters have no ONNX form of it, and it fails under bfloat16 with a mask.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def primary(output: Any) -> Tensor:
    """The tensor that is scored: the output itself, its ``.logits``, its "logits" entry, or its first element."""
    if isinstance(output, Tensor):
        return output
    if isinstance(getattr(output, "logits", None), Tensor):
        return output.logits  # type: ignore[no-any-return]
    if isinstance(output, Mapping) and output:
        return primary(output["logits"] if "logits" in output else next(iter(output.values())))
    if isinstance(output, (tuple, list)) and output:
        return primary(output[0])
    raise UsageError(
        f"the model returns {type(output).__name__}: return a tensor, a tuple of tensors, or an object with .logits"
    )


def open_split(name: str, source: Any) -> Split:
    """A split from tensors, a Dataset or a DataLoader. Raises UsageError when it is none of these, empty or ragged."""
    if isinstance(source, IterableDataset):
        source = DataLoader(source, batch_size=512)
    if isinstance(source, DataLoader):
        dataset = source.dataset
        if isinstance(dataset, IterableDataset) or source.batch_sampler is None or not hasattr(dataset, "__len__"):
            return _in_memory(name, _concatenate(name, [_pair(name, batch) for batch in source]))
        if type(source.batch_sampler) is not BatchSampler:
            dataset = Subset(dataset, sorted({index for batch in source.batch_sampler for index in batch}))
        elif type(source.sampler) not in WHOLE:
            dataset = Subset(dataset, sorted(set(source.sampler)))
        return _from_dataset(name, dataset, source.collate_fn or default_collate)
    if isinstance(source, (tuple, list)) and len(source) == 2 and not isinstance(source, Dataset):
        return _in_memory(name, _pair(name, source))
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _from_dataset(name, source, default_collate)
    raise UsageError(
        f"the {name} split is {type(source).__name__}: give (inputs, targets) tensors, a Dataset or a DataLoader"
    )


def _from_dataset(name: str, dataset: Any, collate: Callable[[list[Any]], Any]) -> Split:
    def collect(indices: Sequence[int]) -> Batch:
        try:
            return _pair(name, collate([dataset[i] for i in indices]))
        except UsageError:
            raise
        except Exception as error:
            raise UsageError(
                f"the {name} split cannot be read at {indices[0]}..{indices[-1]}: "
                f"{type(error).__name__}: {one_line(error)}"
            ) from error

    size = len(dataset)
    if size == 0:
        raise UsageError(f"the {name} split is empty")
    lazy = Split(name, size, collect)
    first = lazy.take(torch.arange(min(size, SAMPLE)))
    each = sum(t.element_size() * t.numel() for t in (*tensors_of(first.inputs), first.targets)) / min(size, SAMPLE)
    if each * size > IN_MEMORY_BYTES or lazy.sample_digest() != lazy.sample_digest():
        return lazy
    return _in_memory(name, _concatenate(name, list(lazy.batches(512))))


def _in_memory(name: str, batch: Batch) -> Split:
    return Split(name, len(batch.targets), lambda indices: batch, batch)


def _pair(name: str, pair: Any) -> Batch:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise UsageError(f"the {name} split must give (inputs, targets) pairs, not {type(pair).__name__}")
    inputs, targets = pair
    targets = _tensor(name, "targets", targets)
    if isinstance(inputs, Mapping):
        inputs = {str(key): _tensor(name, f"input {key}", value) for key, value in inputs.items()}
    elif isinstance(inputs, (tuple, list)):
        inputs = tuple(_tensor(name, f"input {i}", value) for i, value in enumerate(inputs))
    else:
        inputs = _tensor(name, "inputs", inputs)
    sizes = [len(t) if t.dim() else 0 for t in (*tensors_of(inputs), targets)]
    if len(set(sizes)) != 1:
        counts = " and ".join(map(str, sizes[:-1]))
        raise UsageError(f"the {name} split has {counts} inputs and {sizes[-1]} targets: they must be as many")
    if sizes[0] == 0:
        raise UsageError(f"the {name} split is empty")
    return Batch(map_inputs(as_held, inputs), targets.detach().cpu())


def as_held(tensor: Tensor) -> Tensor:
    """The tensor as splits hold it: on the CPU, without history, floating point as float32."""
    tensor = tensor.detach().cpu()
    return tensor.float() if tensor.is_floating_point() else tensor


def _tensor(name: str, what: str, value: Any) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"the {name} split: its {what} cannot become a tensor: {one_line(error, 120)}") from error


def _concatenate(name: str, batches: list[Batch]) -> Batch:
    if not batches:
        raise UsageError(f"the {name} split is empty")
    try:
        columns = [torch.cat(parts) for parts in zip(*(tensors_of(b.inputs) for b in batches), strict=True)]
        targets = torch.cat([b.targets for b in batches])
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"the {name} split has examples of different shapes: {one_line(error)}; pad them to one shape"
        ) from error
    values = iter(columns)
    return Batch(map_inputs(lambda _: next(values), batches[0].inputs), targets)


def check_split(split: Split, task: Task) -> None:
    """Refuse what would make every number wrong: NaN in inputs or targets, one class only, labels out of range.

    Raises UsageError naming the split, how many, and the first index.
    """
    classes = _class_count(task, split)
    bad = _Faults(f"the {split.name} split has NaN or infinite inputs", "clean or drop them")
    wrong = _Faults(f"the {split.name} split has labels out of range", f"expected 0..{(classes or 0) - 1}")
    lost = _Faults(f"the {split.name} split has NaN or infinite targets", "clean or drop them")
    seen: set[int] = set()
    for batch in split.batches(4096):
        rows = torch.zeros(len(batch.targets), dtype=torch.bool)
        for tensor in (t for t in tensors_of(batch.inputs) if t.is_floating_point()):
            rows |= ~_each(torch.isfinite(tensor))
        bad.add(rows)
        if classes is not None:
            outside = (batch.targets < 0) | (batch.targets >= classes)
            labels = (
                [own[bad_ones].tolist()[:1] for own, bad_ones in zip(batch.targets, outside, strict=True)]
                if outside.any()
                else []
            )
            wrong.add(~_each(~outside), [label[0] if label else "" for label in labels])
            seen |= set(torch.unique(batch.targets).tolist())
        elif batch.targets.is_floating_point():
            lost.add(~_each(torch.isfinite(batch.targets)))
    for faults in (bad, wrong, lost):
        faults.refuse()
    if len(seen) == 1:
        raise UsageError(
            f"the {split.name} split has one class only ({seen.pop()} in all {split.size} examples): "
            "nothing can be learned or scored"
        )


def _each(good: Tensor) -> Tensor:
    """Whether all of an example is good -> (N,)."""
    return good.flatten(1).all(1) if good.dim() > 1 else good


class _Faults:
    """Counts faulty examples over batches and remembers the first."""

    def __init__(self, what: str, way_out: str) -> None:
        self._what, self._way_out = what, way_out
        self._count, self._seen, self._first, self._value = 0, 0, -1, ""

    def add(self, rows: Tensor, values: Sequence[object] | None = None) -> None:
        if rows.any() and self._first < 0:
            at = int(rows.nonzero()[0])
            self._first = self._seen + at
            self._value = "" if values is None else f" is {values[at]}"
        self._count += int(rows.sum())
        self._seen += len(rows)

    def refuse(self) -> None:
        if self._count:
            raise UsageError(
                f"{self._what}: {self._count} of them, the first at index {self._first}{self._value}; {self._way_out}"
            )


def _class_count(task: Task, split: Split) -> int | None:
    """How many classes the labels may name, when the task's own loss or metric is one that counts on them; None when
    both are the user's, who may mark labels to be ignored by numbers of any kind.
    """
    if task.metric != "accuracy" and task.loss != "cross_entropy":
        return None
    batch = split.take(torch.arange(min(2, split.size)))
    if batch.targets.is_floating_point():
        raise UsageError(
            f"the {split.name} split has {batch.targets.dtype} targets, but "
            "cross_entropy and accuracy need integer labels"
        )
    outputs = probe(task, batch)
    classes = class_count(outputs, batch.targets)
    if classes is None:
        raise UsageError(
            f"the {split.name} split has targets of shape {tuple(batch.targets.shape)} for outputs of shape "
            f"{tuple(outputs.shape)}: expected outputs (N, classes) for labels (N,), with two classes or more, or one "
            "such row for each place of an example"
        )
    return classes


def probe(task: Task, batch: Batch) -> Tensor:
    """The model's output on a batch. Raises UsageError naming the shapes when the model does not take it."""
    shapes = ", ".join(
        f"{name} {tuple(t.shape)} {t.dtype}"
        for name, t in zip(input_names(batch.inputs), tensors_of(batch.inputs), strict=True)
    )
    try:
        with torch.inference_mode():
            outputs = primary(call(task.copy_of_model(), batch.inputs))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"the model does not take the data ({shapes}): {type(error).__name__}: {one_line(error, 200)}"
        ) from error
    if outputs.dim() == 0 or len(outputs) != len(batch.targets):
        raise UsageError(
            f"the model gives outputs of shape {tuple(outputs.shape)} for "
            f"{len(batch.targets)} examples: expected one row an example"
        )
    return outputs


def overlap(one: Split, other: Split) -> int:
    """How many examples of ``other`` are also in ``one``, byte for byte (both in memory; 0 otherwise)."""
    if one.memory is None or other.memory is None:
        return 0
    known = set(_keys(one.memory))
    return sum(key in known for key in _keys(other.memory))


def _keys(batch: Batch) -> list[int]:
    columns = [t.reshape(len(t), -1).contiguous().view(torch.uint8) for t in tensors_of(batch.inputs)]
    return [hash(row.tobytes()) for row in torch.cat(columns, 1).numpy()]
