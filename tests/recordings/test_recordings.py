"""A search asks for the same groups of operations, in the same order, as when it was recorded, and ends the same."""

from pathlib import Path

import pytest

from . import fixtures
from .comparison import difference
from .harness import play
from .scenarios import SCENARIOS, Scenario


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_search_is_the_one_that_was_recorded(scenario: Scenario, tmp_path: Path) -> None:
    told = difference(fixtures.read(scenario.name), play(scenario, tmp_path / "run"), ordered=scenario.lanes == 1)
    assert not told, f"\n{told}\nif this is meant: python -m tests.recordings {scenario.name}"


def test_every_recording_has_its_scenario() -> None:
    assert sorted(path.stem for path in fixtures.FOLDER.glob("*.json")) == sorted(s.name for s in SCENARIOS)
