"""Search model compression against a measured latency budget.

The names below are imported when first used, so that ``autocompress --help`` needs neither torch nor optuna.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autocompress.api import retarget, search
    from autocompress.commands.apply import load_model
    from autocompress.errors import AutocompressError
    from autocompress.profile import HardwareProfile
    from autocompress.recipe import Recipe, Step
    from autocompress.task import Task

__version__ = "0.1.0"
__all__ = ["AutocompressError", "HardwareProfile", "Recipe", "Step", "Task", "load_model", "retarget", "search"]

_HOME = {
    "AutocompressError": "autocompress.errors",
    "HardwareProfile": "autocompress.profile",
    "Recipe": "autocompress.recipe",
    "Step": "autocompress.recipe",
    "Task": "autocompress.task",
    "load_model": "autocompress.commands.apply",
    "retarget": "autocompress.api",
    "search": "autocompress.api",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'autocompress' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
