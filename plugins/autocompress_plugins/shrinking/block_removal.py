"""Taking blocks and recurrent layers out of a model, the rest staying as it is.

A unit is named by its module ("body.3"), a layer of a recurrent module by its number behind a colon ("rnn:1").
"""

import re
from collections import defaultdict
from collections.abc import Collection
from typing import Any

from torch import nn

from autocompress_plugins.layer_kinds import RECURRENT_LAYERS
from autocompress_plugins.shrinking.recurrent_layers import RecurrentStack, like


class Bypass(nn.Module):
    """Gives back what it is given first; in place of a recurrent module also a state, which is none."""

    def __init__(self, recurrent: bool = False) -> None:
        super().__init__()
        self.recurrent = recurrent

    def forward(self, *given: Any, **named: Any) -> Any:
        first = given[0] if given else next(iter(named.values()))
        return (first, None) if self.recurrent else first


def without(model: nn.Module, names: Collection[str]) -> nn.Module:
    """Take the units out of ``model`` in place; all other modules keep their names."""
    layers: dict[str, set[int]] = defaultdict(set)
    for name in names:
        path, _, layer = name.partition(":")
        if layer:
            layers[path].add(int(layer))
        else:
            model.set_submodule(path, Bypass())
    for path, dropped in layers.items():
        model.set_submodule(path, _shortened(model.get_submodule(path), dropped))
    return model


def _shortened(module: nn.Module, dropped: Collection[int]) -> nn.Module:
    """A recurrent module without some of its layers, with the weights of the others."""
    assert isinstance(module, (*RECURRENT_LAYERS, RecurrentStack))
    kept = [layer for layer in range(module.num_layers) if layer not in dropped]
    if not kept:
        return Bypass(recurrent=True)
    if isinstance(module, RecurrentStack):
        return module.keep(kept)
    shorter = like(module, module.input_size, module.hidden_size, len(kept))
    weights = {}
    for name, value in module.state_dict().items():
        head, layer, tail = re.fullmatch(r"(\w+_l)(\d+)(\w*)", name).groups()  # type: ignore[union-attr]
        if int(layer) in kept:
            weights[f"{head}{kept.index(int(layer))}{tail}"] = value
    shorter.load_state_dict(weights)
    return shorter
