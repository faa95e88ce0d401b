"""The kit that the authors of plug-ins test with.

    from autocompress.testing import StrategyConformance

    class TestMine(StrategyConformance):
        strategy = MyStrategy()

and ``RuntimeConformance`` with ``runtime = MyRuntime()``, ``ObserverConformance`` with ``observer = MyObserver``
likewise. ``tasks`` holds the small tasks they are tried on.
"""

try:
    import pytest  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError("autocompress.testing needs pytest: pip install pytest", name="pytest") from None

from autocompress.testing import tasks
from autocompress.testing.conformance import StrategyConformance
from autocompress.testing.observer_conformance import ObserverConformance
from autocompress.testing.runtime_conformance import RuntimeConformance

__all__ = ["ObserverConformance", "RuntimeConformance", "StrategyConformance", "tasks"]
