"""When a search of a space that holds nothing more ends."""

from pathlib import Path

from autocompress.explore.policy import SearchPolicy
from tests.recordings import kinds
from tests.recordings.harness import searched
from tests.recordings.scenarios import Process, Scenario


def test_thirty_structures_in_a_row_that_add_nothing_end_a_search(tmp_path: Path):
    nothing_adds = SearchPolicy(least_gain=1.0)
    scenario = Scenario("search", kinds.CNN, (Process(60),))
    (ended,) = searched(scenario, tmp_path / "run", policy=nothing_adds)
    assert len(ended.front["rejected"]) == 30
    assert not ended.asked("evaluate")
