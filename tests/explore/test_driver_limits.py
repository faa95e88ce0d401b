"""What a search does with a space that holds nothing more, and with little time."""

from pathlib import Path

from autocompress.budget import Budget
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


def test_looking_for_what_to_try_first_leaves_time_to_train_it(tmp_path: Path):
    """Twelve structures are looked at where there is time; they alone would take what is left of these 48 s."""
    scenario = Scenario("search", kinds.CNN, (Process(0.8),), Budget(speedup=4))
    (ended,) = searched(scenario, tmp_path / "run")
    assert 1 <= len(ended.asked("gate")) < 12
    assert ended.asked("evaluate")
