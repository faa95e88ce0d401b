"""Whether a budget can be met: what is said of the smallest structures, and when nothing can be said."""

import asyncio
from collections.abc import Callable

import pytest

from autocompress.budget import Budget
from autocompress.errors import CandidateFailed
from autocompress.explore.opening.floor import Floor, time_floor
from autocompress.explore.pipeline.gate import Gate
from autocompress.explore.space.space import Space
from autocompress.explore.space.space_file import SpaceFile
from autocompress.latency import Latency
from autocompress.plugin.contract import Applicable, Parameter, Stage
from autocompress.recipe import Recipe

CARVE = Applicable("carve", (Stage.STRUCTURE,), (Parameter("ratio", (0.5, 0.9), 0.5, True),))
SPACE = Space.of(SpaceFile(name="s"), [CARVE], [])


class FakeGating:
    """Every structure takes ``latency``."""

    def __init__(self, latency: Latency | None) -> None:
        self.latency = latency

    async def time(self, recipe: Recipe, budget: Budget) -> Gate:
        assert not budget.bounded, "the fastest variant, not the first that is fast enough"
        if self.latency is None:
            raise CandidateFailed("it cannot be built")
        return Gate(self.latency, ())


def timed(latency: Latency | None, budget: Budget) -> Floor:
    return asyncio.run(time_floor(SPACE, FakeGating(latency), budget))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ratio", "quiet", "said"),
    [(0.3, True, "can be met: the smallest"), (0.9, True, "cannot be met here"), (0.3, False, ""), (0.9, False, "")],
)
def test_only_a_quiet_machine_says_whether_a_budget_can_be_met(
    ratio: float, quiet: bool, said: str, make_latency: Callable[..., Latency]
) -> None:
    floor = timed(make_latency(ratio=ratio, quiet=quiet), Budget(speedup=2))
    note = floor.note()
    assert (note is not None and said in note) if said else note is None
    assert floor.is_over is ("cannot" in said)


def test_without_a_budget_nothing_is_timed(make_latency: Callable[..., Latency]) -> None:
    floor = timed(make_latency(ratio=0.3), Budget())
    assert (floor.found, floor.answers, floor.note()) == (None, {}, None)


def test_what_cannot_be_built_is_remembered_as_that() -> None:
    floor = timed(None, Budget(speedup=2))
    assert floor.found is None
    assert floor.note() is None
    assert floor.answers
    assert all(isinstance(answer, CandidateFailed) for answer in floor.answers.values())


def test_a_stored_floor_is_the_same_floor(make_latency: Callable[..., Latency]) -> None:
    floor = timed(make_latency(ratio=0.9), Budget(speedup=2))
    again = Floor.from_json(Budget(speedup=2), floor.to_json())
    assert again is not None
    assert again.found == floor.found
    assert Floor.from_json(Budget(speedup=2), None) is None
