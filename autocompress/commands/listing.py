"""``plugins``, ``profiles`` and ``spaces``: what is installed, from which distribution, and what can be used here."""

from typing import Any

from autocompress.errors import UsageError
from autocompress.explore.space.space_file import load_space
from autocompress.measure import check_place
from autocompress.plugin.contract import stages_of
from autocompress.plugin.loader import load_plugins
from autocompress.profile import installed_profiles, load_profile


def list_plugins() -> dict[str, Any]:
    """Strategies, runtimes, hubs, spaces and observers with their distribution, and what was left out."""
    plugins = load_plugins()
    return {
        "strategies": {
            name: {
                "stages": [stage.name.lower() for stage in stages_of(strategy)],
                "summary": strategy.summary,
                "from": plugins.origin[f"strategies:{name}"],
            }
            for name, strategy in sorted(plugins.strategies.items())
        },
        "runtimes": {
            n: {"version": r.version(), "from": plugins.origin[f"runtimes:{n}"]}
            for n, r in sorted(plugins.runtimes.items())
        },
        "hubs": {
            n: {"summary": h.summary, "from": plugins.origin[f"hubs:{n}"]} for n, h in sorted(plugins.hubs.items())
        },
        "spaces": {n: {"from": plugins.origin[f"spaces:{n}"]} for n in sorted(plugins.spaces)},
        "observers": {
            n: {
                "summary": kind.summary,
                **({} if (reason := kind.unavailable()) is None else {"unavailable": reason}),
                "from": plugins.origin[f"observers:{n}"],
            }
            for n, kind in sorted(plugins.observers.items())
        },
        "left_out": [str(broken) for broken in plugins.broken],
    }


def list_profiles() -> dict[str, Any]:
    """Each with whether it can be used here, and if not, the reason."""
    plugins = load_plugins()
    found: dict[str, Any] = {}
    for name in installed_profiles():
        profile = load_profile(name)
        reason = plugins.runtime(profile.runtime).unavailable(profile)
        try:
            check_place(profile)
        except UsageError as error:
            reason = reason or str(error)
        here = {"available": reason is None, **({} if reason is None else {"reason": reason})}
        found[name] = {**profile.model_dump(mode="json", exclude={"name"}), **here}
    return found


def list_spaces() -> dict[str, Any]:
    plugins = load_plugins()
    spaces = {name: load_space(name, plugins) for name in sorted(plugins.spaces)}
    return {
        name: {
            "description": s.description,
            "strategies": list(s.strategies or ["all installed"]),
            "from": plugins.origin[f"spaces:{name}"],
        }
        for name, s in spaces.items()
    }
