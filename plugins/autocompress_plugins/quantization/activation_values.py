"""The same activation in a module and in its ONNX file, recognised by its values.

Exporters rename tensors, fuse and fold operators (a padding into the convolution behind it), and reorder or flatten
axes; the values on a few examples stay, but for zeros.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autocompress.data import call, feed_of, seeded
from autocompress.plugin.contract import Array, Context
from autocompress.task import Inputs
from autocompress_plugins.quantization.ort_quantization import opened, with_all_outputs

SEEN_EXAMPLES = 4  # or the profile's batch, when that is more: what is silent on one of them is not on another
POWERS = (1, 2, 3)
DIGITS = 6
SAME_VALUES = 5e-4  # by which two signatures of the same values may differ: the rounding of float32 arithmetic
# In pairs, below and above zero: the extremes, and for each power the sum of it over all values. The order of the axes
# and added zeros leave no trace. Empty for one number over and over, which says nothing of where it was found.
Signature = list[float]
# What a layer is called with has a static int8 form in these.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# In evaluation mode they give back the tensor that they are given.
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


@dataclass(frozen=True)
class Entering:
    """What a layer is called with. signatures: one for each call in a run of the model. source: the outermost module
    that returned this very tensor; None when a function made it, or when the layer or that module is called more than
    once.
    """

    signatures: list[Signature]
    source: str | None = None


def examples(context: Context) -> list[Inputs]:
    """A few batches of the profile's size, the same for the module and for the file, whatever a data set draws."""
    batch, size = context.profile.batch, len(context.train)
    with seeded(context.seed):
        starts = range(0, max(batch, SEEN_EXAMPLES), batch)
        return [context.train.take(torch.arange(start, start + batch) % size).inputs for start in starts]


def layer_inputs(model: nn.Module, batches: Sequence[Inputs]) -> dict[str, Entering]:
    """What enters every convolution and linear layer that ``model``, in evaluation mode, calls on every one of
    ``batches``. A layer whose weights are read without calling it is left out.
    """
    runs = [_run(model, inputs) for inputs in batches]
    found = {}
    for name in runs[0]:
        seen = [run[name] for run in runs if name in run]
        if len(seen) == len(runs):
            calls = zip(*(values for values, _ in seen), strict=False)  # of a loop as many as every run has
            sources = {source for _, source in seen}
            signatures = [signature(np.concatenate(parts)) for parts in calls]
            found[name] = Entering(signatures, sources.pop() if len(sources) == 1 else None)
    return found


def _run(model: nn.Module, inputs: Inputs) -> dict[str, tuple[list[Array], str | None]]:
    """The values that enter each layer at each of its calls on one batch, and the source of them."""
    found: dict[str, list[Array]] = defaultdict(list)
    sources: dict[str, str | None] = {}
    calls: Counter[str | None] = Counter()
    # The tensors are kept, so that no other takes the identity of one; a change in place makes another version of one.
    made: dict[int, tuple[str, Tensor, int]] = {}

    def before(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            if arguments:
                given = arguments[0]
                found[name].append(given.detach().numpy().flatten())  # a copy: it may be changed in place later
                source, _, version = made.get(id(given), (None, given, 0))
                sources[name] = source if version == given._version else None

        return hook

    def after(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            calls[name] += 1
            if isinstance(output, Tensor) and not isinstance(module, DROPOUTS):
                made[id(output)] = (name, output, output._version)

        return hook

    handles = [module.register_forward_hook(after(name)) for name, module in model.named_modules()]
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, LAYERS)]
    handles += [module.register_forward_pre_hook(before(name)) for name, module in layers]
    try:
        with torch.no_grad():
            call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    once = {name: source for name, source in sources.items() if calls[name] == calls[source] == 1}
    return {name: (values, once.get(name)) for name, values in found.items()}


def file_tensors(path: Path, batches: Sequence[Inputs]) -> dict[str, Signature]:
    """The signature of every float activation of an ONNX file on ``batches``, the graph's own inputs included."""
    session = opened(with_all_outputs(path))
    names = [value.name for value in session.get_outputs()]
    found: dict[str, list[Array]] = defaultdict(list)
    for inputs in batches:
        feed = feed_of(inputs, [value.name for value in session.get_inputs()])
        for name, own in (*feed.items(), *zip(names, session.run(names, dict(feed)), strict=True)):
            if isinstance(own, np.ndarray) and own.dtype == np.float32 and own.size:
                found[name].append(own.ravel())
    return {name: signature(np.concatenate(parts)) for name, parts in found.items()}


def signature(values: Array) -> Signature:
    if values.min() == values.max():
        return []
    sides = -values.clip(max=0).astype(np.float64), values.clip(min=0).astype(np.float64)
    numbers = [*(side.max() for side in sides), *((side**power).sum() for power in POWERS for side in sides)]
    return [float(f"{number:.{DIGITS}g}") for number in numbers]


def alike(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two signatures are of the same values; empty ones never are."""
    if not one or not other:
        return False
    pairs = zip(one[::2], one[1::2], other[::2], other[1::2], strict=True)
    return all(max(abs(a - c), abs(b - d)) <= SAME_VALUES * max(c, d) for a, b, c, d in pairs)


def recognised(signature: Signature, known: Mapping[str, Iterable[Signature]]) -> str | None:
    """The first of ``known`` with such values, or None."""
    return next((name for name, own in known.items() if any(alike(signature, other) for other in own)), None)
