"""What strategies ask of the runtime that a profile names."""

from functools import cache

from autocompress.plugin.contract import Context, Runtime
from autocompress.plugin.loader import PluginSet, load_plugins


def faster_with(context: Context) -> frozenset[str]:
    """``Runtime.faster_with`` on the target; of a runtime that is not installed, what holds for most."""
    return _installed().runtimes.get(context.profile.runtime, Runtime).faster_with


@cache
def _installed() -> PluginSet:
    return load_plugins()
