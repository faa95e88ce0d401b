"""The first examples of a split and what the reference returns for them, once for all that is told from them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autocompress.data.batch import Batch
from autocompress.data.layout import returned_for
from autocompress.data.split import Split
from autocompress.nested import Nested
from autocompress.task import Task

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

    def outputs(self, task: Task) -> Tensor:
        """The one that is scored."""
        return task.scored(self.returned)
