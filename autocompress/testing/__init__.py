"""The kit that the authors of plug-ins test with.

    from autocompress.testing import StrategyConformance

    class TestMine(StrategyConformance):
        strategy = MyStrategy()

``tasks`` holds the small tasks it is tried on.
"""

try:
    import pytest  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError("autocompress.testing needs pytest: pip install pytest", name="pytest") from None

from autocompress.testing import tasks
from autocompress.testing.conformance import StrategyConformance

__all__ = ["StrategyConformance", "tasks"]
