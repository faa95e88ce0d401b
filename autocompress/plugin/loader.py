"""Finds plug-ins by their entry points, one by one and sorted: a broken one is reported and the others load."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from autocompress.errors import UsageError, one_line, unknown
from autocompress.plugin import hooks

if TYPE_CHECKING:
    from autocompress.plugin.hub import Hub
    from autocompress.plugin.observer import Observer
    from autocompress.plugin.runtime import Runtime
    from autocompress.plugin.strategy import Strategy
    from autocompress.profile import HardwareProfile


@dataclass(frozen=True)
class Broken:
    """A plug-in that was left out, and why."""

    entry_point: str
    distribution: str
    reason: str

    def __str__(self) -> str:
        return f"plug-in {self.entry_point!r} of {self.distribution} was left out: {self.reason}"


@dataclass(frozen=True)
class PluginSet:
    """What is installed, by name. ``origin``: distribution and version of each name, keyed ``kind:name``."""

    strategies: "dict[str, Strategy]" = field(default_factory=dict)
    runtimes: "dict[str, Runtime]" = field(default_factory=dict)
    hubs: "dict[str, Hub]" = field(default_factory=dict)
    spaces: dict[str, Path] = field(default_factory=dict)
    observers: "dict[str, type[Observer]]" = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    broken: tuple[Broken, ...] = ()

    def strategy(self, name: str) -> "Strategy":
        if name not in self.strategies:
            raise unknown("strategy", name, self.strategies)
        return self.strategies[name]

    def runtime(self, name: str) -> "Runtime":
        if name not in self.runtimes:
            raise unknown("runtime", name, self.runtimes)
        return self.runtimes[name]

    def runtime_of(self, profile: "HardwareProfile") -> "Runtime":
        """The runtime of a profile. Raises UsageError when it cannot run here, with what is missing."""
        runtime = self.runtime(profile.runtime)
        if reason := runtime.unavailable(profile):
            raise UsageError(f"the profile {one_line(profile.name, 80)} cannot be used here: {reason}")
        return runtime

    def observer(self, name: str) -> "Observer":
        """A new one for one search. Raises UsageError when there is none, or it cannot be used here, with what is
        missing.
        """
        if name not in self.observers:
            raise unknown("observer", name, self.observers)
        kind = self.observers[name]
        if reason := kind.unavailable():
            raise UsageError(f"the observer {name} cannot be used here: {reason}")
        return kind()


def load_plugins(points: Iterable[EntryPoint] | None = None) -> PluginSet:
    """Every installed plug-in. Raises UsageError when two distributions announce one name; anything else is
    ``broken``.
    """
    found = list(entry_points(group=hooks.GROUP) if points is None else points)
    plugins = PluginSet()
    broken: list[Broken] = []
    for point in sorted(set(found), key=lambda p: (_distribution(p), p.name)):
        try:
            contributed = _contributions(point)
        except (Exception, SystemExit) as error:  # the boundary to other people's code
            broken.append(Broken(point.name, _distribution(point), _reason(error, _distribution(point))))
            continue
        for kind, name, value in contributed:
            _add(plugins, kind, name, value, _distribution(point))
    return replace(plugins, broken=tuple(broken))


class OtherInterface(Exception):
    """The plug-in was made for another version of the contract."""


def _contributions(point: EntryPoint) -> list[tuple[str, str, Any]]:
    plugin = point.load()
    needed = getattr(plugin, "autocompress_api", None)
    if needed != hooks.API_VERSION:
        made_for = f"plug-in API {needed}" if needed is not None else "plug-in API 1, as it declares none"
        raise OtherInterface(
            f"it was made for {made_for}; this autocompress has {hooks.API_VERSION}: install a version of it that sets "
            f"autocompress_api = {hooks.API_VERSION}"
        )
    manager = pluggy.PluginManager(hooks.GROUP)
    manager.add_hookspecs(hooks)
    manager.register(plugin, point.name)
    manager.check_pending()
    found: list[tuple[str, str, Any]] = []
    for kind in ("strategies", "runtimes", "hubs", "observers"):
        for contributed in getattr(manager.hook, f"autocompress_{kind}")():
            found += [(kind, _checked_name(item), item) for item in contributed]
    for contributed in manager.hook.autocompress_search_spaces():
        found += [("spaces", path.stem, path) for path in map(Path, contributed)]
    return found


def _checked_name(item: Any) -> str:
    name = getattr(item, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise TypeError(f"{getattr(item, '__name__', type(item).__name__)}.name must be an identifier, not {name!r}")
    return name


def _add(plugins: PluginSet, kind: str, name: str, value: Any, distribution: str) -> None:
    key = f"{kind}:{name}"
    if key in plugins.origin:
        singular = {"spaces": "search space", "strategies": "strategy"}.get(kind, kind.removesuffix("s"))
        raise UsageError(
            f"two plug-ins provide the {singular} {name!r}: {plugins.origin[key]} "
            f"and {distribution}; uninstall one of them"
        )
    getattr(plugins, kind)[name] = value
    plugins.origin[key] = distribution


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def _reason(error: BaseException, distribution: str) -> str:
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "autocompress":
        return (
            f"it was made for another plug-in API, this autocompress has {hooks.API_VERSION}: {one_line(error)}; "
            "install another version of it"
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        # What to install is not guessed: a module's name need not be its distribution's, and somebody else may hold it.
        return f"it needs the module {error.name}, which is not installed: see what {distribution} asks for"
    return str(error) if isinstance(error, OtherInterface) else f"{type(error).__name__}: {one_line(error)}"
