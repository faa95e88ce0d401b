"""The state of a training that is under way, kept now and then: who goes on after a crash loses a minute at most."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn, optim

from autocompress.candidate.policy import TrainingPolicy
from autocompress.errors import AutocompressError
from autocompress.storage.store import Store


@dataclass(frozen=True)
class TrainingProgress:
    """examples: seen so far. seconds: that took."""

    examples: int
    seconds: float


class Snapshots:
    """One training's snapshots under ``key``; each takes the place of the one before."""

    def __init__(self, store: Store, key: str, policy: TrainingPolicy = TrainingPolicy()) -> None:
        self._store = store
        self._key = key
        self._every_s = policy.snapshot_s
        self._last = time.monotonic()

    def restore(self, model: nn.Module, optimizer: optim.Optimizer, beside: Sequence[nn.Parameter]) -> TrainingProgress:
        """Put a snapshot of this very training into ``model``, the adapters ``beside`` it and the optimizer; how far
        it had come. Without one that fits nothing is changed, and the training is at its beginning.
        """
        nothing, found = TrainingProgress(0, 0.0), self._store.load(self._key)
        if found is None:
            return nothing
        kinds: dict[str, dict[str, Tensor]] = {"model": {}, "beside": {}, "optimizer": {}, "progress": {}}
        for name, tensor in found.items():
            kind, _, own = name.partition("/")
            kinds[kind][own] = tensor
        fits = _shapes(kinds["model"]) == _shapes(model.state_dict()) and len(kinds["beside"]) == len(beside)
        if not fits:
            return nothing
        model.load_state_dict(kinds["model"])
        with torch.no_grad():
            for number, parameter in enumerate(beside):
                parameter.copy_(kinds["beside"][str(number)])
        parameters = _parameters(optimizer)
        for name, tensor in kinds["optimizer"].items():
            at, _, what = name.partition("/")
            parameter = parameters[int(at)]
            # Where and in which memory layout a fused optimizer wants it: the parameter's.
            like = torch.empty_like(parameter) if tensor.shape == parameter.shape else tensor.to(parameter.device)
            optimizer.state[parameter][what] = like.copy_(tensor)
        return TrainingProgress(int(kinds["progress"]["examples"]), float(kinds["progress"]["seconds"]))

    def due(self) -> bool:
        return time.monotonic() - self._last >= self._every_s

    def keep(
        self, model: nn.Module, optimizer: optim.Optimizer, beside: Sequence[nn.Parameter], progress: TrainingProgress
    ) -> None:
        """Keep the state after a step. On a full disk there is none: it is a help, not a need."""
        state = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
        state |= {f"beside/{number}": parameter for number, parameter in enumerate(beside)}
        for number, parameter in enumerate(_parameters(optimizer)):
            for name, tensor in optimizer.state.get(parameter, {}).items():
                state[f"optimizer/{number}/{name}"] = tensor
        state["progress/examples"] = torch.tensor(progress.examples)
        state["progress/seconds"] = torch.tensor(progress.seconds, dtype=torch.float64)
        with suppress(AutocompressError):
            self._store.save(self._key, state)
        self._last = time.monotonic()

    def ended(
        self, model: nn.Module, optimizer: optim.Optimizer, beside: Sequence[nn.Parameter], progress: TrainingProgress
    ) -> None:
        """Keep the state at the end of a training so long that it should not be done again because the process dies
        while its files are made.
        """
        if progress.seconds >= self._every_s:
            self.keep(model, optimizer, beside, progress)

    def drop(self) -> None:
        """The training is over, and its files are made."""
        self._store.drop(self._key)


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _parameters(optimizer: optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
