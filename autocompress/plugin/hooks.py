"""The whole extension surface: five hooks. A plug-in is a module (or object) that implements any of them.

Announce it under the entry-point group ``autocompress``:

    [project.entry-points.autocompress]
    my_technique = "my_package.my_technique"

and implement, in that module:

    from autocompress.plugin.hooks import hookimpl

    autocompress_api = 2

    @hookimpl
    def autocompress_strategies():
        return [MyStrategy()]
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from autocompress.plugin.hub import Hub
    from autocompress.plugin.observer import Observer
    from autocompress.plugin.runtime import Runtime
    from autocompress.plugin.strategy import Strategy

GROUP = "autocompress"
API_VERSION = 2  # a plug-in sets ``autocompress_api`` to the one it was made for; with another, or none, it is left out

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def autocompress_strategies() -> "Sequence[Strategy]":  # type: ignore[empty-body]
    """The compression techniques of this plug-in."""


@hookspec
def autocompress_runtimes() -> "Sequence[Runtime]":  # type: ignore[empty-body]
    """The runtimes of this plug-in: what opens an ONNX file and runs it."""


@hookspec
def autocompress_hubs() -> "Sequence[Hub]":  # type: ignore[empty-body]
    """The hubs of this plug-in: what makes a task of a model that has a name there, and data."""


@hookspec
def autocompress_search_spaces() -> "Sequence[Path]":  # type: ignore[empty-body]
    """TOML files, each a named search space."""


@hookspec
def autocompress_observers() -> "Sequence[type[Observer]]":  # type: ignore[empty-body]
    """The observers of this plug-in, as classes: a search that is asked for one makes it, without arguments."""
