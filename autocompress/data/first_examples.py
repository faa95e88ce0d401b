"""The first examples of a split and what the reference returns for them, once for all that is told from them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autocompress.data.batch import Batch
from autocompress.data.layout import returned_for
from autocompress.data.split import Split
from autocompress.nested import Nested
from autocompress.task import Task

SAME_ANSWER = 1e-3  # of the range of the answers
LOOKED_AT = 3  # examples: as many show which axis is theirs, and which target stands beside which output


@dataclass(frozen=True)
class FirstExamples:
    """Three at most. returned: what the reference returns for them, whole."""

    split: Split
    batch: Batch
    returned: Nested

    @classmethod
    def of(cls, split: Split, model: nn.Module) -> "FirstExamples":
        """Raises UsageError naming the shapes when the model does not take them."""
        batch = split.take(torch.arange(min(LOOKED_AT, len(split))))
        return cls(split, batch, returned_for(model, batch.inputs))

    def depends_on_the_others(self, task: Task, model: nn.Module) -> bool:
        """Whether the first example is answered otherwise with one beside it than with two."""
        if len(self.batch) < LOOKED_AT:
            return False
        beside_two = self.outputs(task)
        beside_one = task.scored(returned_for(model, self.batch.at(slice(LOOKED_AT - 1)).inputs))
        if beside_one.shape[1:] != beside_two.shape[1:] or not beside_one.is_floating_point():
            return False
        least = SAME_ANSWER * (beside_two.max() - beside_two.min()).clamp(min=1e-6)
        if (beside_one[0] - beside_two[0]).abs().max() <= least:
            return False
        again = task.scored(returned_for(model, self.batch.inputs))  # one that draws numbers answers otherwise anyway
        return bool((again[0] - beside_two[0]).abs().max() <= least)

    def outputs(self, task: Task) -> Tensor:
        """The one that is scored."""
        return task.scored(self.returned)
