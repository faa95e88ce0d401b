"""Whether a budget can be met: what is said of the smallest structures, and when nothing can be said."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from autocompress.budget import Budget
from autocompress.candidate.request import Gate
from autocompress.errors import CandidateFailed
from autocompress.explore.floor import Floor
from autocompress.explore.space import Space
from autocompress.explore.space_file import SpaceFile
from autocompress.latency import Latency
from autocompress.plugin.contract import Applicable, Parameter, Stage
from autocompress.recipe import Recipe

CARVE = Applicable("carve", (Stage.STRUCTURE,), (Parameter("ratio", (0.5, 0.9), 0.5, True),))


class FakeSearch:
    """Every structure takes ``latency``."""

    def __init__(self, latency: Latency | None) -> None:
        self.latency = latency
        self.said: list[str] = []
        self.space = Space.of(SpaceFile(name="s"), [CARVE], [])
        self.view = SimpleNamespace(note=self.said.append)
        self.standings: Any = SimpleNamespace(candidates=list, ended=lambda recipe: True)

    async def timed_gate(self, recipe: Recipe, budget: Budget) -> Gate:
        assert not budget.bounded, "the fastest variant, not the first that is fast enough"
        if self.latency is None:
            raise CandidateFailed("it cannot be built")
        return Gate(self.latency, ())


def found(search: FakeSearch, budget: Budget) -> Floor:
    floor = Floor(budget)
    asyncio.run(floor.find(search))  # type: ignore[arg-type]
    return floor


@pytest.mark.parametrize(
    ("ratio", "reliable", "said"),
    [(0.3, True, "can be met: the smallest"), (0.9, True, "cannot be met here"), (0.3, False, ""), (0.9, False, "")],
)
def test_only_a_sound_measurement_says_whether_a_budget_can_be_met(
    ratio: float, reliable: bool, said: str, make_latency: Callable[..., Latency]
) -> None:
    search = FakeSearch(make_latency(ratio=ratio, reliable=reliable))
    floor = found(search, Budget(speedup=2))
    assert (said in search.said[0]) if said else not search.said
    search.standings.candidates = lambda: [SimpleNamespace(latency=make_latency(ratio=1.0))]
    assert asyncio.run(floor.is_above_budget(search)) is ("cannot" in said)  # type: ignore[arg-type]


def test_what_cannot_be_built_is_remembered_as_that() -> None:
    search = FakeSearch(None)
    floor = found(search, Budget(speedup=2))
    assert floor.found is None
    assert not search.said
    assert floor.answers
    assert all(isinstance(answer, CandidateFailed) for answer in floor.answers.values())


def test_a_stored_floor_is_the_same_floor(make_latency: Callable[..., Latency]) -> None:
    floor = found(FakeSearch(make_latency(ratio=0.9)), Budget(speedup=2))
    again = Floor(Budget(speedup=2), floor.to_json())
    assert again.found == floor.found
    asyncio.run(again.find(None))  # type: ignore[arg-type]  # nothing is asked
