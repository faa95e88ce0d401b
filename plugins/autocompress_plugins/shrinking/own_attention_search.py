"""Where a model attends in code of its own: modules in which places look at each other, or at those of another
sequence, through linear layers that it calls or whose weights it takes, or through weights that it holds itself.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from autocompress.data import call as called
from autocompress.errors import CandidateFailed, one_line
from autocompress.nested import tensors_of
from autocompress.plain_model import evaluating
from autocompress.task import Inputs
from autocompress_plugins.layer_kinds import CONVOLUTIONS
from autocompress_plugins.model_runs import ModuleCall, output, outputs, same_output, same_outputs
from autocompress_plugins.shrinking.inner_attention import hold_attention, leave_attention
from autocompress_plugins.shrinking.layer_feeds import feeding
from autocompress_plugins.shrinking.multiplied_weights import WEIGHT_AXES, MultipliedWeights
from autocompress_plugins.shrinking.opaque import Opaque, opaque
from autocompress_plugins.shrinking.own_attention import (
    AS_USUAL,
    LayerUses,
    become_own_attention,
    exchanged,
    leave_own_attention,
)
from autocompress_plugins.shrinking.own_attention_reading import (
    HEADS_FIXED,
    AttentionReading,
    head_cuts,
    read_attention,
)

MOST_LAYERS = 6  # linear layers of an attention: query, key, value, output, and two for positions or mixing heads
MOST_LAYERS_AROUND = 16  # of a module in whose code there is attention beside other things
# How modules were read, by their class and form: a search makes many copies of a model.
READINGS: WeakKeyDictionary[type, dict[str, AttentionReading | CandidateFailed | None]] = WeakKeyDictionary()
OTHER_PRODUCTS = (
    "places see each other through weights of its own that are not multiplied whole by F.linear "
    "(x @ weight, einsum, a part of one), and where heads lie in them cannot be told"
)
# How many read: all three fused, one of them apart, or each by itself, and one or two more for positions.
READERS = (1, 2, 3, 4, 5)


def find_own_attention(model: nn.Module, inputs: Inputs) -> dict[str, str]:
    """Make every such module that can lose heads one that knows how, in place. Returns why others cannot, by name."""
    run, left, read = _Run.of(model, inputs), dict[str, str](), list[tuple[_Attending, AttentionReading]]()
    attending: set[nn.Module] = set()
    for name, module in reversed(list(model.named_modules())):  # what is inside comes first
        if any(other.startswith(f"{name}.") for other in left):  # a part of it was tried in vain
            continue
        if attending & set(module.modules()):
            continue
        try:
            answers = [(found, _read(found)) for found in run.inner_attentions(name, module)]
            if not any(isinstance(answer, AttentionReading) for _, answer in answers):
                answers += [(found, _read(found)) for found in run.attentions(name, module)]
        except Exception as error:  # the model's own code, called alone
            left[name] = f"it cannot be called by itself ({type(error).__name__}: {one_line(error, 120)})"
            continue
        if right := [(found, answer) for found, answer in answers if isinstance(answer, AttentionReading)]:
            inner = [(found, answer) for found, answer in right if found.is_inner]
            read += inner or right[:1]
            attending.add(module)
            continue
        reasons = [
            answer.reason
            for found, answer in answers
            if isinstance(answer, CandidateFailed) and (found.looks_like_one or answer.reason.startswith(HEADS_FIXED))
        ]
        if reasons:
            left[name] = reasons[-1]
    told = {inside for module in attending for inside in module.modules()}
    for name, call in run.calls.items():
        module = model.get_submodule(name)
        untold = module in run.otherwise - told and name not in left
        if untold and not _holds_one(module) and _sees_places(module, call):
            left[name] = OTHER_PRODUCTS
    return left | (_changed(model, inputs, read) if read else {})


def _sees_places(module: nn.Module, call: ModuleCall) -> bool:
    """Whether what a module gives for some places of a sequence depends on another one; not of what cannot be told."""
    sequences = (t for t in tensors_of((call.args, dict(call.named))) if t.is_floating_point() and t.dim() > 2)
    gave = tensors_of(call.gave)
    x = next(sequences, None)
    if x is None or not gave or gave[0].dim() != x.dim():
        return False
    for axis in (axis for axis in range(1, x.dim() - 1) if x.shape[axis] == gave[0].shape[axis] > 1):
        moved = x.clone()
        moved.select(axis, 0).add_(torch.randn(x.select(axis, 0).shape, generator=torch.Generator().manual_seed(0)))
        args, named = copy.deepcopy(exchanged((call.args, dict(call.named)), x, moved))
        try:
            with torch.no_grad():
                found = tensors_of(module(*args, **named))[0]
        except Exception:  # the model's own code, called alone
            return False
        if not same_output(*(y.narrow(axis, 1, y.shape[axis] - 1) for y in (found, gave[0]))):
            return True
    return False


def _changed(model: nn.Module, inputs: Inputs, read: Sequence[tuple["_Attending", AttentionReading]]) -> dict[str, str]:
    """Change the modules, in place: all at once, and each by itself where the model is another one then. Why some are
    as they were.
    """
    left: dict[str, str] = {}
    before = outputs(model, inputs)
    for found, reading in read:
        found.change(reading)
    if _is_as_before(model, inputs, before) is None:
        return {}
    for found, _ in read:
        found.change_back()
    for found, reading in read:
        found.change(reading)
        if (wrong := _is_as_before(model, inputs, before)) is not None:
            found.change_back()
            left[found.name] = wrong
    return left


def _is_as_before(model: nn.Module, inputs: Inputs, before: Sequence[Tensor]) -> str | None:
    """What is wrong with a model whose attention was changed; None where it gives what it gave, and can be traced."""
    try:
        if not same_outputs(outputs(model, inputs), before):
            return "the model gives other outputs with a form of it that can shrink"
        with opaque(model):
            output(model, inputs)
    except Exception as error:  # the model's own code meets what it does not know
        return f"a form of it that can shrink breaks the model ({type(error).__name__}: {one_line(error, 120)})"
    return None


def _read(found: "_Attending") -> AttentionReading | CandidateFailed | None:
    """What was read of a module of its form, by any copy of any model, or what is read now."""
    known = READINGS.setdefault(type(found.module), {})
    form = found.form()
    if form not in known or isinstance(known[form], AttentionReading):
        try:
            like: Any = known.get(form)
            others = found.uses.other_inputs
            parts = found.module, found.call, found.readers, found.out, found.mixers
            known[form] = read_attention(*parts, others, like, inner=found.is_inner)
        except CandidateFailed as error:
            known[form] = error
    return known[form]


@dataclass(frozen=True)
class _Attending:
    """mixers: layers that may mix heads. uses: how the module's code uses its layers. looks_like_one: whether those
    that read are all given one tensor. is_inner: whether the module's code computes other things beside it.
    """

    name: str
    module: nn.Module
    call: ModuleCall
    readers: tuple[nn.Linear, ...]
    out: nn.Linear
    mixers: tuple[nn.Linear, ...]
    uses: LayerUses
    looks_like_one: bool
    is_inner: bool = False

    def form(self) -> str:
        """What is the same for layers that read alike, and how one of them reads."""
        parts = [(name, tuple(p.shape)) for name, p in self.module.named_parameters()]
        numbers = [sorted((k, v) for k, v in vars(m).items() if isinstance(v, int)) for m in self.module.modules()]
        shapes = [tuple(t.shape) for t in tensors_of((self.call.args, dict(self.call.named)))]
        readers = [layer in self.readers for layer in self.module.modules()]
        outs = [layer is self.out for layer in self.module.modules()]
        uses = (len(self.uses.apart), self.uses.other_inputs, len(self.mixers), outs)
        return repr((parts, numbers, shapes, readers, self.out.in_features, self.out.out_features, uses))

    def change(self, reading: AttentionReading) -> None:
        heads = next(islice(head_cuts(self.readers, self.out, self.mixers), reading.cut, None))
        if self.is_inner:
            hold_attention(self.module, self.call, heads, reading.sizes)
        else:
            become_own_attention(self.module, self.call, heads, reading.sizes, self.uses)

    def change_back(self) -> None:
        if self.is_inner:
            leave_attention(self.module, (*self.readers, self.out))
        else:
            leave_own_attention(self.module, (*self.readers, *self.mixers, self.out))


@dataclass
class _Run:
    """One run of a model. calls: of each module, the first, as it was then; came: what it was given itself. given: what
    each linear layer read first, or what its weights were multiplied with; in order; again: what it read later. apart:
    those layers that were not called for it. of_their_own: layers of the weights that a module holds itself. otherwise:
    modules that hold weights which are multiplied in another way. began, ended: when each module's first call did.
    """

    calls: dict[str, ModuleCall] = field(default_factory=dict)
    came: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = field(default_factory=dict)
    given: dict[nn.Linear, Tensor] = field(default_factory=dict)
    again: dict[nn.Linear, list[Tensor]] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    at: dict[nn.Linear, int] = field(default_factory=dict)
    apart: set[nn.Linear] = field(default_factory=set)
    of_their_own: dict[nn.Module, list[nn.Linear]] = field(default_factory=dict)
    otherwise: set[nn.Module] = field(default_factory=set)

    @classmethod
    def of(cls, model: nn.Module, inputs: Inputs) -> "_Run":
        run, handles, moment = cls(), [], iter(range(10**9))
        waiting: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

        def before(name: str, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            if isinstance(module, nn.Linear):
                run.apart.discard(module)
                if not args or not isinstance(args[0], Tensor):
                    return
                if module in run.given:
                    run.again.setdefault(module, []).append(args[0])
                else:
                    run.given[module], run.at[module] = args[0], next(moment)
            elif name not in run.began:
                run.began[name] = next(moment)
                run.came[name], waiting[name] = (args, named), _copied(args, named)

        def after(name: str, module: nn.Module, args: object, named: object, gave: Any) -> None:
            if name in waiting:
                run.calls[name] = ModuleCall(*waiting.pop(name), gave)
                run.ended[name] = next(moment)

        def multiplied(layer: nn.Linear, holder: nn.Module, given: Tensor) -> None:
            if layer not in run.given:
                if holder is not layer:
                    run.of_their_own.setdefault(holder, []).append(layer)
                run.apart.add(layer)
                run.given[layer], run.at[layer] = given, next(moment)

        names = {module: name for name, module in model.named_modules() if name and _may_matter(module)}
        for module, name in names.items():
            handles.append(module.register_forward_pre_hook(_named(before, name), with_kwargs=True))
            handles.append(module.register_forward_hook(_named(after, name), with_kwargs=True))
        try:
            with torch.no_grad(), MultipliedWeights(model, multiplied, run.otherwise.add):
                called(evaluating(model), inputs)
        finally:
            for handle in handles:
                handle.remove()
        return run

    def attentions(self, name: str, module: nn.Module) -> Iterator[_Attending]:
        """The ways in which the layers of a module may be those of an attention: the projection is what reads another
        tensor last, or, where the module is given one sequence alone, the last one, or what reads what the module gave.
        """
        if name not in self.calls or isinstance(module, nn.Linear) or _holds_one(module):
            return
        inside = [layer for layer in module.modules() if isinstance(layer, nn.Linear) and layer in self.given]
        inside += self.of_their_own.get(module, [])
        if not 1 <= len(inside) <= MOST_LAYERS:
            return
        inside.sort(key=lambda layer: self.at[layer])
        alike, *later = self._by_input(inside)
        others, behind = [layer for layer in inside if layer not in alike], self._behind(name)
        ways = [(alike, others[-1] if others else behind)]
        if others:
            ways.append((inside[:-1], inside[-1]))  # some read another sequence, or fewer places of it
            ways += [(own, inside[-1]) for own in later]  # what was first makes a bias of positions
        if others and not self._reads_another(name, others):
            ways += [(inside, behind), (alike, behind)]  # the others read positions, or make a bias of them
        for readers, out in ways:
            if len(readers) in READERS and out is not None and out not in readers and _fits(readers, out):
                apart = tuple(layer for layer in (*readers, out) if layer in self.apart)
                uses = LayerUses(apart, self._other_inputs(name, readers))
                mixers = tuple(
                    layer
                    for layer in inside
                    if layer not in (*readers, out) and layer.in_features == layer.out_features
                )
                yield _Attending(name, module, self.calls[name], tuple(readers), out, mixers, uses, readers is alike)

    def inner_attentions(self, name: str, module: nn.Module) -> Iterator[_Attending]:
        """Each attention in the code of a module that computes other things beside it: a layer that is fed by those
        that read, where what it reads for one place comes of others.
        """
        if name not in self.calls or isinstance(module, nn.Linear) or _holds_one(module):
            return
        inside = [layer for layer in module.modules() if isinstance(layer, nn.Linear) and layer in self.given]
        if not 3 <= len(inside) <= MOST_LAYERS_AROUND or any(layer in self.apart for layer in inside):
            return
        for out, fed in feeding(module, self.calls[name], inside).items():
            readers = list(fed.layers)
            read = {id(own): own for own in (self.given[layer] for layer in readers)}
            together = len(read) <= 2 and all(own.dim() == 3 for own in read.values())  # its sequence, and another one
            alone = len(readers) + 1 == len(inside)
            if fed.places_meet and together and not alone and len(readers) in READERS and _fits(readers, out):
                yield _Attending(
                    name,
                    module,
                    self.calls[name],
                    tuple(readers),
                    out,
                    (),
                    AS_USUAL,
                    looks_like_one=True,
                    is_inner=True,
                )

    def _by_input(self, layers: Sequence[nn.Linear]) -> list[list[nn.Linear]]:
        """The layers that read one tensor, for each in order."""
        found: dict[int, list[nn.Linear]] = {}
        for layer in layers:
            found.setdefault(id(self.given[layer]), []).append(layer)
        return list(found.values())

    def _other_inputs(self, name: str, readers: Sequence[nn.Linear]) -> tuple[int | str, ...]:
        """The arguments that layers read, whole or in part, as wide as the sequence, but for the sequence itself."""
        (args, named), width = self.came[name], readers[0].in_features
        given: list[tuple[int | str, Any]] = [*enumerate(args), *named.items()]
        read = [tensor for layer in readers for tensor in (self.given[layer], *self.again.get(layer, ()))]
        return tuple(
            key
            for key, value in given
            if isinstance(value, Tensor)
            and value.shape[-1:] == (width,)
            and not _is_of(self.given[readers[0]], value)
            and any(tensor.shape[-1] == width and _is_of(tensor, value) for tensor in read)
        )

    def _reads_another(self, name: str, layers: Sequence[nn.Linear]) -> bool:
        """Whether some of these layers read what the module is given, as it is given: another sequence."""
        given = tensors_of((self.calls[name].args, dict(self.calls[name].named)))
        return any(_same(t, self.given[layer]) for layer in layers for t in given)

    def _behind(self, name: str) -> nn.Linear | None:
        """The linear layer that reads what a module gave, as it gave it."""
        gave = tensors_of(self.calls[name].gave)
        after = [layer for layer, at in self.at.items() if at > self.ended[name]]
        return next((layer for layer in after if gave and self.given[layer] is gave[0]), None)


def _is_of(tensor: Tensor, whole: Tensor) -> bool:
    """Whether a tensor is another one, or a part of it."""
    return tensor.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr() or _same(tensor, whole)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


def _fits(readers: list[nn.Linear], out: nn.Linear) -> bool:
    """Whether the widths are those of queries, keys and values, and of an output projection for them."""
    widths = [layer.out_features for layer in readers]
    if len(readers) == 1:
        return widths[0] > out.in_features and (widths[0] - out.in_features) % 2 == 0
    return all(bool(max(widths) % width == 0 or width % out.in_features == 0) for width in widths)


def _may_matter(module: nn.Module) -> bool:
    """Whether it is a linear layer, or holds as few as an attention has."""
    if isinstance(module, (nn.Linear, Opaque)):
        return isinstance(module, nn.Linear)
    layers = sum(isinstance(inside, nn.Linear) for inside in module.modules())
    held = [] if isinstance(module, CONVOLUTIONS) else module.parameters(recurse=False)
    own = any(parameter.dim() in WEIGHT_AXES for parameter in held)
    return (layers > 0 or own) and layers <= MOST_LAYERS_AROUND


def _holds_one(module: nn.Module) -> bool:
    return any(isinstance(inside, Opaque) for inside in module.modules())


def _copied(args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a call takes in (a cache) is taken as it was before."""
    try:
        return copy.deepcopy((args, named))
    except Exception:  # a user's object that cannot be copied
        return args, named


def _named(hook: Any, name: str) -> Any:
    return lambda module, *rest: hook(name, module, *rest)
