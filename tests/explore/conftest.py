"""Whole searches in this process, on the profile ``fake``."""

from pathlib import Path
from typing import Any

import pytest

from autocompress import Task, search
from autocompress.plugin.loader import PluginSet

MINUTES = 1.0  # far more than three trials take; a busy machine must not change the outcome


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "fake.toml"
    path.write_text('name = "fake"\nruntime = "fake"\n')
    return str(path)


@pytest.fixture
def run(tiny_task: Task, plugins: PluginSet, profile: str, tmp_path: Path) -> Any:
    def go(task: Task | None = None, out: str = "run", **options: Any) -> dict[str, Any]:
        settings = {"minutes": MINUTES, "trials": 3, "profile": profile, "plugins": plugins, "quiet": True, **options}
        return search(task or tiny_task, out=tmp_path / out, **settings)

    return go
