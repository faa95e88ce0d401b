"""A model in which whatever can shrink is a module that knows how: recurrent layers and attention are exchanged for
ones that compute the same and can lose units or heads.
"""

from collections import Counter
from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from autocompress.errors import CandidateFailed, one_line
from autocompress.kept_parts import all_frozen, holds_kept, keep_whole
from autocompress.task import Inputs
from autocompress_plugins.layer_kinds import RECURRENT_LAYERS
from autocompress_plugins.model_runs import output, outputs, same_outputs, watched
from autocompress_plugins.shrinking.attention_layers import (
    MultiheadCrossAttention,
    MultiheadSelfAttention,
    PrunableAttention,
)
from autocompress_plugins.shrinking.attention_recognition import as_head_attention, could_attend
from autocompress_plugins.shrinking.opaque import Opaque, opaque
from autocompress_plugins.shrinking.own_attention_search import find_own_attention
from autocompress_plugins.shrinking.recurrent_layers import RecurrentBarrier, RecurrentCell, RecurrentStack


def prunable(model: nn.Module, inputs: Inputs) -> dict[str, str]:
    """Exchange recurrent and attention modules of ``model`` in place, each checked to leave the model's output as it
    was on ``inputs``. Returns why others were left alone, by name. Does nothing to a model it has been through.
    """
    left: dict[str, str] = {}
    sequences = _given_sequences(model, inputs)
    waiting = _candidates(model, "", sequences)
    while waiting:
        name = waiting.pop(0)
        original = model.get_submodule(name)
        try:
            before = outputs(model, inputs)
            if _shares_weights(model, original):
                raise CandidateFailed("it shares weights with another layer")
            exchanged = _exchanged(model, original, inputs)
            if (kept := holds_kept(original)) is not None:
                keep_whole(exchanged, kept)
            if all_frozen(original):
                exchanged.requires_grad_(False)
            _put(model, name, exchanged)
            with opaque(model):
                output(model, inputs)
            if not same_outputs(outputs(model, inputs), before):
                raise CandidateFailed("a form of it that can shrink gives other outputs")
        except Exception as error:  # the model's own code meets a module it does not know
            _put(model, name, RecurrentBarrier(original) if isinstance(original, RECURRENT_LAYERS) else original)
            inside = [] if isinstance(original, RECURRENT_LAYERS) else _candidates(model, name, sequences)
            if inside:  # it only holds what may be exchanged
                waiting = inside + waiting
                continue
            broken = f"a form of it that can shrink breaks the model ({type(error).__name__}: {one_line(error, 120)})"
            left[name] = error.reason if isinstance(error, CandidateFailed) else broken
    left |= find_own_attention(model, inputs)
    return {name: reason for name, reason in left.items() if not _can_shrink(model.get_submodule(name))}


def _can_shrink(module: nn.Module) -> bool:
    """Whether it is, or holds, an attention that can lose heads."""
    return any(isinstance(inside, PrunableAttention) for inside in module.modules())


def _exchanged(model: nn.Module, original: nn.Module, inputs: Inputs) -> nn.Module:
    if isinstance(original, RECURRENT_LAYERS):
        return RecurrentStack(original).train(original.training)
    if isinstance(original, nn.RNNCellBase):
        return RecurrentCell(original).train(original.training)  # type: ignore[arg-type]
    if isinstance(original, nn.MultiheadAttention):
        for parent in model.modules():
            if isinstance(parent, nn.TransformerEncoder):
                parent.use_nested_tensor = False  # it would read the weights of nn.MultiheadAttention
        kind = MultiheadSelfAttention if _attends_to_itself(model, original, inputs) else MultiheadCrossAttention
        return kind(original).train(original.training)
    given, gave = _seen(model, original, inputs)
    return as_head_attention(original, given, gave).train(original.training)


def _candidates(model: nn.Module, within: str, sequences: Collection[str]) -> list[str]:
    """Names of the modules inside ``within`` that may be exchanged, outermost first, none inside another. One that has
    the layers of an attention is one only where it is given a sequence.
    """
    found: list[str] = []
    for name, module in model.named_modules():
        inside = name.startswith(f"{within}.") if within else bool(name)
        if not inside or any(name.startswith(f"{outer}.") for outer in found):
            continue
        known = isinstance(module, (RecurrentStack, Opaque, *RECURRENT_LAYERS, nn.RNNCellBase, nn.MultiheadAttention))
        if known or (name in sequences and could_attend(module)):
            found.append(name)
    return [name for name in found if not isinstance(model.get_submodule(name), (RecurrentStack, Opaque))]


def _given_sequences(model: nn.Module, inputs: Inputs) -> set[str]:
    """Names of the modules that are given a tensor (N, T, E) while the model runs."""
    found: set[str] = set()

    def note(name: str, module: nn.Module, given: tuple[Any, ...], gave: Any) -> None:
        if any(isinstance(each, Tensor) and each.dim() == 3 for each in given):
            found.add(name)

    with watched(model.named_modules(), note):
        output(model, inputs)
    return found


def _seen(model: nn.Module, module: nn.Module, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """The one tensor a module is given and the one it gives, while the model runs."""
    calls: list[tuple[tuple[Any, ...], Any]] = []
    with watched([("", module)], lambda name, module, given, gave: calls.append((given, gave))):
        output(model, inputs)
    if len(calls) != 1:
        raise CandidateFailed(f"it is called {len(calls)} times")
    given, gave = [value for value in calls[0][0] if value is not None], calls[0][1]
    if len(given) != 1 or not isinstance(given[0], Tensor) or given[0].dim() != 3 or not isinstance(gave, Tensor):
        raise CandidateFailed("it is not a self-attention of one tensor (N, T, E)")
    return given[0], gave


def _attends_to_itself(model: nn.Module, module: nn.MultiheadAttention, inputs: Inputs) -> bool:
    """Whether keys and values are of the sequence that the queries are of, and as wide, in all calls."""
    alike: list[bool] = []
    with watched([("", module)], lambda name, module, given, gave: alike.append(len({*map(id, given[:3])}) == 1)):
        output(model, inputs)
    return all(alike)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` in the place of the one called ``name``, wherever else the model holds that one too."""
    old = model.get_submodule(name)
    for path, held in list(model.named_modules(remove_duplicate=False)):
        if held is old:
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, module)


def _shares_weights(model: nn.Module, module: nn.Module) -> bool:
    """Whether a parameter of ``module`` has a second holder, in it or elsewhere in the model."""
    held = Counter(id(p) for m in model.modules() for _, p in m.named_parameters(recurse=False, remove_duplicate=False))
    return any(held[id(parameter)] > 1 for parameter in module.parameters())
