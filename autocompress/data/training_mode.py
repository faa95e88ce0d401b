"""What a model does in training mode alone: auxiliary heads, which no evaluation and no file sees."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

from autocompress.data.model_call import call
from autocompress.nested import Nested
from autocompress.plain_model import evaluating

NORMS_AND_DROPOUT = (  # and what a model's own code makes of them
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
)


def run_in_training_alone(model: nn.Module, inputs: Nested) -> tuple[str, ...]:
    """Names of the modules, outermost ones, that hold weights and are called in training mode and not in evaluation;
    none where a run in training mode fails or leaves out what an evaluation runs. The model stays as it is.
    """
    with _modes_kept(model):
        evaluated = _called(evaluating(model), inputs)
    try:
        with computing_as_in_training(model):
            trained = _called(model, inputs)
    except Exception:  # it may want targets, or a batch
        return ()
    if not evaluated <= trained:
        return ()
    names = [n for n, m in model.named_modules() if n in trained - evaluated and any(True for _ in m.parameters())]
    return tuple(n for n in names if not is_within(n.rpartition(".")[0], names))


def is_within(name: str, outer: Sequence[str]) -> bool:
    """Whether a module is one of these or inside one, by their names."""
    return any(f"{name}.".startswith(f"{one}.") for one in outer)


@contextmanager
def computing_as_in_training(model: nn.Module) -> Iterator[None]:
    """While open, the model's own code sees that it is in training mode. Layers of torch stay in evaluation mode: norms
    keep their statistics, nothing is dropped, and the random state is left as it was.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with _modes_kept(model), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for module in model.modules():
            own = not type(module).__module__.startswith("torch.nn.")
            module.training = own and not isinstance(module, NORMS_AND_DROPOUT)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])


@contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def _called(model: nn.Module, inputs: Nested) -> set[str]:
    found: set[str] = set()
    handles = [
        module.register_forward_hook(partial(lambda name, *_: found.add(name), name))
        for name, module in model.named_modules()
        if not isinstance(module, torch.jit.ScriptModule)  # which takes no hooks
    ]
    try:
        with torch.no_grad():
            call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found
