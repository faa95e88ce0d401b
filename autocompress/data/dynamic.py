"""Axes of the inputs whose size varies: those that the task names, and those along which the data differ.

A file keeps them free. What the model returns is looked at with several sizes, so that the axes of its outputs that
follow are known.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from autocompress.data.batch import named_inputs
from autocompress.data.layout import Axes, OutputLayout, returned_for
from autocompress.data.split import Split, spread
from autocompress.errors import UsageError
from autocompress.nested import Nested, filled
from autocompress.profile import HardwareProfile
from autocompress.task import Task

EXAMPLES_ALONE = 16  # of a split that is read, taken one by one: a collate function pads each to its own size
MOST_SIZES = 4  # at which a model is run
SIZE = "length"  # the name of a size that the data show; the next ones are length_2, ...

InputShapes = Mapping[str, tuple[int, ...]]
Sizes = Mapping[str, int]  # of the axes that vary, by the names of their sizes


@dataclass(frozen=True)
class FreeAxes:
    """axes: of each input by name, those that vary, with the names of their sizes. sizes: at which they were seen.
    said: of those that the data show, where the task does not name them, one line each.
    """

    axes: Axes
    sizes: Sequence[Sizes]
    said: tuple[str, ...]

    @contextmanager
    def taken_by_the_model(self) -> Iterator[None]:
        """While open, a model that does not take the data is told of as what it does not take: different sizes."""
        try:
            yield
        except UsageError as error:
            if not self.said:
                raise
            raise UsageError(
                f"{self.said[0].partition(':')[0]}, and the model takes one size alone: pad the splits alike ({error})"
            ) from error


def free_axes(task: Task, splits: Mapping[str, Split], example_inputs: Nested | None) -> FreeAxes:
    """The axes that ``Task.dynamic`` names, and those along which the splits, or the batches of one, differ in size.
    Raises UsageError when the task names inputs or axes that there are not, or two sizes by one name.
    """
    seen = {name: list(_shapes_of(split)) for name, split in splits.items()}
    if example_inputs is not None:
        seen["example_inputs"] = [_shapes(example_inputs)]
    first = seen["val"][0]
    named = _named_by(task, first)
    every = [(where, shapes) for where, all_of_it in seen.items() for shapes in all_of_it]
    alike = [(where, shapes) for where, shapes in every if _axes_in(shapes) == _axes_in(first)]
    sizes = {
        (name, axis): tuple(shapes[name][axis] for _, shapes in alike)
        for name, shape in first.items()
        for axis in range(1, len(shape))
    }
    known = {sizes[name, axis]: size for name, axes in named.items() for axis, size in axes.items()}
    axes: dict[str, dict[int, str]] = {name: dict(own) for name, own in named.items()}
    shown: dict[str, list[tuple[str, int]]] = {}
    for (name, axis), found in sizes.items():
        if len(set(found)) > 1 and axis not in axes.get(name, {}):
            if found not in known:
                known[found] = SIZE if SIZE not in known.values() else f"{SIZE}_{len(known) + 1}"
            axes.setdefault(name, {})[axis] = known[found]
            shown.setdefault(known[found], []).append((name, axis))
    by_name = {size: found for found, size in known.items()}
    for name, own in named.items():
        for axis, size in own.items():
            if sizes[name, axis] != by_name[size]:
                raise UsageError(
                    f"Task.dynamic calls two sizes {size!r}: axis {axis} of {name} is {_listed(sizes[name, axis])} "
                    f"long, and another {_listed(by_name[size])}: give them names of their own"
                )
    where = [title for title, _ in alike]
    said = tuple(_said(size, inputs, where, by_name[size]) for size, inputs in shown.items())
    distinct = {tuple(found[number] for found in by_name.values()) for number in range(len(alike))} if axes else set()
    spread_out = sorted(distinct)
    chosen = [spread_out[int(i)] for i in spread(len(spread_out), MOST_SIZES)] if spread_out else []
    return FreeAxes(axes, [dict(zip(by_name, values, strict=True)) for values in chosen], said)


def with_free_axes(layout: OutputLayout, free: FreeAxes, model: nn.Module, inputs: Nested) -> OutputLayout:
    """The layout with the axes of the inputs that vary, the sizes that the model takes, and the axes of its outputs
    that follow. Raises UsageError when the model takes one size alone.
    """
    if not free.axes:
        return layout
    found = [(sizes, _output_shapes(layout, free.axes, model, inputs, sizes)) for sizes in free.sizes]
    for size in {name for axes in free.axes.values() for name in axes.values()}:
        if len({sizes[size] for sizes, _ in found}) == 1:
            found.append(_another(size, layout, free, model, inputs))
    taken = [sizes for sizes, _ in found]
    by_values = {tuple(sizes[name] for sizes in taken): name for name in taken[0]}
    varying: dict[str, dict[int, str]] = {}
    for name in layout.names:
        shapes = [shape[name] for _, shape in found]
        if len({len(shape) for shape in shapes}) > 1:
            raise UsageError(f"the model gives {name} with more axes for some sizes of its inputs than for others")
        for axis, values in enumerate(zip(*shapes, strict=True)):
            if len(set(values)) > 1:
                varying.setdefault(name, {})[axis] = by_values.get(values, f"{name}_{axis}")
    return replace(layout, dynamic=free.axes, varying=varying, sizes=tuple(taken))


def check_profile_shapes(profile: HardwareProfile, layout: OutputLayout, model: nn.Module, inputs: Nested) -> None:
    """Raises UsageError when the profile gives sizes that the task's inputs do not have, or the model does not take."""
    known = sorted({size for axes in layout.dynamic.values() for size in axes.values()})
    if unknown := sorted(profile.sizes[0].keys() - set(known)):
        there = f"the task's are {', '.join(known)}" if known else "the task has none: name them in Task.dynamic"
        raise UsageError(f"the profile {profile.name} gives a size of {', '.join(unknown)} in [shapes], and {there}")
    for sizes in filter(None, profile.sizes):
        returned_for(model, resized(inputs, layout.dynamic, sizes))


def resized(inputs: Nested, axes: Axes, sizes: Sizes) -> Nested:
    """The inputs with their varying axes cut to ``sizes``, or their last place repeated up to them."""
    if not axes or not sizes:
        return inputs
    named = named_inputs(inputs)
    return filled(inputs, [_resized(tensor, axes.get(name, {}), sizes) for name, tensor in named.items()])


def _resized(tensor: Tensor, axes: Mapping[int, str], sizes: Sizes) -> Tensor:
    for axis, name in axes.items():
        if name in sizes and sizes[name] != tensor.shape[axis]:
            tensor = tensor.index_select(axis, torch.arange(sizes[name]).clamp(max=tensor.shape[axis] - 1))
    return tensor


def _another(
    size: str, layout: OutputLayout, free: FreeAxes, model: nn.Module, inputs: Nested
) -> tuple[Sizes, dict[str, tuple[int, ...]]]:
    """Another size that the model takes, where the data show one: half or twice as long, one less or more."""
    base = dict(free.sizes[0])
    now, causes = base[size], []
    for other in (now // 2, now * 2, now - 1, now + 1):
        if other > 0:
            tried = {**base, size: other}
            try:
                return tried, _output_shapes(layout, free.axes, model, inputs, tried)
            except UsageError as error:
                causes.append(str(error))
    raise UsageError(f"Task.dynamic says that {size} varies, and the model takes no other size than {now}: {causes[0]}")


def _output_shapes(
    layout: OutputLayout, axes: Axes, model: nn.Module, inputs: Nested, sizes: Sizes
) -> dict[str, tuple[int, ...]]:
    returned = returned_for(model, resized(inputs, axes, sizes))
    return {name: tuple(tensor.shape) for name, tensor in layout.delivered(returned).items()}


def _named_by(task: Task, shapes: InputShapes) -> dict[str, dict[int, str]]:
    """``Task.dynamic``, checked against the shapes of the inputs."""
    given = task.dynamic or {}
    example = '{"input_ids": {1: "sequence"}}'
    if not isinstance(given, Mapping) or not all(isinstance(axes, Mapping) for axes in given.values()):
        raise UsageError(f"Task.dynamic must be axes with names for their sizes, by input, as in {example}")
    for name, axes in given.items():
        if name not in shapes:
            raise UsageError(f"Task.dynamic names {name!r}, and the inputs are {', '.join(shapes)}")
        for axis, size in axes.items():
            if not isinstance(size, str) or not size.isidentifier():
                raise UsageError(f"Task.dynamic names a size {size!r}: give it a name of letters, as in {example}")
            if not isinstance(axis, int) or not 0 < axis < len(shapes[name]):
                own = [str(number) for number in range(1, len(shapes[name]))]
                there = f"those that can vary are {', '.join(own)}" if own else "it has none that can vary"
                raise UsageError(
                    f"Task.dynamic frees axis {axis!r} of {name}, of shape {shapes[name]}: {there} (0 is the examples)"
                )
    return {name: dict(axes) for name, axes in given.items()}


def _axes_in(shapes: InputShapes) -> dict[str, int]:
    return {name: len(shape) for name, shape in shapes.items()}


def _shapes(inputs: Nested) -> InputShapes:
    return {name: tuple(tensor.shape) for name, tensor in named_inputs(inputs).items()}


def _shapes_of(split: Split) -> Iterator[InputShapes]:
    """Of the first two examples, and where batches are made as they are read, of a few examples alone."""
    yield _shapes(split.take(torch.arange(min(2, len(split)))).inputs)
    if not split.by_rows:
        for index in spread(len(split), EXAMPLES_ALONE):
            yield _shapes(split.take(index[None]).inputs)


def _said(size: str, inputs: Sequence[tuple[str, int]], where: Sequence[str], sizes: Sequence[int]) -> str:
    by_place = {place: [s for w, s in zip(where, sizes, strict=True) if w == place] for place in dict.fromkeys(where)}
    lengths = ", ".join(
        f"{min(own)} ({place})" if len(set(own)) == 1 else f"{min(own)} to {max(own)} ({place})"
        for place, own in by_place.items()
    )
    names = " and ".join(f"axis {axis} of {name}" for name, axis in inputs)
    return (
        f"sizes differ along {names}, {lengths}: files take any size there ({size!r}) and are timed at that of the "
        "first validation examples, or the one that the profile gives in [shapes]"
    )


def _listed(sizes: Sequence[int]) -> str:
    return ", ".join(map(str, dict.fromkeys(sizes)))
