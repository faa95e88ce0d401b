"""Whole searches: in this process on the profile ``fake``, or with every operation declared; and histories that no
search made.
"""

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from autocompress import SearchResult, Task, search
from autocompress.evaluation import Evaluation, Outcome
from autocompress.explore.history.history import History
from autocompress.explore.policy import SearchPolicy
from autocompress.plugin.contract import Observer, SearchEvent
from autocompress.plugin.loader import PluginSet
from autocompress.score_scale import IN_PERCENT
from tests.recordings.harness import Ended, searched
from tests.recordings.kinds import Kind
from tests.recordings.scenarios import Process, Scenario

QUICK = SearchPolicy(compare_exporters=False, most_seen=512)  # the other exporter takes ten times as long
MINUTES = 60.0  # far more than three trials take: how busy the machine is changes nothing


@pytest.fixture
def played(tmp_path: Path) -> Callable[..., Ended]:
    """``played(kinds.CNN, minutes=8, budget=Budget(speedup=4))``: how a search of that scenario ended, of which nothing
    was computed.
    """

    def play(kind: Kind, minutes: float = 8, trials: int | None = None, view: Any = None, **others: Any) -> Ended:
        (ended,) = searched(
            Scenario("search", kind, (Process(minutes, trials),), **others), tmp_path / "run", view=view
        )
        return ended

    return play


@pytest.fixture(scope="session")
def fake_toml(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("profile") / "fake.toml"
    path.write_text('name = "fake"\nruntime = "fake"\n')
    return str(path)


@pytest.fixture
def run(tiny_task: Task, plugins: PluginSet, fake_toml: str, tmp_path: Path) -> Any:
    def go(task: Task | None = None, out: str = "run", **options: Any) -> dict[str, Any]:
        settings = {
            "minutes": MINUTES,
            "trials": 3,
            "profile": fake_toml,
            "plugins": plugins,
            "quiet": True,
            "policy": QUICK,
            **options,
        }
        return search(task or tiny_task, out=tmp_path / out, **settings).document

    return go


@dataclass(frozen=True)
class Finished:
    """A search of the tiny task that came to its end: what it returned, and what it told an observer."""

    result: SearchResult
    events: tuple[SearchEvent, ...]

    @property
    def document(self) -> dict[str, Any]:
        return self.result.document

    @property
    def root(self) -> Path:
        return self.result.folder

    def copied_to(self, folder: Path) -> dict[str, Any]:
        """The run folder as ``folder``, for a call that goes on there."""
        shutil.copytree(self.root, folder)
        return self.document


@pytest.fixture(scope="session")
def finished(
    make_tiny_task: Callable[[nn.Module], Task],
    trained_tiny: nn.Module,
    shared_plugins: PluginSet,
    fake_toml: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Finished:
    """Made once, under a budget: nothing may be written into its folder. It ran where a loop runs already, as in a
    notebook.
    """
    root, task = tmp_path_factory.mktemp("finished") / "run", make_tiny_task(trained_tiny)
    options = {"minutes": MINUTES, "trials": 1, "profile": fake_toml, "plugins": shared_plugins, "policy": QUICK}

    told: list[SearchEvent] = []

    class Remembering(Observer):
        name = "remembering"

        def observe(self, event: SearchEvent) -> None:
            told.append(event)

    async def cell() -> SearchResult:
        return search(task, out=root, speedup=3, quiet=True, observe=[Remembering()], **options)

    return Finished(asyncio.run(cell()), tuple(told))


class Unrecorded:
    """A record that keeps nothing."""

    def add(self, trial: Any) -> None: ...

    def append(self, prefix: str, value: Any) -> None: ...

    def every(self, prefix: str) -> list[Any]:
        return []

    def trials(self) -> list[Any]:
        return []


@pytest.fixture(scope="session")
def make_history() -> Callable[..., History]:
    """``make_history(reference, *variants)``: of a search in which nothing happened yet, recorded nowhere."""

    def make(reference: Evaluation, *variants: Evaluation) -> History:
        own = {"reference": reference, "reference_family": Outcome(evaluations=variants), "chance": None}
        own |= {"prepared": SimpleNamespace(val_examples=1000), "scale": IN_PERCENT}
        opening: Any = type("Opening", (), own)
        return History(opening, Unrecorded())

    return make
