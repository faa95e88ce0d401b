"""A search asks for the same groups of operations, in the same order, as when it was recorded, and ends the same; an
opening asks for the same operations.
"""

from pathlib import Path

import pytest

from . import fixtures
from .comparison import difference
from .harness import RECORDINGS, Recording


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_a_search_is_the_one_that_was_recorded(recording: Recording, tmp_path: Path) -> None:
    scenario, before = recording.scenario, fixtures.read(recording.name)
    ordered = scenario.workers + scenario.beside == 1
    differs = difference(before, recording.play(scenario, tmp_path / "run"), ordered=ordered)
    assert not differs, f"\n{differs}\nif this is meant: python -m tests.recordings {recording.name}"


def test_every_recording_has_its_scenario() -> None:
    assert sorted(fixtures.names()) == sorted(recording.name for recording in RECORDINGS)
