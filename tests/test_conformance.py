"""Every installed strategy passes the kit that its authors are given, on every task of the kit that it applies to."""

from collections.abc import Callable
from typing import ClassVar

import pytest

from autocompress.plugin.loader import load_plugins
from autocompress.task import Task
from autocompress.testing import StrategyConformance, tasks
from autocompress.testing.lab import Lab

REFUSED = {
    "factorize": [tasks.lstm],
    "prune_attention": [tasks.cnn, tasks.lstm],
    "prune_channels": [tasks.lstm],
    "prune_recurrent": [tasks.cnn, tasks.transformer],
}


class OnTask(StrategyConformance):
    """The kit on a task that is opened once for all strategies: each has a model of its own."""

    opened: ClassVar[dict[Callable[[], Task], Lab]] = {}
    labs: ClassVar[dict[type, Lab]] = {}

    @pytest.fixture
    def lab(self, tmp_path_factory: pytest.TempPathFactory) -> Lab:
        kit = type(self)
        if kit.task not in self.opened:
            self.opened[kit.task] = Lab.open(self.strategy, kit.task(), tmp_path_factory.mktemp("lab"))
        if kit not in self.labs:
            self.labs[kit] = self.opened[kit.task].of(self.strategy)
        return self.labs[kit]


for name, strategy in load_plugins().strategies.items():
    refused = REFUSED.get(name, [])
    for task in (make for make in tasks.ALL if make not in refused):
        settings = {"strategy": strategy, "task": task, "refused_task": refused[0] if refused else None}
        kit = f"Test_{name}_{task.__name__}"
        globals()[kit] = type(kit, (OnTask,), settings)
