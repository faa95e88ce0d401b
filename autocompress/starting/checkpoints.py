"""Checkpoints: the names and shapes of their tensors. Nothing that a checkpoint could hold beside them is run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autocompress.errors import one_line
from autocompress.starting.source_code import ModelSource

CHECKPOINT_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt")
MOST_CHECKPOINTS = 20  # checkpoints read, the newest first
LEAST_FIT = 0.6  # of the first words of a checkpoint's names, that its network must know
UNKNOWN_FIT = LEAST_FIT  # of what a function makes, whose attributes nobody can read


@dataclass(frozen=True)
class FoundWeights:
    """entry: the key under which the weights lie; empty where the file holds nothing else. prefix: what all names begin
    with and the module's do not. shapes: of the tensors, in their order, by the module's names.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    entry: str = ""
    prefix: str = ""

    @property
    def outputs(self) -> int | None:
        """Numbers that the last layer gives."""
        last = [shape for shape in self.shapes.values() if shape]
        return last[-1][0] if last else None

    @property
    def first_weight(self) -> tuple[int, ...]:
        """The shape of the first weight with inputs: (outputs, inputs, ...)."""
        return self._first[1]

    @property
    def takes_tokens(self) -> bool:
        """Whether the first weight is a table with a row for each token: it has no bias beside it."""
        name, shape = self._first
        has_bias = f"{name.removesuffix('weight')}bias" in self.shapes
        return len(shape) == 2 and "emb" in name.lower() and "patch" not in name.lower() and not has_bias

    @property
    def _first(self) -> tuple[str, tuple[int, ...]]:
        return next(((n, shape) for n, shape in self.shapes.items() if len(shape) >= 2 and shape[0] > 1), ("", ()))


def read_checkpoint(path: Path) -> list[FoundWeights] | str:
    """What a file holds that could be weights, the most tensors first; or why nothing, in words."""
    try:
        found = _of_safetensors(path) if path.suffix == ".safetensors" else _of_torch(path)
    except Exception as error:  # any file may be called .pt
        if "WeightsUnpickler" in str(error) or "weights_only" in str(error) or "Weights only" in str(error):
            return (
                f"{path.name} holds more than tensors and is not loaded: torch.save(model.state_dict(), ...) "
                "makes one that is"
            )
        return f"{path.name} cannot be read: {one_line(error, 120)}"
    named = [FoundWeights(path, shapes, entry) for entry, shapes in found.items() if shapes]
    return sorted(named, key=lambda c: -len(c.shapes)) or f"{path.name} holds no named tensors"


def _of_safetensors(path: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return {"": {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}}  # noqa: SIM118


def _of_torch(path: Path) -> dict[str, dict[str, tuple[int, ...]]]:
    import torch

    held = torch.load(path, map_location="meta", weights_only=True)
    found = {"": _shapes(held)}
    if isinstance(held, dict):
        found |= {key: _shapes(value) for key, value in held.items() if isinstance(key, str)}
    return found


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    """Of a state dict; empty for anything else."""
    if not isinstance(value, dict) or not value:
        return {}
    if not all(isinstance(name, str) and hasattr(tensor, "shape") for name, tensor in value.items()):
        return {}
    return {name: tuple(tensor.shape) for name, tensor in value.items()}


def fitted(checkpoint: FoundWeights, model: ModelSource) -> tuple[float, FoundWeights]:
    """How well the names of a checkpoint go with a network, 0 to 1, and the checkpoint by the network's names: without
    what a wrapper puts before them.
    """
    names = [checkpoint]
    while (shorter := _without_first_word(names[-1])) is not None:
        names.append(shorter)
    fit, best = max(((_fit(each, model), each) for each in names), key=lambda pair: pair[0])
    return fit, _in_order(best, model)


def _in_order(checkpoint: FoundWeights, model: ModelSource) -> FoundWeights:
    """The tensors in the order of the network's attributes: a file has them by name, or those of layers last."""
    at = {name: number for number, name in enumerate(model.attributes or ())}

    def place(name: str) -> tuple[int, list[tuple[int, str]]]:
        words = name.split(".")
        return at.get(words[0], len(at)), [(int(word), "") if word.isdigit() else (0, word) for word in words]

    ordered = {name: checkpoint.shapes[name] for name in sorted(checkpoint.shapes, key=place)}
    return replace(checkpoint, shapes=ordered) if at or model.is_sequence else checkpoint


def _without_first_word(checkpoint: FoundWeights) -> FoundWeights | None:
    """Of names that all begin with one word."""
    words = {name.partition(".")[0] for name in checkpoint.shapes if "." in name}
    if len(words) != 1 or not all("." in name for name in checkpoint.shapes):
        return None
    prefix = f"{words.pop()}."
    shapes = {name.removeprefix(prefix): shape for name, shape in checkpoint.shapes.items()}
    return replace(checkpoint, shapes=shapes, prefix=checkpoint.prefix + prefix)


def _fit(checkpoint: FoundWeights, model: ModelSource) -> float:
    words = {name.partition(".")[0] for name in checkpoint.shapes}
    if model.attributes is None:
        return UNKNOWN_FIT
    known = {word for word in words if word in model.attributes or (model.is_sequence and word.isdigit())}
    return len(known) / len(words)
