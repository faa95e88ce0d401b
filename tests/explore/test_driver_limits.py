"""The numbers at which a search stops asking, or trains longer at first."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autocompress.explore.driver import Search
from autocompress.explore.policy import SearchPolicy
from autocompress.explore.schedule.rungs import Length
from tests.recordings import kinds
from tests.recordings.harness import searched
from tests.recordings.scenarios import Process, Scenario


def test_thirty_structures_in_a_row_that_add_nothing_end_a_search(tmp_path: Path):
    nothing_adds = SearchPolicy(least_gain=1.0)
    scenario = Scenario("search", kinds.CNN, (Process(60),))
    (ended,) = searched(scenario, tmp_path / "run", policy=nothing_adds)
    assert len(ended.front["rejected"]) == 30
    assert not ended.asked("evaluate")


@pytest.mark.parametrize(
    ("trained_on", "correlation", "longer"),
    [(6, 0.49, True), (6, 0.51, False), (30, 0.49, True), (31, 0.49, False), (6, None, False)],
)
def test_the_first_rung_gets_longer_while_it_says_little_of_the_last(
    trained_on: int, correlation: float | None, longer: bool
):
    """correlation: of the first rung with the last, None for too few families."""
    recorded: dict[str, Any] = {}
    notes: list[str] = []

    def rank_correlation(least: int) -> float | None:
        assert least == 6
        return correlation

    search: Any = SimpleNamespace(
        _record=SimpleNamespace(get=recorded.get, set=recorded.__setitem__),
        standings=SimpleNamespace(trained_on=range(trained_on), rank_correlation=rank_correlation),
        _time=SimpleNamespace(lengths=(Length(1.0, 100), Length(3.0, 300))),
        _policy=SearchPolicy(),
        _keep_lengths=lambda: None,
        _view=SimpleNamespace(note=notes.append),
    )
    for _ in range(2):  # it happens once
        Search._lengthen(search)
    lengths: Sequence[Length] = search._time.lengths
    assert [length.seconds for length in lengths] == ([3.0, 9.0] if longer else [1.0, 3.0])
    assert len(notes) == longer
