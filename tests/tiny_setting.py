"""Commands as they are typed, at a tiny setting: in this process, one family a search, a clock that is arithmetic.

All else is what a user has: the command line, the folder, the search, its files and its report.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from autocompress import api, cli, run
from autocompress.compute.in_process import in_process
from autocompress.demo import digits
from autocompress.explore.policy import SearchPolicy
from autocompress.plugin.loader import PluginSet
from autocompress.plugin.task_targets import task_of
from autocompress.preview.dry_run import dry_run
from autocompress.search_request import SearchRequest
from autocompress.storage.folder import RunFolder
from autocompress_plugins.hubs import hub_cache
from tests.conftest import MS_PER_MAC, FakeRuntime, FakeSession

POLICY = SearchPolicy(compare_exporters=False, most_seen=256)  # the other exporter takes ten times as long
RUNTIMES = ("onnxruntime", "openvino", "mnn")
TASK = """
import torch
from torch import nn
from autocompress import Task

def data(n, seed):
    y = torch.arange(n) % 3
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) + y[:, None, None, None], y

def task():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.ReLU(),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3))
    x, y = data(48, 0)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(30):
        opt.zero_grad(); nn.functional.cross_entropy(net(x), y).backward(); opt.step()
    return Task("small", net, train=(x, y), val=data(40, 1), test=data(40, 2))
"""


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]  # ``command(folder, "search", "my_task.py:task")``


@contextmanager
def tiny_setting(plugins: PluginSet, home: Path) -> Iterator[Command]:
    """What runs a command in a folder. home: an empty folder, for what is kept of a user's. No hub can be used."""
    with pytest.MonkeyPatch.context() as patch:
        for place in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            patch.setenv(place, str(home))
        patch.setattr(hub_cache, "find_spec", lambda module: None)
        for kind in (type(plugins.runtimes[name]) for name in RUNTIMES):
            patch.setattr(kind, "open", lambda self, path, profile: FakeSession(path))
            patch.setattr(kind, "clock", FakeRuntime.clock)
            patch.setattr(kind, "ms_per_mac", MS_PER_MAC, raising=False)
            patch.setattr(kind, "unavailable", lambda self, profile: None)
        held: dict[str, Any] = {}
        exec(TASK, held)
        patch.setattr(digits, "task", held["task"])  # the demo, which is run in full elsewhere
        for entry in (api.search, dry_run):
            patch.setitem(entry.__kwdefaults__, "policy", POLICY)
        read = SearchRequest.read
        patch.setattr(SearchRequest, "read", lambda asked, *given: read(replace(asked, trials=1), *given))

        def in_this_process(config: Any, log: Path, *others: Any, **told: Any) -> Any:
            task, folder = task_of(config.task, plugins), RunFolder(config.out)
            return in_process(task, config.profile, plugins, folder, seed=config.seed, policy=config.policy.training)

        patch.setattr(run, "worker_processes", in_this_process)
        yield command


def command(folder: Path, *words: str) -> Done:
    """As it is typed in a folder. What it imports from there is forgotten."""
    out, err, before = StringIO(), StringIO(), set(sys.modules)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr(sys, "argv", ["autocompress", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(f"{folder.resolve()}{os.sep}"):
            del sys.modules[name]
    return Done(ended.value.code, out.getvalue(), err.getvalue())
