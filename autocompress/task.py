"""What the user brings: a trained model, its data, and how to score it."""

import copy
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from autocompress.errors import UsageError, one_line

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
Metric = Callable[[Tensor, Tensor], float]
Loss = Callable[[Tensor, Tensor], Tensor]


def accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Share of examples whose largest output is the target's class, 0..1. Outputs (N, K) or (N, ..., K) over
    targets.
    """
    return float((outputs.argmax(class_axis(outputs, targets)) == targets).float().mean())


def class_axis(outputs: Tensor, targets: Tensor) -> int:
    """The axis of ``outputs`` that holds the classes: the second as in cross_entropy, else the last."""
    return 1 if outputs.shape[:1] + outputs.shape[2:] == targets.shape else -1


def class_count(outputs: Tensor, targets: Tensor) -> int | None:
    """How many classes ``outputs`` tells apart, when ``targets`` are their labels: whole numbers, one for each place of
    the outputs beside the axis of two classes or more. None otherwise, as in regression; what the task calls its loss
    and its metric does not matter.
    """
    if outputs.dim() < 2 or targets.is_floating_point():
        return None
    axis = class_axis(outputs, targets) % outputs.dim()
    labelled = outputs.shape[:axis] + outputs.shape[axis + 1 :] == targets.shape
    return outputs.shape[axis] if labelled and outputs.shape[axis] > 1 else None


METRICS: dict[str, Metric] = {"accuracy": accuracy}
LOSSES: dict[str, Loss] = {"cross_entropy": nn.functional.cross_entropy, "mse": nn.functional.mse_loss}


@dataclass(eq=False)
class Task:
    """A compression task.

    name: names the run folder. model: the trained module; a copy is worked on, never the module itself.
    train, val, test: each a ``(inputs, targets)`` pair of tensors, a Dataset of such pairs, or a DataLoader. Inputs are
    one tensor, a tuple, or a dict of tensors, examples along the first dimension. ``val`` steers the search; ``test``
    (optional) is opened once, for the finalists.
    metric: "accuracy", or ``callable(outputs, targets) -> float``, higher is better.
    loss: "cross_entropy", "mse", or ``callable(outputs, targets) -> scalar tensor``, lower is better.
    augment: optional ``callable(inputs) -> inputs`` on a training batch.
    example_inputs: a batch of inputs to trace the model with; taken from ``train`` when left out.
    student: optional ``callable(width) -> module``, an untrained smaller model, width in (0, 1].

    Raises UsageError for arguments of the wrong kind. The data itself is checked when a search opens it.
    """

    name: str
    model: nn.Module
    train: Any
    val: Any
    test: Any = None
    metric: str | Metric = "accuracy"
    loss: str | Loss = "cross_entropy"
    augment: Callable[[Any], Any] | None = None
    example_inputs: Inputs | None = None
    student: Callable[[float], nn.Module] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise UsageError(f"Task.name must be a non-empty string, not {self.name!r}")
        if not isinstance(self.model, nn.Module):
            raise UsageError(f"Task.model must be a torch.nn.Module, not {type(self.model).__name__}")
        for label, value, known in (("metric", self.metric, METRICS), ("loss", self.loss, LOSSES)):
            if not callable(value) and not (isinstance(value, str) and value in known):
                raise UsageError(f"Task.{label} must be one of {', '.join(known)} or a callable, not {value!r}")
        for label in ("augment", "student"):
            if getattr(self, label) is not None and not callable(getattr(self, label)):
                raise UsageError(f"Task.{label} must be a callable, not {type(getattr(self, label)).__name__}")

    @property
    def metric_name(self) -> str:
        return self.metric if isinstance(self.metric, str) else getattr(self.metric, "__name__", "metric")

    @property
    def metric_fn(self) -> Metric:
        return METRICS[self.metric] if isinstance(self.metric, str) else self.metric

    @property
    def loss_fn(self) -> Loss:
        return LOSSES[self.loss] if isinstance(self.loss, str) else self.loss

    def copy_of_model(self) -> nn.Module:
        """A private copy in evaluation mode, on the CPU, in float32, every parameter trainable."""
        try:
            model = copy.deepcopy(self.model)
        except Exception as error:
            raise UsageError(
                f"Task.model cannot be copied: {type(error).__name__}: "
                f"{one_line(error)}; build it inside the task factory "
                "and keep non-leaf tensors and open files out of it"
            ) from error
        model = model.cpu().float().eval()
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        return model


def load_task(target: str) -> Task:
    """The task of ``my_task.py:factory`` or ``package.module:factory`` (factory defaults to ``task``). Raises
    UsageError.
    """
    location, _, name = target.rpartition(":") if ":" in target else (target, "", "task")
    name = name or "task"
    module = _import_file(Path(location)) if location.endswith(".py") else _import_module(location)
    factory = getattr(module, name, None)
    if factory is None:
        found = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
        known = [n for n in found if not n.startswith("_")]
        hint = f"it has {', '.join(known)}" if known else "it defines no function"
        raise UsageError(
            f"{location} has no factory {name!r}: {hint}; write `def {name}() -> Task:` or name another after ':'"
        )
    try:
        task = factory() if callable(factory) and not isinstance(factory, Task) else factory
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{location}:{name}() raised {type(error).__name__}{_where(error, location)}: {one_line(error)}"
        ) from error
    if not isinstance(task, Task):
        raise UsageError(f"{location}:{name}() returned {type(task).__name__}, expected autocompress.Task")
    return task


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(
            f"no task file {path}: give the path of a Python file with a task factory, as in my_task.py:task"
        )
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{path} does not import: {type(error).__name__}{_where(error, str(path))}: {one_line(error)}"
        ) from error
    return module


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"{name!r} is neither a Python file nor a module: give my_task.py:task or package.module:task")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise UsageError(f"module {name} does not import: {type(error).__name__}: {one_line(error)}") from error


def _where(error: BaseException, location: str) -> str:
    """`` (line N)`` of the user's file where the error came from, when it is known."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    line, trace = None, error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).name == Path(location).name:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""
