"""Every installed strategy passes the kit that its authors are given."""

from autocompress.plugin.loader import load_plugins
from autocompress.testing import StrategyConformance

for name, strategy in load_plugins().strategies.items():
    globals()[f"Test_{name}"] = type(f"Test_{name}", (StrategyConformance,), {"strategy": strategy})
