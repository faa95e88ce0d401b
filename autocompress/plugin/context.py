"""What a strategy may look at."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from autocompress.data import Batch, Feed, OutputLayout, Split
from autocompress.plugin.runtime import Runtime
from autocompress.profile import HardwareProfile
from autocompress.task import Inputs, Task

T = TypeVar("T")

TIMED_EXAMPLES = 4  # training examples, at most, for a file that is only timed


@dataclass(frozen=True)
class Context:
    """What a strategy may look at. It changes none of it.

    runtime: what opens and runs files on the target. model: the reference, a copy in evaluation mode. example_inputs:
    the task's, or a batch of two. layout: what the model returns, by name. reference: its exported ONNX file. feeds: up
    to N training examples as the runtime's inputs, at the profile's batch. scored: whether what is made will be scored;
    where it is only timed, ``feeds`` gives four examples at most, and a strategy can leave out what betters scores
    alone. learned: for a graph part, what the training hooks of this candidate learned (``TrainHook.learned``), by
    strategy. memory: what ``once`` keeps.

    What a strategy says of itself is asked before anything is scored, of the file of the first exporter that works.
    Strategies with a graph part are asked again when it is settled which exporter's file the reference is, with
    ``scored`` true.
    """

    task: Task
    profile: HardwareProfile
    runtime: "Runtime"
    model: nn.Module
    example_inputs: Inputs
    layout: OutputLayout
    train: Split
    reference: Path
    seed: int
    feeds: Callable[[int], Iterator[Feed]]
    scored: bool = True
    learned: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    memory: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What ``compute`` gave when ``key`` was first asked for, by any strategy; nothing is kept when it raises.

        For what takes long to find out of the reference and its data: it lives as long as the opened task, in this
        process. A key says whose it is ("my_strategy.order"). A plan may be made with it; ``apply`` may not need it.
        """
        if key not in self.memory:
            self.memory[key] = compute()
        kept: T = self.memory[key]
        return kept

    def for_timing(self) -> "Context":
        """The same for what is only timed, and with few examples: ranges do not change what an operator costs."""
        return replace(self, scored=False, feeds=lambda count: self.feeds(min(count, TIMED_EXAMPLES)))

    def train_batches(self, examples: int, batch_size: int = 64) -> Iterator[Batch]:
        """``examples`` training examples spread over the split, in batches, without augmentation."""
        return self.train.sampled(examples).batches(batch_size)
