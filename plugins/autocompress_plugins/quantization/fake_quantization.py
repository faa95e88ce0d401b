"""Fake quantization: in training every convolution and linear layer computes with the numbers an int8 file will have.

Weights: symmetric int8, in seven bits where the file's are, one scale for each output channel from its largest
magnitude. A batch norm folded into the layer later multiplies a channel's weights and its scale alike, so the exported
weights round to the same integers.
Activations: asymmetric uint8 with one scale, over a learned share of their running extremes. The share starts at 1 and
never exceeds it, so a range follows activations that grow, and stays within those of a ReLU, which the quantized file
leaves to the range. Zero is always exact.

Gradients pass rounding straight through; ranges are learned by LSQ+ (Bhalgat et al. 2020): the gradient of rounded
values for the scale, of clipped ones for the end that clips them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from autocompress.kept_parts import KEPT_BY_NAME, why_kept
from autocompress.plugin.contract import TrainHook
from autocompress.task import Inputs
from autocompress_plugins.quantization.activation_values import layer_inputs, recognised

UINT8, INT8, INT7 = 255, 127, 64  # the largest of activations, of weights, and of weights in seven bits
MOMENTUM = 0.05  # of the running extremes
RATE = 5.0  # halvings of a range for each unit of its parameter: an optimizer's step is its learning rate
HALVINGS = 8  # at most
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def rounded(values: Tensor) -> Tensor:
    """Rounded to whole numbers, with the gradient of the identity."""
    return _Round.apply(values)  # type: ignore[no-any-return, no-untyped-call]


def fake_quantized_weight(layer: nn.Module, largest: int = INT8) -> Tensor:
    """The layer's weight rounded to whole multiples, from -largest to largest, of a channel's scale."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    channels = 1 if isinstance(layer, TRANSPOSED) else 0
    others = [axis for axis in range(weight.dim()) if axis != channels]
    scale = (weight.detach().abs().amax(others, keepdim=True) / largest).clamp(min=torch.finfo(weight.dtype).tiny)
    return rounded(weight / scale) * scale


class LearnedRange:
    """What one activation may be: learned shares of the running extremes, [low, high] with low <= 0 <= high."""

    def __init__(self, known: Mapping[str, Any] | None = None) -> None:
        self.extremes = torch.tensor(known["extremes"]) if known else None
        self.logs = nn.Parameter(torch.tensor(known["logs"]) if known else torch.zeros(2))

    def quantization(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point, a whole number."""
        assert self.extremes is not None
        low, high = (self.extremes * torch.exp2(RATE * self.logs)).unbind()
        scale = ((high - low) / UINT8).clamp(min=torch.finfo(torch.float32).tiny)
        return scale, rounded(-low / scale)

    def fake_quantized(self, values: Tensor, training: bool) -> Tensor:
        exact = values.float()
        if training or self.extremes is None:
            self._observe(exact.detach())
        scale, zero_point = self.quantization()
        return (rounded(exact / scale).clamp(-zero_point, UINT8 - zero_point) * scale).to(values.dtype)

    def _observe(self, values: Tensor) -> None:
        low, high = values.aminmax()
        seen = torch.stack([low.clamp(max=0), high.clamp(min=0)])
        self.extremes = seen if self.extremes is None else self.extremes.to(seen.device).lerp(seen, MOMENTUM)

    @torch.no_grad()
    def to_json(self) -> dict[str, Any]:
        assert self.extremes is not None
        scale, zero_point = self.quantization()
        return {
            "scale": float(scale),
            "zero_point": int(zero_point),
            "extremes": self.extremes.tolist(),
            "logs": self.logs.tolist(),
        }


class FakeQuantization(TrainHook):
    """begins_at: share of the training before which everything stays in float. batches: on which inputs of layers are
    told apart: layers that are given the same values share one range. largest: the largest integer weight of the file.
    """

    def __init__(self, begins_at: float, batches: Sequence[Inputs], largest: int) -> None:
        self._begins_at = begins_at
        self._batches = batches
        self._largest = largest
        self._known: Mapping[str, Any] = {}

    def resume(self, learned: Mapping[str, Any]) -> None:
        self._known = learned

    def wrap(self, model: nn.Module) -> nn.Module:
        self._on = self._begins_at == 0 or bool(self._known)
        self._ranges: dict[str, LearnedRange] = {}
        self._handles: list[RemovableHandle] = []
        every = layer_inputs(model, self._batches)
        entering = {name: own for name, own in every.items() if why_kept(model.get_submodule(name)) != KEPT_BY_NAME}
        for name, own in entering.items():
            twin = next((other for other in self._ranges if own.source and entering[other].source == own.source), None)
            twin = twin or recognised(own.signatures[0], {n: entering[n].signatures for n in self._ranges})
            self._ranges[name] = self._ranges[twin] if twin else LearnedRange(self._known.get(name))
            self._hide_weight(model.get_submodule(name))
            if own.source is None:
                self._quantize_input(model.get_submodule(name), self._ranges[name])
        for source, name in {own.source: name for name, own in entering.items() if own.source is not None}.items():
            self._quantize_output(model.get_submodule(source), self._ranges[name])
        return model

    def _hide_weight(self, layer: nn.Module) -> None:
        """During a call an instance attribute hides the parameter, which stays what other hooks look for."""

        def before(module: nn.Module, arguments: Any) -> None:
            if self._on:
                module.__dict__["weight"] = fake_quantized_weight(module, self._largest)

        def after(module: nn.Module, arguments: Any, output: Any) -> None:
            module.__dict__.pop("weight", None)

        self._handles += [layer.register_forward_pre_hook(before), layer.register_forward_hook(after, always_call=True)]

    def _quantize_input(self, layer: nn.Module, own: LearnedRange) -> None:
        def before(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            return own.fake_quantized(arguments[0], module.training) if self._on else arguments[0], *arguments[1:]

        self._handles.append(layer.register_forward_pre_hook(before))

    def _quantize_output(self, source: nn.Module, own: LearnedRange) -> None:
        """Whoever else takes this tensor, a shortcut for one, gets it quantized: in the file there is one of it."""

        def after(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
            return own.fake_quantized(output, module.training) if self._on else output

        self._handles.append(source.register_forward_hook(after))

    def parameters(self) -> Iterable[nn.Parameter]:
        return [own.logs for own in dict.fromkeys(self._ranges.values())]

    @torch.no_grad()
    def after_step(self, model: nn.Module, progress: float) -> None:
        self._on = self._on or progress >= self._begins_at
        for logs in self.parameters():
            logs.clamp_(-HALVINGS / RATE, 0)

    def unwrap(self, model: nn.Module) -> nn.Module:
        for handle in self._handles:
            handle.remove()
        self._model = model
        return model

    def learned(self) -> Mapping[str, Any]:
        """By layer that is called without training too: the quantization of its input, what a later training goes on
        from, ``inputs``, the signatures by which the tensor is found in the exported file, and ``weight``, the shape.
        """
        entering = layer_inputs(self._model, self._batches)
        return {
            name: {
                **own.to_json(),
                "inputs": entering[name].signatures,
                "weight": list(self._model.get_parameter(f"{name}.weight").shape),
            }
            for name, own in self._ranges.items()
            if own.extremes is not None and name in entering
        }
