"""``plugins`` and ``spaces``: what is installed, and from which distribution."""

from typing import Any

from autocompress.explore.space.space_file import load_space
from autocompress.plugin.contract import stages_of
from autocompress.plugin.loader import load_plugins


def list_plugins() -> dict[str, Any]:
    """Strategies, runtimes and spaces with their distribution, and what was left out."""
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
        "spaces": {n: {"from": plugins.origin[f"spaces:{n}"]} for n in sorted(plugins.spaces)},
        "left_out": [str(broken) for broken in plugins.broken],
    }


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
