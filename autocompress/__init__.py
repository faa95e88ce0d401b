"""Search model compression against a measured latency budget.

The names below are imported when first used, so that ``autocompress --help`` needs neither torch nor optuna.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autocompress.api import retarget, search
    from autocompress.commands.apply import load_model
    from autocompress.errors import AutocompressError
    from autocompress.measured_file import MeasuredFile
    from autocompress.preview.dry_run import dry_run
    from autocompress.profile import HardwareProfile
    from autocompress.recipe import Recipe, Step
    from autocompress.report.json_lines import JsonLines
    from autocompress.report.search_result import SearchResult, load_result
    from autocompress.several_targets import search_for
    from autocompress.task import Task

__version__ = "0.1.0"
__all__ = [
    "AutocompressError",
    "HardwareProfile",
    "JsonLines",
    "MeasuredFile",
    "Recipe",
    "SearchResult",
    "Step",
    "Task",
    "dry_run",
    "load_model",
    "load_result",
    "retarget",
    "search",
    "search_for",
]

_HOME = {
    "AutocompressError": "autocompress.errors",
    "HardwareProfile": "autocompress.profile",
    "JsonLines": "autocompress.report.json_lines",
    "MeasuredFile": "autocompress.measured_file",
    "Recipe": "autocompress.recipe",
    "SearchResult": "autocompress.report.search_result",
    "Step": "autocompress.recipe",
    "Task": "autocompress.task",
    "dry_run": "autocompress.preview.dry_run",
    "load_model": "autocompress.commands.apply",
    "load_result": "autocompress.report.search_result",
    "retarget": "autocompress.api",
    "search": "autocompress.api",
    "search_for": "autocompress.several_targets",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'autocompress' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
