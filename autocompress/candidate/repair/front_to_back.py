"""The layers of a changed model repaired, front to back, in runs over the calibration examples.

A layer is repaired at the last of its calls, on the rows of all of them: it reads what the layers before it give after
their own repair, and what follows reads what it gives after its. What it gave at calls before the last one was not
repaired yet, so that the model is run again from the start. Until then it gives there what its original gave: what
depends on that (the next step of a cell, the next of blocks that share their weights) is what it will read but for
what the repair leaves. Layers that share their weights are repaired as one that is called as often as all of them.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from autocompress.candidate.repair.norm_statistics import BATCH_NORM_LAYERS, Statistics, recalibrate
from autocompress.candidate.repair.original import LINEAR_LAYERS, Gave, GaveRows, OriginalRun, tied_layers
from autocompress.candidate.repair.recurrent_rows import RECURRENT_KINDS, GaveStates, by_example
from autocompress.candidate.repair.refitting import SAME, LayerFit, refit_matrix, refit_recurrent
from autocompress.candidate.repair.rows import CONVOLUTION_LAYERS, first_tensor, input_rows
from autocompress.data import call
from autocompress.errors import CandidateFailed
from autocompress.kept_parts import is_frozen, why_kept
from autocompress.nested import Nested, filled, tensors_of
from autocompress.plain_model import evaluating
from autocompress.plugin.contract import Counterpart, Counterparts
from autocompress.task import Inputs

MOST_REPEATED = 32  # runs that begin again; what is left is repaired in the last of them, and seen once more


class _BeginAgain(BaseException):
    """Ends a run, which the model's own code must not take for an error of its own."""


class FrontToBack:
    """Repairs a model in place. goes_on: asked before a layer is refitted, and before a run begins again; where it says
    no, the layer stays as it is, and the run is the last one.
    """

    def __init__(
        self, changed: nn.Module, counterparts: Counterparts, original: OriginalRun, goes_on: Callable[[], bool]
    ) -> None:
        self._changed, self._whole, self._original, self._goes_on = changed, counterparts.whole, original, goes_on
        self._layers = {own.layer: own for own in counterparts.layers if self._can_be_repaired(own)}
        norms = {name for name in self._layers if isinstance(changed.get_submodule(name), BATCH_NORM_LAYERS)}
        self._norms = {self._layers[name].original for name in norms}
        tied = {name: own for name, own in tied_layers(changed).items() if name in self._layers.keys() - norms}
        self._together = {name: own for name, own in tied.items() if self._can_be_repaired_together(own, tied)}
        self._settled = tied.keys() - self._together.keys()
        self._fits: dict[str, Sequence[LayerFit]] = {}
        self._put_back: dict[str, dict[str, Tensor]] = {}
        self._repeated = 0
        self._begin()

    def _can_be_repaired(self, own: Counterpart) -> bool:
        layer, gave = self._changed.get_submodule(own.layer), self._original.every_call(own.original)
        kinds = {GaveRows: LINEAR_LAYERS, Statistics: BATCH_NORM_LAYERS, GaveStates: RECURRENT_KINDS}
        return bool(gave) and not _stays(layer) and isinstance(layer, kinds[type(gave[0])])

    def _can_be_repaired_together(self, names: Sequence[str], tied: Mapping[str, Sequence[str]]) -> bool:
        """Whether layers that share parameters with each other alone are all of one kind, with the same weights."""
        layers = [self._layer(name) for name in names]
        if not all(tied.get(name) == names for name in names) or not isinstance(layers[0], LINEAR_LAYERS):
            return False
        kinds = {(type(layer), id(layer.weight), getattr(layer, "groups", 1)) for layer in layers}
        return len(kinds) == len({self._layers[name].outputs for name in names}) == 1

    @property
    def fits(self) -> tuple[LayerFit, ...]:
        """Of the layers that were to be refitted, in that order."""
        return tuple(fit for fits in self._fits.values() for fit in fits)

    def run(self, inputs: Inputs) -> Nested:
        """What the repaired model returns. Raises what ``goes_on`` raises."""
        handles = []
        for name, own in self._layers.items():
            layer = self._changed.get_submodule(name)
            handles += [
                layer.register_forward_pre_hook(partial(self._reach, own), with_kwargs=True),
                layer.register_forward_hook(partial(self._give, own)),
            ]
        try:
            with torch.no_grad():
                while True:
                    with suppress(_BeginAgain):
                        returned = call(evaluating(self._changed), inputs)
                        if self._stands_in is None:
                            return returned
                        for names in map(self._all, list(self._read)):
                            self._settled.update(names if self._calls_left(names) else ())
                    self._begin()
        finally:
            for handle in handles:
                handle.remove()

    def _begin(self) -> None:
        """_read: by the layer, what it read at each of its calls in this run. _stands_in: the first layer that gave
        what its original gave in place of what it gives itself. _put_back: what layers were before they were repaired
        on what depends on that; it is done again.
        """
        for name, state in self._put_back.items():
            self._changed.get_submodule(name).load_state_dict(state)
            self._fits.pop(name, None)
        self._put_back = {}
        self._read: dict[str, list[Any]] = defaultdict(list)
        self._stands_in: str | None = None

    def _reach(self, own: Counterpart, layer: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        name, gave = own.layer, self._gave(own.layer)
        if name in self._settled or len(self._read[name]) == len(gave):
            return
        together, refitted = self._all(name), not isinstance(layer, BATCH_NORM_LAYERS)
        first = not any(self._read[each] for each in together)
        if first and refitted and not self._goes_on():
            self._settled.update(together)
            return
        try:
            self._read[name].append(self._reads(layer, first_tensor(args, named), gave[len(self._read[name])]))
        except (CandidateFailed, RuntimeError):  # its rows cannot be told by example
            self._settled.update(together)
            return
        if not self._calls_left(together):
            self._repair(together)

    def _reads(self, layer: Any, given: Any, gave: Gave) -> Tensor | Statistics:
        if isinstance(gave, Statistics):
            return Statistics.of(given)
        if isinstance(gave, GaveRows):
            return input_rows(layer, given, self._original.examples, gave.places)
        return by_example(layer, given, self._original.examples).clone()

    def _repair(self, names: Sequence[str]) -> None:
        """Begins the run again where the layers give otherwise now at calls that have been."""
        layers = {name: self._layer(name) for name in names}
        before = {name: {key: value.clone() for key, value in own.state_dict().items()} for name, own in layers.items()}
        read = [each for name in names for each in self._read[name]]
        self._fit(names, read)
        for name in names:
            self._read[name][:] = [None] * len(self._read[name])
        ends, stood_in = self._repeated == MOST_REPEATED or not self._goes_on(), self._stands_in in names
        if not ends and self._stands_in is not None and not stood_in:
            self._put_back |= before
            return
        self._settled.update(names)
        changed = any(
            not torch.equal(value, before[name][key])
            for name, own in layers.items()
            for key, value in own.state_dict().items()
        )
        if len(read) > 1 and (changed or stood_in) and not ends:
            self._repeated += 1
            raise _BeginAgain

    def _fit(self, names: Sequence[str], read: Sequence[Any]) -> None:
        own, layers = self._layers[names[0]], [self._layer(name) for name in names]
        outputs, whole = torch.tensor(own.outputs), self._whole.get_submodule(own.original)
        gave: list[Any] = [each for name in names for each in self._gave(name)]
        if isinstance(layers[0], BATCH_NORM_LAYERS):
            recalibrate(layers[0], Statistics.joined(read), Statistics.joined(gave), outputs)
            return
        fits: list[LayerFit] = []
        with suppress(CandidateFailed, RuntimeError):  # what cannot be fitted stays as it is
            if isinstance(layers[0], LINEAR_LAYERS):
                normed = all(map(self._has_norms_behind, names))
                fits.extend(refit_matrix(own.layer, layers, read, gave, outputs, normed=normed))
            else:
                fits.extend(refit_recurrent(own.layer, layers[0], whole, read, gave, outputs))  # type: ignore[arg-type]
        if fits:
            self._fits[own.layer] = fits

    def _has_norms_behind(self, name: str) -> bool:
        behind = self._original.norms_behind(self._layers[name].original)
        return bool(behind) and behind <= self._norms

    def _layer(self, name: str) -> Any:
        return self._changed.get_submodule(name)

    def _all(self, name: str) -> tuple[str, ...]:
        """A layer, or all those that it is repaired together with."""
        return self._together.get(name, (name,))

    def _gave(self, name: str) -> Sequence[Gave]:
        return self._original.every_call(self._layers[name].original)

    def _calls_left(self, names: Sequence[str]) -> int:
        return sum(len(self._gave(name)) - len(self._read[name]) for name in names)

    def _give(self, own: Counterpart, layer: nn.Module, args: tuple[Any, ...], gave: Nested) -> Nested | None:
        """What the original gave, where another call of the layer is to come before it is repaired; None: its own."""
        name, known, number = own.layer, self._original.outputs.get(own.original, []), len(self._read[own.layer])
        if name in self._settled or not 0 < number <= len(known) or not self._calls_left(self._all(name)):
            return None
        axis = 1 if isinstance(layer, (*CONVOLUTION_LAYERS, *BATCH_NORM_LAYERS)) else -1
        outputs, whole = torch.tensor(own.outputs), tensors_of(known[number - 1])
        gives, wanted = tensors_of(gave), [each.index_select(axis, outputs) for each in whole]
        if [one.shape for one in gives] != [other.shape for other in wanted] or all(map(_alike, gives, wanted)):
            return None
        self._stands_in = self._stands_in or name
        return filled(gave, wanted)


def _stays(layer: nn.Module) -> bool:
    return why_kept(layer) is not None or is_frozen(layer)


def _alike(one: Tensor, other: Tensor) -> bool:
    return float((one - other).square().sum()) <= SAME * float(other.square().sum())
