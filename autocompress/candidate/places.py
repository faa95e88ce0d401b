"""Where in the code that somebody wrote a module of a model is called, as ``model.py:41``."""

import inspect
import sys
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from torch import nn

from autocompress.data import call
from autocompress.projected_lstm import ProjectedLSTM
from autocompress.task import Inputs

OF_TORCH = "torch"
FOR_TORCH = ProjectedLSTM.__module__  # what stands for a layer of torch is none of the user's code either
CALLING = {__name__, "autocompress.data.model_call", "autocompress.plain_model"}  # who calls the whole model


def places_of(model: nn.Module, names: Collection[str], inputs: Inputs) -> dict[str, str]:
    """For each name of a module the file and line by which one run of ``model`` first calls it, past what torch itself
    calls; for one that nothing calls, or only torch, those of the innermost class around it that is none of torch.
    Names of no module and modules without any such place are left out.
    """
    modules = {name: module for name, module in model.named_modules() if name in names}
    found: dict[str, str] = {}
    if not modules:
        return found

    def looking_for(name: str) -> Any:
        def hook(module: nn.Module, arguments: Any) -> None:
            if name not in found and (place := _caller(inspect.currentframe())) is not None:
                found[name] = place

        return hook

    handles = [module.register_forward_pre_hook(looking_for(name)) for name, module in modules.items()]
    try:
        with suppress(Exception):  # the reference ran before: of one that does not here, the classes are known
            call(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    written = {name: _written(model, name) for name in modules if name not in found}
    return found | {name: place for name, place in written.items() if place is not None}


def _caller(hook: FrameType | None) -> str | None:
    """The innermost line that is none of torch's; None where the whole model is called before there is one."""
    frame = None if hook is None else hook.f_back
    while frame is not None and (name := frame.f_globals.get("__name__", "")) not in CALLING:
        if not _is_of_torch(name) and Path(frame.f_code.co_filename).exists():
            return _shown(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


def _written(model: nn.Module, name: str) -> str | None:
    """The class of a module, or of what holds it."""
    parts = name.split(".")
    for count in range(len(parts), -1, -1):
        kind = type(model.get_submodule(".".join(parts[:count])))
        if _is_of_torch(kind.__module__):
            continue
        with suppress(OSError, TypeError):  # a class of no file
            return _shown(inspect.getsourcefile(kind) or inspect.getfile(kind), inspect.getsourcelines(kind)[1])
    return None


def _is_of_torch(module: str) -> bool:
    return module.partition(".")[0] == OF_TORCH or module == FOR_TORCH


def _shown(file: str, line: int) -> str:
    """From the working folder on where it lies there; in an installed package from its folder on."""
    path = Path(file).resolve()
    for root in (Path.cwd(), *(Path(entry).resolve() for entry in sys.path if entry)):
        if path.is_relative_to(root):
            return f"{path.relative_to(root)}:{line}"
    return f"{path}:{line}"
