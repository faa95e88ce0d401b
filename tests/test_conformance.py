"""Every installed strategy passes the kit that its authors are given, on every task of the kit that it applies to."""

from autocompress.plugin.loader import load_plugins
from autocompress.testing import StrategyConformance, tasks

REFUSED = {
    "factorize": [tasks.lstm],
    "prune_attention": [tasks.cnn, tasks.lstm],
    "prune_channels": [tasks.lstm],
    "prune_recurrent": [tasks.cnn, tasks.transformer],
}

for name, strategy in load_plugins().strategies.items():
    refused = REFUSED.get(name, [])
    for task in (make for make in tasks.ALL if make not in refused):
        settings = {"strategy": strategy, "task": task, "refused_task": refused[0] if refused else None}
        kit = f"Test_{name}_{task.__name__}"
        globals()[kit] = type(kit, (StrategyConformance,), settings)
