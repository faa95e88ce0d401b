"""What measuring one model gave: its score with an interval, its latency, its size. And how two models compare."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autocompress.data import Batch, Split, input_names, map_inputs, tensors_of
from autocompress.errors import AutocompressError, CandidateFailed, one_line
from autocompress.plugin.contract import Feed, Session
from autocompress.recipe import Recipe
from autocompress.task import Inputs, Metric, Task, class_axis

Floats = npt.NDArray[np.float64]
RESAMPLES = 200
READ = 64  # examples at once, by each thread between two moments of giving way


@dataclass(frozen=True)
class Score:
    """In the metric's own unit, higher is better. val_low, val_high: 95 % interval over the validation examples."""

    val: float
    val_low: float
    val_high: float
    test: float | None = None


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one call. low, high: 95 % interval of the profile's statistic.

    ratio: paired median ratio to the reference, < 1 is faster, with its 95 % interval.
    reliable: False when a neighbour disturbed the measurement and repeating neither helped nor gave the same.
    """

    p50: float
    p90: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    statistic: float  # the profile's statistic; equals p90 unless the profile names another
    reliable: bool = True


@dataclass(frozen=True)
class Evaluation:
    """One ONNX file: the recipe that made it and what was measured on it."""

    id: str
    recipe: Recipe
    epochs: float
    rung: int
    score: Score
    latency: Latency
    size_bytes: int
    compressed_bytes: int  # of the file, deflated: what zeros and repeated weights save
    params: int
    macs: int
    artifact: str
    digest: str
    outputs: str  # store key of its validation outputs, for paired comparison
    elapsed_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "recipe": self.recipe.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Evaluation":
        return cls(
            **{
                **value,
                "recipe": Recipe.from_json(value["recipe"]),
                "score": Score(**value["score"]),
                "latency": Latency(**value["latency"]),
            }
        )

    def at(self, elapsed_s: float) -> "Evaluation":
        return replace(self, elapsed_s=elapsed_s)


@dataclass(frozen=True)
class Rejected:
    """What was timed and not scored: a structure over the budget, a graph variant no faster than its own source, a file
    too slow to add anything to the front.

    latency_ms: the profile's statistic. ratio: paired median ratio to the reference.
    """

    recipe: Recipe
    reason: str
    latency_ms: float
    ratio: float

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "recipe": self.recipe.to_json()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Rejected":
        return cls(**{**value, "recipe": Recipe.from_json(value["recipe"])})


@dataclass(frozen=True)
class Outcome:
    """All that evaluating one family gave: a file for each graph variant that was worth scoring. rung: of its training;
    finalists go on from the last one.
    """

    evaluations: tuple[Evaluation, ...] = ()
    rung: int = 0
    slower: tuple[Rejected, ...] = ()
    hopeless: tuple[Rejected, ...] = ()  # timed, and so slow that no score could bring them onto the front
    failed: tuple[tuple[Recipe, str, str], ...] = ()  # recipe, strategy, reason
    plans: tuple[dict[str, Any], ...] = field(default=())
    checkpoint: str | None = None
    learned: dict[str, Any] = field(default_factory=dict)  # by strategy, beside the weights
    epochs: float = 0.0
    train_s: float = 0.0
    examples: int = 0  # of this rung

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "evaluations": [e.to_json() for e in self.evaluations],
            "slower": [s.to_json() for s in self.slower],
            "hopeless": [s.to_json() for s in self.hopeless],
            "failed": [[recipe.to_json(), strategy, reason] for recipe, strategy, reason in self.failed],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Outcome":
        return cls(
            **{
                **value,
                "evaluations": tuple(Evaluation.from_json(e) for e in value["evaluations"]),
                "slower": tuple(map(Rejected.from_json, value["slower"])),
                "hopeless": tuple(map(Rejected.from_json, value["hopeless"])),
                "failed": tuple(
                    (Recipe.from_json(recipe), strategy, reason) for recipe, strategy, reason in value["failed"]
                ),
                "plans": tuple(value["plans"]),
            }
        )


def feed_of(inputs: Inputs, names: Sequence[str]) -> Feed:
    """The runtime's inputs by name. ``names`` are the graph's, in order; a dict is matched by name."""
    values = dict(zip(input_names(inputs), tensors_of(inputs), strict=True))
    ordered = list(values.values())
    return {name: (values[name] if name in values else ordered[i]).numpy() for i, name in enumerate(names)}


def padded(batch: Batch, size: int) -> Inputs:
    """The batch's inputs, the last example repeated up to ``size``: a graph has the profile's batch built in."""
    missing = size - len(batch.targets)
    if missing == 0:
        return batch.inputs
    return map_inputs(lambda t: torch.cat([t, t[-1:].expand(missing, *t.shape[1:])]), batch.inputs)


@contextmanager
def running() -> Iterator[None]:
    """The boundary to the runtime: whatever it raises for a file fails that file. Raises CandidateFailed."""
    try:
        yield
    except AutocompressError:
        raise
    except Exception as error:
        raise CandidateFailed(f"the file opens and does not run: {type(error).__name__}: {one_line(error)}") from error


def outputs_of(
    open_session: Callable[[], Session], split: Split, batch_size: int, give_way: Callable[[], None] = lambda: None
) -> Tensor:
    """Run every example of ``split`` through the model at the profile's batch and return the outputs, in order.

    Nothing is timed here, so as many sessions as this process has threads share the examples. They are read many at
    once: one at a time that takes as long as a small model does. give_way: called between two pieces of the work, while
    nothing runs.
    """
    sessions = [open_session() for _ in range(torch.get_num_threads())]
    share = min(READ, -(-len(split) // len(sessions)))
    piece = -(-share // batch_size) * batch_size
    starts = range(0, len(split), piece)
    reading = threading.Lock()

    def work(session: Session, start: int) -> Tensor:
        with reading:  # a Dataset need not stand two readers at once
            batch = split.take(torch.arange(start, min(start + piece, len(split))))
        size, found = len(batch.targets), []
        feed = feed_of(padded(batch, -(-size // batch_size) * batch_size), session.input_names)
        with running():
            for first in range(0, size, batch_size):
                call = {name: values[first : first + batch_size] for name, values in feed.items()}
                found.append(np.array(session.run(call)[0]))
        return torch.from_numpy(np.concatenate(found)[:size])

    done: list[Tensor] = []
    with ThreadPoolExecutor(len(sessions)) as pool:
        for number in range(0, len(starts), len(sessions)):
            done += pool.map(work, sessions, starts[number : number + len(sessions)])
            give_way()
    return torch.cat(done).float()


def targets_of(split: Split) -> Tensor:
    return split.memory.targets if split.memory else torch.cat([batch.targets for batch in split.batches(1024)])


def score_of(task: Task, outputs: Tensor, targets: Tensor, seed: int = 0) -> Score:
    """The metric with a 95 % interval: Wilson's for accuracy (Wilson 1927), a bootstrap for any other metric."""
    value = float(task.metric_fn(outputs, targets))
    if not math.isfinite(value):
        return Score(value, value, value)
    if task.metric == "accuracy":
        return Score(value, *wilson(value, targets.numel()))
    draws = _bootstrap(task.metric_fn, [outputs], targets, seed)[:, 0]
    if not len(draws):
        return Score(value, value, value)
    return Score(value, float(np.percentile(draws, 2.5)), float(np.percentile(draws, 97.5)))


def wilson(share: float, count: int) -> tuple[float, float]:
    """95 % interval of a share of ``count`` (Wilson 1927)."""
    z = 1.959964
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(task: Task, one: Tensor, other: Tensor, targets: Tensor, seed: int = 0) -> tuple[float, float]:
    """Score of ``one`` minus score of ``other`` on the same examples, and its standard error."""
    difference = float(task.metric_fn(one, targets)) - float(task.metric_fn(other, targets))
    if task.metric == "accuracy":
        axis = class_axis(one, targets)
        right = (one.argmax(axis) == targets).double() - (other.argmax(axis) == targets).double()
        return difference, float(right.std() / math.sqrt(right.numel())) if right.numel() > 1 else 0.0
    draws = _bootstrap(task.metric_fn, [one, other], targets, seed)
    return difference, float(np.std(draws[:, 0] - draws[:, 1])) if len(draws) else 0.0


def _bootstrap(metric: Metric, outputs: list[Tensor], targets: Tensor, seed: int) -> Floats:
    """The metric of each of ``outputs`` on the same resampled examples -> (at most RESAMPLES, len(outputs)); resamples
    that the metric cannot score are left out."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(RESAMPLES):
        drawn = torch.randint(len(targets), (len(targets),), generator=generator)
        try:
            row = [float(metric(o[drawn], targets[drawn])) for o in outputs]
        except Exception:  # the user's metric: a resample of one class has no area under a curve
            continue
        if all(map(math.isfinite, row)):
            rows.append(row)
    return np.array(rows).reshape(-1, len(outputs))
