"""The same activation in a module and in its ONNX file, recognised by its values.

Exporters rename tensors, fuse and fold operators, and reorder or flatten axes; the values on one example stay.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from autocompress.candidate.evaluate import feed_of
from autocompress.data import call, seeded
from autocompress.plugin.contract import Array, Context
from autocompress.task import Inputs
from autocompress_plugins.quantization.ort_quantization import opened

QUANTILES = 9
DIGITS = 6
Signature = list[float]  # size, quantiles, mean, root mean square: the order of the axes leaves no trace
# What a layer is called with has a static int8 form in these.
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Entering:
    """What a layer is called with. signatures: one for each call. source: the outermost module that returned this very
    tensor; None when a function made it, or when the layer or that module is called more than once.
    """

    signatures: list[Signature]
    source: str | None = None


def example(context: Context) -> Inputs:
    """One batch of the profile's size, the same for the module and for the file, whatever a data set draws."""
    with seeded(context.seed):
        return context.train.take(torch.arange(context.profile.batch) % len(context.train)).inputs


def layer_inputs(model: nn.Module, inputs: Inputs) -> dict[str, Entering]:
    """What enters every convolution and linear layer that ``model``, in evaluation mode, calls on ``inputs``. A layer
    whose weights are read without calling it is left out.
    """
    found: dict[str, list[Signature]] = {}
    sources: dict[str, str | None] = {}
    calls: Counter[str | None] = Counter()
    # The tensors are kept, so that no other takes the identity of one; a change in place makes another version of one.
    made: dict[int, tuple[str, Tensor, int]] = {}

    def before(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            if arguments:
                given = arguments[0]
                found.setdefault(name, []).append(signature(given.detach().numpy()))
                source, _, version = made.get(id(given), (None, given, 0))
                sources[name] = source if version == given._version else None

        return hook

    def after(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
            calls[name] += 1
            if isinstance(output, Tensor) and not isinstance(module, nn.modules.dropout._DropoutNd):
                made[id(output)] = (name, output, output._version)  # dropout gives back what it is given

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
    return {name: Entering(signatures, once.get(name)) for name, signatures in found.items()}


def file_tensors(path: Path, inputs: Inputs) -> dict[str, Signature]:
    """The signature of every float activation of an ONNX file on ``inputs``, the graph's own inputs included."""
    model = onnx.load(str(path))
    stated = {value.name for value in model.graph.output}
    inner = [name for node in model.graph.node for name in node.output if name and name not in stated]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    session = opened(model)
    feed = feed_of(inputs, [value.name for value in session.get_inputs()])
    names = [value.name for value in session.get_outputs()]
    found = {**feed, **dict(zip(names, session.run(names, dict(feed)), strict=True))}
    floats = {name: own for name, own in found.items() if isinstance(own, np.ndarray) and own.dtype == np.float32}
    return {name: signature(own) for name, own in floats.items() if own.size}


def signature(values: Array) -> Signature:
    ordered = np.sort(values, axis=None).astype(np.float64)
    at = np.linspace(0, ordered.size - 1, QUANTILES).round().astype(int)
    numbers = [*ordered[at], ordered.mean(), np.sqrt((ordered**2).mean())]
    return [float(ordered.size), *(float(f"{number:.{DIGITS}g}") for number in numbers)]


def alike(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two signatures are of the same values, up to the rounding of float32 arithmetic."""
    return one[0] == other[0] and bool(np.allclose(one, other, rtol=1e-4, atol=1e-3 * abs(other[-1])))


def recognised(signature: Signature, known: Mapping[str, Iterable[Signature]]) -> str | None:
    """The first of ``known`` with such values, or None."""
    return next((name for name, own in known.items() if any(alike(signature, other) for other in own)), None)
