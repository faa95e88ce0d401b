"""What the user brings: a trained model, its data, and how to score it."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.jit import ScriptModule

from autocompress.classes import IGNORED
from autocompress.errors import UsageError, one_line
from autocompress.kept_parts import frozen_parameters, make_trainable, mark_kept
from autocompress.losses import cross_entropy, mse
from autocompress.metric_names import checked_metric, metric_and_entry
from autocompress.model_copies import is_of_memory, refuse_too_large, refuse_uninitialized, too_large, uncopyable
from autocompress.nested import Nested, map_tensors, named_tensors, primary
from autocompress.plain_model import plain_copy

Inputs = Nested
Metric = Callable[[Any, Any], float]
Loss = Callable[[Any, Any], Tensor]

ONE_TENSOR = ("torch.nn.", "torchmetrics.", "autocompress.losses")  # modules of losses and metrics of one tensor
OUTPUT = "output"  # the name of a model's only output; several are output_0, output_1, ... or have names of their own
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cross_entropy": cross_entropy, "mse": mse}


@dataclass(eq=False)
class Task:
    """A compression task.

    name: names the run folder. model: the trained module; a copy is worked on, never the module itself.
    train, val, test: each a ``(inputs, targets)`` pair, a Dataset of such pairs, or a DataLoader. Inputs and targets
    are tensors, or tuples, dicts and dataclasses of them, examples along the first dimension of each. ``val`` steers
    the search; ``test`` (optional) is opened once, for the finalists.
    metric: "accuracy", the name of a metric of torchmetrics, ``callable(outputs, targets) -> float``, or an object with
    ``update(outputs, targets)``, ``compute()`` and ``reset()``; of one that gives a dict, with the entry that counts:
    ``(metric, "map")``. loss: "cross_entropy", "mse", or ``callable(outputs, targets) -> scalar tensor``, lower is
    better. Both are given what the model returns, whole; what torch and torchmetrics define, what is given by name, and
    what takes ``outputs: Tensor`` by its annotation, the one output that is scored. maximize: False for a metric of
    which lower is better; left out, what torchmetrics says of the metric, and True for the user's own.
    augment: optional ``callable(inputs) -> inputs`` on a training batch.
    batch: optional ``callable(batch) -> (inputs, targets)`` of what the loader gives; pairs, and dicts with labels
    inside, need none.
    outputs: names of the outputs to deliver; all of them when left out. distill: the name of the output that is scored
    and a classifier's logits, where it is not ``.logits``, "logits" or the first one. Names are a dict's keys, a named
    tuple's or a dataclass's fields; of a tuple ``output_0``, ``output_1``, ...
    keep: names of modules, as ``model.named_modules()`` has them, that stay as they are: nothing in them is narrowed,
    dropped, factorized, zeroed or quantized to integers; they are trained along. unfreeze: train parameters without a
    gradient too and let their layers be changed; left out, they stay as they are where others have a gradient.
    dynamic: the axes of inputs that vary from example to example, ``{"input_ids": {1: "sequence"}}``.
    groups: optional ``callable(inputs, targets) -> one label an example``, by which losses of score are reported; left
    out, the classes, or tenths of a single number as the target. labels: names of the classes, from 0 on.
    pictures: whether the report of a run may show the validation inputs that changed most, where they are pictures.
    learning_rates: those that trainings choose from, in place of the engine's, which are for layers that batch norms
    hold: a pretrained transformer takes about 2e-5 to 1e-4. Each is a peak, after a warm-up and before a decay to zero.
    example_inputs: a batch of inputs to trace the model with; taken from ``train`` when left out.
    student: optional ``callable(width) -> module``, a smaller model, untrained or pretrained, width in (0, 1]. One that
    has some widths alone lists them in an attribute ``widths``, and is asked for the nearest. One with
    ``of_this_machine = True``, which has what lies on this machine, is no part of what makes two tasks the same; where
    it lists ``members``, pairs of a width and a name, a search that goes on asks for those that it began with, by
    ``with_members(members)``.

    Raises UsageError for arguments of the wrong kind. The data itself is checked when a search opens it.
    """

    name: str
    model: nn.Module
    train: Any
    val: Any
    test: Any = None
    metric: Any = "accuracy"
    loss: str | Loss = "cross_entropy"
    augment: Callable[[Any], Any] | None = None
    example_inputs: Inputs | None = None
    student: Callable[[float], nn.Module] | None = None
    maximize: bool | None = None
    batch: Callable[[Any], Any] | None = None
    outputs: Sequence[str] | None = None
    distill: str | None = None
    keep: Sequence[str] = ()
    unfreeze: bool = False
    dynamic: Mapping[str, Mapping[int, str]] | None = None
    groups: Callable[[Any, Any], Any] | None = None
    labels: Sequence[str] | None = None
    pictures: bool = True
    learning_rates: Sequence[float] = ()
    classes_last: bool = field(default=False, init=False, repr=False)  # of the scored output; seen when data is read

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise UsageError(f"Task.name must be a non-empty string, not {self.name!r}")
        if not isinstance(self.model, nn.Module):
            raise UsageError(f"Task.model must be a torch.nn.Module, not {type(self.model).__name__}")
        refuse_uninitialized(self.model)
        if not callable(self.loss) and not (isinstance(self.loss, str) and self.loss in LOSSES):
            raise UsageError(f"Task.loss must be one of {', '.join(LOSSES)} or a callable, not {self.loss!r}")
        self.metric = checked_metric(self.metric, self.maximize)
        for label in ("augment", "student", "batch", "groups"):
            if getattr(self, label) is not None and not callable(getattr(self, label)):
                raise UsageError(f"Task.{label} must be a callable, not {type(getattr(self, label)).__name__}")
        for label in ("outputs", "labels", "keep"):
            value = getattr(self, label)
            if value is not None and not (_is_list(value) and all(isinstance(name, str) for name in value)):
                raise UsageError(f"Task.{label} must be a list of names, not {value!r}")

        rates = self.learning_rates
        if not _is_list(rates) or not all(isinstance(r, (int, float)) and 0 < r < math.inf for r in rates):
            raise UsageError(f"Task.learning_rates must be a list of numbers above 0, not {rates!r}")

    def scored(self, returned: Nested) -> Tensor:
        """The one tensor of what the model returns that stands for the rest where one has to. Raises UsageError."""
        if self.distill is None:
            return primary(returned)
        named = named_tensors(returned, OUTPUT)
        if self.distill not in named:
            raise UsageError(f"Task.distill is {self.distill!r}, and the model returns {', '.join(named) or 'nothing'}")
        return named[self.distill]

    def frozen_in(self, plain: nn.Module) -> frozenset[str]:
        """Names of the parameters that are not trained, in a plain copy of the model."""
        return frozenset() if self.unfreeze else frozen_parameters(plain)

    @property
    def is_accuracy(self) -> bool:
        """Whether the metric is the share of right answers, by name."""
        return isinstance(self.metric, str) and self.metric == "accuracy"  # one of torchmetrics has a == of its own

    @property
    def metric_name(self) -> str:
        metric, entry = metric_and_entry(self.metric)
        if entry is not None or isinstance(metric, str):
            return entry or metric
        metric = metric.func if isinstance(metric, partial) else metric
        return getattr(metric, "__name__", type(metric).__name__)

    @property
    def loss_fn(self) -> Loss:
        """The loss of what the model returns, whole, and the targets."""
        loss = LOSSES[self.loss] if isinstance(self.loss, str) else self.loss
        if loss is cross_entropy:
            return lambda returned, targets: cross_entropy(self.scored(returned), targets, self.classes_last)
        if takes_one_tensor(loss):
            return lambda returned, targets: loss(self.scored(returned), targets)
        return loss

    @property
    def ignored(self) -> int:
        """The label that does not count: the loss's own ``ignore_index``, or -100."""
        given = self.loss.keywords if isinstance(self.loss, partial) else getattr(self.loss, "__dict__", {})
        label = given.get("ignore_index", IGNORED)
        return label if isinstance(label, int) else IGNORED

    def copy_of_model(self) -> nn.Module:
        """A private copy of what the model comes down to (``plain_model``), in evaluation mode, on the CPU, in float32,
        every parameter trainable but those that stay frozen, and what stays as it is marked (``kept_parts``).

        What the task does not deliver is None in what it returns there; while it trains it returns everything. Raises
        UsageError.
        """
        refuse_too_large(self.model)
        try:
            model = plain_copy(self.model)
        except Exception as error:
            if is_of_memory(error):
                raise too_large(self.model) from error
            raise UsageError(
                f"Task.model cannot be copied: {uncopyable(self.model)}{type(error).__name__}: "
                f"{one_line(error)}; build it inside the task factory "
                "and keep open files and other resources out of it"
            ) from error
        frozen = self.frozen_in(model)
        make_trainable(model, frozen)
        mark_kept(model, self.keep, frozen)
        if self.outputs is not None and isinstance(model, ScriptModule):
            raise UsageError("Task.outputs cannot choose among the outputs of a model of torch.jit: leave it out")
        if self.outputs is not None:
            model.register_forward_hook(partial(_delivered, frozenset(self.outputs)))
        return model


def _is_list(value: object) -> bool:
    """Whether a value is some of others: names, or numbers."""
    return isinstance(value, Iterable) and not isinstance(value, str)


def _delivered(names: frozenset[str], model: nn.Module, given: object, returned: Nested) -> Nested:
    """A hook: what a model returns in evaluation mode without the outputs that are not among ``names``."""
    if model.training:
        return returned
    order = iter(named_tensors(returned, OUTPUT))
    return map_tensors(lambda tensor: tensor if next(order) in names else None, returned)


def takes_one_tensor(function: object) -> bool:
    """Whether a loss or a metric is one that is defined for a tensor of outputs: this package's, torch's own, or one of
    torchmetrics, and whatever says so of its first parameter (``outputs: Tensor``).
    """
    first_is_bound = isinstance(function, partial) and bool(function.args)
    function = function.func if isinstance(function, partial) else function
    defined = function if inspect.isfunction(function) or inspect.isbuiltin(function) else type(function)
    by_whom = getattr(defined, "__module__", None) or ""
    return by_whom.startswith(ONE_TENSOR) or (not first_is_bound and _annotated_with_tensor(function))


def _annotated_with_tensor(function: object) -> bool:
    """Whether the first parameter is a tensor by its annotation."""
    called = function.forward if isinstance(function, nn.Module) else function
    try:
        parameters = list(inspect.signature(called).parameters.values())  # type: ignore[arg-type]
    except (TypeError, ValueError):  # it has no signature
        return False
    return bool(parameters) and parameters[0].annotation in (Tensor, "Tensor", "torch.Tensor")
