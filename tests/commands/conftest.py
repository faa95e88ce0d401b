"""A run folder that version 0da1dea made, copied for one test."""

import json
import shutil
from pathlib import Path

import pytest

from autocompress.storage.delivery import commit
from autocompress.storage.folder import RunFolder

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """As that version left it."""
    return shutil.copytree(FIXTURES / "finished_run", tmp_path / "run")


@pytest.fixture
def finished(earlier: Path) -> Path:
    """As this version leaves one: delivered together with its front.json."""
    folder = RunFolder(earlier)
    folder.claim()
    commit(folder, json.loads(folder.front.read_text()))
    folder.release()
    return earlier


@pytest.fixture
def small_task() -> str:
    """The task it was made of."""
    return f"{FIXTURES / 'stripes_task.py'}:task"
