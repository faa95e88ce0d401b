"""What a model returns: which tensors, by which names, and along which axis of each its examples are."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from autocompress.data.batch import Batch, named_inputs, take_rows
from autocompress.data.model_call import call
from autocompress.errors import CandidateFailed, UsageError, one_line
from autocompress.nested import Nested, as_float, map_tensors, named_tensors, primary, unused
from autocompress.task import OUTPUT, Task

Axes = Mapping[str, Mapping[int, str]]  # of tensors by name: axes that vary, with the names of their sizes


@dataclass(frozen=True)
class OutputLayout:
    """What a model returns in evaluation mode, with its tensors by name.

    like: a returned value. names: of its tensors, which are those that the task delivers (None stands for the
    others). axes: the axis of each along which its examples are; None where there is none, and the tensor is the same
    for any batch. scored: the name of the one that stands for the rest where one has to. dynamic: the axes of the
    inputs that vary in size from batch to batch, and are free in files; varying: those of the outputs that follow;
    sizes: some at which the model runs.
    """

    like: Nested
    names: tuple[str, ...]
    axes: Mapping[str, int | None]
    scored: str
    dynamic: Axes = field(default_factory=dict)
    varying: Axes = field(default_factory=dict)
    sizes: tuple[Mapping[str, int], ...] = ()

    def delivered(self, returned: Nested) -> dict[str, Tensor]:
        """The tensors that a file gives, by name, as the model returns them. Raises CandidateFailed naming those that
        the model does not return.
        """
        found = named_tensors(returned, OUTPUT)
        if missing := [name for name in self.names if name not in found]:
            raise CandidateFailed(
                f"the model returns {', '.join(found) or 'no tensors'}, and lacks {', '.join(missing)}, which the "
                "reference returns"
            )
        return {name: found[name] for name in self.names}

    def names_in_file(self, inputs_and_weights: Collection[str]) -> dict[str, str]:
        """What the outputs are called in a file, in order: by their own names, with ``_`` for any character other than
        letters, digits and ``_ . - /``, "output_" before a name that begins with another than a letter or ``_``, and
        "_output" behind one that an input or a weight has.
        """
        taken, found = set(inputs_and_weights), dict[str, str]()
        for name in self.names:
            plain = re.sub(r"[^A-Za-z0-9_.\-/]", "_", name)
            plain = plain if re.match("[A-Za-z_]", plain) else f"{OUTPUT}_{plain}"
            found[name] = unused(f"{plain}_{OUTPUT}" if plain in inputs_and_weights else plain, taken)
            taken.add(found[name])
        return found

    def heads(self, returned: Nested) -> dict[str, Tensor]:
        """The delivered tensors among what a model returns while it trains, which may be more or other than in
        evaluation mode: those of the same names, and what stands for the rest in any case; as ``rows``.
        """
        found = named_tensors(returned, OUTPUT)
        heads = {name: found[name] for name in self.names if name in found}
        heads.setdefault(self.scored, primary(returned))
        return {name: self._examples_first(name, tensor) for name, tensor in heads.items()}

    def rows(self, delivered: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of the delivered tensors those that are by example, examples first, floating point as float32."""
        return {name: self._examples_first(name, delivered[name]) for name in self.names if self.axes[name] is not None}

    def _examples_first(self, name: str, tensor: Tensor) -> Tensor:
        return as_float(tensor).movedim(self.axes[name] or 0, 0)

    def rows_of(self, returned: Nested) -> dict[str, Tensor]:
        """The same of what a model returns."""
        return self.rows(self.delivered(returned))

    def returned(self, rows: Mapping[str, Tensor]) -> Nested:
        """Such rows as a model returns them, whole; what is the same for any batch is as it was in ``like``."""
        names = iter(self.names)

        def put_back(shared: Tensor) -> Tensor:
            name = next(names)
            axis = self.axes[name]
            return shared if axis is None else rows[name].movedim(0, axis)

        return map_tensors(put_back, self.like)


def output_layout(task: Task, model: nn.Module, batch: Batch) -> OutputLayout:
    """What a model returns for a batch of one example or more. Raises UsageError naming the shapes when the model does
    not take it, when it returns nothing by example, and when the task names outputs that it does not return.
    """
    two, three = (returned_for(model, take_rows(batch.inputs, torch.arange(count) % len(batch))) for count in (2, 3))
    named, more = named_tensors(two, OUTPUT), named_tensors(three, OUTPUT)
    if unknown := [name for name in task.outputs or () if name not in named]:
        raise UsageError(f"Task.outputs names {', '.join(unknown)}, which the model does not return")
    if named.keys() != more.keys():
        raise UsageError(f"the model returns {', '.join(named)} for two examples and {', '.join(more)} for three")
    axes = {name: _axis_of_examples(named[name], more[name]) for name in named}
    scored = next(name for name, tensor in named.items() if tensor is task.scored(two))
    if axes[scored] is None:
        raise UsageError(
            f"the model gives outputs of shape {tuple(named[scored].shape)} for 2 examples: expected one row an example"
        )
    layout = OutputLayout(map_tensors(torch.clone, two), tuple(named), axes, scored)
    _refuse_squeezed(layout, model, take_rows(batch.inputs, torch.arange(1)))
    return layout


def _refuse_squeezed(layout: OutputLayout, model: nn.Module, one: Nested) -> None:
    """Raise UsageError when a model that takes a single example returns it without its axis."""
    try:
        found = layout.delivered(returned_for(model, one))
    except (UsageError, CandidateFailed):  # a model that computes over its batch may take no single example
        return
    like = named_tensors(layout.like, OUTPUT)
    for name, tensor in found.items():
        if layout.axes[name] is not None and tensor.dim() != like[name].dim():
            raise UsageError(
                f"the model gives {name} of shape {tuple(tensor.shape)} for one example and {tuple(like[name].shape)} "
                "for two: it squeezes the axis of examples away; name the axis to squeeze, as in squeeze(-1)"
            )


def _axis_of_examples(two: Tensor, three: Tensor) -> int | None:
    """The axis that is as long as there are examples; the first that is where nothing changes with the batch."""
    if two.dim() != three.dim():
        return None
    changed = [axis for axis, sizes in enumerate(zip(two.shape, three.shape, strict=True)) if sizes == (2, 3)]
    return changed[0] if changed else None


def returned_for(model: nn.Module, inputs: Nested) -> Nested:
    """What a model returns for a batch. Raises UsageError naming the shapes when it does not take it."""
    shapes = ", ".join(f"{name} {tuple(t.shape)} {t.dtype}" for name, t in named_inputs(inputs).items())
    try:
        with torch.inference_mode():
            returned = call(model, inputs)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"the model does not take the data ({shapes}): {type(error).__name__}: {one_line(error, 200)}"
        ) from error
    if not named_tensors(returned, OUTPUT):
        raise UsageError(
            f"the model returns {type(returned).__name__}: return a tensor, or a tuple, dict or dataclass of tensors"
        )
    return returned
