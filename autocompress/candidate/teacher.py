"""The reference as a teacher: its outputs, and the outputs of layers inside it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from autocompress.candidate.arithmetic import Arithmetic
from autocompress.data import Features, OutputLayout, call, captured
from autocompress.plain_model import evaluating
from autocompress.task import Inputs


class Teacher:
    """``model`` is taken over and put into evaluation mode."""

    def __init__(self, model: nn.Module, arithmetic: Arithmetic, layout: OutputLayout) -> None:
        self._arithmetic = arithmetic
        self.layout = layout
        self._model = evaluating(arithmetic.place_model(model))

    def has(self, layers: Sequence[str]) -> None:
        """Raises AttributeError naming the first of ``layers`` that the model does not have."""
        for name in layers:
            self._model.get_submodule(name)

    def outputs(self, inputs: Inputs) -> dict[str, Tensor]:
        """The outputs of a batch by name (``OutputLayout.rows``), on the CPU."""
        return {name: tensor.cpu() for name, tensor in self._run(inputs).items()}

    def features(self, inputs: Inputs, layers: Sequence[str]) -> tuple[dict[str, Tensor], Features]:
        """The outputs by name, and what each of ``layers`` gave, where the teacher computes."""
        with captured(self._model, layers) as found:
            outputs = self._run(inputs)
        return outputs, {name: value.float() for name, value in found.items()}

    def _run(self, inputs: Inputs) -> dict[str, Tensor]:
        with torch.no_grad(), self._arithmetic.autocast():
            return self.layout.rows_of(call(self._model, self._arithmetic.place(inputs)))
